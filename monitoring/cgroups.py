"""Counters of containers, read from the kernel's files: cgroup v1 and v2, both drivers.

The only reader of cgroups in this project. The monitor keeps descriptors open, so that a reading is
one `pread` per file (`Cgroups`, `Group`). `memory` and `cpu` read one container once.
"""

from __future__ import annotations

import functools
import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from monitoring.cgroup_search import Search
from monitoring.model import Container, Usage

ROOT = Path("/sys/fs/cgroup")
# Descriptors for everything but cgroup files: sockets, the output file, logs.
RESERVED_FILES = 256
# More than the size of any file read here.
_SIZE = 16384
_NO_LIMIT_V1 = 1 << 60


def field(text: bytes, key: bytes) -> int:
    """Return the number after `key` at the start of a line; 0 without such a line."""
    at = text.find(b"\n" + key + b" ")
    if at < 0:
        if not text.startswith(key + b" "):
            return 0
        at = -1
    start = at + len(key) + 2
    end = text.find(b"\n", start)
    return int(text[start : end if end >= 0 else len(text)])


def working_set(usage: int, inactive_file: int) -> int:
    """Return the memory in use as cAdvisor, Docker and Podman count it, in bytes."""
    return max(0, usage - inactive_file)


def blkio_v1(text: bytes) -> tuple[int, int]:
    """Return the bytes (read, written) of blkio.throttle.io_service_bytes, over all devices."""
    read = written = 0
    if len(text) > 12:  # An idle container's file is just "Total 0\n".
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
    """Return the bytes (read, written) of io.stat, over all devices."""
    read = written = 0
    for kind, number in _IO_V2.findall(text):
        if kind == b"r":
            read += int(number)
        else:
            written += int(number)
    return read, written


def net_dev(text: bytes) -> tuple[int, int]:
    """Return the bytes (received, sent) of /proc/PID/net/dev, over all interfaces but loopback."""
    received = sent = 0
    for line in text.split(b"\n")[2:]:
        name, colon, numbers = line.partition(b":")
        if colon and name.strip() != b"lo":
            parts = numbers.split(None, 9)
            received += int(parts[0])
            sent += int(parts[8])
    return received, sent


def limit_v2(text: bytes) -> int | None:
    """Return the bytes of memory.max; None without a limit ("max")."""
    return None if text.startswith(b"max") or not text.strip() else int(text)


def cpu_max_v2(text: bytes) -> float | None:
    """Return the cores of cpu.max ("50000 100000"); None without a limit ("max 100000")."""
    parts = text.split()
    return None if len(parts) < 2 or parts[0] == b"max" else int(parts[0]) / int(parts[1])


def proc_cgroup(text: str) -> dict[str, str]:
    """Map each controller of /proc/PID/cgroup ("" on v2) to a path below its hierarchy's root."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path.lstrip("/")
    return found


class Descriptors:
    """The number of kernel files that are open and may be; further ones open for each read."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; return how many may stay open."""
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
        """Return the content; empty where the file does not exist (any more)."""
        if self._fd >= 0:
            try:
                return os.pread(self._fd, _SIZE, 0)
            except OSError:
                # The group was removed; a restart creates a new one at the same path.
                self.close()
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        if self._budget.open < self._budget.limit:
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
        """Close the descriptor; a later read opens the file again."""
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
    """The kernel files of one container."""

    def __init__(self, files: dict[str, File], *, v2: bool) -> None:
        self._files = files
        self._v2 = v2
        self._slow: _Slow | None = None
        self.pid = 0

    def read(self, *, slow: bool) -> Usage | None:
        """Return the counters; None once the container was removed.

        Limits, OOM kills and processes are read with `slow`, and else are those of the last time.
        """
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
        """Close all descriptors."""
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
_CONTROLLERS = frozenset(controller for controller, _ in _V1.values())
# Paths of a container's group by Docker's two drivers, cgroupfs and systemd.
_PLACES = ("docker/{}", "system.slice/docker-{}.scope")


def is_v2(root: str) -> bool:
    """Whether the hierarchy at `root` is cgroup v2."""
    return os.path.exists(f"{root}/cgroup.controllers")


class Cgroups:
    """Finds the groups of containers below `root` (/sys/fs/cgroup) and `proc` (/proc)."""

    def __init__(self, root: str, proc: str, max_files: int) -> None:
        self.root, self.proc = root, proc
        self.v2 = is_v2(root)
        self._probe = root if self.v2 else f"{root}/cpuacct"
        self._search = Search(self._probe)
        self.descriptors = Descriptors(max_files)

    def group(self, container: Container) -> Group | None:
        """Return the container's group; None where none is found."""
        for place in _PLACES:
            path = place.format(container.id)
            if os.path.exists(f"{self._probe}/{path}"):
                return self._open(container, dict.fromkeys(("", *_CONTROLLERS), path))
        # Another cgroup parent, or rootless Docker: only the kernel knows the path.
        paths = self._paths(container)
        path = paths.get("" if self.v2 else "cpuacct", "")
        # A path that leads upwards belongs to another cgroup namespace.
        if path and not path.startswith("..") and os.path.exists(f"{self._probe}/{path}"):
            return self._open(container, paths)
        found = self._search.path(container.id)
        return self._open(container, dict.fromkeys(("", *_CONTROLLERS), found)) if found else None

    def _paths(self, container: Container) -> dict[str, str]:
        try:
            with open(f"{self.proc}/{container.pid}/cgroup") as file:
                return proc_cgroup(file.read())
        except (OSError, ValueError):
            return {}

    def why_not(self, container: Container) -> str:
        """Return the reason why a container that runs has no group here."""
        if not os.path.exists(f"{self.proc}/{container.pid}"):
            return (
                f"its process {container.pid} is not in {self.proc}: Docker runs on another "
                "machine, or in a virtual machine"
            )
        if any(path.startswith("..") for path in self._paths(container).values()):
            return (
                f"its cgroup is not below {self.root}, as the monitor is in another cgroup "
                "namespace. Run the monitor with --cgroupns host"
            )
        return f"no cgroup below {self.root} has its id. Mount /sys/fs/cgroup of the Docker host"

    def _open(self, container: Container, paths: Mapping[str, str]) -> Group:
        files = (
            {key: f"{self.root}/{paths['']}/{name}" for key, name in _V2.items()}
            if self.v2
            else {
                key: f"{self.root}/{controller}/{paths.get(controller, '')}/{name}"
                for key, (controller, name) in _V1.items()
            }
        )
        if container.pid and container.own_network:
            files["net"] = f"{self.proc}/{container.pid}/net/dev"
        group = Group({k: File(p, self.descriptors) for k, p in files.items()}, v2=self.v2)
        group.pid = container.pid
        return group


@functools.cache
def _read_once(root: Path) -> Cgroups:
    """Kept, as it remembers where containers were found."""
    return Cgroups(str(root), "/proc", 0)


def usage(container_id: str, root: Path = ROOT) -> Usage | None:
    """Read a container once, without its network; None where it does not run on this machine."""
    group = _read_once(root).group(Container(container_id, "", ""))
    return group.read(slow=True) if group else None


def memory(container_id: str, root: Path = ROOT) -> tuple[int, int] | None:
    """Return (working set, limit) in bytes.

    None where the container does not run on this machine, or has no limit.
    """
    found = usage(container_id, root)
    return (found.memory, found.memory_limit) if found and found.memory_limit else None


def cpu(container_id: str, root: Path = ROOT) -> tuple[float, float | None] | None:
    """Return (CPU seconds since the start, limit in cores or None).

    None where the container does not run on this machine.
    """
    found = usage(container_id, root)
    return (found.cpu_seconds, found.cpu_limit) if found else None
