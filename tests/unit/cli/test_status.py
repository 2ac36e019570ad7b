"""`ape-load status`: alerts."""

from typing import Any

import pytest
import requests

from ape_infra.cli import status

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
