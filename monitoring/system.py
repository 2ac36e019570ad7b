"""Measurements of the machine: psutil, pressure (PSI), and kernel limits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

import psutil

from monitoring.cgroups import net_dev
from monitoring.kernel import KernelLimits
from monitoring.model import Container, SystemSample
from monitoring.thresholds import DISK_HORIZON_HOURS

# The disk forecast uses one point per minute of the last hour, at least ten.
_DISK_POINT_SECONDS = 60
_DISK_POINTS = 60
_DISK_MIN_POINTS = 10
# Interfaces of containers, whose traffic counts as theirs.
_VIRTUAL = (b"lo", b"veth", b"br-", b"docker", b"vxlan")


def pressure(text: str) -> dict[str, float]:
    """Map "some" and "full" of /proc/pressure/RESOURCE to percent of the last 10 s."""
    found = {}
    for line in text.splitlines():
        share, *values = line.split()
        for value in values:
            name, _, number = value.partition("=")
            if name == "avg10":
                found[share] = float(number)
    return found


def own_traffic(text: bytes) -> tuple[int, int]:
    """Return the bytes (received, sent) of the machine's own interfaces in /proc/1/net/dev."""
    lines = text.split(b"\n")
    kept = lines[:2] + [line for line in lines[2:] if not line.strip().startswith(_VIRTUAL)]
    return net_dev(b"\n".join(kept))


def predicted(points: Iterable[tuple[float, float]], hours: float) -> float | None:
    """Return the percent `hours` after the last point, by least squares over (seconds, percent).

    None with too few points.
    """
    found = list(points)
    if len(found) < _DISK_MIN_POINTS:
        return None
    mean_x = sum(x for x, _ in found) / len(found)
    mean_y = sum(y for _, y in found) / len(found)
    spread = sum((x - mean_x) ** 2 for x, _ in found)
    if spread == 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in found) / spread
    return mean_y + slope * (found[-1][0] + hours * 3600 - mean_x)


class System:
    """Samples the machine whose /proc is at `proc`; `disks` are paths to monitor."""

    def __init__(
        self, proc: str, disks: tuple[str, ...], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.proc, self.disks, self._clock = proc, disks, clock
        psutil.PROCFS_PATH = proc
        self._limits = KernelLimits(proc)
        self._cpu: tuple[float, float, float] | None = None
        self._before: tuple[float, SystemSample] | None = None
        self._history: dict[str, deque[tuple[float, float]]] = {}

    def _text(self, path: str) -> bytes:
        try:
            with open(f"{self.proc}/{path}", "rb") as file:
                return file.read()
        except OSError:
            return b""

    def sample(self, containers: Iterable[Container]) -> SystemSample:
        """Return the machine's measurements; rates are those since the last call."""
        now = self._clock()
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        made = SystemSample(
            cores=psutil.cpu_count() or 1,
            memory_percent=memory.percent,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            swap_percent=swap.percent,
            load1=float((self._text("loadavg").split() or [b"0"])[0]),
        )
        self._cpu_share(made)
        for path in self.disks:
            try:
                made.disks[path] = psutil.disk_usage(path).percent
            except OSError:
                continue
        made.received, made.sent = own_traffic(self._text("1/net/dev"))
        try:
            if io := psutil.disk_io_counters():
                made.read, made.written = io.read_bytes, io.write_bytes
        except (OSError, RuntimeError, NotImplementedError):
            pass  # This kernel has no disk counters.
        for resource in ("cpu", "memory", "io"):
            for share, value in pressure(self._text(f"pressure/{resource}").decode()).items():
                made.pressure[resource, share] = value
        made.limits = self._limits.sample(containers)
        self._rates(made, now)
        self._predict(made, now)
        return made

    def _cpu_share(self, made: SystemSample) -> None:
        times = psutil.cpu_times()
        # The user time includes the guest time.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        idle, iowait = times.idle, getattr(times, "iowait", 0.0)
        if self._cpu is not None:
            passed = total - self._cpu[0]
            if passed > 0:
                waited = max(0.0, iowait - self._cpu[2])
                resting = max(0.0, idle - self._cpu[1]) + waited
                made.cpu_percent = max(0.0, 100.0 * (1 - resting / passed))
                made.iowait_percent = 100.0 * waited / passed
        self._cpu = (total, idle, iowait)

    def _rates(self, made: SystemSample, now: float) -> None:
        if self._before and now > self._before[0]:
            at, old = self._before
            seconds = now - at
            made.received_rate = max(0, made.received - old.received) / seconds
            made.sent_rate = max(0, made.sent - old.sent) / seconds
            made.read_rate = max(0, made.read - old.read) / seconds
            made.written_rate = max(0, made.written - old.written) / seconds
        self._before = (now, made)

    def _predict(self, made: SystemSample, now: float) -> None:
        for path, percent in made.disks.items():
            points = self._history.setdefault(path, deque(maxlen=_DISK_POINTS))
            if not points or now - points[-1][0] >= _DISK_POINT_SECONDS:
                points.append((now, percent))
            later = predicted(points, DISK_HORIZON_HOURS)
            if later is not None:
                made.disks_predicted[path] = later
