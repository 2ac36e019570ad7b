"""Rules of what separates a workload from the host and from other workloads.

They allow what the stack needs, and refuse the rest: an input that is not listed here is refused,
also one that a later version of Docker adds (docs/pipeline.md has the table).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ape_policy.workload import PLUGIN, VOLUME, Rule, Workload, holds_socket

# Namespaces: input -> values that separate. Empty: the engine's default, which separates too.
_NAMESPACES = {
    "pidMode": {"", "private"},
    "ipcMode": {"", "private", "none"},
    "utsMode": {"", "private"},
    "usernsMode": {""},
    "cgroupnsMode": {"", "private"},
    "cgroupParent": {""},
}
_SHARED_NETWORKS = ("container:", "ns:", "service:")


def _known(given: Mapping[str, Any], name: str) -> Any:
    """The value, or None where a preview does not know it: of a network that is still to come."""
    try:
        return given.get(name)
    except Exception as error:
        # Of pulumi_policy, which the rules do not need otherwise.
        if type(error).__name__ != "UnknownValueError":
            raise
        return None


def _no_shared_namespaces(w: Workload) -> Iterator[str]:
    if not w.service:
        for name, allowed in _NAMESPACES.items():
            value = str(w.props.get(name) or "")
            # With it the monitor learns where the cgroups are that it has mounted anyway.
            monitored = (name, value) == ("cgroupnsMode", "host") and w.monitor
            if value not in allowed and not monitored:
                yield f"{name}: is {value}, shared with the host or another container. Remove it."
        mode = str(w.props.get("networkMode") or "")
        if mode.startswith(_SHARED_NETWORKS):
            yield f"networkMode: is {mode}, another's network. Use a network of the stack."
    for i, network in enumerate(w.all("networks")):
        if "host" in (_known(network, "name"), _known(network, "id")):
            yield f"{w.path('networks')}[{i}]: is the host's. Use a network of the stack."


def _no_devices(w: Workload) -> Iterator[str]:
    if not w.service:
        for name in ("devices", "deviceRequests", "deviceCgroupRules", "gpus"):
            if w.props.get(name):
                yield f"{name}: gives access to a device of the host. Remove it."


def _default_profiles(w: Workload) -> Iterator[str]:
    if w.service:
        spec = (w.props.get("taskSpec") or {}).get("containerSpec") or {}
        if spec.get("privileges"):
            yield "taskSpec.containerSpec.privileges: changes the profile. Remove it."
        return
    for i, given in enumerate(w.props.get("securityOpts") or ()):
        # Docker splits at the first "=", or else at the first ":".
        name, _, value = str(given).partition("=" if "=" in str(given) else ":")
        if name == "no-new-privileges":
            continue  # Another rule judges it.
        # A profile by content allows what it likes; a name is the daemon's own.
        if name == "seccomp" and value not in ("", "unconfined") and "{" not in value:
            continue
        if (name, value) == ("apparmor", "docker-default"):
            continue
        yield f"securityOpts[{i}]: weakens {name}. Remove it, so that the default profile holds."


# What the monitor reads.
READABLE = ("/proc", "/sys/fs/cgroup")


def _host_paths(w: Workload) -> Iterator[str]:
    """The engine's socket is the subject of another rule."""
    for path, source, read_only in w.host_mounts():
        if w.socket_proxy or holds_socket(source):
            continue
        if source.rstrip("/") not in READABLE:
            yield f"{path}: mounts {source} of the host. Use a volume, or upload the file."
        elif not read_only:
            yield f"{path}: mounts {source} writable. Mount it read-only."
    for i, mount in enumerate(w.all("mounts")):
        at = f"{w.path('mounts')}[{i}]"
        if mount.get("type") not in ("bind", "volume", "tmpfs"):
            yield f"{at}.type: is {mount.get('type')}. Use volume or tmpfs."
        if (mount.get("bindOptions") or {}).get("propagation") not in (
            *(None, "", "private", "rprivate"),
        ):
            yield f"{at}.bindOptions: propagates mounts between host and container. Remove it."
        options = mount.get("volumeOptions") or {}
        if options.get("driverOptions") or options.get("driverName") not in (None, "", "local"):
            yield f"{at}.volumeOptions: may mount a path of the host. Remove driver and options."
    if not w.service:
        for i, volume in enumerate(w.props.get("volumes") or ()):
            if volume.get("fromContainer"):
                yield f"volumes[{i}].fromContainer: takes another's mounts. Name the volume."


def _plain_volumes(w: Workload) -> Iterator[str]:
    if w.type == PLUGIN:
        yield "plugin: runs as root outside of any container. Install it by hand, if at all."
    elif w.props.get("driverOpts") or (w.props.get("driver") or "local") != "local":
        yield "driverOpts: may mount a path of the host. Use driver local without options."


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Inputs that other rules judge, and those that give a workload nothing.
_CONTAINER = _names(
    "attach capabilities cgroupParent cgroupnsMode command containerReadRefreshTimeoutMilliseconds"
    " cpuPeriod cpuQuota cpuSet cpuShares cpus destroyGraceSeconds deviceCgroupRules deviceReadBps"
    " deviceReadIops deviceRequests deviceWriteBps deviceWriteIops devices domainname entrypoints"
    " envs gpus groupAdds healthcheck hostname image init ipcMode labels logDriver logOpts logs"
    " maxRetryCount memory memoryReservation memorySwap mounts mustRun name networkMode"
    " networksAdvanced pidMode platform ports privileged publishAllPorts readOnly removeVolumes"
    " restart rm securityOpts shmSize start stdinOpen stopSignal stopTimeout tmpfs tty ulimits"
    " uploads user usernsMode utsMode volumes wait waitTimeout workingDir"
)
_SERVICE = _names("auth convergeConfig endpointSpec labels mode name rollbackConfig updateConfig")
_TASK = _names("forceUpdate logDriver networksAdvanceds placement resources restartPolicy")
_SPEC = _names(
    "args capAdds capDrops commands configs dir env groups healthcheck hostname image init labels"
    " mounts privileges readOnly secrets stopGracePeriod stopSignal user"
)
# Inputs of which some values are harmless. The DNS options are those of the agents, with which
# only peers are resolved; any other server would be a way out.
_VALUES: dict[str, tuple[Any, ...]] = {
    "runtime": ("runc", "runsc", "container"),
    "isolation": ("default",),
    "dns": (["127.0.0.1"],),
    "dnsOpts": (["ndots:1"],),
    "dnsSearches": (["."],),
    "dnsConfig": ({"nameservers": ["127.0.0.1"], "options": ["ndots:1"], "searches": ["."]},),
}


def _plain(value: Any) -> Any:
    """The value in Python's own types, which compare equal, without what is not set."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in value if value[key]}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _unknown(props: Any, allowed: frozenset[str], at: str) -> Iterator[str]:
    for name in props or ():
        if name in allowed or name.startswith("__"):
            continue
        value = props[name]
        if value and _plain(value) not in _VALUES.get(name, ()):
            yield f"{at}{name}: is not an input that a workload of the stack needs. Remove it."


def _only_needed_inputs(w: Workload) -> Iterator[str]:
    if not w.service:
        yield from _unknown(w.props, _CONTAINER, "")
        return
    task: Mapping[str, Any] = w.props.get("taskSpec") or {}
    yield from _unknown(w.props, _SERVICE | {"taskSpec"}, "")
    yield from _unknown(task, _TASK | {"containerSpec"}, "taskSpec.")
    yield from _unknown(task.get("containerSpec"), _SPEC, "taskSpec.containerSpec.")


RULES = (
    Rule(
        "no-shared-namespaces",
        "Processes, IPC, users, cgroups and network are the container's own.",
        _no_shared_namespaces,
    ),
    Rule("no-devices", "A workload has no device of the host.", _no_devices),
    Rule("default-profiles", "Seccomp and AppArmor keep their profiles.", _default_profiles),
    Rule("host-paths", "Only /proc and the cgroups are mounted, read-only.", _host_paths),
    Rule(
        "only-needed-inputs",
        "A workload has no input beyond those that the stack needs.",
        _only_needed_inputs,
    ),
    Rule(
        "plain-volumes",
        "A volume is local, without options; there are no plugins.",
        _plain_volumes,
        (VOLUME, PLUGIN),
    ),
)
