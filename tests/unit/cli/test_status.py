"""`ape-load status`: alerts, and why sessions failed."""

from dataclasses import replace
from typing import Any

import pytest
import requests
from rich.console import Console

from ape_contracts.metrics import REPAIRED_CALLS
from ape_infra.cli import status
from ape_infra.reporting.rates import QUANTILES, Rates
from ape_infra.reporting.summary import Summary

pytestmark = pytest.mark.unit

PROMETHEUS = {
    "status": "success",
    "data": {
        "alerts": [
            {"state": "firing", "labels": {"alertname": "Watchdog", "severity": "none"}},
            {"state": "pending", "labels": {"alertname": "TargetDown", "severity": "critical"}},
            {
                "state": "firing",
                "labels": {"alertname": "SessionSuccessLow", "severity": "warning"},
                "annotations": {"summary": "Sessions fail"},
            },
        ]
    },
}
MONITOR = {"schema": 1, "alerts": [{"name": "HighCpuUsage", "summary": "CPU", "severity": "info"}]}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"p": PROMETHEUS, "m": MONITOR}, ["SessionSuccessLow: Sessions fail"]),
        ({"p": {"status": "error"}, "m": MONITOR}, ["HighCpuUsage: CPU"]),
        ({"m": MONITOR}, ["HighCpuUsage: CPU"]),
        ({}, None),
    ],
)
def test_status_shows_firing_alerts_of_prometheus_or_else_of_the_monitor(
    answers: dict[str, Any], expected: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        def __init__(self, url: str) -> None:
            self.json = lambda: answers[url[0]]

    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(url))
    where = {"p": "prometheus", "m": "monitor"}
    assert status.alerts({"endpoints": {where[a]: a for a in answers}}) == expected


FAILURES = [
    {
        "reason": "model_quota",
        "detail": "Requests per day exceeded\n\x1b[31m " + "x" * 300,
        "sessions": 12,
    },
    {"reason": "gave_up", "detail": "I cannot [bold]do[/bold] that.", "sessions": 2},
    {"reason": "step_limit", "detail": "", "sessions": 1},
]


def status_of(sessions: dict[str, Any], repaired: dict[str, int]) -> status.Status:
    none = dict.fromkeys(QUANTILES)
    measured = Summary(sessions=sessions)
    rates = Rates(5.0, 0.0, None, 0.0, none, none, 0.0, 0.0)
    return status.Status(5, 5, measured, [], rates, {}, None, repaired)


@pytest.mark.parametrize("width", [40, 100])
def test_reasons_of_failures_are_shown_in_the_width_of_the_terminal(width: int) -> None:
    found = status_of({"success": 0, "failure": 15, "failures": FAILURES}, {"path": 3, "host": 1})
    console = Console(width=width, highlight=False, soft_wrap=True)
    with console.capture() as captured:
        console.print(status.rendered(found))
    lines = captured.get().splitlines()
    shown = [line for line in lines if line.startswith(("failed ", "repaired "))]
    assert shown[0].startswith("failed      12 x model_quota: Request")
    assert shown[1].startswith("failed      2 x gave_up: I cannot")
    assert shown[2].startswith("repaired    4 tool calls of the mo")
    assert len(shown) == 3, "a reason without words is in the line of the sessions"
    assert max(map(len, shown)) <= width
    assert "\x1b[31m" not in captured.get()
    data = found.data()
    assert data["sessions"]["failures"] == FAILURES
    assert data["repaired"] == {"path": 3, "host": 1}


@pytest.mark.parametrize("listed", [None, {}, "x", [None, 3, {"detail": None}]])
def test_a_gateway_without_reasons_shows_none(listed: Any) -> None:
    assert Summary(sessions={"failures": listed}).failures() == []


def test_repaired_calls_are_counted_by_kind() -> None:
    name = REPAIRED_CALLS.name
    found = [(name, {"kind": "path"}, 1.0), (name, {"kind": "host"}, 5.0), (name, {"kind": "x"}, 0)]
    assert list(status.repaired_calls([*found, ("other_total", {}, 9.0)]).items()) == [
        ("host", 5),
        ("path", 1),
    ]


@pytest.mark.parametrize(
    ("share", "shown"), [(None, ""), (0.314, "budget      31.4 % of the spend limit")]
)
def test_used_part_of_the_spend_limit_is_shown(share: float | None, shown: str) -> None:
    found = replace(status_of({}, {}), budget=share)
    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        console.print(status.rendered(found))
    assert shown in captured.get()
    assert ("budget" in captured.get()) == bool(shown)
    assert found.data()["budget"] == share
