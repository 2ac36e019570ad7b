"""What a hardened workload is: rules over the plain inputs of a container or a Swarm service.

A rule is a pure function of inputs as Pulumi names them (`readOnly`, `taskSpec`). It knows neither
engine nor stack; how hard it is meant (mandatory, advisory, disabled) is Pulumi's policy config.
No message holds a value of the environment.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTAINER = "docker:index/container:Container"
SERVICE = "docker:index/service:Service"

# Where a container and a service have the same thing.
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
    """Whether a mount of `source` hands over the engine's socket, itself or in a folder.

    A daemon may listen anywhere, so any socket of the host's counts.
    """
    path = posixpath.normpath("/" + source.lstrip("/"))
    folder = path.rstrip("/") + "/"
    return path.endswith(".sock") or any(socket.startswith(folder) for socket in _SOCKETS)


@dataclass(frozen=True)
class Workload:
    """A container's or service's inputs, read by the names of `_PATHS`.

    Only what a rule asks for is read: an input that is unknown in a preview raises there, and
    Pulumi then says of that one rule that it is decided at the update.
    """

    type: str
    props: Mapping[str, Any]

    @property
    def service(self) -> bool:
        return self.type == SERVICE

    def path(self, name: str) -> str:
        return _PATHS[name][self.service]

    def get(self, name: str) -> Any:
        value: Any = self.props
        for key in self.path(name).split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def all(self, name: str) -> Sequence[Any]:
        return self.get(name) or ()

    @property
    def never_starts(self) -> bool:
        """Created to be copied into, and never run (ape_infra/runtimes/docker.py: the fillers)."""
        return (
            not self.service
            and self.props.get("start") is False
            and self.props.get("mustRun") is False
            and self.props.get("restart") in (None, "", "no")
        )

    def label(self, name: str) -> str | None:
        return next((x.get("value") for x in self.all("labels") if x.get("label") == name), None)

    def host_mounts(self) -> Iterator[tuple[str, str, bool]]:
        """Path of the input, path on the host, read-only."""
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
        """The one that may have the engine's socket, and does."""
        return self.label("ape.service") == SOCKET_PROXY and any(
            _holds_socket(source) for _, source, _ in self.host_mounts()
        )

    def environment(self) -> Iterator[tuple[str, str]]:
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
    """`check` yields one sentence a violation: the input, what is wrong, what to do."""

    name: str
    description: str
    check: Callable[[Workload], Iterator[str]]

    def violations(self, resource_type: str, props: Mapping[str, Any]) -> list[str]:
        """None for a resource that is neither container nor service."""
        if resource_type not in (CONTAINER, SERVICE):
            return []
        return list(self.check(Workload(resource_type, props)))


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def _non_root_user(w: Workload) -> Iterator[str]:
    # The socket is root's, and its group has another number on every host. Root without
    # capabilities is the owner of the socket and nothing else; the other rules see to that.
    if w.socket_proxy:
        return
    user = str(w.get("user") or "")
    name = user.partition(":")[0]
    todo = "Set a user that is not root, such as 10001:10001."
    if not name:
        yield f"{w.path('user')}: is not set, so the image decides. {todo}"
    elif name == "root" or name.strip("0") == "":
        yield f"{w.path('user')}: is {user}. {todo}"


def _read_only_root(w: Workload) -> Iterator[str]:
    if w.get("read_only") is not True and not w.never_starts:
        yield f"{w.path('read_only')}: is not true. Set it, and mount a tmpfs where files are made."


def _limits(w: Workload) -> Iterator[str]:
    if w.never_starts:
        return
    for name, what in (("memory", "memory"), ("cpus", "CPU")):
        if _number(w.get(name)) <= 0:
            yield f"{w.path(name)}: there is no limit of {what}. Set one."


def _no_capabilities(w: Workload) -> Iterator[str]:
    if not w.service and w.props.get("privileged") is True:
        yield "privileged: is true, which keeps every capability. Remove it."
    if "ALL" not in (str(x).upper().removeprefix("CAP_") for x in w.all("drops")):
        yield f"{w.path('drops')}: does not drop ALL. Set it to [ALL]."
    if w.all("adds"):
        yield f"{w.path('adds')}: adds capabilities. Remove it."


def _no_new_privileges(w: Workload) -> Iterator[str]:
    # A service has no such field: daemon.json sets it for the node (docs/facts.md).
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
                f"{w.path('ports')}: Swarm publishes them on all addresses of every node. Publish "
                "none, or allow it for this stack in the policy config."
            )
        return
    if w.props.get("networkMode") == "host":
        yield "networkMode: is host, where what listens is published. Use a network of the stack."
    if w.props.get("publishAllPorts") is True:
        yield "publishAllPorts: is true, on all addresses. Publish single ports with an ip."
    for i, port in enumerate(w.all("ports")):
        if (port.get("ip") or "") in ALL_ADDRESSES:
            yield f"ports[{i}].ip: is published on all addresses. Name one, such as 127.0.0.1."


def _no_docker_socket(w: Workload) -> Iterator[str]:
    # The one exception is kept as narrow as its inputs can show.
    for path, source, read_only in w.host_mounts():
        if w.socket_proxy:
            if not source.endswith(".sock"):
                yield f"{path}: mounts {source}. The {SOCKET_PROXY} may have the socket alone."
            elif not read_only:
                yield f"{path}: mounts {source} writable. The {SOCKET_PROXY} mounts it read-only."
        elif _holds_socket(source):
            yield (
                f"{path}: mounts {source}, and who has the engine's socket is root on the host "
                f"(read-only is no protection). Ask the {SOCKET_PROXY} instead."
            )
    if w.socket_proxy and w.all("ports"):
        yield f"{w.path('ports')}: the {SOCKET_PROXY} publishes nothing. Remove them."


def _pinned_image(w: Workload) -> Iterator[str]:
    image = str(w.get("image") or "")
    if "@sha256:" in image or image.startswith("sha256:"):
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f'{w.path("image")}: is "{image}", which is another image tomorrow. Add a version.'


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
                "Hand it over as a file (File(secret=True) in ape_infra/workload.py)."
            )


RULES = (
    Rule("non-root-user", "A workload runs as a user that is not root.", _non_root_user),
    Rule("read-only-root", "The root file system is read-only.", _read_only_root),
    Rule("limits", "A workload has a limit of memory and of CPU.", _limits),
    Rule("no-capabilities", "Every capability is dropped and none added.", _no_capabilities),
    Rule("no-new-privileges", "A process gains no privileges by setuid.", _no_new_privileges),
    Rule(
        "not-on-all-addresses",
        "A port is published on an address that was chosen.",
        _not_on_all_addresses,
    ),
    Rule("no-docker-socket", "Nobody but the socket proxy has the engine.", _no_docker_socket),
    Rule("pinned-image", "An image is named by version or digest.", _pinned_image),
    Rule(
        "no-secret-in-environment",
        "A secret is handed over as a file, not in the environment.",
        _no_secret_in_environment,
    ),
)
