"""The run report: its content, its counts and its time range."""

import html
from typing import Any

import pytest

from ape_infra.cli.report import events, start_of_test
from ape_infra.observability import dashboards, recording_rules
from ape_infra.reporting.draw import main_panels
from ape_infra.reporting.prometheus import Series
from ape_infra.reporting.run_report import RunReport, outcomes, page

pytestmark = pytest.mark.unit


def test_report_contains_its_data_and_loads_nothing() -> None:
    points = tuple((1000.0 + i, float(i)) for i in range(10))

    def ask(query: str) -> list[Series]:
        if recording_rules.FIRST_TOKEN_SECONDS.name in query:
            return []
        return [Series({"result": "<b>success</b>", "state": "running"}, points)]

    done = [(1005.0, "ape-load: scale to 10", "succeeded")]
    test = RunReport("dev", 1000, 1060, {"agents": "5"}, [("gave_up", 3)], done)
    made = page(test, main_panels(ask))
    main = [p for d in dashboards.ALL for p in d.panels if p.main]
    assert made.count("<svg") == len(main) - 1
    for dashboard in dashboards.ALL:
        assert f"<h2>{dashboard.title}</h2>" in made
    assert "No data in this time: Time to first token." in made
    assert made.count('class="mark"') == len(main) - 1, "each picture marks the scale"
    assert "1970-01-01 00:16:45" in made, "the time of the scale"
    assert "Length of sessions <small>s</small>" in made
    assert "Tokens a second <small></small>" in made, "the title contains the unit"
    assert "gave_up" in made
    assert "<b>success" not in made, "values are escaped"
    for outside in ("<script", "<link", "src=", "@import", "url("):
        assert outside not in made


def test_report_counts_the_sessions_of_its_time_range() -> None:
    def series(result: str, reason: str, *points: tuple[float, float]) -> Series:
        return Series({"result": result, "reason": reason}, points)

    found = outcomes(
        [
            # Exists before the start, and is reset: 5, 1 and 2 more.
            series("success", "goal_met", (100, 10), (110, 15), (120, 1), (130, 3)),
            # Of another gateway, which started later.
            series("success", "goal_met", (120, 2), (130, 4)),
            # The first of its kind.
            series("failure", "gave_up", (130, 1)),
            series("failure", "aborted", (100, 7), (130, 7)),
        ],
        100,
    )
    assert found == {
        ("success", "goal_met"): 12,
        ("failure", "gave_up"): 1,
        ("failure", "aborted"): 0,
    }


def test_report_names_the_panels_without_data() -> None:
    made = page(RunReport("dev", 1000, 1060, {}, [], []), main_panels(lambda query: []))
    assert "<svg" not in made
    for dashboard in dashboards.ALL:
        for panel in dashboard.panels:
            assert not panel.main or panel.title in html.unescape(made)


def test_report_begins_at_the_first_update_after_the_last_destroy() -> None:
    def entry(kind: str, minute: int) -> dict[str, Any]:
        at = f"2026-01-01T10:{minute:02d}:00.000Z"
        return {"kind": kind, "startTime": at, "result": "succeeded", "message": kind}

    history = [entry("update", 9), entry("refresh", 8), entry("update", 7), entry("destroy", 6)]
    start = start_of_test(history, 0)
    assert [what for _, what, _ in events(history, start)] == ["update", "refresh", "update"]
