"""The JSON of a sample: schema ape.monitor/1, documented in docs/monitor.md.

Fields may be added; existing ones keep their name, meaning and unit within a schema version.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from monitoring.aggregate import by_service
from monitoring.alerts import Alert, Health
from monitoring.model import ContainerSample, Sample

SCHEMA = "ape.monitor/1"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _container(one: ContainerSample) -> dict[str, Any]:
    container, usage = one.container, one.usage
    made: dict[str, Any] = {
        "name": container.name,
        "service": container.service,
        "id": container.id[:12],
        "state": container.state,
        "health": container.health or None,
        "exit_code": container.exit_code,
        "started": round(container.started, 3) or None,
        "tier": container.tier or None,
        "slot": container.slot,
        "restarts": one.restarts,
        "oom_kills": max(one.ooms, usage.oom_kills if usage else 0),
    }
    if usage is not None:
        made |= {
            "cpu_percent": _rounded(one.cpu_percent),
            "cpu_of_limit_percent": _rounded(one.cpu_of_limit),
            "cpu_limit_cores": usage.cpu_limit,
            "throttled_percent": _rounded(one.throttled_percent),
            "memory_bytes": usage.memory,
            "memory_limit_bytes": usage.memory_limit,
            "memory_percent": _rounded(one.memory_percent),
            "net_received_bytes": usage.received,
            "net_sent_bytes": usage.sent,
            "net_received_rate": _rounded(one.received_rate),
            "net_sent_rate": _rounded(one.sent_rate),
            "disk_read_bytes": usage.read,
            "disk_written_bytes": usage.written,
            "disk_read_rate": _rounded(one.read_rate),
            "disk_written_rate": _rounded(one.written_rate),
            "pids": usage.pids,
        }
    return made


def _system(sample: Sample) -> dict[str, Any] | None:
    if (system := sample.system) is None:
        return None
    return {
        "cores": system.cores,
        "cpu_percent": _rounded(system.cpu_percent),
        "iowait_percent": _rounded(system.iowait_percent),
        "memory_percent": _rounded(system.memory_percent),
        "memory_used_bytes": system.memory_used,
        "memory_total_bytes": system.memory_total,
        "swap_percent": _rounded(system.swap_percent),
        "load1": system.load1,
        "disks": {mount: _rounded(percent) for mount, percent in system.disks.items()},
        "net_received_rate": _rounded(system.received_rate),
        "net_sent_rate": _rounded(system.sent_rate),
        "disk_read_rate": _rounded(system.read_rate),
        "disk_written_rate": _rounded(system.written_rate),
        "pressure": {f"{resource}_{share}": v for (resource, share), v in system.pressure.items()},
        "limits": [limit._asdict() for limit in system.limits],
    }


def alerts(found: list[Alert], now: float, wall: float) -> list[dict[str, Any]]:
    """Return alerts as JSON types; see `Alert.json`."""
    return [alert.json(now, wall) for alert in found]


def sample(
    found: Sample, health: Health, open_alerts: list[Alert], project: str, now: float
) -> dict[str, Any]:
    """Return the whole sample as JSON types; `now` is the monotonic time of `found.at`."""
    return {
        "schema": SCHEMA,
        "ts": round(found.at, 3),
        "project": project,
        "health": health._asdict(),
        "system": _system(found),
        "fleet": asdict(found.fleet),
        "services": [asdict(row) for row in by_service(found.containers)],
        "containers": [_container(one) for one in found.containers],
        "gone": list(found.gone),
        "alerts": alerts(open_alerts, now, found.at),
        "monitor": asdict(found.monitor),
    }


def line(value: dict[str, Any]) -> bytes:
    """Return one line with its newline; JSON escapes newlines in values."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
