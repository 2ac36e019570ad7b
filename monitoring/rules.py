"""Prometheus's alerting rules, from the same thresholds as the monitor's own alerts."""

from __future__ import annotations

from typing import Any

from ape_contracts import metrics
from ape_contracts.labels import AGENT_SERVICES
from monitoring.thresholds import (
    CPU_PERIODS_PER_SECOND,
    DISK_HORIZON_HOURS,
    LOOP_WINDOW_SECONDS,
    OOM_WINDOW_SECONDS,
    RESTART_WINDOW_SECONDS,
    Rule,
    Thresholds,
)

GROUP = "ape-monitor"
_AGENTS = f'service=~"{"|".join(AGENT_SERVICES)}"'
_OTHERS = f'service!~"{"|".join(AGENT_SERVICES)}"'


def _counter_increase(counter: str, seconds: int) -> str:
    """Return PromQL of a counter's increase, only for containers that still exist.

    A range also includes series of removed containers.
    """
    return f"(increase({counter}[{seconds}s]) and {counter})"


def _values() -> dict[str, str]:
    """Return PromQL of each threshold's value, with one series per subject."""
    memory, limit = metrics.CONTAINER_MEMORY.name, metrics.CONTAINER_MEMORY_LIMIT.name
    disk = metrics.SYSTEM_DISK.name
    throttled, periods = metrics.CONTAINER_THROTTLED.name, metrics.CONTAINER_PERIODS.name
    restarts, up = metrics.CONTAINER_RESTARTS.name, metrics.CONTAINER_HEALTHY.name
    return {
        "systemMemoryPercent": metrics.SYSTEM_MEMORY.name,
        "systemCpuPercent": metrics.SYSTEM_CPU.name,
        "diskPercent": metrics.SYSTEM_DISK.name,
        # A forecast needs at least ten minutes of data.
        "diskPredictedPercent": f"(predict_linear({disk}[1h], {DISK_HORIZON_HOURS * 3600}) "
        f"and {disk} offset 10m)",
        "kernelLimitPercent": f"100 * {metrics.KERNEL_USED.name} / {metrics.KERNEL_ALLOWED.name}",
        "containerMemoryPercent": f"100 * {memory} / ({limit} > 0)",
        "throttledPercent": f"100 * rate({throttled}[2m]) / "
        f"clamp_min(rate({periods}[2m]), {CPU_PERIODS_PER_SECOND})",
        "agentRestarts": _counter_increase(f"{restarts}{{{_AGENTS}}}", RESTART_WINDOW_SECONDS),
        "containerRestarts": _counter_increase(f"{restarts}{{{_OTHERS}}}", RESTART_WINDOW_SECONDS),
        "restartLoop": _counter_increase(restarts, LOOP_WINDOW_SECONDS),
        "oomKills": _counter_increase(metrics.CONTAINER_OOM.name, OOM_WINDOW_SECONDS),
        # On Swarm a node keeps listing a task that ended there, while the next runs elsewhere.
        "serviceDown": f"1 - max by (name, service, tier) ({up}{{{_OTHERS}}})",
        "agentsMissing": f'{metrics.FLEET_AGENTS.name}{{state="missing"}}',
        "dataAgeSeconds": metrics.MONITOR_AGE.name,
    }


def _expr(rule: Rule, value: str) -> str:
    """Return PromQL for: above raise_at; or, while the alert is open, above clear_at.

    The containers of a service are one alert; its value is their number.
    """
    # increase() extrapolates: 3 restarts may be 2.99.
    slack = 0.05 if "increase(" in value else 0
    high, low = f"{rule.raise_at - slack:g}", f"{rule.clear_at - slack:g}"
    by = {"machine": "instance", "part": None, "service": "service, tier"}[rule.per]
    if rule.per == "service":
        high_expr, low_expr = (
            f"count by (service, tier) ({value} >= {bound})" for bound in (high, low)
        )
    else:
        high_expr, low_expr = (f"{value} >= {bound}" for bound in (high, low))
    if rule.clear_at == rule.raise_at:
        return high_expr
    on = by or "instance, " + ("limit" if rule.key == "kernelLimitPercent" else "mountpoint")
    open_now = f'ALERTS{{alertname="{rule.alert}", alertstate="firing"}}'
    return f"({high_expr}) or (({low_expr}) and on ({on}) {open_now})"


def prometheus_rules(thresholds: Thresholds | None = None) -> dict[str, Any]:
    """Return a rule file as data: {"groups": [{"name", "rules": [...]}]}, for YAML or JSON."""
    values = _values()
    return {
        "groups": [
            {
                "name": GROUP,
                "rules": [
                    {
                        "alert": rule.alert,
                        "expr": _expr(rule, values[rule.key]),
                        "for": f"{rule.hold_seconds:g}s",
                        "labels": {"severity": rule.severity},
                        "annotations": {
                            "summary": rule.summary,
                            "description": _description(rule),
                        },
                    }
                    for rule in thresholds or Thresholds()
                ],
            }
        ]
    }


def _description(rule: Rule) -> str:
    bound = f"threshold {rule.raise_at:g} {rule.unit}".replace("%", "percent")
    if rule.per == "service":
        seen = "{{ $value }} container(s) of service {{ $labels.service }}"
    elif rule.per == "part":
        seen = "{{ $labels.mountpoint }}{{ $labels.limit }}: {{ $value | humanize }}"
    else:
        seen = "{{ $value | humanize }}"
    return f"{seen} ({bound}). {rule.remedy}"
