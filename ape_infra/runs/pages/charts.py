"""The time lines of a run as plain data, which the page's script draws.

A chart has lines, or choices of lines. Each line belongs to a table of times, since two runs have
their own. Times are seconds since the run's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ape_contracts.sketch import Sketch
from ape_contracts.text import plain

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# A line needs no more points than a screen has pixels.
MAX_POINTS = 720
MAX_LINES = 8
MAX_COMPARED = 20
# Of a share that is shown up to 100 %.
FULL = {"top": 1.05}
Line = dict[str, Any]
Chart = dict[str, Any]


@dataclass
class Point:
    """What happened between two times, of one interval or of several."""

    start: float
    end: float
    phase: str
    target: float
    active: float
    dropped: int
    succeeded: int
    failed: int
    requests_failed: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    ttft: Sketch
    endpoints: dict[str, Sketch]
    requests: Sketch = field(init=False)

    def __post_init__(self) -> None:
        self.requests = Sketch().merged(self.endpoints.values())

    @property
    def seconds(self) -> float:
        return max(self.end - self.start, 1e-9)


class Timeline(NamedTuple):
    points: list[Point]
    endpoints: list[str]


def _point(group: Sequence[Mapping[str, Any]]) -> Point:
    names = {name: None for x in group for name in x["endpoints"]}
    costs = [x["cost_dollars"] for x in group if x["cost_dollars"] is not None]
    return Point(
        start=group[0]["from"],
        end=group[-1]["to"],
        phase=group[0]["phase"],
        target=group[-1]["target"],
        active=group[-1]["active"],
        dropped=sum(x["dropped"] for x in group),
        succeeded=sum(x["sessions"]["succeeded"] for x in group),
        failed=sum(x["sessions"]["failed"] for x in group),
        requests_failed=sum(x["requests_failed"] for x in group),
        tokens_in=sum(x["tokens_in"] or 0 for x in group),
        tokens_out=sum(x["tokens_out"] or 0 for x in group),
        cost=sum(costs) if costs else None,
        ttft=_merged(x["ttft"] for x in group),
        endpoints={name: _merged(x["endpoints"].get(name) for x in group) for name in names},
    )


def _merged(plains: Iterable[Any]) -> Sketch:
    found = [Sketch.of(x) for x in plains if x is not None]
    return found[0] if len(found) == 1 else Sketch().merged(found)


def timeline(measurements: Mapping[str, Any]) -> Timeline:
    """Return the points of `measurements.json`, at most MAX_POINTS, and its busiest endpoints."""
    intervals = measurements["intervals"]
    size = max(1, -(-len(intervals) // MAX_POINTS))
    points = [_point(intervals[at : at + size]) for at in range(0, len(intervals), size)]
    counts: dict[str, int] = {}
    for point in points:
        for name, sketch in point.endpoints.items():
            counts[name] = counts.get(name, 0) + sketch.count
    return Timeline(points, sorted(counts, key=lambda name: (-counts[name], name)))


def rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _line(
    name: str, color: int, points: Sequence[Point], value: Callable[[Point], float | None]
) -> Line:
    """A line of the first table; `color`: 0 to 7 of the page."""
    values = [rounded(value(point)) for point in points]
    return {"name": plain(name), "color": color, "table": 0, "dash": False, "values": values}


def _chart(title: str, unit: str, lines: list[Line], note: str = "") -> Chart:
    return {"title": title, "unit": unit, "note": note, "lines": lines}


def _success(point: Point) -> float | None:
    ended = point.succeeded + point.failed
    return point.succeeded / ended if ended else None


def _quantile(q: float, endpoint: str | None = None) -> Callable[[Point], float | None]:
    if endpoint is None:
        return lambda point: point.requests.quantile(q)
    return lambda point: (
        point.endpoints[endpoint].quantile(q) if endpoint in point.endpoints else None
    )


def _spent(points: Sequence[Point]) -> list[float | None]:
    total, found = 0.0, []
    for point in points:
        total += point.cost or 0.0
        found.append(rounded(total))
    return found


def _bands(points: Sequence[Point]) -> list[list[Any]]:
    """Where the run was not in its main phase: start, end, phase."""
    found: list[list[Any]] = []
    for point in points:
        if found and found[-1][2] == point.phase:
            found[-1][1] = point.end
        else:
            found.append([point.start, point.end, point.phase])
    return [x for x in found if x[2] != "main"]


def _of_sessions(points: Sequence[Point], executor: str) -> list[Chart]:
    active = [_line("active", 0, points, lambda x: x.active)]
    per_second = [
        _line("succeeded", 2, points, lambda x: x.succeeded / x.seconds),
        _line("failed", 5, points, lambda x: x.failed / x.seconds),
    ]
    if executor == "open":
        per_second += [
            _line("dropped", 1, points, lambda x: x.dropped / x.seconds),
            _line("target", 7, points, lambda x: x.target) | {"dash": True},
        ]
    else:
        active.append(_line("target", 7, points, lambda x: x.target) | {"dash": True})
    return [
        _chart("Active agents", "", active),
        _chart("Sessions per second", "", per_second, "Ended in each interval"),
        _chart("Session success", "share", [_line("success", 2, points, _success)]) | FULL,
    ]


def _of_requests(points: Sequence[Point], endpoints: Sequence[str]) -> list[Chart]:
    shown = endpoints[:MAX_LINES]
    by_endpoint = {
        name: [_line(x, at, points, _quantile(q, x)) for at, x in enumerate(shown)]
        for name, q in PERCENTILES.items()
    }
    left_out = len(endpoints) - len(shown)
    note = f"The {MAX_LINES} with most requests of {len(endpoints)}" if left_out else ""
    return [
        _chart(
            "Requests per second",
            "",
            [
                _line("all", 0, points, lambda x: x.requests.count / x.seconds),
                _line("failed", 5, points, lambda x: x.requests_failed / x.seconds),
            ],
        ),
        _chart(
            "Request duration",
            "seconds",
            [
                _line(name, at, points, _quantile(q))
                for at, (name, q) in enumerate(PERCENTILES.items())
            ],
        ),
        _chart("Request duration by endpoint", "seconds", [], note)
        | {"choices": [[name, lines] for name, lines in by_endpoint.items()], "chosen": 1},
    ]


def _of_model(points: Sequence[Point]) -> list[Chart]:
    def first_token(q: float) -> Callable[[Point], float | None]:
        return lambda x: x.ttft.quantile(q)

    found = [
        _chart(
            "Time to first token",
            "seconds",
            [
                _line(name, at, points, first_token(q))
                for at, (name, q) in enumerate(PERCENTILES.items())
            ],
        ),
        _chart(
            "Tokens per second",
            "",
            [
                _line("in", 0, points, lambda x: x.tokens_in / x.seconds),
                _line("out", 1, points, lambda x: x.tokens_out / x.seconds),
            ],
        ),
    ]
    if any(x.cost is not None for x in points):
        cost = _line("cost", 0, points, lambda x: x.cost) | {"values": _spent(points)}
        found.append(_chart("Cost so far", "dollars", [cost]))
    return found


def of_run(measurements: Mapping[str, Any], executor: str) -> dict[str, Any]:
    """Return the charts of one run."""
    points, endpoints = timeline(measurements)
    charts = _of_sessions(points, executor) + _of_requests(points, endpoints) + _of_model(points)
    return {
        "span": points[-1].end if points else 0,
        "tables": [[round(x.end, 3) for x in points]],
        "bands": _bands(points),
        "charts": [x for x in charts if _has_values(x)],
    }


def _has_values(chart: Chart) -> bool:
    groups = [x[1] for x in chart.get("choices", [])] or [chart["lines"]]
    return any(v is not None for lines in groups for line in lines for v in line["values"])


def of_two(
    a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str] = ("A", "B")
) -> dict[str, Any]:
    """Return charts with the lines of both runs; those of the first are dashed."""
    runs = timeline(a), timeline(b)
    both = [x for x in runs[0].endpoints if x in runs[1].endpoints][:MAX_COMPARED]

    def pair(value: Callable[[Point], float | None]) -> list[Line]:
        return [
            _line(names[at], at, run.points, value) | {"table": at, "dash": at == 0}
            for at, run in enumerate(runs)
        ]

    def choices(of: Callable[[float], Callable[[Point], float | None]]) -> dict[str, Any]:
        return {"choices": [[n, pair(of(q))] for n, q in PERCENTILES.items()], "chosen": 1}

    def first_token(q: float) -> Callable[[Point], float | None]:
        return lambda x: x.ttft.quantile(q)

    by_endpoint = [[plain(x), pair(_quantile(PERCENTILES["p95"], x))] for x in both]
    charts = [
        _chart("Request duration", "seconds", []) | choices(_quantile),
        _chart("p95 of requests by endpoint", "seconds", [])
        | {"choices": by_endpoint, "chosen": 0},
        _chart("Requests per second", "", pair(lambda x: x.requests.count / x.seconds)),
        _chart("Session success", "share", pair(_success)) | FULL,
        _chart("Sessions per second", "", pair(lambda x: (x.succeeded + x.failed) / x.seconds)),
        _chart("Time to first token", "seconds", []) | choices(first_token),
        _chart("Active agents", "", pair(lambda x: x.active)),
    ]
    return {
        "span": max((x.end for run in runs for x in run.points), default=0),
        "tables": [[round(x.end, 3) for x in run.points] for run in runs],
        "bands": [],
        "charts": [x for x in charts if _has_values(x)],
    }
