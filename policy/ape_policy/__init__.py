"""Rules of a hardened workload, over the plain inputs of a container or a Swarm service.

A rule is a pure function of inputs under Pulumi's names (`readOnly`, `taskSpec`). Its enforcement
level (mandatory, advisory, disabled) comes from Pulumi's policy config. No message contains a value
of the environment.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTAINER = "docker:index/container:Container"
SERVICE = "docker:index/service:Service"

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
}


SOCKET_PROXY = "socket-proxy"
_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
)


def _holds_socket(source: str) -> bool:
    """Whether `source` is the engine's socket or a folder that contains it.

    A daemon may listen anywhere, so every socket of the host counts.
    """
    path = posixpath.normpath("/" + source.lstrip("/"))
    folder = path.rstrip("/") + "/"
    return path.endswith(".sock") or any(socket.startswith(folder) for socket in _SOCKETS)


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
            if mount.get("type") == "bind":
                path = f"{self.path('mounts')}[{i}]"
                yield path, mount.get("source") or "", mount.get("readOnly") is True
        if not self.service:
            for i, volume in enumerate(self.props.get("volumes") or ()):
                if source := volume.get("hostPath"):
                    yield f"volumes[{i}]", source, volume.get("readOnly") is True

    @property
    def socket_proxy(self) -> bool:
        """Whether it is the socket proxy, the only workload that may mount the engine's socket."""
        return self.label("ape.service") == SOCKET_PROXY and any(
            _holds_socket(source) for _, source, _ in self.host_mounts()
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

    def violations(self, resource_type: str, props: Mapping[str, Any]) -> list[str]:
        """Return the messages; none for a resource that is neither container nor service."""
        if resource_type not in (CONTAINER, SERVICE):
            return []
        return list(self.check(Workload(resource_type, props)))


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def _non_root_user(w: Workload) -> Iterator[str]:
    # Root owns the socket, and its group has another number on every host. The other rules leave
    # the socket proxy's root without capabilities.
    if w.socket_proxy:
        return
    user = str(w.get("user") or "")
    name = user.partition(":")[0]
    remedy = "Set a user that is not root, such as 10001:10001."
    if not name:
        yield f"{w.path('user')}: is not set, so the image decides. {remedy}"
    elif name == "root" or name.strip("0") == "":
        yield f"{w.path('user')}: is {user}. {remedy}"


def _read_only_root(w: Workload) -> Iterator[str]:
    if w.get("read_only") is not True and not w.never_starts:
        yield f"{w.path('read_only')}: is not true. Set it, and mount a tmpfs for files."


def _limits(w: Workload) -> Iterator[str]:
    if w.never_starts:
        return
    for name, resource in (("memory", "memory"), ("cpus", "CPU")):
        if _number(w.get(name)) <= 0:
            yield f"{w.path(name)}: has no {resource} limit. Set one."


def _no_capabilities(w: Workload) -> Iterator[str]:
    if not w.service and w.props.get("privileged") is True:
        yield "privileged: is true, which keeps all capabilities. Remove it."
    if "ALL" not in (str(x).upper().removeprefix("CAP_") for x in w.all("drops")):
        yield f"{w.path('drops')}: does not drop ALL. Set it to [ALL]."
    if w.all("adds"):
        yield f"{w.path('adds')}: adds capabilities. Remove it."


def _no_new_privileges(w: Workload) -> Iterator[str]:
    # A service has no such field; daemon.json sets it for the node (docs/facts.md).
    if w.service:
        return
    given = {str(x).replace("=", ":") for x in w.props.get("securityOpts") or ()}
    if not given & {"no-new-privileges", "no-new-privileges:true"}:
        yield "securityOpts: lacks no-new-privileges:true. Add it."


ALL_ADDRESSES = ("", "0.0.0.0", "::", "[::]")


def _not_on_all_addresses(w: Workload) -> Iterator[str]:
    if w.service:
        if w.all("ports"):
            yield (
                f"{w.path('ports')}: Swarm publishes them on all addresses of every node. Remove "
                "them, or allow them for this stack in the policy config."
            )
        return
    if w.props.get("networkMode") == "host":
        yield "networkMode: is host, which publishes every listener. Use a network of the stack."
    if w.props.get("publishAllPorts") is True:
        yield "publishAllPorts: is true, on all addresses. Publish single ports with an address."
    for i, port in enumerate(w.all("ports")):
        if (port.get("ip") or "") in ALL_ADDRESSES:
            yield f"ports[{i}].ip: is published on all addresses. Set one, such as 127.0.0.1."


def _no_docker_socket(w: Workload) -> Iterator[str]:
    # The only exception is as narrow as the inputs allow.
    for path, source, read_only in w.host_mounts():
        if w.socket_proxy:
            if not source.endswith(".sock"):
                yield f"{path}: mounts {source}. The {SOCKET_PROXY} may mount only the socket."
            elif not read_only:
                yield f"{path}: mounts {source} writable. Mount it read-only."
        elif _holds_socket(source):
            yield (
                f"{path}: mounts {source}; access to the engine's socket is root access to the "
                f"host, also read-only. Use the {SOCKET_PROXY} instead."
            )
    if w.socket_proxy and w.all("ports"):
        yield f"{w.path('ports')}: the {SOCKET_PROXY} must not publish ports. Remove them."


def _pinned_image(w: Workload) -> Iterator[str]:
    image = str(w.get("image") or "")
    if "@sha256:" in image or image.startswith("sha256:"):
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f'{w.path("image")}: is "{image}", which may change at any time. Add a version.'


_SECRET_NAME = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)?|secret|token|api_?key|access_?key|private_?key"
    r"|credentials?)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:sk|csk|gh[opsu]|github_pat|glpat|xox[abprs])[-_][A-Za-z0-9_-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\."
    r"|://[^/\s:@]+:[^/\s@]+@"
)


def _no_secret_in_environment(w: Workload) -> Iterator[str]:
    for name, value in w.environment():
        if value and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
            yield (
                f"{w.path('env')}: {name} looks like a secret, and `docker inspect` shows it. "
                "Pass it as a file (File(secret=True) in ape_infra/program/workload.py)."
            )


RULES = (
    Rule("non-root-user", "A workload runs as a user that is not root.", _non_root_user),
    Rule("read-only-root", "The root file system is read-only.", _read_only_root),
    Rule("limits", "A workload has a memory limit and a CPU limit.", _limits),
    Rule("no-capabilities", "All capabilities are dropped and none is added.", _no_capabilities),
    Rule("no-new-privileges", "A process gains no privileges by setuid.", _no_new_privileges),
    Rule(
        "not-on-all-addresses",
        "A port is published on a chosen address.",
        _not_on_all_addresses,
    ),
    Rule("no-docker-socket", "Only the socket proxy has access to the engine.", _no_docker_socket),
    Rule("pinned-image", "An image has a version or a digest.", _pinned_image),
    Rule(
        "no-secret-in-environment",
        "A secret is passed as a file, not in the environment.",
        _no_secret_in_environment,
    ),
)
