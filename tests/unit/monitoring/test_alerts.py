"""Thresholds, alerts, and the rules of Prometheus from the same model."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts import metrics
from monitoring import alerts
from monitoring.alerts import Engine, Reading, health, readings
from monitoring.model import (
    Container,
    ContainerSample,
    FleetSample,
    KernelLimit,
    MonitorSample,
    Sample,
    SystemSample,
    Usage,
)
from monitoring.rules import prometheus_rules
from monitoring.senders import Notice, alertmanager_body
from monitoring.thresholds import RULES, ThresholdError, Thresholds, parse, parse_words

pytestmark = pytest.mark.unit
KEY = "systemMemoryPercent"


def memory(percent: float) -> list[Reading]:
    return [Reading(KEY, "", "", percent)]


def test_default_thresholds_are_those_required() -> None:
    limits = {rule.key: rule.raise_at for rule in Thresholds()}
    assert limits["systemMemoryPercent"] == 85
    assert limits["systemCpuPercent"] == 80
    assert limits["diskPercent"] == 90
    assert limits["containerMemoryPercent"] == 90
    assert limits["agentRestarts"] == limits["containerRestarts"] == 3


def test_an_alert_opens_after_its_hold_time_and_ends_below_the_lower_value() -> None:
    engine = Engine(parse({KEY: {"raiseAt": 85, "clearAt": 80, "holdSeconds": 60}}))
    assert engine.update(0, memory(90)) == []
    assert engine.pending == 1
    assert engine.update(59, memory(90)) == []
    [alert] = engine.update(60, memory(90))
    assert (alert.name, alert.severity, alert.value, alert.since) == (
        *("HighMemoryUsage", "warning", 90, 0),
    )
    [alert] = engine.update(65, memory(80))
    assert alert.value == 80, "between the two values it stays open"
    assert engine.update(70, memory(79.9)) == []
    assert engine.update(75, memory(84.9)) == [], "and stays closed below the higher one"


def test_a_dip_restarts_the_hold_time() -> None:
    engine = Engine(parse({KEY: {"holdSeconds": 60}}))
    engine.update(0, memory(90))
    engine.update(30, memory(84))
    engine.update(35, memory(90))
    assert engine.update(60, memory(90)) == []
    assert engine.update(95, memory(90))


@given(st.lists(st.floats(min_value=80.5, max_value=84.5), min_size=1))
def test_an_open_alert_stays_open_between_the_two_values(values: list[float]) -> None:
    engine = Engine(parse({KEY: {"holdSeconds": 0}}))
    assert engine.update(0, memory(90))
    assert all(engine.update(i + 1, memory(v)) for i, v in enumerate(values))


def test_an_alert_of_a_thousand_agents_is_one_with_the_worst_examples() -> None:
    engine = Engine(parse({"containerMemoryPercent": {"holdSeconds": 0}}))
    found = engine.update(
        0,
        [
            Reading("containerMemoryPercent", "agent", f"agent-{i:04d}", 90 + i / 1000)
            for i in range(1, 1001)
        ],
    )
    [alert] = found
    assert (alert.count, len(alert.examples)) == (1000, alerts.EXAMPLES)
    assert alert.examples[0] == "agent-1000", "the worst first"
    assert "1000 of them: agent-1000, agent-0999, " in alert.text


def test_an_alert_stays_open_while_its_value_is_unknown() -> None:
    engine = Engine(parse({"serviceDown": {"holdSeconds": 0}}))
    down = [Reading("serviceDown", "gateway", "gateway", 1)]
    assert engine.update(0, down)
    assert engine.update(5, [], unknown=alerts.BY_DOCKER)
    assert engine.update(10, []) == []


def sample(**parts: Any) -> Sample:
    base: dict[str, Any] = {
        "at": 0.0,
        "containers": [],
        "system": None,
        "fleet": FleetSample(),
        "monitor": MonitorSample(),
    }
    return Sample(**(base | parts))


def one(service: str = "gateway", **changes: Any) -> ContainerSample:
    about = {k: v for k, v in changes.items() if hasattr(Container, k)}
    rest = {k: v for k, v in changes.items() if k not in about}
    return ContainerSample(Container(id="x", name=service, service=service, **about), **rest)


RAISED = [
    ("HighMemoryUsage", sample(system=SystemSample(memory_percent=90))),
    ("HighCpuUsage", sample(system=SystemSample(cpu_percent=90))),
    ("HighDiskUsage", sample(system=SystemSample(disks={"/": 95}))),
    ("DiskWillFill", sample(system=SystemSample(disks_predicted={"/": 101}))),
    ("KernelLimitNear", sample(system=SystemSample(limits=[KernelLimit("pids", 9, 10)]))),
    ("ResourceExhaustion", sample(containers=[one(memory_percent=95.0)])),
    ("CpuThrottled", sample(containers=[one(throttled_percent=80.0)])),
    ("AgentFailures", sample(containers=[one("agent", restarts_hour=3)])),
    ("ContainerRestarts", sample(containers=[one(restarts_hour=3)])),
    ("RestartLoop", sample(containers=[one(restarts_hour=9, restarts_loop=9)])),
    ("ContainerOomKilled", sample(containers=[one(ooms_recent=1)])),
    ("ServiceUnavailable", sample(containers=[one(health="unhealthy")])),
    ("ServiceUnavailable", sample(containers=[one(state="exited", exit_code=1)])),
    ("AgentsMissing", sample(fleet=FleetSample(declared=5, missing=2))),
    ("MonitorDataStale", sample(monitor=MonitorSample(data_age=60))),
]


@pytest.mark.parametrize(("name", "found"), RAISED, ids=lambda v: v if isinstance(v, str) else "")
def test_each_alert_is_raised_by_its_condition(name: str, found: Sample) -> None:
    opened = Engine(Thresholds().at_once()).update(0, readings(found))
    assert name in {alert.name for alert in opened}
    level = health(opened, found).level
    assert level == ("critical" if any(a.severity == "critical" for a in opened) else "degraded")


@pytest.mark.parametrize(
    ("about", "failed"),
    [
        ({}, False),
        ({"health": "starting"}, False),
        ({"health": "unhealthy"}, True),
        ({"state": "created"}, False),
        ({"state": "paused"}, False),
        ({"state": "exited", "exit_code": 0}, True),
        ({"state": "exited", "exit_code": 0, "agents": 1}, False),
        ({"state": "exited", "exit_code": 0, "swarm": True}, False),
        ({"state": "exited", "exit_code": 1, "agents": 1}, True),
    ],
)
def test_a_container_has_failed_by_state_health_and_exit_code(
    about: dict[str, Any], failed: bool
) -> None:
    assert one(**about).container.failed == failed


def test_every_alert_has_a_case() -> None:
    assert {name for name, _ in RAISED} == {rule.alert for rule in RULES}


def test_a_sample_without_problems_is_healthy() -> None:
    usage = Usage(1, 1, 0, 1, 1, 1, 1, 1, 100, 1.0, 0, 1)
    found = sample(
        containers=[one(usage=usage, memory_percent=1.0), one("agent", health="starting")],
        system=SystemSample(cpu_percent=10, memory_percent=20, disks={"/": 50}),
    )
    opened = Engine(Thresholds().at_once()).update(0, readings(found))
    assert health(opened, found).level == "healthy"


@pytest.mark.parametrize(
    ("given_", "path", "part"),
    [
        ({"cpu": 1}, "cpu", "not a threshold"),
        ({KEY: "high"}, f"{KEY}.raiseAt", "number"),
        ({KEY: True}, f"{KEY}.raiseAt", "number"),
        ({KEY: 0}, f"{KEY}.raiseAt", "more than 0"),
        ({KEY: {"raise": 1}}, f"{KEY}.raise", "raiseAt"),
        ({KEY: {"raiseAt": 50, "clearAt": 60}}, f"{KEY}.clearAt", "at most raiseAt"),
    ],
)
def test_invalid_thresholds_are_rejected_with_their_path(
    given_: dict[str, Any], path: str, part: str
) -> None:
    with pytest.raises(ThresholdError) as caught:
        parse(given_)
    assert caught.value.problems[0][0] == path
    assert part in caught.value.problems[0][1]


def test_a_threshold_of_one_number_moves_its_lower_value_too() -> None:
    rule = parse({KEY: 42.5})[KEY]
    assert (rule.raise_at, rule.clear_at) == (42.5, 40)


def test_a_threshold_option_has_up_to_three_numbers() -> None:
    assert parse_words([f"{KEY}=70:60:5"]) == {
        KEY: {"raiseAt": 70, "clearAt": 60, "holdSeconds": 5}
    }
    with pytest.raises(ThresholdError, match="KEY=RAISE"):
        parse_words([KEY])


# Prometheus


def rules(**given_: Any) -> dict[str, Any]:
    return {r["alert"]: r for g in prometheus_rules(parse(given_))["groups"] for r in g["rules"]}


def test_every_threshold_has_a_prometheus_rule() -> None:
    found = rules()
    assert set(found) == {rule.alert for rule in RULES}
    assert {
        *("HighMemoryUsage", "HighCpuUsage", "AgentFailures"),
        *("ServiceUnavailable", "ResourceExhaustion"),
    } <= set(found)
    json.dumps(found)


def test_a_changed_threshold_changes_its_prometheus_rule() -> None:
    changed = rules(**{KEY: {"raiseAt": 42, "clearAt": 41, "holdSeconds": 7}})["HighMemoryUsage"]
    assert ">= 42" in changed["expr"]
    assert ">= 41" in changed["expr"]
    assert changed["for"] == "7s"


def test_prometheus_rules_query_only_metrics_of_the_catalog() -> None:
    known = {metric.name for metric in metrics.ALL} | {"ALERTS"}
    for rule in rules().values():
        text = re.sub(r'"[^"]*"', "", rule["expr"])
        used = set(re.findall(r"\b(?:ape|container)_[a-z0-9_]+|ALERTS", text))
        assert used
        assert used <= known


def test_alertmanager_gets_start_end_and_the_same_labels_until_resolved() -> None:
    [alert] = Engine(Thresholds().at_once()).update(100, memory(90))
    [opened] = alertmanager_body([Notice(alert, False)], "ape-dev", 110, 1000)
    assert opened["labels"]["alertname"] == "HighMemoryUsage"
    assert opened["startsAt"] == "1970-01-01T00:16:30.000+00:00"
    assert opened["endsAt"] > "1970-01-01T00:16:40"
    [over] = alertmanager_body([Notice(alert, True)], "ape-dev", 110, 1000)
    assert over["endsAt"] == "1970-01-01T00:16:40.000+00:00"
    assert over["labels"] == opened["labels"], "different labels would be another alert"
