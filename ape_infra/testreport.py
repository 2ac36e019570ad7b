"""A finished test as one HTML page: what was asked of Prometheus, and how it is drawn."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ape_common import names

from ape_infra.plot import plot
from ape_infra.prometheus import Series

Ask = Callable[[str], list[Series]]
_W = "1m"


@dataclass(frozen=True)
class Panel:
    """`queries`: legend -> PromQL. A legend with {label} makes a line of each value."""

    title: str
    unit: str
    queries: Mapping[str, str]


def _quantiles(metric: str) -> dict[str, str]:
    return {
        f"p{q * 100:g}": f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket[{_W}])))"
        for q in (0.5, 0.95, 0.99)
    }


PANELS = (
    Panel(
        "Sessions",
        "finished sessions a second",
        {"{result}": f"sum by (result) (rate({names.SESSIONS.name}[{_W}]))"},
    ),
    Panel(
        "Success",
        "share of sessions that met the goal, %",
        {
            "success": f'100 * sum(rate({names.SESSIONS.name}{{result="success"}}[{_W}]))'
            f" / sum(rate({names.SESSIONS.name}[{_W}]))"
        },
    ),
    Panel("Agents", "alive, by state", {"{state}": f"sum by (state) ({names.AGENTS.name})"}),
    Panel("Latency of the target", "seconds", _quantiles(names.GATEWAY_SECONDS.name)),
    Panel("Length of a session", "seconds", _quantiles(names.SESSION_SECONDS.name)),
    Panel("Time to the first token", "seconds", _quantiles(names.PROXY_FIRST_TOKEN_SECONDS.name)),
    Panel(
        "Requests to the target",
        "a second, by status",
        {
            "{status}": f"sum by (status) (rate({names.GATEWAY_REQUESTS.name}[{_W}]))",
            "gateway: {error}": f"sum by (error) (rate({names.GATEWAY_ERRORS.name}[{_W}]))",
        },
    ),
    Panel(
        "Tokens",
        "a second",
        {
            "in": f"sum(rate({names.PROXY_TOKENS_IN.name}[{_W}]))",
            "out": f"sum(rate({names.PROXY_TOKENS_OUT.name}[{_W}]))",
        },
    ),
    Panel("Memory of the services", "MB", {"{job}": "process_resident_memory_bytes / 1048576"}),
    Panel("CPU of the services", "cores", {"{job}": f"rate(process_cpu_seconds_total[{_W}])"}),
)


@dataclass(frozen=True)
class Account:
    """`start` and `end` are Unix times. `events`: (time, what `ape-load` did, its result)."""

    stack: str
    start: float
    end: float
    summary: Mapping[str, str]
    failures: Sequence[tuple[str, float]]
    events: Sequence[tuple[str, str, str]]


def failures_query(seconds: float) -> str:
    """How many sessions failed, by reason."""
    return (
        f'sum by (reason) (increase({names.SESSIONS.name}{{result="failure"}}'
        f"[{max(1, round(seconds))}s]))"
    )


def lines(panel: Panel, ask: Ask) -> dict[str, tuple[tuple[float, float], ...]]:
    """The lines of a panel, by their legend."""
    made = {}
    for legend, query in panel.queries.items():
        for series in ask(query):
            name = legend
            for label, value in series.labels.items():
                name = name.replace(f"{{{label}}}", value)
            made[name] = series.points
    return made


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1500px;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:1.2rem 0 .3rem}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:0 2rem}
svg{width:100%;font-size:11px}svg text{fill:#555}svg .grid{stroke:#e5e5e5}
svg polyline{fill:none;stroke-width:1.6;stroke-linejoin:round}
.key{margin:0;font-size:13px;color:#555}.key span{margin-right:1em}
.key b{font-weight:400;float:right}
.key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em;border-radius:2px}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem 1.2rem .15rem 0}
td{border-top:1px solid #e5e5e5}.none{color:#888}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}svg text{fill:#aaa}
svg .grid,td{stroke:#333;border-color:#333}}
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return '<p class="none">None.</p>'
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def page(test: Account, ask: Ask) -> str:
    """The whole page; all values are escaped, nothing is fetched by it."""

    def stamp(at: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))

    panels = "".join(
        f"<section><h2>{html.escape(p.title)}</h2>{plot(lines(p, ask), p.unit)}</section>"
        for p in PANELS
    )
    failed = [(reason, f"{count:.0f}") for reason, count in test.failures if count >= 0.5]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<title>Load test of {html.escape(test.stack)}</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>"
        f"<h1>Load test of stack {html.escape(test.stack)}</h1>"
        f"<p>{stamp(test.start)} to {stamp(test.end)}</p>"
        + _table(("", ""), list(test.summary.items()))
        + "<h2>What failed, and why</h2>"
        + _table(("reason", "sessions"), failed)
        + f"<div class=grid2>{panels}</div>"
        + "<h2>What was done to the stack</h2>"
        + _table(("when", "what", "result"), test.events)
        + "</body></html>\n"
    )
