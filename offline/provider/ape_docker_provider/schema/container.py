"""Properties of docker.Container."""

from __future__ import annotations

from ape_docker_provider.schema.property import (
    HEALTHCHECK_SERVICE,
    LABEL,
    PROPAGATION,
    RATE,
    UNSUPPORTED,
    Resource,
    block,
    flag,
    listing,
    mapping,
    mount_block,
    num,
    replacing,
    text,
    unordered,
)

CONTAINER = Resource(
    "docker:index/container:Container",
    {
        "attach": flag(default=False),
        "capabilities": block(
            {"adds": unordered(replace=True), "drops": unordered(replace=True)}, replace=True
        ),
        "cgroupParent": text(replace=True),
        "cgroupnsMode": text(replace=True),
        "command": listing(replace=True, computed=True),
        "containerReadRefreshTimeoutMilliseconds": num(default=15000),
        "cpuPeriod": num(minimum=0),
        "cpuQuota": num(minimum=0),
        "cpuSet": text(),
        "cpuShares": num(minimum=0),
        "cpus": text(replace=True),
        "destroyGraceSeconds": num(),
        "deviceReadBps": unordered(RATE),
        "deviceReadIops": unordered(RATE),
        "deviceRequests": unordered(block({}), unsupported=UNSUPPORTED),
        "deviceWriteBps": unordered(RATE),
        "deviceWriteIops": unordered(RATE),
        "devices": unordered(
            block(
                replacing(
                    {
                        "containerPath": text(),
                        "hostPath": text(required=True),
                        "permissions": text(default="rwm"),
                    }
                )
            ),
            replace=True,
        ),
        "dns": unordered(replace=True),
        "dnsOpts": unordered(replace=True),
        "dnsSearches": unordered(replace=True),
        "domainname": text(replace=True),
        "entrypoints": listing(replace=True, computed=True),
        "envs": unordered(replace=True, computed=True),
        "gpus": text(unsupported=UNSUPPORTED),
        "groupAdds": unordered(replace=True),
        "healthcheck": block(
            {**HEALTHCHECK_SERVICE, "startInterval": text(default="0s", duration=True)},
            computed=True,
        ),
        "hostname": text(replace=True, computed=True),
        "hosts": unordered(
            block(replacing({"host": text(required=True), "ip": text(required=True)})), replace=True
        ),
        "image": text(required=True, replace=True),
        "init": flag(computed=True),
        "ipcMode": text(replace=True, computed=True),
        "labels": unordered(LABEL, replace=True, computed=True),
        "logDriver": text(replace=True, computed=True),
        "logOpts": mapping(replace=True),
        "logs": flag(default=False),
        "maxRetryCount": num(),
        "memory": num(minimum=0),
        "memoryReservation": num(minimum=0, default=0),
        "memorySwap": num(minimum=-1),
        "mounts": unordered(mount_block(text(one_of=PROPAGATION), True), replace=True),
        "mustRun": flag(default=True),
        "name": text(required=True, replace=True),
        "networkMode": text(replace=True, default="bridge"),
        "networksAdvanced": unordered(
            block(
                replacing(
                    {
                        "aliases": unordered(),
                        "driverOpts": unordered(),
                        "gwPriority": num(minimum=0),
                        "ipv4Address": text(),
                        "ipv6Address": text(),
                        "linkLocalIps": unordered(),
                        "macAddress": text(),
                        "name": text(required=True),
                    }
                )
            ),
            replace=True,
        ),
        "pidMode": text(replace=True),
        "platform": text(replace=True, computed=True),
        "ports": listing(
            block(
                replacing(
                    {
                        "external": num(computed=True),
                        "internal": num(required=True),
                        "ip": text(default="0.0.0.0"),
                        "protocol": text(default="tcp"),
                    }
                )
            ),
            replace=True,
        ),
        "privileged": flag(replace=True),
        "publishAllPorts": flag(replace=True),
        "readOnly": flag(replace=True, default=False),
        "removeVolumes": flag(default=True),
        "restart": text(default="no", one_of=("no", "on-failure", "always", "unless-stopped")),
        "rm": flag(default=False),
        "runtime": text(replace=True, computed=True),
        "securityOpts": unordered(replace=True, computed=True),
        "shmSize": num(replace=True, computed=True, minimum=0),
        "start": flag(default=True),
        "stdinOpen": flag(replace=True, default=False),
        "stopSignal": text(replace=True, computed=True),
        "stopTimeout": num(replace=True, computed=True),
        "storageOpts": mapping(replace=True),
        "sysctls": mapping(replace=True),
        "tmpfs": mapping(),
        "tty": flag(replace=True, default=False),
        "ulimits": unordered(
            block(
                replacing(
                    {
                        "hard": num(required=True),
                        "name": text(required=True),
                        "soft": num(required=True),
                    }
                )
            ),
            replace=True,
        ),
        "uploads": unordered(
            block(
                replacing(
                    {
                        "content": text(),
                        "contentBase64": text(),
                        "executable": flag(default=False),
                        "file": text(required=True),
                        "permissions": text(),
                        "source": text(),
                        "sourceHash": text(),
                    }
                )
            ),
            replace=True,
        ),
        "user": text(replace=True, keep_if_empty=True),
        "usernsMode": text(replace=True),
        "volumes": unordered(
            block(
                replacing(
                    {
                        "containerPath": text(),
                        "fromContainer": text(),
                        "hostPath": text(),
                        "readOnly": flag(),
                        "selinuxRelabel": text(one_of=("z", "Z")),
                        "volumeName": text(),
                    }
                )
            ),
            replace=True,
        ),
        "wait": flag(default=False),
        "waitTimeout": num(default=60),
        "workingDir": text(replace=True, keep_if_empty=True),
        "bridge": text(output=True),
        "containerLogs": text(output=True),
        "exitCode": num(output=True),
        "networkDatas": listing(block({}), output=True),
    },
    delete_first=True,
)
