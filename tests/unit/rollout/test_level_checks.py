"""The checks of a level: which readings pass, and which fail."""

from dataclasses import replace
from typing import Any

import pytest

from ape_infra.planning.plan import make_plan
from ape_infra.rollout.level_checks import (
    MIN_OBSERVATION_SECONDS,
    Limits,
    has_settled,
    observation_checks,
    observation_seconds,
    safety_checks,
    steady_state_checks,
)
from ape_infra.rollout.readings import Counters, OverrideError, Readings, overridden
from monitoring.thresholds import Thresholds, parse

pytestmark = pytest.mark.unit
LIMITS = Limits.of(Thresholds())
HEALTHY = Readings(
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
    later = replace(HEALTHY, counters=Counters(requests=200, errors=2, success=40, failure=0))
    return [HEALTHY, later, replace(later, **last)]


def test_a_healthy_level_passes() -> None:
    found = observation_checks(20, window(), None, LIMITS)
    assert found.passed, found.reasons
    assert found.reasons == ()
    assert all(check.status == "ok" for check in found.checks)


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
def test_each_threshold_fails_the_level_with_its_name_as_the_reason(
    bad: dict[str, Any], name: str
) -> None:
    found = observation_checks(20, window(**bad), None, LIMITS)
    assert not found.passed
    assert [reason.partition(":")[0] for reason in found.reasons] == [name]


def test_a_level_passes_with_one_unhealthy_agent_of_twenty_and_a_moment_of_high_cpu() -> None:
    assert observation_checks(20, window(healthy=19, cpu_percent=99.0), None, LIMITS).passed


def test_missing_readings_make_checks_unknown_and_fail_no_level() -> None:
    blind = replace(HEALTHY, memory_percent=None, cpu_percent=None, disk_percent=None)
    found = observation_checks(20, [blind, blind], None, LIMITS)
    assert found.passed
    assert [c.name for c in found.checks if c.status == "unknown"] == [
        "memory",
        "disk",
        "cpu",
        "errors",
        "failed sessions",
    ]


def test_errors_at_the_rate_of_the_previous_level_pass() -> None:
    seen = window(counters=Counters(requests=200, errors=21, success=40, failure=0))
    assert not observation_checks(20, seen, None, LIMITS).passed
    before = Counters(requests=100, errors=18)
    assert observation_checks(20, seen, before, LIMITS).passed


def test_a_counter_that_restarts_counts_from_zero() -> None:
    assert Counters(5, 1).since(Counters(100, 7)) == Counters(5, 1)


def test_a_level_has_settled_when_enough_agents_are_healthy_and_all_services_up() -> None:
    assert has_settled(20, replace(HEALTHY, healthy=19), LIMITS)
    assert not has_settled(20, replace(HEALTHY, healthy=18), LIMITS)
    assert not has_settled(20, replace(HEALTHY, services={"gateway": False}), LIMITS)


def test_a_failed_safety_check_ends_a_level_before_its_observation_window() -> None:
    assert safety_checks([replace(HEALTHY, healthy=0, services={"gateway": False})], LIMITS).passed
    assert not safety_checks([replace(HEALTHY, deaths={"a": 3})], LIMITS).passed
    assert not steady_state_checks(20, [replace(HEALTHY, healthy=0)], LIMITS).passed


@pytest.mark.parametrize("agents", [1, 20, 60, 150, 300, 2000])
def test_the_observation_window_is_long_enough_for_a_failing_health_check(agents: int) -> None:
    plan = make_plan(agents, stack="t")
    seconds = observation_seconds(plan, 3)
    assert seconds >= MIN_OBSERVATION_SECONDS
    if plan.health_interval_seconds:
        assert seconds >= 3 * plan.health_interval_seconds


def test_injected_readings_apply_from_their_number_of_agents() -> None:
    rules = [
        {"set": {"cpu_percent": 1.0}},
        {"from_agents": 21, "set": {"memory_percent": 99.0}},
    ]
    assert overridden(HEALTHY, rules) == replace(HEALTHY, cpu_percent=1.0)
    more = replace(HEALTHY, running=21)
    assert overridden(more, rules).memory_percent == 99.0
    wrong: Any
    for wrong in ({}, [{"set": {"nothing": 1}}], [1]):
        with pytest.raises(OverrideError):
            overridden(HEALTHY, wrong)


def test_limits_are_the_thresholds_of_the_stack() -> None:
    limits = Limits.of(parse({"systemMemoryPercent": 95}))
    assert safety_checks([replace(HEALTHY, memory_percent=91.0)], limits).passed
    assert not safety_checks([replace(HEALTHY, memory_percent=91.0)], LIMITS).passed


def test_the_json_of_a_level_check_has_null_for_unknown() -> None:
    blind = [replace(HEALTHY, memory_percent=None), replace(HEALTHY, memory_percent=86.0)]
    unknown, failed = (
        next(c.data() for c in safety_checks([r], LIMITS).checks if c.name == "memory")
        for r in blind
    )
    assert (unknown["ok"], failed["ok"]) == (None, False)
    assert failed == {
        "name": "memory",
        "ok": False,
        "saw": "86 % at maximum",
        "rule": "below 85 %",
    }
