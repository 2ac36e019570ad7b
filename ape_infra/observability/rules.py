"""Alerts of a load test, of the model and of the observability stack itself.

Alerts of host and containers are the monitor's (monitoring/rules.py). The baseline of a value is
its median over the last hour: it follows the target under test, and needs only minutes of data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ape_contracts import metrics
from ape_contracts.metrics import Metric
from ape_infra.observability import external_metrics, recording_rules
from ape_infra.observability.external_metrics import NOTIFICATIONS_FAILED
from ape_infra.observability.promql import SCOPE, rate, series, total
from ape_infra.planning.services import GATEWAY, MONITOR, PROXY, TARGET

Severity = Literal["critical", "warning", "none"]
# The subject of an alert; Alertmanager's inhibition rules use it.
HOST, SERVICE, CONTAINERS, AGENTS = "host", "service", "containers", "agents"
MODEL, WATCH = "model", "watch"
WATCHDOG = "Watchdog"
# Services without which agents cannot work.
REQUIRED_SERVICES = (GATEWAY, PROXY, TARGET)

SESSION_SUCCESS_MIN = 0.9
# A share of fewer sessions than this is not significant.
SESSIONS_MIN = 5
ERROR_RATIO_MAX = {"4xx": 0.25, "5xx": 0.05}
RATE_LIMITED_MAX = 0.05
BASELINE, BASELINE_FACTOR = "1h", 2.0
# Seconds below which nothing is slow, whatever the baseline.
GATEWAY_SECONDS_MIN, FIRST_TOKEN_SECONDS_MIN = 0.25, 1.0
COMPLETION_SECONDS_MIN, BETWEEN_ACTIONS_SECONDS_MIN = 2.0, 5.0
TOKENS_FACTOR = 0.5
EXHAUSTION_HOURS, EXHAUSTION_WINDOW = 4, "30m"
# Below this use, a prediction would follow noise.
EXHAUSTION_FROM_PERCENT = 50


@dataclass(frozen=True)
class Alert:
    """`for_seconds`: how long `expr` must be true before the alert fires.

    `summary` and `description` may use Go templates; `description` ends with the meaning for the
    test.
    """

    name: str
    expr: str
    for_seconds: int
    severity: Severity
    scope: str
    summary: str
    description: str
    labels: tuple[tuple[str, str], ...] = ()


def _above_baseline(metric: Metric, floor: float) -> str:
    now = series(metric, 'quantile="0.95"')
    normal = f"quantile_over_time(0.5, {now}[{BASELINE}])"
    return f"{now} > {BASELINE_FACTOR:g} * {normal} and {now} > {floor:g}"


def _slow(name: str, metric: Metric, floor: float, subject: str, scope: str, meaning: str) -> Alert:
    return Alert(
        name,
        _above_baseline(metric, floor),
        60,
        "warning",
        scope,
        f"{subject} is more than {BASELINE_FACTOR:g} times what it was",
        f"The 95th percentile is {{{{ $value | humanizeDuration }}}}, above {floor:g} s and more "
        f"than {BASELINE_FACTOR:g} times the median of the last hour. {meaning}",
    )


def _down(job: str) -> Alert:
    of_job = f'job="{job}"'
    up = external_metrics.UP
    return Alert(
        "TargetDown",
        # A stopped container leaves DNS, and its target disappears: no series is 0 then.
        f"count({series(up, of_job)} == 0) > 0 or absent({series(up, of_job)} == 1)",
        30,
        "critical" if job in REQUIRED_SERVICES else "warning",
        SERVICE if job in REQUIRED_SERVICES else WATCH,
        f"{job} does not answer Prometheus",
        f"No scrape of {job} has gone well for 30 s: it is stopped, overloaded, or cut off.",
        (("service", job),),
    )


_declared = series(recording_rules.AGENTS_DECLARED)
_silent = f"{_declared} - ({series(recording_rules.AGENTS_ALIVE)} or {_declared} * 0)"


_WATCHDOG = Alert(
    WATCHDOG,
    "vector(1)",
    0,
    "none",
    WATCH,
    "Alerts are on their way",
    "Always firing. When it stops to arrive, nothing else arrives either.",
)

# Of every stack.
_ALERTS = (
    Alert(
        "SessionSuccessLow",
        f"{series(recording_rules.SESSION_SUCCESS)} < {SESSION_SUCCESS_MIN:g} and on ("
        f"{', '.join(SCOPE)}) "
        f"{total(f'increase({series(metrics.SESSIONS)}[2m])')} >= {SESSIONS_MIN}",
        60,
        "warning",
        AGENTS,
        "Sessions fail",
        f"{{{{ $value | humanizePercentage }}}} of the sessions of the last two minutes "
        f"succeeded, less than {SESSION_SUCCESS_MIN:.0%}. The label reason of "
        f"{metrics.SESSIONS.name} says why they fail.",
    ),
    Alert(
        "GatewayErrorRateHigh",
        " or ".join(
            f"""{series(recording_rules.ERROR_RATIO, f'class="{kind}"')} > {most:g}"""
            for kind, most in ERROR_RATIO_MAX.items()
        ),
        60,
        "warning",
        AGENTS,
        "Many answers are {{ $labels.class }}",
        "{{ $value | humanizePercentage }} of the gateway's answers are "
        "{{ $labels.class }}. 4xx: the agents ask for what is not there, or are not let in. "
        "5xx: the target fails, or cannot be reached.",
    ),
    _slow(
        "GatewayLatencyHigh",
        recording_rules.GATEWAY_SECONDS,
        GATEWAY_SECONDS_MIN,
        "The target's time to answer",
        AGENTS,
        "The target has reached what it can take, or the gateway waits for it.",
    ),
    _slow(
        "TimeToFirstTokenHigh",
        recording_rules.FIRST_TOKEN_SECONDS,
        FIRST_TOKEN_SECONDS_MIN,
        "The model's time to the first token",
        MODEL,
        "Agents wait for the model, so the target gets less load than was meant.",
    ),
    _slow(
        "CompletionTimeHigh",
        recording_rules.COMPLETION_SECONDS,
        COMPLETION_SECONDS_MIN,
        "The model's time to the end of an answer",
        MODEL,
        "Agents wait for the model, so the target gets less load than was meant.",
    ),
    _slow(
        "TimeBetweenActionsHigh",
        recording_rules.BETWEEN_ACTIONS_SECONDS,
        BETWEEN_ACTIONS_SECONDS_MIN,
        "The time between two actions of an agent",
        AGENTS,
        "Agents are starved of CPU or wait for the model: the load is not what was meant.",
    ),
    Alert(
        "ModelRateLimited",
        f"{series(recording_rules.RATE_LIMITED)} > {RATE_LIMITED_MAX:g}",
        60,
        "warning",
        MODEL,
        "The model limits the rate",
        "{{ $value | humanizePercentage }} of the completions end with 429: the limits of "
        "the organisation, or those of the proxy, are used up.",
    ),
    Alert(
        "TokenThroughputLow",
        f"{series(recording_rules.TOKENS_PER_AGENT)} < {TOKENS_FACTOR:g} * "
        f"quantile_over_time(0.5, {series(recording_rules.TOKENS_PER_AGENT)}[{BASELINE}])",
        120,
        "warning",
        MODEL,
        "The model gives fewer tokens than it did",
        "{{ $value | humanize }} tokens a second and running agent, less than "
        f"{TOKENS_FACTOR:.0%} of the median of the last hour.",
    ),
    Alert(
        "AgentsSilent",
        f"{_silent} > 0",
        60,
        "warning",
        AGENTS,
        "{{ $value }} declared agents are silent",
        "The gateway has had no heartbeat of {{ $value }} agents for 30 s and more. They are "
        "stopped, restarting, or cut off.",
    ),
    Alert(
        "ReportsRefused",
        f"{total(f'increase({series(metrics.GATEWAY_REPORTS_REFUSED)}[5m])')} > 0",
        0,
        "warning",
        WATCH,
        "The gateway refuses reports of agents",
        "{{ $value | humanize }} reports of the last five minutes had no valid token, or were "
        "about another container's agents. Results may be missing, or an agent forges them.",
    ),
    Alert(
        "RuleEvaluationFailing",
        f"{total(rate(external_metrics.RULE_FAILURES, window='5m'), 'rule_group')} > 0",
        60,
        "warning",
        WATCH,
        "Prometheus fails to evaluate rules",
        "Rules of {{ $labels.rule_group }} fail: their alerts cannot fire. Its log says why.",
    ),
)

# With the monitor.
_MEMORY_EXHAUSTION = Alert(
    "MemoryExhaustionPredicted",
    f"predict_linear({series(metrics.SYSTEM_MEMORY)}[{EXHAUSTION_WINDOW}], "
    f"{EXHAUSTION_HOURS} * 3600) > 100 and "
    f"{series(metrics.SYSTEM_MEMORY)} > {EXHAUSTION_FROM_PERCENT}",
    300,
    "warning",
    HOST,
    f"The machine's memory will be full within {EXHAUSTION_HOURS} hours",
    f"At the pace of the last {EXHAUSTION_WINDOW} it is then "
    f"{{{{ $value | humanize }}}} percent full. A longer test will be cut off.",
)

# With Alertmanager.
_NOT_DELIVERED = Alert(
    "AlertsNotDelivered",
    f"{total(rate(NOTIFICATIONS_FAILED, window='5m'), 'integration')} > 0",
    60,
    "warning",
    WATCH,
    "Alertmanager cannot deliver by {{ $labels.integration }}",
    "Messages to {{ $labels.integration }} fail, so nobody is told. Its log says why.",
)


def alerts(jobs: Sequence[str]) -> tuple[Alert, ...]:
    """Return every alert for a Prometheus that scrapes `jobs`."""
    return (
        _WATCHDOG,
        *map(_down, jobs),
        *_ALERTS,
        *((_MEMORY_EXHAUSTION,) if MONITOR in jobs else ()),
        *((_NOT_DELIVERED,) if "alertmanager" in jobs else ()),
    )


@dataclass(frozen=True)
class Override:
    """`for_seconds`: in place of the alert's own; None: unchanged."""

    for_seconds: int | None = None
    disabled: bool = False


def anchor(name: str) -> str:
    """Return the anchor of an alert's section in the runbooks, as Markdown derives it."""
    return name.lower()


# Scopes of the monitor's alerts; the others have the scope HOST.
_SCOPES = {
    "ServiceUnavailable": SERVICE,
    "RestartLoop": CONTAINERS,
    "AgentFailures": AGENTS,
    "AgentsMissing": AGENTS,
    "MonitorDataStale": WATCH,
}


def _completed(rule: Mapping[str, Any], runbooks: str) -> dict[str, Any]:
    """Add the scope and the runbook to a rule of the monitor."""
    if "alert" not in rule:
        return dict(rule)
    name = rule["alert"]
    return {
        **rule,
        "labels": {"scope": _SCOPES.get(name, HOST), **rule["labels"]},
        "annotations": {"runbook_url": f"{runbooks}#{anchor(name)}", **rule["annotations"]},
    }


def _rule(alert: Alert, runbooks: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": f"{alert.for_seconds}s",
        "labels": {"severity": alert.severity, "scope": alert.scope, **dict(alert.labels)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks}#{anchor(alert.name)}",
        },
    }


def groups(
    jobs: Sequence[str],
    *,
    runbooks: str,
    overrides: Mapping[str, Override] | None = None,
    more: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the groups of alerting rules as Prometheus reads them.

    `more`: the monitor's groups. Raises ValueError if `overrides` names an unknown alert.
    """
    found = [
        {"name": "ape-alerts", "rules": [_rule(a, runbooks) for a in alerts(jobs)]},
        *({**group, "rules": [_completed(r, runbooks) for r in group["rules"]]} for group in more),
    ]
    known = {rule["alert"] for group in found for rule in group["rules"] if "alert" in rule}
    overrides = overrides or {}
    for name in overrides:
        if name not in known:
            raise ValueError(f"{name}: is not an alert. Alerts: {', '.join(sorted(known))}")
    none = Override()
    for group in found:
        kept = []
        for rule in group["rules"]:
            override = overrides.get(rule.get("alert", ""), none)
            if override.disabled:
                continue
            if override.for_seconds is not None:
                rule["for"] = f"{override.for_seconds}s"
            kept.append(rule)
        group["rules"] = kept
    return found
