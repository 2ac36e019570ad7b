"""For each of our alerts: series on which it fires, and on which it stays silent (promtool).

Those of the monitor have theirs in `rule_cases`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ape_contracts import metrics
from ape_contracts.metrics import Metric
from ape_infra.observability import external_metrics
from ape_infra.observability.dashboards.sdk import SCALING
from ape_infra.reporting.panels import plain

# Samples as sparse as a rate of two minutes allows: three times as quick as the real ones.
STEP_SECONDS = 15
MINUTE = 60 // STEP_SECONDS
Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """`labels`: those that the alert must have when it fires; None: it must be silent."""

    alert: str
    series: Series
    minutes: int = 10
    labels: dict[str, str] | None = field(default_factory=dict)


def _braces(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{k}="{v}"' for k, v in labels.items()) + "}"


def at(metric: Metric, suffix: str = "", **labels: str) -> str:
    parts = {"project": "ape", "stack": "dev", **labels}
    return metric.name + suffix + _braces(parts)


def grows(by: float, minutes: int = 60) -> str:
    return f"0+{by:g}x{minutes * MINUTE}"


def stays(value: float, minutes: int = 60) -> str:
    return f"{value:g}x{minutes * MINUTE}"


def then(first: float, minutes: int, second: float, more: int = 60) -> str:
    """A counter that grows by `first` a step for `minutes`, and by `second` afterwards."""
    steps = minutes * MINUTE
    return f"0+{first:g}x{steps} {first * steps:g}+{second:g}x{more * MINUTE}"


def _once() -> str:
    """A counter that grows by one, after five minutes."""
    return f"0x{5 * MINUTE} 1x{60 * MINUTE}"


def _up(jobs: tuple[str, ...], **changed: str) -> Series:
    return {
        at(external_metrics.UP, job=j): changed.get(j, stays(1))
        for j in jobs
        if changed.get(j) != ""
    }


def _buckets(metric: Metric, fast: float, slow: float, minutes: int, **labels: str) -> Series:
    """Answers within `fast` seconds for `minutes`, and then only within `slow`."""
    return {
        at(metric, "_bucket", le=f"{fast:g}", **labels): then(10, minutes, 0),
        at(metric, "_bucket", le=f"{slow:g}", **labels): grows(10, 120),
        at(metric, "_bucket", le="+Inf", **labels): grows(10, 120),
    }


def _slow(alert: str, metric: Metric, fast: float, slow: float, **labels: str) -> list[Case]:
    return [
        Case(alert, _buckets(metric, fast, slow, 30, **labels), 34),
        # As it always was: fast, or slow.
        Case(alert, _buckets(metric, fast, slow, 60, **labels), 34, None),
        Case(alert, _buckets(metric, fast, slow, 0, **labels), 34, None),
        # Twice as slow, and still nothing that anybody would call slow.
        Case(alert, _buckets(metric, fast / 100, fast / 20, 30, **labels), 34, None),
    ]


def _sessions(success: float, failure: float) -> Series:
    return {
        at(metrics.SESSIONS, result="success", reason="goal_met"): grows(success),
        at(metrics.SESSIONS, result="failure", reason="gave_up"): grows(failure),
    }


def _answers(metric: Metric, ok: float, bad: float, status: str) -> Series:
    return {
        at(metrics.GATEWAY_REQUESTS, route="shop", method="GET", status="200"): grows(ok),
        at(metric, route="shop", method="GET", status=status): grows(bad),
    }


def _model(ok: float, limited: float) -> Series:
    return {
        at(metrics.PROXY_REQUESTS, model="m", status="200"): grows(ok),
        at(metrics.PROXY_REQUESTS, model="m", status="429"): grows(limited),
    }


def _tokens(after: float, running: str) -> Series:
    return {
        at(metrics.PROXY_TOKENS_OUT, model="m"): then(100, 30, after),
        at(metrics.AGENTS, state="running"): running,
    }


def _failing(alert: str, metric: Metric, **labels: str) -> list[Case]:
    series = at(metric, **labels)
    return [
        Case(alert, {series: grows(1)}, labels=labels),
        Case(alert, {series: stays(5)}, labels=None),
    ]


def cases(jobs: tuple[str, ...]) -> list[Case]:
    return [
        Case("Watchdog", {}, labels={"severity": "none"}),
        Case("TargetDown", _up(jobs, gateway=""), labels={"service": "gateway"}),
        Case("TargetDown", _up(jobs, loki=stays(0)), labels={"service": "loki"}),
        Case("TargetDown", _up(jobs), labels=None),
        Case("SessionSuccessLow", _sessions(1, 1)),
        Case("SessionSuccessLow", _sessions(0, 1)),
        Case("SessionSuccessLow", _sessions(20, 1), labels=None),
        # One session in two minutes says nothing.
        Case("SessionSuccessLow", _sessions(0, 0.04), labels=None),
        Case(
            "GatewayErrorRateHigh",
            _answers(metrics.GATEWAY_REQUESTS, 9, 1, "500"),
            labels={"class": "5xx"},
        ),
        Case(
            "GatewayErrorRateHigh",
            _answers(metrics.GATEWAY_ERRORS, 1, 1, "403"),
            labels={"class": "4xx"},
        ),
        Case("GatewayErrorRateHigh", _answers(metrics.GATEWAY_REQUESTS, 99, 1, "500"), labels=None),
        Case("GatewayErrorRateHigh", _answers(metrics.GATEWAY_REQUESTS, 9, 1, "404"), labels=None),
        *_slow(
            "GatewayLatencyHigh", metrics.GATEWAY_SECONDS, 0.25, 2.5, route="shop", method="GET"
        ),
        *_slow("TimeToFirstTokenHigh", metrics.PROXY_FIRST_TOKEN_SECONDS, 1, 10, model="m"),
        *_slow("CompletionTimeHigh", metrics.PROXY_SECONDS, 2, 10, model="m"),
        *_slow("TimeBetweenActionsHigh", metrics.TIME_BETWEEN_ACTIONS, 5, 60),
        Case("ModelRateLimited", _model(9, 1)),
        Case("ModelRateLimited", _model(99, 1), labels=None),
        Case("TokenThroughputLow", _tokens(10, stays(10)), 36),
        Case("TokenThroughputLow", _tokens(100, stays(10)), 36, None),
        # The test is over: nobody runs, and nobody needs tokens.
        Case("TokenThroughputLow", _tokens(0, f"10x{30 * MINUTE} 0x{30 * MINUTE}"), 36, None),
        Case(
            "AgentsSilent",
            {
                at(metrics.AGENTS_DECLARED): stays(10),
                at(metrics.AGENTS, state="running"): stays(8),
            },
        ),
        Case("AgentsSilent", {at(metrics.AGENTS_DECLARED): stays(10)}),
        Case(
            "AgentsSilent",
            {
                at(metrics.FLEET_AGENTS, state="declared"): stays(10),
                at(metrics.AGENTS_DECLARED): stays(0),
                at(metrics.AGENTS, state="running"): stays(7),
                at(metrics.AGENTS, state="finished"): stays(3),
            },
            labels=None,
        ),
        Case("ReportsRefused", {at(metrics.GATEWAY_REPORTS_REFUSED, reason="token"): _once()}, 8),
        Case("ReportsRefused", {at(metrics.GATEWAY_REPORTS_REFUSED, reason="slots"): _once()}, 8),
        Case(
            "ReportsRefused",
            {at(metrics.GATEWAY_REPORTS_REFUSED, reason="token"): stays(3)},
            8,
            labels=None,
        ),
        Case(
            "MemoryExhaustionPredicted", {at(metrics.SYSTEM_MEMORY): f"52+0.06x{60 * MINUTE}"}, 40
        ),
        Case(
            "MemoryExhaustionPredicted",
            {at(metrics.SYSTEM_MEMORY): f"52+0.003x{60 * MINUTE}"},
            40,
            None,
        ),
        Case(
            "MemoryExhaustionPredicted",
            {at(metrics.SYSTEM_MEMORY): f"5+0.15x{60 * MINUTE}"},
            40,
            None,
        ),
        *_failing("RuleEvaluationFailing", external_metrics.RULE_FAILURES, rule_group="ape-alerts"),
        *_failing(
            "AlertsNotDelivered", external_metrics.NOTIFICATIONS_FAILED, integration="webhook"
        ),
    ]


def _firing(case: Case) -> str:
    """How many alerts fire with the labels of the case: of the targets that are down, say, only
    the one in question has series at all."""
    labels = case.labels or {}
    alerts = external_metrics.ALERTS.name + _braces(
        {"alertname": case.alert, "alertstate": "firing", **labels}
    )
    return f"count by ({', '.join(('alertname', *labels))}) ({alerts})"


def _scaling_test() -> dict[str, Any]:
    """The mark of the dashboards where agents become more: once, at the step that sees it."""
    expr = f"count({plain(SCALING, seconds=20 * STEP_SECONDS)})"
    seen = {10 * MINUTE: 0, 10 * MINUTE + 1: 1, 10 * MINUTE + 2: 0}
    return {
        "name": "Scaling",
        "interval": f"{STEP_SECONDS}s",
        "input_series": [
            {"series": at(metrics.AGENTS_DECLARED), "values": f"5x{10 * MINUTE} 10x{10 * MINUTE}"}
        ],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": f"{step * STEP_SECONDS}s",
                "exp_samples": [{"labels": "{}", "value": 1}] if marks else [],
            }
            for step, marks in seen.items()
        ],
    }


def _test(number: int, case: Case) -> dict[str, Any]:
    silent = case.labels is None
    labels = _braces({"alertname": case.alert, **(case.labels or {})})
    return {
        "name": f"{case.alert} {number}: {'silent' if silent else 'fires'}",
        "interval": f"{STEP_SECONDS}s",
        "input_series": [{"series": k, "values": v} for k, v in case.series.items()],
        "promql_expr_test": [
            {
                "expr": _firing(case),
                "eval_time": f"{case.minutes}m",
                "exp_samples": [] if silent else [{"labels": labels, "value": 1}],
            }
        ],
    }


def promtool_tests(rule_file: str, jobs: tuple[str, ...]) -> dict[str, Any]:
    """The file that `promtool test rules` reads."""
    return {
        "rule_files": [rule_file],
        "evaluation_interval": f"{STEP_SECONDS}s",
        "tests": [
            _scaling_test(),
            *(_test(number, case) for number, case in enumerate(cases(jobs), 1)),
        ],
    }
