"""Memory of containers on this machine, from cgroup files: no call to Docker, no second's wait."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_V2 = ("memory.current", "memory.max", "inactive_file")
_V1 = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
# By version and driver of the cgroups; {} is the container's id.
_PLACES = (
    ("system.slice/docker-{}.scope", _V2),
    ("docker/{}", _V2),
    ("memory/docker/{}", _V1),
    ("memory/system.slice/docker-{}.scope", _V1),
)
_NO_LIMIT = 1 << 60


def memory(container_id: str, root: Path = ROOT) -> tuple[int, int] | None:
    """(working set, limit) in bytes: what is used without the page cache that can go.

    None where the container does not run here, or has no limit.
    """
    for place, (usage, limit, inactive) in _PLACES:
        folder = root / place.format(container_id)
        try:
            used = int((folder / usage).read_text())
            most = (folder / limit).read_text().strip()
            stat = (folder / "memory.stat").read_text()
        except (OSError, ValueError):
            continue
        if most == "max" or int(most) >= _NO_LIMIT:
            return None
        for line in stat.splitlines():
            name, _, value = line.partition(" ")
            if name == inactive:
                used -= int(value)
        return max(0, used), int(most)
    return None


def cpu(container_id: str, root: Path = ROOT) -> tuple[float, float | None] | None:
    """(CPU seconds used so far, cores allowed or None); None where it does not run here."""
    for place in ("system.slice/docker-{}.scope", "docker/{}"):
        name = place.format(container_id)
        try:
            stat = dict(
                line.split(" ", 1) for line in (root / name / "cpu.stat").read_text().splitlines()
            )
            quota, _, period = (root / name / "cpu.max").read_text().partition(" ")
            allowed = None if quota == "max" else int(quota) / int(period)
            return int(stat["usage_usec"]) / 1e6, allowed
        except (OSError, ValueError, KeyError):
            pass
        try:
            used = int((root / "cpuacct" / name / "cpuacct.usage").read_text()) / 1e9
            at = root / "cpu" / name
            share = int((at / "cpu.cfs_quota_us").read_text())
            of = int((at / "cpu.cfs_period_us").read_text())
            return used, share / of if share > 0 else None
        except (OSError, ValueError):
            pass
    return None
