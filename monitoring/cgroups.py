"""Counters of containers, read from the kernel's files: cgroup v1 and v2, both drivers.

Descriptors stay open, and a read is one `pread`. What changes slowly (limits, OOM kills, processes)
is read every SLOW_EVERY samples, a share of the containers each time.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable
from typing import NamedTuple

from monitoring.model import Container, ContainerSample, Usage
from monitoring.thresholds import CPU_PERIODS_A_SECOND

SLOW_EVERY = 6
# Nothing else of the monitor needs many descriptors.
RESERVED_FILES = 256
# Above any file read here; the kernel gives what there is.
_SIZE = 16384
_NO_LIMIT_V1 = 1 << 60


def field(text: bytes, key: bytes) -> int:
    """The number after `key` at the start of a line; 0 where it is not there."""
    at = text.find(b"\n" + key + b" ")
    if at < 0:
        if not text.startswith(key + b" "):
            return 0
        at = -1
    start = at + len(key) + 2
    end = text.find(b"\n", start)
    return int(text[start : end if end >= 0 else len(text)])


def working_set(usage: int, inactive_file: int) -> int:
    """As cAdvisor, Docker and Podman count it."""
    return max(0, usage - inactive_file)


def blkio_v1(text: bytes) -> tuple[int, int]:
    """(bytes read, written) of blkio.throttle.io_service_bytes, all devices together."""
    read = written = 0
    if len(text) > 12:  # "Total 0\n" is most of what there is to see
        for line in text.splitlines():
            parts = line.split()
            if len(parts) == 3:
                if parts[1] == b"Read":
                    read += int(parts[2])
                elif parts[1] == b"Write":
                    written += int(parts[2])
    return read, written


_IO_V2 = re.compile(rb"\b([rw])bytes=(\d+)")


def io_v2(text: bytes) -> tuple[int, int]:
    """(bytes read, written) of io.stat, all devices together."""
    read = written = 0
    for kind, number in _IO_V2.findall(text):
        if kind == b"r":
            read += int(number)
        else:
            written += int(number)
    return read, written


def net_dev(text: bytes) -> tuple[int, int]:
    """(bytes received, sent) of /proc/PID/net/dev, all interfaces but loopback."""
    received = sent = 0
    for line in text.split(b"\n")[2:]:
        name, colon, numbers = line.partition(b":")
        if colon and name.strip() != b"lo":
            parts = numbers.split(None, 9)
            received += int(parts[0])
            sent += int(parts[8])
    return received, sent


def limit_v2(text: bytes) -> int | None:
    return None if text.startswith(b"max") or not text.strip() else int(text)


def cpu_max_v2(text: bytes) -> float | None:
    """Cores of cpu.max ("50000 100000", "max 100000")."""
    parts = text.split()
    return None if len(parts) < 2 or parts[0] == b"max" else int(parts[0]) / int(parts[1])


def proc_cgroup(text: str) -> dict[str, str]:
    """/proc/PID/cgroup: controller ("" on v2) -> path under the hierarchy's root."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path.lstrip("/")
    return found


class Descriptors:
    """How many kernel files may stay open; those beyond are opened for each read."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one; returns how many files may stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(0, hard - RESERVED_FILES)


class File:
    """One kernel file, kept open between reads."""

    __slots__ = ("_budget", "_fd", "path")

    def __init__(self, path: str, budget: Descriptors) -> None:
        self.path, self._fd, self._budget = path, -1, budget

    def read(self) -> bytes:
        """The content; empty where the file is not there (any more)."""
        if self._fd >= 0:
            try:
                return os.pread(self._fd, _SIZE, 0)
            except OSError:
                # The group was removed; a restart makes a new one at the same path.
                self.close()
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        if self._budget.open < self._budget.most:
            self._budget.open += 1
            self._fd = fd
        try:
            return os.pread(fd, _SIZE, 0)
        except OSError:
            return b""
        finally:
            if self._fd != fd:
                os.close(fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._budget.open -= 1


class _Slow(NamedTuple):
    memory_limit: int | None
    cpu_limit: float | None
    oom_kills: int
    pids: int


class Group:
    """The files of one container. `read` gives None once the container is gone."""

    def __init__(self, files: dict[str, File], *, v2: bool) -> None:
        self._files = files
        self._v2 = v2
        self._slow: _Slow | None = None
        self.pid = 0

    def read(self, *, slow: bool) -> Usage | None:
        return self._read_v2(slow) if self._v2 else self._read_v1(slow)

    def _net(self) -> tuple[int, int]:
        file = self._files.get("net")
        text = file.read() if file else b""
        return net_dev(text) if text else (0, 0)

    def _read_v2(self, slow: bool) -> Usage | None:
        files = self._files
        cpu = files["cpu"].read()
        if not cpu:
            return None
        memory = files["memory"].read() or b"0"
        received, sent = self._net()
        read, written = io_v2(files["io"].read())
        if slow or self._slow is None:
            self._slow = _Slow(
                limit_v2(files["memory_limit"].read()),
                cpu_max_v2(files["cpu_limit"].read()),
                field(files["oom"].read(), b"oom_kill"),
                int(files["pids"].read() or 0),
            )
        return Usage(
            field(cpu, b"usage_usec") / 1e6,
            field(cpu, b"nr_periods"),
            field(cpu, b"nr_throttled"),
            working_set(int(memory), field(files["memory_stat"].read(), b"inactive_file")),
            received,
            sent,
            read,
            written,
            *self._slow,
        )

    def _read_v1(self, slow: bool) -> Usage | None:
        files = self._files
        used = files["cpu"].read()
        if not used:
            return None
        stat, memory = files["cpu_stat"].read(), files["memory_stat"].read()
        received, sent = self._net()
        read, written = blkio_v1(files["io"].read())
        if slow or self._slow is None:
            limit = field(memory, b"hierarchical_memory_limit")
            quota, period = files["cpu_quota"].read(), files["cpu_period"].read()
            cores = int(quota) / int(period) if quota and period else -1.0
            self._slow = _Slow(
                limit if 0 < limit < _NO_LIMIT_V1 else None,
                cores if cores > 0 else None,
                field(files["oom"].read(), b"oom_kill"),
                int(files["pids"].read() or 0),
            )
        return Usage(
            int(used) / 1e9,
            field(stat, b"nr_periods"),
            field(stat, b"nr_throttled"),
            working_set(int(files["memory"].read() or 0), field(memory, b"total_inactive_file")),
            received,
            sent,
            read,
            written,
            *self._slow,
        )

    def close(self) -> None:
        for file in self._files.values():
            file.close()


_V2 = {
    "cpu": "cpu.stat",
    "memory": "memory.current",
    "memory_stat": "memory.stat",
    "io": "io.stat",
    "memory_limit": "memory.max",
    "cpu_limit": "cpu.max",
    "oom": "memory.events",
    "pids": "pids.current",
}
_V1 = {
    "cpu": ("cpuacct", "cpuacct.usage"),
    "cpu_stat": ("cpu", "cpu.stat"),
    "memory": ("memory", "memory.usage_in_bytes"),
    "memory_stat": ("memory", "memory.stat"),
    "io": ("blkio", "blkio.throttle.io_service_bytes_recursive"),
    "cpu_quota": ("cpu", "cpu.cfs_quota_us"),
    "cpu_period": ("cpu", "cpu.cfs_period_us"),
    "oom": ("memory", "memory.oom_control"),
    "pids": ("pids", "pids.current"),
}
# Where the cgroupfs and the systemd driver put a container.
_PLACES = ("docker/{}", "system.slice/docker-{}.scope")


class Cgroups:
    """Finds the groups of containers under `root` (/sys/fs/cgroup) and `proc` (/proc)."""

    def __init__(self, root: str, proc: str, max_files: int) -> None:
        self.root, self.proc = root, proc
        self.v2 = os.path.exists(f"{root}/cgroup.controllers")
        self.descriptors = Descriptors(max_files)

    def group(self, container: Container) -> Group | None:
        """The container's group; None where it is gone (or was never there)."""
        probe = self.root if self.v2 else f"{self.root}/cpuacct"
        for place in _PLACES:
            path = place.format(container.id)
            if os.path.exists(f"{probe}/{path}"):
                return self._made(container, dict.fromkeys(("", *_CONTROLLERS), path))
        # Another cgroup parent, or rootless Docker: the kernel knows.
        try:
            with open(f"{self.proc}/{container.pid}/cgroup") as file:
                paths = proc_cgroup(file.read())
        except OSError:
            return None
        path = paths.get("" if self.v2 else "cpuacct", "")
        # A path that leads upwards is seen from another cgroup namespace.
        if not path or path.startswith("..") or not os.path.exists(f"{probe}/{path}"):
            return None
        return self._made(container, paths)

    def _made(self, container: Container, paths: dict[str, str]) -> Group:
        at = (
            {key: f"{self.root}/{paths['']}/{name}" for key, name in _V2.items()}
            if self.v2
            else {
                key: f"{self.root}/{controller}/{paths.get(controller, '')}/{name}"
                for key, (controller, name) in _V1.items()
            }
        )
        if container.pid and container.own_network:
            at["net"] = f"{self.proc}/{container.pid}/net/dev"
        group = Group({k: File(p, self.descriptors) for k, p in at.items()}, v2=self.v2)
        group.pid = container.pid
        return group


_CONTROLLERS = tuple({controller for controller, _ in _V1.values()})


class _Tracked(NamedTuple):
    group: Group
    usage: Usage | None
    at: float


def rates(
    container: Container, before: Usage | None, now: Usage, seconds: float
) -> ContainerSample:
    """A sample from two readings `seconds` apart; without the first it has levels only.

    A counter that went backwards belongs to a new start: no rate until the next sample.
    """
    limit, cores = now.memory_limit, now.cpu_limit
    memory = 100.0 * now.memory / limit if limit else None
    if before is None or seconds <= 0 or now.cpu_seconds < before.cpu_seconds:
        return ContainerSample(container, now, memory_percent=memory)
    cpu = 100.0 * (now.cpu_seconds - before.cpu_seconds) / seconds
    # The kernel counts only those in which there was something to run. Of all the time, so that a
    # health check that is throttled while nothing else runs is not "most of the time".
    periods = max(now.periods - before.periods, CPU_PERIODS_A_SECOND * seconds)
    return ContainerSample(
        container,
        now,
        cpu,
        cpu / cores if cores else None,
        100.0 * (now.throttled - before.throttled) / periods,
        memory,
        max(0.0, (now.received - before.received) / seconds),
        max(0.0, (now.sent - before.sent) / seconds),
        max(0.0, (now.read - before.read) / seconds),
        max(0.0, (now.written - before.written) / seconds),
    )


class Sampler:
    """Samples containers, and forgets those that are gone."""

    def __init__(self, cgroups: Cgroups) -> None:
        self.cgroups = cgroups
        self._tracked: dict[str, _Tracked] = {}
        self._tick = 0

    def sample(self, containers: Iterable[Container], now: float) -> list[ContainerSample]:
        """One sample each, `now` on the monotonic clock. A container that dies meanwhile has no

        usage in it; that is no error.
        """
        self._tick += 1
        found: list[ContainerSample] = []
        kept: dict[str, _Tracked] = {}
        for index, container in enumerate(containers):
            tracked = self._tracked.get(container.id)
            if not container.running:
                found.append(ContainerSample(container))
                continue
            if tracked is None or tracked.group.pid != container.pid:
                if tracked is not None:
                    tracked.group.close()
                    del self._tracked[container.id]
                group = self.cgroups.group(container)
                if group is None:
                    found.append(ContainerSample(container))
                    continue
                tracked = _Tracked(group, None, now)
            usage = tracked.group.read(slow=(self._tick + index) % SLOW_EVERY == 0)
            kept[container.id] = _Tracked(tracked.group, usage, now)
            found.append(
                ContainerSample(container)
                if usage is None
                else rates(container, tracked.usage, usage, now - tracked.at)
            )
        for key, gone in self._tracked.items():
            if key not in kept:
                gone.group.close()
        self._tracked = kept
        return found

    def close(self) -> None:
        for tracked in self._tracked.values():
            tracked.group.close()
        self._tracked = {}
