"""What makes a level hold, and what makes it fail."""

from dataclasses import replace
from typing import Any

import pytest

from ape_infra.planning.plan import make_plan
from ape_infra.rollout.level_checks import (
    MIN_OBSERVATION_SECONDS,
    Limits,
    observation_seconds,
    ready,
    safety_checks,
    steady_state_checks,
    verdict,
)
from ape_infra.rollout.readings import Counters, OverrideError, Readings, overridden
from monitoring.thresholds import Thresholds, parse

pytestmark = pytest.mark.unit
LIMITS = Limits.of(Thresholds())
WELL = Readings(
    running=20,
    healthy=20,
    services={"gateway": True, "proxy": True},
    memory_percent=50.0,
    cpu_percent=40.0,
    disk_percent=30.0,
    container_memory={"agent-0001": 20.0},
    counters=Counters(requests=100, errors=1, success=20, failure=0),
)


def window(**last: Any) -> list[Readings]:
    later = replace(WELL, counters=Counters(requests=200, errors=2, success=40, failure=0))
    return [WELL, later, replace(later, **last)]


def test_a_level_that_is_well_holds() -> None:
    found = verdict(20, window(), None, LIMITS)
    assert found.held, found.reasons
    assert found.reasons == ()
    assert all(check.ok for check in found.checks)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"healthy": 18}, "agents"),
        ({"services": {"gateway": False, "proxy": True}}, "services"),
        ({"services": {"proxy": True}}, "services"),
        ({"deaths": {"agent-0007": 3}}, "restarts"),
        ({"memory_percent": 85.0}, "memory"),
        ({"disk_percent": 90.0}, "disk"),
        ({"container_memory": {"agent-0003": 90.0}}, "container memory"),
        ({"cpu_percent": 280.0}, "cpu"),
        ({"counters": Counters(requests=200, errors=20, success=40, failure=0)}, "errors"),
        (
            {"counters": Counters(requests=200, errors=2, success=30, failure=2)},
            "failed sessions",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_each_threshold_fails_the_level_and_says_so(bad: dict[str, Any], name: str) -> None:
    found = verdict(20, window(**bad), None, LIMITS)
    assert not found.held
    assert [reason.partition(":")[0] for reason in found.reasons] == [name]


def test_one_of_twenty_may_be_ill_and_a_moment_of_cpu_is_no_matter() -> None:
    assert verdict(20, window(healthy=19, cpu_percent=99.0), None, LIMITS).held


def test_what_cannot_be_seen_does_not_fail_and_is_not_called_well() -> None:
    blind = replace(WELL, memory_percent=None, cpu_percent=None, disk_percent=None)
    found = verdict(20, [blind, blind], None, LIMITS)
    assert found.held
    assert [c.name for c in found.checks if c.ok is None] == [
        "memory",
        "disk",
        "cpu",
        "errors",
        "failed sessions",
    ]


def test_errors_that_were_there_before_have_not_risen() -> None:
    seen = window(counters=Counters(requests=200, errors=21, success=40, failure=0))
    assert not verdict(20, seen, None, LIMITS).held
    before = Counters(requests=100, errors=18)
    assert verdict(20, seen, before, LIMITS).held


def test_a_counter_that_begins_again_is_no_fall() -> None:
    assert Counters(5, 1).since(Counters(100, 7)) == Counters(5, 1)


def test_a_level_is_ready_when_enough_agents_and_all_services_are() -> None:
    assert ready(20, replace(WELL, healthy=19), LIMITS)
    assert not ready(20, replace(WELL, healthy=18), LIMITS)
    assert not ready(20, replace(WELL, services={"gateway": False}), LIMITS)


def test_danger_ends_a_level_before_its_window() -> None:
    assert safety_checks([replace(WELL, healthy=0, services={"gateway": False})], LIMITS).held
    assert not safety_checks([replace(WELL, deaths={"a": 3})], LIMITS).held
    assert not steady_state_checks(20, [replace(WELL, healthy=0)], LIMITS).held


@pytest.mark.parametrize("agents", [1, 20, 60, 150, 300, 2000])
def test_the_window_lets_health_checks_speak(agents: int) -> None:
    plan = make_plan(agents, stack="t")
    seconds = observation_seconds(plan, 3)
    assert seconds >= MIN_OBSERVATION_SECONDS
    if plan.health_interval_seconds:
        assert seconds >= 3 * plan.health_interval_seconds


def test_injected_readings_count_from_their_size_on() -> None:
    rules = [
        {"set": {"cpu_percent": 1.0}},
        {"from_agents": 21, "set": {"memory_percent": 99.0}},
    ]
    assert overridden(WELL, rules) == replace(WELL, cpu_percent=1.0)
    more = replace(WELL, running=21)
    assert overridden(more, rules).memory_percent == 99.0
    wrong: Any
    for wrong in ({}, [{"set": {"nothing": 1}}], [1]):
        with pytest.raises(OverrideError):
            overridden(WELL, wrong)


def test_the_stack_decides_the_thresholds() -> None:
    limits = Limits.of(parse({"systemMemoryPercent": 95}))
    assert safety_checks([replace(WELL, memory_percent=91.0)], limits).held
    assert not safety_checks([replace(WELL, memory_percent=91.0)], LIMITS).held
