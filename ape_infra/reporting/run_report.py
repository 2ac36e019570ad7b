"""A finished test as one HTML page: what it was, what came of it, and the dashboards' pictures."""

from __future__ import annotations

import html
import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ape_infra.reporting.draw import STYLE, PanelData, scale, svg
from ape_infra.reporting.prometheus import Series


@dataclass(frozen=True)
class RunReport:
    """`start` and `end` are Unix times. `events`: (Unix time, what was done, its result)."""

    stack: str
    start: float
    end: float
    summary: Mapping[str, str]
    failures: Sequence[tuple[str, int]]
    events: Sequence[tuple[float, str, str]]


def counter_increase(points: Sequence[tuple[float, float]], since: float) -> float:
    """How much a counter grew after the Unix time `since`, its starts anew counted.

    One that is there at `since` counts from its value then, one that comes later from 0.
    """
    before = points[0][1] if points[0][0] < since + 1 else 0.0
    total = 0.0
    for _, value in points:
        total += value - before if value >= before else value
        before = value
    return total


def outcomes(sessions: Sequence[Series], since: float) -> Counter[tuple[str, str]]:
    """(result, reason) -> how many sessions ended so after `since`, of names.SESSIONS' series."""
    found: Counter[tuple[str, str]] = Counter()
    for one in sessions:
        at = one.labels.get("result", ""), one.labels.get("reason", "")
        found[at] += round(counter_increase(one.points, since))
    return found


_STYLE = f"""
body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1500px;padding:0 1rem;
color:#222}}
h1{{font-size:1.5rem}}h2{{font-size:1.25rem;margin:2rem 0 0}}
h3{{font-size:1rem;margin:1rem 0 .2rem}}
h3 small{{font-weight:400;color:#777}}
.panels{{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:0 2rem}}
table{{border-collapse:collapse}}td,th{{text-align:left;padding:.15rem 1.2rem .15rem 0}}
td{{border-top:1px solid #e5e5e5}}.none{{color:#777}}
@media(prefers-color-scheme:dark){{body{{background:#161616;color:#ddd}}td{{border-color:#333}}}}
{STYLE}"""


def _table(rows: Sequence[Sequence[object]], head: Sequence[str] = ()) -> str:
    if not rows:
        return '<p class="none">None.</p>'
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{body}</table>"


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _section(dashboard: str, panels: Sequence[PanelData], test: RunReport) -> str:
    """A dashboard's pictures; what has none is named."""
    marks = [at for at, _, _ in test.events]
    pictures, empty = [], []
    for drawn in panels:
        picture = svg(drawn, test.start, test.end, marks)
        if not picture:
            empty.append(drawn.panel.title)
            continue
        title, unit = drawn.panel.title, scale(drawn.panel.unit, drawn.most)[1]
        # "Tokens a second" says its unit itself.
        said = f" {title.lower()}".endswith(f" {unit}")
        about = ("" if said else unit, drawn.panel.description)
        note = html.escape(" · ".join(filter(None, about)))
        pictures.append(
            f"<section><h3>{html.escape(title)} <small>{note}</small></h3>{picture}</section>"
        )
    return (
        f"<h2>{html.escape(dashboard)}</h2>"
        + (f'<div class="panels">{"".join(pictures)}</div>' if pictures else "")
        + (
            f'<p class="none">No data in this time: {html.escape(", ".join(empty))}.</p>'
            if empty
            else ""
        )
    )


def page(test: RunReport, panels: Sequence[PanelData]) -> str:
    """The whole page; all values are escaped, nothing is fetched by it."""
    done = [(_stamp(at), what, result) for at, what, result in test.events]
    sections = "".join(
        _section(dashboard, list(group), test)
        for dashboard, group in itertools.groupby(panels, lambda drawn: drawn.dashboard)
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<title>Load test of {html.escape(test.stack)}</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>"
        f"<h1>Load test of stack {html.escape(test.stack)}</h1>"
        f"<p>{_stamp(test.start)} to {_stamp(test.end)}, UTC as all times here</p>"
        + _table(list(test.summary.items()))
        + "<h2>What failed, and why</h2>"
        + _table(test.failures, ("reason", "sessions"))
        + sections
        + "<h2>What was done to the stack</h2>"
        + "<p>A dotted line in each picture is one of these.</p>"
        + _table(done, ("when", "what", "result"))
        + "</body></html>\n"
    )
