"""The settings that a container receives, in one variable."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.service_settings import AgentSettings, DemoTargetSettings, decode
from ape_infra.program.workload import Slots, Workload, environment

pytestmark = pytest.mark.unit
SLOT = "{{.Task.Slot}}"
TEXT = st.text(st.sampled_from('{}."\\ \nåé.TaskSlot'))
SETTINGS = AgentSettings(
    gateway_url="http://gateway:8080",
    proxy_url="http://proxy:8080",
    goal="g",
    api="shop",
    success={"method": "GET", "path": "/", "status": 200},
)
BODY = st.dictionaries(TEXT, TEXT | st.lists(TEXT))


@given(TEXT.filter(bool), TEXT, BODY)
def test_a_replica_receives_its_settings_and_its_slot(
    goal: str, persona: str, body: dict[str, object]
) -> None:
    endpoints = [{"method": "POST", "path": "/", "body": body}]
    told = replace(SETTINGS, goal=goal, persona=persona, endpoints=endpoints)
    workload = Workload("agents", "agent", "i", 64, 0.1, settings=told, slots=Slots(13, 20, 20))
    ((name, text),) = environment(workload, SLOT).items()
    assert name == "APE_SETTINGS"
    # The slot is the one template in it.
    assert text.count("{{") == 1
    found = decode(AgentSettings, text.replace(SLOT, "3"))
    assert found == replace(told, slot="240+3")
    assert json.loads(environment(workload, 3)["APE_SETTINGS"]) == json.loads(
        text.replace(SLOT, "3")
    )


def test_a_service_without_slots_receives_its_settings() -> None:
    settings = DemoTargetSettings(faults=True)
    workload = Workload("target", "target", "i", 64, 0.1, settings=settings)
    ((name, text),) = environment(workload).items()
    assert name == "APE_SETTINGS"
    assert decode(DemoTargetSettings, text) == settings


def test_a_third_party_image_receives_its_own_variables() -> None:
    workload = Workload("grafana", "grafana", "i", 64, 0.1, env={"GF_A": "1"})
    assert environment(workload) == {"GF_A": "1"}
