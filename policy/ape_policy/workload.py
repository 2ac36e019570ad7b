"""The inputs of a container or a Swarm service, and a rule over them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTAINER = "docker:index/container:Container"
SERVICE = "docker:index/service:Service"
VOLUME = "docker:index/volume:Volume"
PLUGIN = "docker:index/plugin:Plugin"

# Paths of the same input in a container and in a service.
_PATHS = {
    "user": ("user", "taskSpec.containerSpec.user"),
    "read_only": ("readOnly", "taskSpec.containerSpec.readOnly"),
    "memory": ("memory", "taskSpec.resources.limits.memoryBytes"),
    "cpus": ("cpus", "taskSpec.resources.limits.nanoCpus"),
    "drops": ("capabilities.drops", "taskSpec.containerSpec.capDrops"),
    "adds": ("capabilities.adds", "taskSpec.containerSpec.capAdds"),
    "ports": ("ports", "endpointSpec.ports"),
    "mounts": ("mounts", "taskSpec.containerSpec.mounts"),
    "image": ("image", "taskSpec.containerSpec.image"),
    "env": ("envs", "taskSpec.containerSpec.env"),
    "labels": ("labels", "labels"),
    "groups": ("groupAdds", "taskSpec.containerSpec.groups"),
    "networks": ("networksAdvanced", "taskSpec.networksAdvanceds"),
}


SOCKET_PROXY, MONITOR = "socket-proxy", "monitor"
_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
)


def holds_socket(source: str) -> bool:
    """Whether `source` is the engine's socket or a folder that contains it.

    A daemon may listen anywhere, so every socket of the host counts.
    """
    path = posixpath.normpath("/" + source.lstrip("/"))
    folder = path.rstrip("/") + "/"
    return path.endswith(".sock") or any(socket.startswith(folder) for socket in _SOCKETS)


def _is_path(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or "\\" in name


@dataclass(frozen=True)
class Workload:
    """The inputs of a container or service, read by the names of `_PATHS`.

    Inputs are read only when a rule needs them. An input that is unknown in a preview raises, and
    Pulumi then reports that this one rule is decided at the update.
    """

    type: str
    props: Mapping[str, Any]

    @property
    def service(self) -> bool:
        """Whether it is a Swarm service."""
        return self.type == SERVICE

    def path(self, name: str) -> str:
        """Return the input's path, for a message."""
        return _PATHS[name][self.service]

    def get(self, name: str) -> Any:
        """Return the input, or None."""
        value: Any = self.props
        for key in self.path(name).split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def all(self, name: str) -> Sequence[Any]:
        """Return the elements of a list input."""
        return self.get(name) or ()

    @property
    def never_starts(self) -> bool:
        """Whether it only fills a volume and never runs (ape_infra/program/runtimes/docker.py)."""
        return (
            not self.service
            and self.props.get("start") is False
            and self.props.get("mustRun") is False
            and self.props.get("restart") in (None, "", "no")
        )

    def label(self, name: str) -> str | None:
        """Return the value of a label, or None."""
        return next((x.get("value") for x in self.all("labels") if x.get("label") == name), None)

    def host_mounts(self) -> Iterator[tuple[str, str, bool]]:
        """Yield (path of the input, path on the host, whether it is read-only)."""
        for i, mount in enumerate(self.all("mounts")):
            source = mount.get("source") or ""
            if mount.get("type") == "bind" or _is_path(source):
                yield f"{self.path('mounts')}[{i}]", source, mount.get("readOnly") is True
        if not self.service:
            for i, volume in enumerate(self.props.get("volumes") or ()):
                name = volume.get("volumeName") or ""
                # Docker binds a volume that is named like a path.
                if source := volume.get("hostPath") or (name if _is_path(name) else ""):
                    yield f"volumes[{i}]", source, volume.get("readOnly") is True

    @property
    def socket_proxy(self) -> bool:
        """Whether it is the socket proxy, the only workload that may mount the engine's socket."""
        return self.label("ape.service") == SOCKET_PROXY and any(
            holds_socket(source) for _, source, _ in self.host_mounts()
        )

    @property
    def monitor(self) -> bool:
        """Whether it is the monitor, which has the cgroups of the host mounted."""
        return self.label("ape.service") == MONITOR and any(
            source.rstrip("/") == "/sys/fs/cgroup" for _, source, _ in self.host_mounts()
        )

    def environment(self) -> Iterator[tuple[str, str]]:
        """Yield names and values of the environment variables."""
        env = self.get("env") or ()
        if isinstance(env, Mapping):
            for name in env:
                yield name, str(env[name])
        else:
            for entry in env:
                name, _, value = entry.partition("=")
                yield name, value


@dataclass(frozen=True)
class Rule:
    """A rule. `check` yields a message per violation: the input, the problem, the remedy."""

    name: str
    description: str
    check: Callable[[Workload], Iterator[str]]
    types: tuple[str, ...] = (CONTAINER, SERVICE)

    def violations(self, resource_type: str, props: Mapping[str, Any]) -> list[str]:
        """Return the messages; none for a resource of another type than the rule's."""
        if resource_type not in self.types:
            return []
        return list(self.check(Workload(resource_type, props)))
