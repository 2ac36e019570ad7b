"""The run report: its counts and its time range."""

from typing import Any

import pytest

from ape_infra.cli.report import events, start_of_test
from ape_infra.reporting.prometheus import Series
from ape_infra.reporting.run_report import outcomes

pytestmark = pytest.mark.unit


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


def test_report_begins_at_the_first_update_after_the_last_destroy() -> None:
    def entry(kind: str, minute: int) -> dict[str, Any]:
        at = f"2026-01-01T10:{minute:02d}:00.000Z"
        return {"kind": kind, "startTime": at, "result": "succeeded", "message": kind}

    history = [entry("update", 9), entry("refresh", 8), entry("update", 7), entry("destroy", 6)]
    start = start_of_test(history, 0)
    assert [what for _, what, _ in events(history, start)] == ["update", "refresh", "update"]
