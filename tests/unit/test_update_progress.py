"""The progress of an update, from events in the form in which Pulumi's engine sends them."""

from typing import Any

import pytest
from pulumi import automation as auto

from ape_infra.automation.events import (
    Message,
    StepBegun,
    UpdateBegun,
    UpdateEnded,
    data,
    phase_of,
    translated,
)
from ape_infra.automation.progress import UpdateProgress

pytestmark = pytest.mark.unit
STACK = "urn:pulumi:dev::ape::"
IMAGE = f"{STACK}ape:images:Images$docker:index/image:Image::image-agent"
NETWORK = f"{STACK}ape:net:Networks$docker:index/network:Network::fleet"
GATEWAY = f"{STACK}ape:gateway:Gateway$docker:index/container:Container::gateway"
AGENT = f"{STACK}ape:fleet:AgentFleet$docker:index/container:Container::agent-0001"
FLEET = f"{STACK}ape:fleet:AgentFleet::agents"


def recorded(kind: str, op: str, urn: str, *, custom: bool = True) -> auto.EngineEvent:
    """An event of a step, as recorded of Pulumi 3.259."""
    type_ = urn.split("::")[2].rpartition("$")[2]
    state: dict[str, Any] = {"type": type_, "urn": urn, "id": "", "parent": "", "provider": ""}
    if custom:
        state["custom"] = True
    old, new = (state, None) if op == "delete" else (None, state)
    metadata = {"op": op, "urn": urn, "type": type_, "old": old, "new": new, "provider": ""}
    return auto.EngineEvent.from_json({"sequence": 3, "timestamp": 1, kind: {"metadata": metadata}})


def said(severity: str, message: str, urn: str = "", **more: Any) -> auto.EngineEvent:
    words = {"urn": urn, "message": message, "color": "never", "severity": severity, **more}
    return auto.EngineEvent.from_json({"sequence": 4, "timestamp": 1, "diagnosticEvent": words})


def pre(op: str, urn: str) -> auto.EngineEvent:
    return recorded("resourcePreEvent", op, urn)


def post(op: str, urn: str) -> auto.EngineEvent:
    return recorded("resOutputsEvent", op, urn)


def progress(*events: auto.EngineEvent, **planned: int) -> UpdateProgress:
    """One event a second, from second 1."""
    made = UpdateProgress(UpdateBegun("update"), 0.0, planned)
    for second, event in enumerate(events, 1):
        if (found := translated(event)) is not None:
            made.add(found, float(second))
    return made


def test_phase_follows_from_the_kind_of_a_resource() -> None:
    assert [phase_of(urn) for urn in (IMAGE, NETWORK, GATEWAY, AGENT)] == [
        "images",
        "networks",
        "services",
        "agents",
    ]


def test_update_counts_what_is_done_and_names_what_it_waits_for() -> None:
    made = progress(
        pre("create", IMAGE),
        pre("create", GATEWAY),
        post("create", IMAGE),
        said("info", "Pulling\n", GATEWAY, ephemeral=True),
        images=1,
        services=2,
    )
    images, services = made.phases["images"], made.phases["services"]
    assert (len(images.done), images.total, images.complete) == (1, 1, True)
    assert (len(services.done), services.total, services.complete) == (0, 2, False)
    assert images.seconds(60.0, ended=False) == 2.0
    assert services.seconds(9.0, ended=False) == 0.0
    (step,) = made.waits_for
    assert (step.name, step.operation, step.since, step.line) == (
        "gateway",
        "create",
        2.0,
        "Pulling",
    )


def test_components_providers_and_unchanged_resources_do_not_count() -> None:
    unchanged = recorded("resourcePreEvent", "same", GATEWAY)
    provider = pre("create", f"{STACK}pulumi:providers:docker::default")
    component = recorded("resourcePreEvent", "create", FLEET, custom=False)
    assert [translated(event) for event in (unchanged, provider, component)] == [None] * 3
    assert translated(said("debug", "registering resource")) is None


def test_replaced_resource_counts_once_when_its_new_one_exists() -> None:
    steps = [("delete-replaced", 0), ("replace", 0), ("create-replacement", 1)]
    made = progress()
    for op, done in steps:
        for event in (pre(op, AGENT), post(op, AGENT)):
            found = translated(event)
            assert found is not None
            made.add(found, 1.0)
        assert len(made.phases["agents"].done) == done
    assert made.found == {"agents": 1}


def test_refresh_that_finds_no_change_ends_and_counts_as_no_change() -> None:
    made = progress(pre("refresh", GATEWAY), post("same", GATEWAY), post("same", AGENT))
    assert (made.active, made.refreshed, made.found) == ({}, {GATEWAY}, {})


def test_failed_build_keeps_its_whole_output_without_repeated_lines() -> None:
    lines = [said("info", text, IMAGE) for text in ("Step 1\n", "Step 1\n", "Step 2\nRUN x\n")]
    other = said("info", "Step of another build", IMAGE.replace("agent", "proxy"))
    failed = recorded("resOpFailedEvent", "create", IMAGE)
    made = progress(pre("create", IMAGE), *lines, other, said("error", "code 1", IMAGE), failed)
    assert made.failed_builds == {"image-agent": ["Step 1", "Step 2", "RUN x", "code 1"]}
    assert made.errors == ["image-agent: code 1"]
    assert made.active == {}


def test_warning_is_kept_once() -> None:
    made = progress(said("warning", "slow\n"), said("warning", "slow\n"))
    assert made.warnings == ["slow"]


def test_broken_policy_is_a_warning_or_an_error() -> None:
    found = []
    for level in ("advisory", "mandatory"):
        policy = {"policyName": "limits", "message": "no limit", "enforcementLevel": level}
        event = translated(auto.EngineEvent.from_json({"policyEvent": policy}))
        assert isinstance(event, Message)
        found.append((event.severity, event.text))
    assert found == [("warning", "policy limits: no limit"), ("error", "policy limits: no limit")]


def test_end_of_an_update_ends_its_steps() -> None:
    made = progress(pre("create", IMAGE))
    made.add(UpdateEnded(False, 3.0), 3.0)
    assert made.waits_for == []


def test_event_as_data_names_its_kind() -> None:
    found = translated(pre("create", IMAGE))
    assert isinstance(found, StepBegun)
    assert data(found) == {
        "event": "step_begun",
        "urn": IMAGE,
        "phase": "images",
        "name": "image-agent",
        "operation": "create",
    }
