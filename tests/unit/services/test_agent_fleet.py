"""What the gateway counts of the agents' reports."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ape_contracts import metrics
from ape_gateway.failures import MAX_DETAILS, SHOWN_DETAILS, Failures
from ape_gateway.fleet import ALIVE_SECONDS, MAX_INTERVAL_SECONDS, Fleet
from ape_gateway.reports import ReportError

pytestmark = pytest.mark.unit
DONE = {"slot": 1, "result": "success", "seconds": 1.5}
FAILED = {"slot": 2, "result": "failure", "reason": "target_error", "seconds": 2}


class Counted:
    def __init__(self, declared: int = 3) -> None:
        self.now = 100.0
        self.registry = CollectorRegistry()
        self.fleet = Fleet(self.registry, declared, clock=lambda: self.now)

    def value(self, metric: metrics.Metric, **labels: str) -> float | None:
        return self.registry.get_sample_value(metric.name, labels)


def report(**changed: Any) -> dict[str, Any]:
    return {
        "source": "a",
        "number": 1,
        "agents": [[1, "running"], [2, "waiting"]],
        "memory_bytes": 40_000_000,
        "steps": [["ok", 0.1, None], ["ok", 0.1, 1.0], ["bad_call", None, None]],
        "sessions": [DONE, FAILED],
        "lost": 0,
    } | changed


def test_batch_that_is_sent_again_counts_once() -> None:
    here = Counted()
    assert here.fleet.report(report())["counted"]
    assert not here.fleet.report(report())["counted"]
    assert here.fleet.summary() == {
        "declared": 3,
        "alive": 2,
        "by_state": {"running": 1, "waiting": 1},
        "steps": {"ok": 2, "bad_call": 1},
        "sessions": {
            "success": 1,
            "failure": 1,
            "by_reason": {"target_error": 1},
            "failures": [{"reason": "target_error", "detail": "", "sessions": 1}],
        },
    }
    assert here.value(metrics.SESSIONS, result="failure", reason="target_error") == 1
    assert here.value(metrics.STEPS, result="ok") == 2
    count = here.registry.get_sample_value
    assert count(f"{metrics.STEP_SECONDS.name}_count", {"result": "ok"}) == 2
    assert count(f"{metrics.TIME_BETWEEN_ACTIONS.name}_sum") == 1.0
    assert here.fleet.report(report(number=2, lost=7))["counted"]
    assert here.value(metrics.AGENT_RESULTS_LOST) == 7
    # Another container, or the same one started again, counts for itself.
    assert here.fleet.report(report(source="b"))["counted"]
    assert here.fleet.summary()["sessions"]["success"] == 3


def test_memory_of_a_process_is_divided_among_its_agents() -> None:
    here = Counted()
    here.fleet.report(report())
    assert here.value(metrics.AGENT_RESIDENT_MEMORY, agent="0001") == 20_000_000
    assert here.value(metrics.AGENT_RESIDENT_MEMORY, agent="0002") == 20_000_000


def test_agent_with_an_old_heartbeat_is_not_alive() -> None:
    here = Counted()
    here.fleet.report(report(agents=[[1, "waiting"]], steps=[], sessions=[]))
    here.now += ALIVE_SECONDS - 1
    here.fleet.report(report(source="b", agents=[[2, "running"]], steps=[], sessions=[]))
    assert here.fleet.summary()["alive"] == 2
    here.now += 2
    assert here.fleet.summary()["by_state"] == {"running": 1}
    assert here.value(metrics.AGENTS, state="waiting") == 0
    assert here.value(metrics.AGENT_RESIDENT_MEMORY, agent="0001") is None


def test_report_interval_bounds_the_reports_of_the_whole_fleet() -> None:
    here = Counted()
    paces = [
        here.fleet.report(report(source=f"s{i}", sessions=[], steps=[]))["report_after_seconds"]
        for i in range(2000)
    ]
    assert paces[0] == paces[49] == 1.0
    assert paces[249] == 5.0
    assert paces[-1] == MAX_INTERVAL_SECONDS < ALIVE_SECONDS / 2
    assert paces == sorted(paces)


@pytest.mark.parametrize(
    "bad",
    [
        {"source": ""},
        {"source": "x" * 65},
        {"number": 0},
        {"number": True},
        {"agents": [[0, "running"]]},
        {"agents": [[1, "dancing"]]},
        {"agents": {}},
        {"memory_bytes": "1"},
        {"memory_bytes": float("nan")},
        {"lost": -1},
        {"steps": [["ok", 1.0]]},
        {"steps": [["fine", 1.0, None]]},
        {"steps": [["ok", -1, None]]},
        {"steps": [["ok", 1, None]] * 1001},
        {"sessions": [DONE] * 101},
        {"agents": []},
        {"agents": [[1, "running"], [1, "running"]]},
        {"agents": [[10_001, "running"]]},
        {"agents": [[10**4000, "running"]]},
        {"lost": 10**400},
        {"number": 10**400},
        {"memory_bytes": 10**400},
        {"source": "\ud800"},
        {"sessions": [DONE | {"slot": 3}]},
        {"sessions": [DONE | {"seconds": 10**400}]},
        {"sessions": [DONE, DONE | {"result": "maybe"}]},
        {"sessions": [DONE, FAILED | {"reason": "whatever"}]},
        {"sessions": [DONE, FAILED | {"reason": ["unhashable"]}]},
        {"sessions": [DONE, DONE | {"seconds": True}]},
        {"sessions": [DONE, None]},
        {"sessions": [DONE, FAILED | {"detail": None}]},
        {"sessions": [DONE, DONE | {"repaired": ["path"]}]},
        {"sessions": [DONE, DONE | {"repaired": {"whatever": 1}}]},
        {"sessions": [DONE, DONE | {"repaired": {"path": -1}}]},
        {"sessions": [DONE, DONE | {"repaired": {"path": 1e9}}]},
        {"sessions": [DONE, DONE | {"repaired": {"path": 10**9}}]},
    ],
    ids=lambda v: str(v)[:30],
)
def test_report_with_a_broken_rule_is_rejected_and_counts_nothing(bad: dict[str, Any]) -> None:
    here = Counted()
    with pytest.raises(ReportError):
        here.fleet.report(report(**bad))
    summary = here.fleet.summary()
    assert (summary["alive"], summary["steps"], summary["sessions"]["success"]) == (0, {}, 0)


def test_failures_are_counted_by_reason_and_detail_the_most_frequent_first() -> None:
    here = Counted()
    often = [FAILED | {"reason": "gave_up", "detail": "No."}] * 3
    rare = [FAILED | {"reason": "gave_up", "detail": f"No {n}."} for n in range(20)]
    here.fleet.report(report(sessions=[FAILED, *often, FAILED, *rare, DONE]))
    found = here.fleet.summary()["sessions"]["failures"]
    assert len(found) == SHOWN_DETAILS == 10
    assert found[:3] == [
        {"reason": "gave_up", "detail": "No.", "sessions": 3},
        {"reason": "target_error", "detail": "", "sessions": 2},
        {"reason": "gave_up", "detail": "No 0.", "sessions": 1},
    ]


def test_details_are_printable_and_bounded_in_length_and_number() -> None:
    here = Counted()
    bad = "a\n\x1b[31m\u202e\ud800" + "x" * 1000
    here.fleet.report(report(sessions=[FAILED | {"detail": bad}] * 2))
    (found,) = here.fleet.summary()["sessions"]["failures"]
    assert found["detail"].isprintable()
    assert len(found["detail"]) <= metrics.MAX_DETAIL_CHARS
    failures = Failures()
    for n in range(50 * MAX_DETAILS):
        failures.add("gave_up", f"{n}")
        failures.add("gave_up", "the same")
    assert len(failures) == MAX_DETAILS
    assert failures.most_frequent()[0]["detail"] == "the same"
    assert failures.most_frequent()[0]["sessions"] == 50 * MAX_DETAILS


def test_repaired_calls_are_counted_by_kind_also_of_successful_sessions() -> None:
    here = Counted()
    sessions = [DONE | {"repaired": {"path": 2, "host": 1}}, FAILED | {"repaired": {"path": 1}}]
    here.fleet.report(report(sessions=sessions))
    here.fleet.report(report(sessions=sessions))
    assert here.value(metrics.REPAIRED_CALLS, kind="path") == 3
    assert here.value(metrics.REPAIRED_CALLS, kind="host") == 1


@pytest.mark.parametrize("bad", [None, [], "x"])
def test_body_that_is_not_an_object_is_rejected(bad: Any) -> None:
    with pytest.raises(ReportError):
        Counted().fleet.report(bad)
