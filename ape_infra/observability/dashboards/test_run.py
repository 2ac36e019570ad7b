"""The results of a test."""

from ape_contracts import metrics
from ape_infra.observability import recording_rules
from ape_infra.observability.dashboards.model import (
    Dashboard,
    Panel,
    Query,
    Row,
    logs,
    or_zero,
    quantiles,
    rate,
    series,
    total,
    traced,
)
from ape_infra.observability.log_queries import Match

_FINISHED = total(f"increase({series(metrics.SESSIONS)}[$__range])")
_FAILED = f'result="{metrics.FAILURE}"'

DASHBOARD = Dashboard(
    "ape-test-run",
    "Test Run",
    "Sessions, their success, latencies, tokens and cost.",
    (
        Row(
            "Result",
            (
                Panel(
                    "Agents",
                    (Query(total(series(recording_rules.AGENTS_ALIVE)), "alive"),),
                    kind="stat",
                ),
                Panel("Sessions", (Query(_FINISHED, "finished"),), kind="stat"),
                Panel(
                    "Success",
                    (
                        Query(
                            total(series(recording_rules.SESSION_SUCCESS), op="min"), "of 2 minutes"
                        ),
                    ),
                    "percentunit",
                    "stat",
                ),
                Panel(
                    "Tokens",
                    (
                        Query(
                            total(
                                f"increase({series(metrics.PROXY_TOKENS_IN)}[$__range]) + "
                                f"increase({series(metrics.PROXY_TOKENS_OUT)}[$__range])"
                            ),
                            "in and out",
                        ),
                    ),
                    kind="stat",
                ),
                Panel(
                    "Cost",
                    (
                        Query(
                            or_zero(total(f"increase({series(metrics.PROXY_COST)}[$__range])")),
                            "dollars",
                        ),
                    ),
                    "currencyUSD",
                    "stat",
                    "0 while no price is set.",
                ),
                Panel(
                    "Errors 5xx",
                    (
                        Query(
                            total(series(recording_rules.ERROR_RATIO, 'class="5xx"'), op="max"),
                            "of answers",
                        ),
                    ),
                    "percentunit",
                    "stat",
                ),
            ),
        ),
        Row(
            "Over time",
            (
                Panel(
                    "Sessions a second",
                    (Query(total(series(recording_rules.SESSION_RATE), "result"), "{{result}}"),),
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Success of sessions",
                    (
                        Query(
                            total(series(recording_rules.SESSION_SUCCESS), "stack", op="min"),
                            "{{stack}}",
                        ),
                    ),
                    "percentunit",
                    main=True,
                ),
                Panel(
                    "Length of sessions", quantiles(recording_rules.SESSION_SECONDS), "s", main=True
                ),
                Panel(
                    "Time of the target's answers",
                    quantiles(recording_rules.GATEWAY_SECONDS),
                    "s",
                    main=True,
                ),
                Panel(
                    "Time of completions",
                    quantiles(recording_rules.COMPLETION_SECONDS),
                    "s",
                    main=True,
                ),
                Panel(
                    "Time to first token",
                    quantiles(recording_rules.FIRST_TOKEN_SECONDS),
                    "s",
                    description="Of streams; agents do not stream.",
                    main=True,
                ),
                Panel(
                    "Tokens a second",
                    (
                        Query(total(series(recording_rules.TOKENS_IN)), "in"),
                        Query(total(series(recording_rules.TOKENS_OUT)), "out"),
                    ),
                    "tok/s",
                    main=True,
                ),
                Panel(
                    "Agents",
                    (
                        Query(total(series(recording_rules.AGENTS_DECLARED)), "declared"),
                        Query(total(series(recording_rules.AGENTS_ALIVE)), "alive"),
                    ),
                    main=True,
                ),
                Panel(
                    "Why sessions fail",
                    (
                        Query(
                            total(rate(metrics.SESSIONS, _FAILED), "reason"),
                            "{{reason}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Finish reasons of the model",
                    (
                        Query(
                            total(rate(metrics.PROXY_FINISHED), "finish_reason"),
                            "{{finish_reason}}",
                        ),
                    ),
                    description="length: answers that ended at modelMaxTokens.",
                    stacked=True,
                ),
                Panel(
                    "Cost a minute",
                    (Query(f"60 * ({or_zero(total(rate(metrics.PROXY_COST)))})", "dollars"),),
                    "currencyUSD",
                ),
            ),
        ),
        Row(
            "Sessions",
            (
                logs(
                    "Failed sessions",
                    Match("service", "=", "agent"),
                    keys=(Match("msg", "=", "session"), Match("result", "=", metrics.FAILURE)),
                    description="The link at trace_id shows the session over all services.",
                ),
                traced(),
            ),
        ),
    ),
)
