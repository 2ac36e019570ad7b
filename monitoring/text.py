"""Readable numbers and names."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ape_contracts.text import plain as shown
from monitoring.alerts import Alert
from monitoring.exporter import State
from monitoring.model import FleetSample, SystemSample


def clean(text: str) -> str:
    """As `plain`, in which each character keeps its width: for columns."""
    return shown(text, mark="?")


def size(value: float | None) -> str:
    """Return bytes as 512 B or 1.5 MiB; a dash for None."""
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def rate(value: float | None) -> str:
    """Return bytes per second as 1.5 MiB/s; a dash for None."""
    return "-" if value is None else f"{size(value)}/s"


def percent(value: float | None) -> str:
    """Return percent as 42% or 4.2%; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.0f}%" if value >= 9.95 else f"{value:.1f}%"


def duration(seconds: float) -> str:
    """Return seconds as 5s, 1m05s or 2h03m."""
    whole = int(max(0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def fleet(found: FleetSample) -> str:
    """Return a summary of the agents."""
    if not (found.declared or found.running):
        return "no agents"
    declared = "?" if found.declared is None else str(found.declared)
    text = f"agents {found.healthy} of {declared} healthy, {found.running} running"
    if found.heartbeat is not None:
        text += f", {found.heartbeat} seen by the gateway"
    return text + (f", {found.missing} missing" if found.missing else "")


def system(found: SystemSample) -> str:
    """Return a summary of the machine."""
    disk = max(found.disks.values(), default=None)
    return (
        f"cpu {percent(found.cpu_percent)} mem {percent(found.memory_percent)} "
        f"disk {percent(disk)} load {found.load1:.2f}"
    )


def plain(state: State) -> Iterator[str]:
    """Yield a sample as lines for a pipe: a summary, and a line per open alert."""
    sample = state.sample
    moment = time.strftime("%H:%M:%S", time.localtime(sample.at))
    running = sum(one.container.running for one in sample.containers)
    parts = [
        f"{moment} {state.health.level}",
        f"containers {running} of {len(sample.containers)} running",
        fleet(sample.fleet),
    ]
    if sample.system:
        parts.append(system(sample.system))
    yield clean(" | ".join(parts))
    if sample.monitor.unseen:
        yield clean(f"  {sample.monitor.unseen_reason}")
    for alert in state.alerts:
        yield clean("  " + alert_line(alert, state.now))


def alert_line(alert: Alert, now: float) -> str:
    """Return an open alert as a line."""
    return f"{alert.severity.upper()} {alert.text} (for {duration(now - alert.since)})"
