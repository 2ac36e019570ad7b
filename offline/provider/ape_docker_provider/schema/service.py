"""Properties of docker.Service."""

from __future__ import annotations

from ape_docker_provider.schema.property import (
    HEALTHCHECK_SERVICE,
    LABEL,
    LABEL_UPDATABLE,
    PROPAGATION,
    UNSUPPORTED,
    Prop,
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

ROLLOUT = {
    "delay": text(default="0s", duration=True),
    "maxFailureRatio": text(default="0.0", ratio=True),
    "monitor": text(default="5s", duration=True),
    "order": text(default="stop-first", one_of=("stop-first", "start-first")),
    "parallelism": num(default=1, minimum=0),
}


def file_reference(kind: str) -> Prop:
    """Return a secret or a config of a service."""
    return block(
        {
            "fileGid": text(default="0"),
            "fileMode": num(default=0o444, minimum=0),
            "fileName": text(required=True),
            "fileUid": text(default="0"),
            f"{kind}Id": text(required=True),
            f"{kind}Name": text(),
        }
    )


CONTAINER_SPEC = block(
    {
        "args": listing(),
        "capAdds": listing(),
        "capDrops": listing(),
        "commands": listing(),
        "configs": unordered(file_reference("config")),
        "dir": text(),
        "dnsConfig": block(
            {"nameservers": listing(required=True), "options": listing(), "searches": listing()},
            computed=True,
        ),
        "env": mapping(),
        "groups": listing(),
        "healthcheck": block(HEALTHCHECK_SERVICE, computed=True),
        "hostname": text(),
        "hosts": unordered(
            block(replacing({"host": text(required=True), "ip": text(required=True)})), replace=True
        ),
        "image": text(required=True),
        "init": flag(computed=True),
        "isolation": text(default="default", one_of=("default", "process", "hyperv")),
        "labels": unordered(LABEL),
        "mounts": unordered(mount_block(text(default="rprivate", one_of=PROPAGATION), False)),
        "privileges": block({}, unsupported=UNSUPPORTED),
        "readOnly": flag(),
        "secrets": unordered(file_reference("secret")),
        "stopGracePeriod": text(computed=True, duration=True),
        "stopSignal": text(),
        "sysctl": mapping(replace=True),
        "user": text(),
    },
    required=True,
)

TASK_SPEC = block(
    {
        "containerSpec": CONTAINER_SPEC,
        "forceUpdate": num(computed=True, minimum=0),
        "logDriver": block({"name": text(required=True), "options": mapping()}),
        "networksAdvanceds": unordered(
            block(
                replacing(
                    {
                        "aliases": unordered(),
                        "driverOpts": unordered(),
                        "id": text(),
                        "name": text(),
                    }
                )
            )
        ),
        "placement": block(
            {
                "constraints": unordered(),
                "maxReplicas": num(minimum=0),
                "platforms": unordered(
                    block({"architecture": text(required=True), "os": text(required=True)})
                ),
                "prefs": unordered(),
            },
            computed=True,
        ),
        "resources": block(
            {
                "limits": block({"memoryBytes": num(), "nanoCpus": num()}),
                "reservation": block(
                    {
                        "genericResources": block({}, unsupported=UNSUPPORTED),
                        "memoryBytes": num(),
                        "nanoCpus": num(),
                    }
                ),
            },
            computed=True,
        ),
        "restartPolicy": block(
            {
                "condition": text(one_of=("none", "on-failure", "any")),
                "delay": text(duration=True),
                "maxAttempts": num(minimum=0),
                "window": text(duration=True),
            },
            computed=True,
        ),
        "runtime": text(computed=True, one_of=("container", "plugin")),
    },
    required=True,
)

SERVICE = Resource(
    "docker:index/service:Service",
    {
        "auth": block(
            replacing(
                {
                    "password": text(sensitive=True),
                    "serverAddress": text(required=True),
                    "username": text(),
                }
            ),
            replace=True,
            sensitive=True,
        ),
        "convergeConfig": block(
            {
                "delay": text(default="7s", duration=True),
                "timeout": text(default="3m", duration=True),
            }
        ),
        "endpointSpec": block(
            {
                "mode": text(computed=True, one_of=("vip", "dnsrr")),
                "ports": listing(
                    block(
                        {
                            "name": text(),
                            "protocol": text(default="tcp", one_of=("tcp", "udp", "sctp")),
                            "publishMode": text(default="ingress", one_of=("host", "ingress")),
                            "publishedPort": num(computed=True),
                            "targetPort": num(required=True),
                        }
                    )
                ),
            },
            computed=True,
        ),
        "labels": unordered(LABEL_UPDATABLE, computed=True),
        "mode": block(
            {
                "global": flag(default=False),
                "replicated": block({"replicas": num(default=1, minimum=0)}, computed=True),
            },
            replace=True,
            computed=True,
        ),
        "name": text(required=True, replace=True),
        "rollbackConfig": block(
            {**ROLLOUT, "failureAction": text(default="pause", one_of=("pause", "continue"))}
        ),
        "taskSpec": TASK_SPEC,
        "updateConfig": block(
            {
                **ROLLOUT,
                "failureAction": text(default="pause", one_of=("pause", "continue", "rollback")),
            }
        ),
    },
)
