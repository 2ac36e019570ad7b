"""Kernel limits that a fleet can reach: use and limit, read from /proc.

A limit that this kernel does not show is left out.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from monitoring.model import Container, KernelLimit

# A bridge has 1024 ports; it uses one itself.
BRIDGE_PORTS = 1023
# Initial pid_max of a PID namespace since Linux 6.14: in a container, not the host's limit.
_PID_MAX_OF_A_NAMESPACE = 1 << 22
# Checking one takes 8 µs, and 1000 containers have about 15,000.
DESCRIPTORS_PER_SAMPLE = 500


def sysctl(name: str, proc: str = "/proc") -> int | None:
    """Return the value of a sysctl such as `kernel.pid_max`; None where it cannot be read."""
    try:
        with open(f"{proc}/sys/{name.replace('.', '/')}", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


class Inotify:
    """Inotify instances of the user with the most.

    The kernel keeps no total, so every descriptor of every process is checked: all in the first
    sample, DESCRIPTORS_PER_SAMPLE in each later one. Processes with more privileges than the
    monitor are not counted.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._used: int | None = None
        self._steps = self._rounds()

    def used(self) -> int:
        """Return the number that the last complete round counted."""
        most = None if self._used is None else DESCRIPTORS_PER_SAMPLE
        for complete in islice(self._steps, most):
            if complete:
                break
        return self._used or 0

    def _rounds(self) -> Iterator[bool]:
        """Count forever; yield False after each descriptor and True after each round."""
        while True:
            counts: Counter[int] = Counter()
            for name in os.listdir(self._proc):
                # The monitor has no instance, but ten open files for each container.
                if not name.isdigit() or int(name) == os.getpid():
                    continue
                with contextlib.suppress(OSError):  # The process has ended.
                    user = os.stat(f"{self._proc}/{name}").st_uid
                    with os.scandir(f"{self._proc}/{name}/fd") as links:
                        for link in links:
                            counts[user] += _is_inotify(link.path)
                            yield False
            self._used = max(counts.values(), default=0)
            yield True


def _is_inotify(path: str) -> bool:
    try:
        return os.readlink(path) == "anon_inode:inotify"
    except OSError:
        return False


class KernelLimits:
    """Kernel limits below `proc`."""

    def __init__(self, proc: str) -> None:
        self.proc = proc
        self._inotify = Inotify(proc)

    def sample(self, containers: Iterable[Container]) -> list[KernelLimit]:
        """Return the limits that can be read; `containers` give the use of bridge ports."""
        found = [self._files(), *self._tasks(), self._keys()]
        if self.proc == "/proc":
            # Limits of a network namespace: in a container they would be the container's own.
            found += [self._connections(), self._neighbors()]
            if os.geteuid() == 0:
                # Only root may read the descriptors of other users.
                found.append(self._instances())
        found.append(_ports(containers))
        return [limit for limit in found if limit and limit.allowed]

    def _lines(self, path: str) -> list[list[bytes]]:
        """Return the words of each line; nothing where the file cannot be read."""
        try:
            with open(f"{self.proc}/{path}", "rb") as file:
                return [line.split() for line in file.read().splitlines()]
        except OSError:
            return []

    def _words(self, path: str) -> list[bytes]:
        return next(iter(self._lines(path)), [])

    def _sysctl(self, name: str) -> int:
        return sysctl(name, self.proc) or 0

    def _files(self) -> KernelLimit | None:
        words = self._words("sys/fs/file-nr")
        return KernelLimit("open files", int(words[0]), int(words[2])) if len(words) == 3 else None

    def _tasks(self) -> list[KernelLimit]:
        words = self._words("loadavg")
        tasks = int(words[3].split(b"/")[1]) if len(words) > 3 else 0
        most = self._sysctl("kernel.pid_max")
        if self.proc != "/proc" and most == _PID_MAX_OF_A_NAMESPACE:
            most = 0
        return [
            KernelLimit("process ids", tasks, most),
            KernelLimit("threads", tasks, self._sysctl("kernel.threads-max")),
        ]

    def _instances(self) -> KernelLimit:
        allowed = self._sysctl("fs.inotify.max_user_instances")
        return KernelLimit("inotify instances of one user", self._inotify.used(), allowed)

    def _keys(self) -> KernelLimit | None:
        """Return the keys of the user nearest to the quota, of lines "0: 5 4/4 2/200 80/20000"."""
        quotas = [words[3].split(b"/") for words in self._lines("key-users")]
        found = [KernelLimit("keys of one user", int(used), int(most)) for used, most in quotas]
        return max(found, key=lambda limit: limit.percent, default=None)

    def _connections(self) -> KernelLimit:
        return KernelLimit(
            "connections tracked",
            self._sysctl("net.netfilter.nf_conntrack_count"),
            self._sysctl("net.netfilter.nf_conntrack_max"),
        )

    def _neighbors(self) -> KernelLimit | None:
        """Return the ARP table's entries in all network namespaces; they share one limit.

        /proc/net/arp shows only those of this namespace.
        """
        # A header, then a line per CPU that begins with the number of entries of the whole table.
        lines = self._lines("net/stat/arp_cache")
        used = int(lines[1][0], 16) if len(lines) > 1 else None
        allowed = self._sysctl("net.ipv4.neigh.default.gc_thresh3")
        return None if used is None else KernelLimit("neighbours (ARP)", used, allowed)


def _ports(containers: Iterable[Container]) -> KernelLimit | None:
    """Return the bridge ports of the network with the most containers."""
    ports = Counter(network for c in containers if c.running for network in c.networks)
    if not ports:
        return None
    network, used = ports.most_common(1)[0]
    return KernelLimit(f"ports of network {network}", used, BRIDGE_PORTS)
