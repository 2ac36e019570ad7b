"""What each resource accepts: names, types, defaults, and what a change does.

Property names are those of the pulumi-docker 5.2.0 schema. `replace`, `default` and `computed` are
the ForceNew, Default and Computed flags of terraform-provider-docker at commit 5074970c
(internal/provider/resource_docker_*.go). As in Terraform, `replace` on a block means "a change in
the number of blocks"; what lies inside has flags of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


class Kind(Enum):
    """The wire type of a property."""

    STRING = "string"
    INT = "whole number"
    BOOL = "boolean"
    MAP = "map of strings"
    LIST = "list"
    SET = "list (order does not matter)"
    OBJECT = "object"


@dataclass(frozen=True)
class Prop:
    """One property: what it holds and what a change of it does."""

    kind: Kind
    item: Prop | None = None
    fields: Mapping[str, Prop] = field(default_factory=dict)
    required: bool = False
    replace: bool = False
    computed: bool = False
    output: bool = False
    sensitive: bool = False
    default: Any = None
    one_of: tuple[str, ...] = ()
    least: int | None = None
    duration: bool = False
    keep_if_empty: bool = False
    """An empty or absent new value is no change (upstream's DiffSuppressFunc)."""
    ratio: bool = False
    """Compared as a number."""
    refused: str = ""
    """Why the stand-in does not implement it; the published plugin does."""


@dataclass(frozen=True)
class Resource:
    """One resource type."""

    token: str
    fields: Mapping[str, Prop]
    auto_name: bool = True
    delete_first: bool = False
    """The published plugin always deletes before it replaces."""

    @property
    def sensitive(self) -> frozenset[str]:
        """Properties that are secret whatever the program says."""
        return frozenset(k for k, p in self.fields.items() if p.sensitive)


def text(**flags: Any) -> Prop:
    """A string."""
    return Prop(Kind.STRING, **flags)


def num(**flags: Any) -> Prop:
    """A whole number."""
    return Prop(Kind.INT, **flags)


def flag(**flags: Any) -> Prop:
    """A boolean."""
    return Prop(Kind.BOOL, **flags)


def mapping(**flags: Any) -> Prop:
    """A map of strings."""
    return Prop(Kind.MAP, **flags)


def listing(item: Prop | None = None, **flags: Any) -> Prop:
    """A list, of strings unless told."""
    return Prop(Kind.LIST, item=item or text(), **flags)


def setting(item: Prop | None = None, **flags: Any) -> Prop:
    """A list whose order means nothing."""
    return Prop(Kind.SET, item=item or text(), **flags)


def block(fields: Mapping[str, Prop], **flags: Any) -> Prop:
    """An object."""
    return Prop(Kind.OBJECT, fields=fields, **flags)


def forced(fields: Mapping[str, Prop]) -> dict[str, Prop]:
    """The same fields, each of which replaces when it changes."""
    return {k: replace(v, replace=True) for k, v in fields.items()}


NOT_HERE = "the offline stand-in does not implement it; the published plugin does"
LABEL = block(forced({"label": text(required=True), "value": text(required=True)}))
LABEL_UPDATABLE = block({"label": text(required=True), "value": text(required=True)})
RATE = block({"path": text(required=True), "rate": num(required=True, least=0)})

NETWORK = Resource(
    "docker:index/network:Network",
    forced(
        {
            "attachable": flag(),
            "driver": text(computed=True),
            "ingress": flag(),
            "internal": flag(computed=True),
            "ipamConfigs": setting(
                block(
                    forced(
                        {
                            "auxAddress": mapping(),
                            "gateway": text(),
                            "ipRange": text(),
                            "subnet": text(),
                        }
                    )
                ),
                computed=True,
            ),
            "ipamDriver": text(default="default"),
            "ipamOptions": mapping(),
            "ipv6": flag(),
            "labels": setting(LABEL),
            "name": text(required=True),
            "options": mapping(computed=True),
        }
    )
    | {"scope": text(output=True)},
)

VOLUME = Resource(
    "docker:index/volume:Volume",
    {
        "cluster": block({}, refused=NOT_HERE),
        "driver": text(computed=True, replace=True),
        "driverOpts": mapping(replace=True),
        "labels": setting(LABEL, replace=True),
        "name": text(computed=True, replace=True),
        "mountpoint": text(output=True),
    },
)

HEALTHCHECK_SERVICE = {
    "interval": text(default="0s", duration=True),
    "retries": num(default=0, least=0),
    "startPeriod": text(default="0s", duration=True),
    "tests": listing(),
    "timeout": text(default="0s", duration=True),
}
MOUNT_TYPES = ("bind", "volume", "tmpfs")
PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def mount_block(propagation: Prop, container: bool) -> Prop:
    """A mount, which Container and Service describe in nearly the same way."""
    volume_options = {
        "driverName": text(),
        "driverOptions": mapping(),
        "labels": setting(LABEL),
        "noCopy": flag(),
    }
    if container:
        volume_options["subpath"] = text(replace=True)
    return block(
        {
            "bindOptions": block({"propagation": propagation}),
            "readOnly": flag(),
            "source": text(),
            "target": text(required=True),
            "tmpfsOptions": block({"mode": num(), "sizeBytes": num()}, replace=container),
            "type": text(required=True, one_of=MOUNT_TYPES),
            "volumeOptions": block(volume_options),
        }
    )


CONTAINER = Resource(
    "docker:index/container:Container",
    {
        "attach": flag(default=False),
        "capabilities": block(
            {"adds": setting(replace=True), "drops": setting(replace=True)}, replace=True
        ),
        "cgroupParent": text(replace=True),
        "cgroupnsMode": text(replace=True),
        "command": listing(replace=True, computed=True),
        "containerReadRefreshTimeoutMilliseconds": num(default=15000),
        "cpuPeriod": num(least=0),
        "cpuQuota": num(least=0),
        "cpuSet": text(),
        "cpuShares": num(least=0),
        "cpus": text(replace=True),
        "destroyGraceSeconds": num(),
        "deviceReadBps": setting(RATE),
        "deviceReadIops": setting(RATE),
        "deviceRequests": setting(block({}), refused=NOT_HERE),
        "deviceWriteBps": setting(RATE),
        "deviceWriteIops": setting(RATE),
        "devices": setting(
            block(
                forced(
                    {
                        "containerPath": text(),
                        "hostPath": text(required=True),
                        "permissions": text(default="rwm"),
                    }
                )
            ),
            replace=True,
        ),
        "dns": setting(replace=True),
        "dnsOpts": setting(replace=True),
        "dnsSearches": setting(replace=True),
        "domainname": text(replace=True),
        "entrypoints": listing(replace=True, computed=True),
        "envs": setting(replace=True, computed=True),
        "gpus": text(refused=NOT_HERE),
        "groupAdds": setting(replace=True),
        "healthcheck": block(
            {**HEALTHCHECK_SERVICE, "startInterval": text(default="0s", duration=True)},
            computed=True,
        ),
        "hostname": text(replace=True, computed=True),
        "hosts": setting(
            block(forced({"host": text(required=True), "ip": text(required=True)})), replace=True
        ),
        "image": text(required=True, replace=True),
        "init": flag(computed=True),
        "ipcMode": text(replace=True, computed=True),
        "labels": setting(LABEL, replace=True, computed=True),
        "logDriver": text(replace=True, computed=True),
        "logOpts": mapping(replace=True),
        "logs": flag(default=False),
        "maxRetryCount": num(),
        "memory": num(least=0),
        "memoryReservation": num(least=0, default=0),
        "memorySwap": num(least=-1),
        "mounts": setting(mount_block(text(one_of=PROPAGATION), True), replace=True),
        "mustRun": flag(default=True),
        "name": text(required=True, replace=True),
        "networkMode": text(replace=True, default="bridge"),
        "networksAdvanced": setting(
            block(
                forced(
                    {
                        "aliases": setting(),
                        "driverOpts": setting(),
                        "gwPriority": num(least=0),
                        "ipv4Address": text(),
                        "ipv6Address": text(),
                        "linkLocalIps": setting(),
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
                forced(
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
        "securityOpts": setting(replace=True, computed=True),
        "shmSize": num(replace=True, computed=True, least=0),
        "start": flag(default=True),
        "stdinOpen": flag(replace=True, default=False),
        "stopSignal": text(replace=True, computed=True),
        "stopTimeout": num(replace=True, computed=True),
        "storageOpts": mapping(replace=True),
        "sysctls": mapping(replace=True),
        "tmpfs": mapping(),
        "tty": flag(replace=True, default=False),
        "ulimits": setting(
            block(
                forced(
                    {
                        "hard": num(required=True),
                        "name": text(required=True),
                        "soft": num(required=True),
                    }
                )
            ),
            replace=True,
        ),
        "uploads": setting(
            block(
                forced(
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
        "volumes": setting(
            block(
                forced(
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

IMAGE = Resource(
    "docker:index/image:Image",
    {
        "build": block(
            {
                "addHosts": listing(),
                "args": mapping(),
                "builderVersion": text(one_of=("BuilderV1", "BuilderBuildKit")),
                "cacheFrom": block({"images": listing()}),
                "context": text(),
                "contextDigest": text(),
                "dockerfile": text(),
                "network": text(),
                "platform": text(),
                "target": text(),
            }
        ),
        "buildOnPreview": flag(),
        "imageName": text(required=True),
        "registry": block({"password": text(), "server": text(), "username": text()}),
        "skipPush": flag(),
        "baseImageName": text(output=True),
        "context": text(output=True),
        "dockerfile": text(output=True),
        "platform": text(output=True),
        "registryServer": text(output=True),
        "repoDigest": text(output=True),
    },
    auto_name=False,
)

REMOTE_IMAGE = Resource(
    "docker:index/remoteImage:RemoteImage",
    {
        "build": block({}, refused="build with docker.Image; " + NOT_HERE),
        "forceRemove": flag(),
        "keepLocally": flag(),
        "name": text(required=True, replace=True),
        "platform": text(replace=True),
        "pullTriggers": setting(replace=True),
        "triggers": mapping(replace=True),
        "imageId": text(output=True),
        "repoDigest": text(output=True),
    },
    auto_name=False,
)

SECRET = Resource(
    "docker:index/secret:Secret",
    {
        "data": text(required=True, replace=True, sensitive=True),
        "labels": setting(LABEL, replace=True),
        "name": text(required=True, replace=True),
    },
)

SERVICE_CONFIG = Resource(
    "docker:index/serviceConfig:ServiceConfig",
    {
        "data": text(replace=True, sensitive=True),
        "dataRaw": text(replace=True, sensitive=True),
        "labels": setting(LABEL, replace=True),
        "name": text(required=True, replace=True),
    },
)

ROLLOUT = {
    "delay": text(default="0s", duration=True),
    "maxFailureRatio": text(default="0.0", ratio=True),
    "monitor": text(default="5s", duration=True),
    "order": text(default="stop-first", one_of=("stop-first", "start-first")),
    "parallelism": num(default=1, least=0),
}


def file_reference(kind: str) -> Prop:
    """A secret or a config that a service mounts."""
    return block(
        {
            "fileGid": text(default="0"),
            "fileMode": num(default=0o444, least=0),
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
        "configs": setting(file_reference("config")),
        "dir": text(),
        "dnsConfig": block(
            {"nameservers": listing(required=True), "options": listing(), "searches": listing()},
            computed=True,
        ),
        "env": mapping(),
        "groups": listing(),
        "healthcheck": block(HEALTHCHECK_SERVICE, computed=True),
        "hostname": text(),
        "hosts": setting(
            block(forced({"host": text(required=True), "ip": text(required=True)})), replace=True
        ),
        "image": text(required=True),
        "init": flag(computed=True),
        "isolation": text(default="default", one_of=("default", "process", "hyperv")),
        "labels": setting(LABEL),
        "mounts": setting(mount_block(text(default="rprivate", one_of=PROPAGATION), False)),
        "privileges": block({}, refused=NOT_HERE),
        "readOnly": flag(),
        "secrets": setting(file_reference("secret")),
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
        "forceUpdate": num(computed=True, least=0),
        "logDriver": block({"name": text(required=True), "options": mapping()}),
        "networksAdvanceds": setting(
            block(
                forced(
                    {"aliases": setting(), "driverOpts": setting(), "id": text(), "name": text()}
                )
            )
        ),
        "placement": block(
            {
                "constraints": setting(),
                "maxReplicas": num(least=0),
                "platforms": setting(
                    block({"architecture": text(required=True), "os": text(required=True)})
                ),
                "prefs": setting(),
            },
            computed=True,
        ),
        "resources": block(
            {
                "limits": block({"memoryBytes": num(), "nanoCpus": num()}),
                "reservation": block(
                    {
                        "genericResources": block({}, refused=NOT_HERE),
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
                "maxAttempts": num(least=0),
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
            forced(
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
        "labels": setting(LABEL_UPDATABLE, computed=True),
        "mode": block(
            {
                "global": flag(default=False),
                "replicated": block({"replicas": num(default=1, least=0)}, computed=True),
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

RESOURCES: Mapping[str, Resource] = {
    r.token: r
    for r in (
        NETWORK,
        VOLUME,
        CONTAINER,
        IMAGE,
        REMOTE_IMAGE,
        SERVICE,
        SECRET,
        SERVICE_CONFIG,
    )
}

CONFIG: Mapping[str, Prop] = {
    "caMaterial": text(refused=NOT_HERE),
    "certMaterial": text(refused=NOT_HERE),
    "certPath": text(),
    "context": text(refused=NOT_HERE),
    "disableDockerDaemonCheck": flag(),
    "host": text(),
    "keyMaterial": text(refused=NOT_HERE),
    "registryAuth": listing(),
    "sshOpts": listing(refused=NOT_HERE),
}
