"""Series that raise each alert of the monitor in Prometheus, and series that do not.

Input of `promtool test rules`, with the rules that the thresholds' model makes.
"""

from __future__ import annotations

from typing import Any

from monitoring.rules import prometheus_rules

_SERVICE = 'name="proxy", service="proxy"'
_AGENT = 'name="agent-0001", service="agent"'
_FLAT = "x400"

# alert: (series that raise it, series that leave it silent), 30 s apart; looked at after 3 hours.
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "HighMemoryUsage": ({"ape_system_memory_percent": "90"}, {"ape_system_memory_percent": "84"}),
    "HighCpuUsage": ({"ape_system_cpu_percent": "81"}, {"ape_system_cpu_percent": "79"}),
    "HighDiskUsage": (
        {'ape_system_disk_percent{mountpoint="/"}': "91"},
        {'ape_system_disk_percent{mountpoint="/"}': "89"},
    ),
    "DiskWillFill": (
        {'ape_system_disk_percent{mountpoint="/"}': "10+0.15"},
        {'ape_system_disk_percent{mountpoint="/"}': "10+0.01"},
    ),
    "KernelLimitNear": (
        {'ape_kernel_limit_used{limit="a"}': "81", 'ape_kernel_limit_allowed{limit="a"}': "100"},
        {'ape_kernel_limit_used{limit="a"}': "79", 'ape_kernel_limit_allowed{limit="a"}': "100"},
    ),
    "ResourceExhaustion": (
        {
            f"container_memory_working_set_bytes{{{_AGENT}}}": "91",
            f"container_spec_memory_limit_bytes{{{_AGENT}}}": "100",
        },
        {
            # Without a limit there is no share of it.
            f"container_memory_working_set_bytes{{{_AGENT}}}": "91",
            f"container_spec_memory_limit_bytes{{{_AGENT}}}": "0",
        },
    ),
    "CpuThrottled": (
        {
            f"container_cpu_cfs_throttled_periods_total{{{_AGENT}}}": "0+180",
            f"container_cpu_cfs_periods_total{{{_AGENT}}}": "0+300",
        },
        {
            # Most of the periods in which it had something to do, and those were few.
            f"container_cpu_cfs_throttled_periods_total{{{_AGENT}}}": "0+60",
            f"container_cpu_cfs_periods_total{{{_AGENT}}}": "0+80",
        },
    ),
    "AgentFailures": (
        {f"ape_container_restarts_total{{{_AGENT}}}": "0x300 1x5 2x5 3x200"},
        {f"ape_container_restarts_total{{{_AGENT}}}": "0x300 1x5 2x200"},
    ),
    "ContainerRestarts": (
        {f"ape_container_restarts_total{{{_SERVICE}}}": "0x300 1x5 2x5 3x200"},
        {f"ape_container_restarts_total{{{_AGENT}}}": "0x300 1x5 2x5 3x200"},
    ),
    "RestartLoop": (
        {f"ape_container_restarts_total{{{_SERVICE}}}": "0x345 1x1 2x1 3x1 5x1 6x200"},
        {f"ape_container_restarts_total{{{_SERVICE}}}": "0x200 1x1 2x1 3x1 5x1 6x200"},
    ),
    "ContainerOomKilled": (
        {f"container_oom_events_total{{{_AGENT}}}": "0x350 1x200"},
        {f"container_oom_events_total{{{_AGENT}}}": "0x200 1x200"},
    ),
    "ServiceUnavailable": (
        {f"ape_container_healthy{{{_SERVICE}}}": "0"},
        {
            f"ape_container_healthy{{{_AGENT}}}": "0",
            # It ended on this node, and runs on another.
            f"ape_container_healthy{{{_SERVICE}}}": "0",
            f'ape_container_healthy{{{_SERVICE}, instance="b"}}': "1",
        },
    ),
    "AgentsMissing": (
        {'ape_fleet_agents{state="missing"}': "1"},
        {'ape_fleet_agents{state="missing"}': "0", 'ape_fleet_agents{state="running"}': "5"},
    ),
    "MonitorDataStale": (
        {"ape_monitor_data_age_seconds": "31"},
        {"ape_monitor_data_age_seconds": "14"},
    ),
}
# Above, between the two values, and below: raised, still open, over. One sample in 30 s.
_HYSTERESIS = "90x9 82x10 79x10"


def _series(name: str, values: str) -> dict[str, str]:
    if "instance=" not in name:
        name = name.removesuffix("}")
        name += ("," if "{" in name else "{") + 'instance="a"}'
    return {"series": name, "values": values if "x" in values else values + _FLAT}


def _seen(alert: str, minutes: int, opened: bool) -> dict[str, Any]:
    expr = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    found = [{"labels": "{}", "value": 1}] if opened else []
    return {"expr": expr, "eval_time": f"{minutes}m", "exp_samples": found}


def cases_file(rule_file: str) -> dict[str, Any]:
    """A file of `promtool test rules` for the rules in `rule_file`."""
    tests: list[dict[str, Any]] = []
    for alert, cases in CASES.items():
        for opened, series in zip((True, False), cases, strict=True):
            tests.append(
                {
                    "interval": "30s",
                    "input_series": [_series(n, v) for n, v in series.items()],
                    "promql_expr_test": [_seen(alert, 180, opened)],
                }
            )
    tests.append(
        {
            "interval": "30s",
            "input_series": [_series("ape_system_memory_percent", _HYSTERESIS)],
            "promql_expr_test": [
                _seen("HighMemoryUsage", 0, False),
                _seen("HighMemoryUsage", 4, True),
                _seen("HighMemoryUsage", 9, True),
                _seen("HighMemoryUsage", 12, False),
            ],
        }
    )
    return {"rule_files": [rule_file], "evaluation_interval": "30s", "tests": tests}


def files() -> tuple[dict[str, Any], dict[str, Any]]:
    """(rules.json, its test), for one folder."""
    return prometheus_rules(), cases_file("rules.json")
