"""The kernel limits that a fleet hits, as used and allowed; what cannot be read is left out."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from monitoring.model import Container, KernelLimit

# A bridge has 1024 ports, one of them its own.
BRIDGE_PORTS = 1023
# What a PID namespace begins with since Linux 6.14: read in a container, it is not the host's.
_PID_MAX_OF_A_NAMESPACE = 1 << 22
# To look at one takes 8 µs, and beside 1000 containers there are some 15,000.
DESCRIPTORS_A_SAMPLE = 500


class Inotify:
    """Inotify instances of the user who has most. The kernel keeps no total of them, so every

    descriptor of every process is looked at: all in the first sample, and DESCRIPTORS_A_SAMPLE in
    each one after it. A process that has more rights than we is not counted.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._used: int | None = None
        self._steps = self._rounds()

    def used(self) -> int:
        """As the last whole round counted."""
        for whole in islice(self._steps, DESCRIPTORS_A_SAMPLE if self._used is not None else None):
            if whole:
                break
        return self._used or 0

    def _rounds(self) -> Iterator[bool]:
        """Endless: False after each descriptor, and True after each round."""
        while True:
            counts: Counter[int] = Counter()
            for name in os.listdir(self._proc):
                # The monitor itself has none, and ten files open for each container.
                if not name.isdigit() or int(name) == os.getpid():
                    continue
                with contextlib.suppress(OSError):  # It has ended.
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
    """Of the kernel whose /proc is at `proc`."""

    def __init__(self, proc: str) -> None:
        self.proc = proc
        self._inotify = Inotify(proc)

    def sample(self, containers: Iterable[Container]) -> list[KernelLimit]:
        found = [self._files(), *self._tasks(), self._keys()]
        if self.proc == "/proc":
            # Of the reader's network namespace; in a container they would be the container's own.
            found += [self._connections(), self._neighbours()]
            if os.geteuid() == 0:
                # Others may not look at descriptors.
                found.append(self._instances())
        found.append(_ports(containers))
        return [limit for limit in found if limit and limit.allowed]

    def _lines(self, path: str) -> list[list[bytes]]:
        """The words of each line."""
        try:
            with open(f"{self.proc}/{path}", "rb") as file:
                return [line.split() for line in file.read().splitlines()]
        except OSError:
            return []

    def _words(self, path: str) -> list[bytes]:
        return next(iter(self._lines(path)), [])

    def _number(self, path: str) -> int:
        words = self._words(path)
        return int(words[0]) if words and words[0].isdigit() else 0

    def _files(self) -> KernelLimit | None:
        words = self._words("sys/fs/file-nr")
        return KernelLimit("open files", int(words[0]), int(words[2])) if len(words) == 3 else None

    def _tasks(self) -> list[KernelLimit]:
        words = self._words("loadavg")
        tasks = int(words[3].split(b"/")[1]) if len(words) > 3 else 0
        most = self._number("sys/kernel/pid_max")
        if self.proc != "/proc" and most == _PID_MAX_OF_A_NAMESPACE:
            most = 0
        return [
            KernelLimit("process ids", tasks, most),
            KernelLimit("threads", tasks, self._number("sys/kernel/threads-max")),
        ]

    def _instances(self) -> KernelLimit:
        allowed = self._number("sys/fs/inotify/max_user_instances")
        return KernelLimit("inotify instances of one user", self._inotify.used(), allowed)

    def _keys(self) -> KernelLimit | None:
        """Key rings: the user nearest to the quota. 0: 5 4/4 2/200 80/20000"""
        quotas = [words[3].split(b"/") for words in self._lines("key-users")]
        found = [KernelLimit("keys of one user", int(used), int(most)) for used, most in quotas]
        return max(found, key=lambda limit: limit.percent, default=None)

    def _connections(self) -> KernelLimit:
        return KernelLimit(
            "connections tracked",
            self._number("sys/net/netfilter/nf_conntrack_count"),
            self._number("sys/net/netfilter/nf_conntrack_max"),
        )

    def _neighbours(self) -> KernelLimit | None:
        """One table, and one limit, of all network namespaces: /proc/net/arp shows ours alone."""
        # Titles, and a line for each CPU; the first number of each is that of the whole table.
        lines = self._lines("net/stat/arp_cache")
        used = int(lines[1][0], 16) if len(lines) > 1 else None
        allowed = self._number("sys/net/ipv4/neigh/default/gc_thresh3")
        return None if used is None else KernelLimit("neighbours (ARP)", used, allowed)


def _ports(containers: Iterable[Container]) -> KernelLimit | None:
    """Of the network with most containers."""
    ports = Counter(network for c in containers if c.running for network in c.networks)
    if not ports:
        return None
    network, used = ports.most_common(1)[0]
    return KernelLimit(f"ports of network {network}", used, BRIDGE_PORTS)
