"""The pages of runs: a report, and a comparison of two. Each is one file that loads nothing.

All values are escaped, also in the data of the charts, and the page's policy lets a browser run
the two scripts of this package only, and load nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ape_infra.runs.compare import Difference
from ape_infra.runs.pages import charts, shown
from ape_infra.runs.pages.frame import framed

MAX_BYTES = 1_500_000
# Shares of it; the time lines and the scripts take at most the rest.
MAX_TRANSCRIPTS, MAX_ENDPOINTS = 500_000, 400
# In percent, or points of a share: the ends of the picture of a change.
PICTURE = 60.0


class Run(NamedTuple):
    """`summary.json` and `measurements.json` of a run."""

    summary: Mapping[str, Any]
    measurements: Mapping[str, Any]


def _durations(stats: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [shown.seconds(stats[key]) for key in keys]


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sessions, requests = summary["sessions"], summary["requests"]
    model, duration = summary["model_use"], summary["sessions"]["duration"]
    failed = f"{shown.number(sessions['failed'])} failed"
    aborted = f", {shown.number(sessions['aborted'])} aborted" if sessions["aborted"] else ""
    late = f"{shown.number(sessions['late'])} late" if sessions["late"] else ""
    tokens = model["tokens_in"] + model["tokens_out"]
    rows = [
        ("Sessions", shown.number(sessions["started"]), failed + aborted),
        ("Session success", shown.share(sessions["success_rate"]), ""),
        ("Goodput", shown.number(sessions["goodput"]), "succeeded sessions per second"),
        ("Session, p95", shown.seconds(duration["p95"]), f"p50 {shown.seconds(duration['p50'])}"),
        ("Dropped", shown.number(sessions["dropped"]), late),
        (
            "Requests",
            shown.number(requests["count"]),
            f"{shown.number(requests['rate'])} per s, "
            f"{shown.share(requests['failed_rate'])} failed",
        ),
        (
            "Request, p95",
            shown.seconds(requests["duration"]["p95"]),
            f"p50 {shown.seconds(requests['duration']['p50'])}, "
            f"p99 {shown.seconds(requests['duration']['p99'])}",
        ),
        (
            "First token, p95",
            shown.seconds(model["ttft"]["p95"]),
            f"p50 {shown.seconds(model['ttft']['p50'])}",
        ),
        ("Tokens", shown.number(tokens), f"{shown.number(model['tokens_out'])} of them out"),
        ("Cost", shown.dollars(model["cost_dollars"]), ""),
    ]
    return rows


def _threshold_value(row: Mapping[str, Any]) -> str:
    value = row["value"]
    return "no sample" if value is None else shown.number(value)


def _state(summary: Mapping[str, Any]) -> str:
    state = str(summary["state"])
    text = shown.STATES.get(state, state)
    not_met = sum(not x["passed"] for x in summary["thresholds"])
    if state == "failed" and not_met:
        text += f": {not_met} of {len(summary['thresholds'])} thresholds not met"
    return text


def _model(summary: Mapping[str, Any]) -> str:
    model = summary["model"]
    return " ".join(str(model[key]) for key in ("provider", "name") if model[key]) or model["kind"]


def _lead(summary: Mapping[str, Any]) -> list[str]:
    lasted = shown.long_time(summary["ended"] - summary["started"])
    measured = shown.long_time(summary["measured_seconds"])
    return [
        str(summary["run"]),
        shown.moment(summary["started"]),
        f"{lasted}, of them {measured} measured",
        f"{summary['executor']} executor",
        f"model: {_model(summary)}",
    ]


def _endpoint(row: Mapping[str, Any]) -> dict[str, Any]:
    failures = {k: n for k, n in row["statuses"].items() if k[:1] in "45"} | row["errors"]
    part = f" ({shown.share(row['failed'] / row['count'])})" if row["failed"] else ""
    return {
        "endpoint": row["endpoint"],
        "scenario": row["scenario"],
        "count": shown.number(row["count"]),
        "rate": shown.number(row["rate"]),
        "failed": shown.number(row["failed"]) + part,
        "bad": bool(row["failed"]),
        "durations": _durations(row["duration"], ("mean", "p50", "p95", "p99", "max")),
        "failures": shown.counts(failures),
    }


def _scenario(name: str, row: Mapping[str, Any]) -> list[str]:
    numbers = [shown.number(row[key]) for key in ("started", "succeeded", "failed", "dropped")]
    percentiles = _durations(row["duration"], ("p50", "p95", "p99"))
    return [name, *numbers, shown.share(row["success_rate"]), *percentiles]


def _failures(
    sessions: Mapping[str, Any], transcripts: Sequence[shown.Transcript]
) -> list[dict[str, Any]]:
    reasons = {
        **dict.fromkeys((x.reason for x in transcripts), 0),
        **dict.fromkeys((x["reason"] for x in sessions["failures"]), 0),
        **sessions["reasons"],
    }
    return [
        {
            "name": reason,
            "count": f"{shown.number(count)} sessions" if count != 1 else "1 session",
            "details": [
                (x["detail"], x["sessions"])
                for x in sessions["failures"]
                if x["reason"] == reason and x["detail"]
            ],
            "transcripts": [x for x in transcripts if x.reason == reason],
        }
        for reason, count in sorted(reasons.items(), key=lambda x: (-x[1], x[0]))
    ]


def _about(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions, lost = summary["versions"], summary["lost"]
    return [
        ("release", str(versions["ape"])),
        *((f"image of {name}", str(image)) for name, image in versions["images"].items()),
        *((f"lost: {name.replace('_', ' ')}", shown.number(n)) for name, n in lost.items()),
        *((name, shown.words(value)) for name, value in summary["settings"].items()),
    ]


def report(
    summary: Mapping[str, Any],
    measurements: Mapping[str, Any],
    transcripts: Sequence[Mapping[str, Any]],
) -> str:
    """Return the report of a run: an HTML page of at most MAX_BYTES."""
    sessions, endpoints = summary["sessions"], summary["endpoints"]
    all_transcripts = [shown.transcript(x) for x in transcripts]
    kept = shown.fitting(all_transcripts, MAX_TRANSCRIPTS)
    busiest = sorted(endpoints, key=lambda x: -x["count"])[:MAX_ENDPOINTS]
    scenarios = summary["scenarios"]
    return framed(
        "report.html.j2",
        charts.of_run(measurements, summary["executor"]),
        run=summary["run"],
        stack=summary["stack"],
        state=_state(summary),
        tone=shown.TONES.get(summary["state"], "warn"),
        lead=_lead(summary),
        notes=summary["notes"],
        thresholds=[
            {
                "expression": x["expression"],
                "value": _threshold_value(x),
                "passed": x["passed"],
                "result": "passed" if x["passed"] else "not met",
            }
            for x in summary["thresholds"]
        ],
        summary=_tiles(summary),
        many_scenarios=len(scenarios) > 1,
        endpoints=[_endpoint(x) for x in busiest],
        endpoints_left_out=len(endpoints) - len(busiest),
        scenarios=[_scenario(*x) for x in scenarios.items()] if len(scenarios) > 1 else [],
        failures=_failures(sessions, kept),
        transcripts_left_out=len(all_transcripts) - len(kept),
        about=_about(summary),
    )


def _picture(found: Difference) -> list[str] | None:
    """The interval and the change, in pixels of a picture that is 120 wide."""
    if found.low is None or found.high is None or found.change is None:
        return None
    ends = (max(-PICTURE, min(PICTURE, x)) for x in (found.low, found.change, found.high))
    return [f"{60 + x * 57 / PICTURE:.1f}" for x in ends]


def interval(found: Difference) -> str:
    """The 95 % interval of a change."""
    if found.low is None or found.high is None:
        return shown.NONE
    low = shown.change(found.kind, found.low).split()[0]
    return f"{low} to {shown.change(found.kind, found.high)}"


def _row(found: Difference) -> dict[str, Any]:
    return {
        "name": found.name,
        "a": shown.of_kind(found.kind, found.a),
        "b": shown.of_kind(found.kind, found.b),
        "change": shown.change(found.kind, found.change),
        "interval": interval(found),
        "significant": found.significant,
        "bar": _picture(found),
    }


def _identity(summary: Mapping[str, Any]) -> dict[str, str]:
    return {
        "run": summary["run"],
        "stack": summary["stack"],
        "state": _state(summary),
        "tone": shown.TONES.get(summary["state"], "warn"),
        "started": shown.moment(summary["started"]),
        "sessions": shown.number(summary["sessions"]["started"]),
        "requests": shown.number(summary["requests"]["count"]),
        "model": _model(summary),
    }


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Settings that differ, of both runs."""

    def value(of: Mapping[str, Any], key: str) -> str:
        return shown.words(of[key])[:300] if key in of else shown.NONE

    both = sorted(a.keys() | b.keys())
    return [(x, value(a, x), value(b, x)) for x in both if value(a, x) != value(b, x)]


def _only(a: Run, b: Run) -> list[str]:
    """Sentences about endpoints of one run only."""
    names = [{x["endpoint"] for x in run.summary["endpoints"]} for run in (a, b)]
    pairs = (("A", names[0] - names[1]), ("B", names[1] - names[0]))
    return [
        f"Only {side} has requests to: {', '.join(sorted(only)[:20])}"
        + (f" and {len(only) - 20} more endpoints." if len(only) > 20 else ".")
        for side, only in pairs
        if only
    ]


def result_of(differences: Sequence[Difference]) -> str:
    """The comparison in a few words."""
    found = sum(x.significant for x in differences)
    if not any(x.low is not None for x in differences):
        return "The runs are too short to compare"
    return (
        f"{found} of {len(differences)} values differ beyond noise"
        if found
        else "No difference beyond noise"
    )


def comparison(a: Run, b: Run, differences: Sequence[Difference]) -> str:
    """Return a page that shows both runs over each other, and what is different."""
    return framed(
        "comparison.html.j2",
        charts.of_two(a.measurements, b.measurements),
        runs=[_identity(a.summary), _identity(b.summary)],
        settings=_settings(a.summary["settings"], b.summary["settings"]),
        result=result_of(differences),
        found=not result_of(differences).startswith("No"),
        rows=[_row(x) for x in differences],
        only=_only(a, b),
    )
