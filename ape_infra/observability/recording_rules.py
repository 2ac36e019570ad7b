"""Recording rules: the queries that dashboards and alerts share, each stored as a metric."""

from __future__ import annotations

from typing import Any, NamedTuple

from ape_contracts import metrics
from ape_contracts.metrics import Metric
from ape_infra.observability.promql import SCOPE, WINDOW, quantile, rate, ratio, series, total

QUANTILES = (0.5, 0.95, 0.99)
DECLARED = 'state="declared"'
RUNNING, WHOLE = 'state="running"', 'status=~"[1-5].."'


class RecordingRule(NamedTuple):
    """`metric`: the metric that the rule stores. `labels`: those it adds to each series."""

    metric: Metric
    expr: str
    labels: tuple[tuple[str, str], ...] = ()


def _metric(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(f"ape:{name}", "gauge", help_text, (*SCOPE, *labels))


def _quantiles(name: str, source: Metric, help_text: str) -> tuple[Metric, list[RecordingRule]]:
    metric = _metric(f"{name}:quantile_rate{WINDOW}", help_text, "quantile")
    return metric, [
        RecordingRule(metric, quantile(q, source), (("quantile", f"{q:g}"),)) for q in QUANTILES
    ]


SESSION_RATE = _metric(
    f"sessions:rate{WINDOW}", "Finished sessions per second, by result.", "result"
)
SESSION_SUCCESS = _metric(
    f"session_success:ratio_rate{WINDOW}", "Share of sessions that succeeded."
)
ANSWER_RATE = _metric(
    f"gateway_answers:rate{WINDOW}",
    "Answers of the gateway per second, the target's and its own, by class of status.",
    "class",
)
ERROR_RATIO = _metric(
    f"gateway_answers:ratio_rate{WINDOW}", "Share of each class of status (4xx, 5xx).", "class"
)
MODEL_RATE = _metric(f"proxy_requests:rate{WINDOW}", "Completions per second, by status.", "status")
RATE_LIMITED = _metric(
    f"proxy_rate_limited:ratio_rate{WINDOW}", "Share of completions that ended with 429."
)
TOKENS_OUT = _metric(f"proxy_output_tokens:rate{WINDOW}", "Completion tokens per second.")
TOKENS_IN = _metric(f"proxy_input_tokens:rate{WINDOW}", "Prompt tokens per second.")
AGENTS_ALIVE = _metric("agents_alive:sum", "Agents with a fresh heartbeat.")
AGENTS_DECLARED = _metric(
    "agents_declared:max", "Agents that the stack declares, as the gateway or the monitor reports."
)
TOKENS_PER_AGENT = _metric(
    f"proxy_output_tokens_per_agent:rate{WINDOW}", "Completion tokens per second and running agent."
)
SERVICE_MEMORY = _metric("service_memory_bytes:sum", "Working set by service.", "service")
SERVICE_CPU = _metric(f"service_cpu_cores:rate{WINDOW}", "CPU cores used, by service.", "service")
GATEWAY_SECONDS, _gateway = _quantiles(
    "gateway_request_duration_seconds", metrics.GATEWAY_SECONDS, "Time of the target's answers."
)
SESSION_SECONDS, _session = _quantiles(
    "session_duration_seconds", metrics.SESSION_SECONDS, "Length of sessions."
)
FIRST_TOKEN_SECONDS, _first_token = _quantiles(
    "proxy_time_to_first_token_seconds", metrics.PROXY_FIRST_TOKEN_SECONDS, "Time to first token."
)
COMPLETION_SECONDS, _completion = _quantiles(
    "proxy_request_duration_seconds", metrics.PROXY_SECONDS, "Time of completions."
)
BETWEEN_ACTIONS_SECONDS, _between = _quantiles(
    "time_between_actions_seconds", metrics.TIME_BETWEEN_ACTIONS, "Time between two actions."
)


def _by_class(metric: Metric) -> str:
    """Return the rate of `metric` by class of status, such as 5xx."""
    return f'label_replace({rate(metric, WHOLE)}, "class", "${{1}}xx", "status", "(.)..")'


_sessions = total(rate(metrics.SESSIONS), "result")
_answers = total(
    f"{_by_class(metrics.GATEWAY_REQUESTS)} or {_by_class(metrics.GATEWAY_ERRORS)}", "class"
)
_all_answers = total(series(ANSWER_RATE))
_tokens_out = total(rate(metrics.PROXY_TOKENS_OUT))

RULES: tuple[RecordingRule, ...] = (
    RecordingRule(SESSION_RATE, _sessions),
    RecordingRule(
        SESSION_SUCCESS,
        ratio(
            total(rate(metrics.SESSIONS, f'result="{metrics.SUCCESS}"')),
            total(rate(metrics.SESSIONS)),
        ),
    ),
    RecordingRule(ANSWER_RATE, _answers),
    *(
        RecordingRule(
            ERROR_RATIO,
            ratio(total(series(ANSWER_RATE, f'class="{kind}"')), _all_answers),
            (("class", kind),),
        )
        for kind in ("4xx", "5xx")
    ),
    RecordingRule(MODEL_RATE, total(rate(metrics.PROXY_REQUESTS), "status")),
    RecordingRule(
        RATE_LIMITED,
        ratio(
            total(rate(metrics.PROXY_REQUESTS, 'status="429"')),
            total(rate(metrics.PROXY_REQUESTS)),
        ),
    ),
    RecordingRule(TOKENS_OUT, _tokens_out),
    RecordingRule(TOKENS_IN, total(rate(metrics.PROXY_TOKENS_IN))),
    RecordingRule(AGENTS_ALIVE, total(series(metrics.AGENTS))),
    RecordingRule(
        AGENTS_DECLARED,
        total(
            f"{series(metrics.AGENTS_DECLARED)} or {series(metrics.FLEET_AGENTS, DECLARED)}",
            op="max",
        ),
    ),
    RecordingRule(
        TOKENS_PER_AGENT, f"{_tokens_out} / ({total(series(metrics.AGENTS, RUNNING))} > 0)"
    ),
    RecordingRule(SERVICE_MEMORY, total(series(metrics.CONTAINER_MEMORY), "service")),
    RecordingRule(SERVICE_CPU, total(rate(metrics.CONTAINER_CPU), "service")),
    *_gateway,
    *_session,
    *_first_token,
    *_completion,
    *_between,
)


def groups() -> list[dict[str, Any]]:
    """Return the rules as Prometheus reads them."""
    return [
        {
            "name": "ape-recorded",
            "rules": [
                {"record": rule.metric.name, "expr": rule.expr}
                | ({"labels": dict(rule.labels)} if rule.labels else {})
                for rule in RULES
            ],
        }
    ]
