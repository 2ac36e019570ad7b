"""What a replica is told in its one variable."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.program.workload import Logs, Slots, Workload, replica_env

pytestmark = pytest.mark.unit
SLOT = "{{.Task.Slot}}"
TEXT = st.text(st.sampled_from('{}."\\ \nåé.TaskSlot'))


@given(st.dictionaries(st.sampled_from(["APE_A", "APE_B", "APE_C"]), TEXT))
def test_a_replica_is_told_what_was_given_and_its_slot(given_env: dict[str, str]) -> None:
    workload = Workload(
        "agents", "agent", "i", 64, 0.1, Logs("1m", 1, True), env=given_env, slots=Slots(13, 20, 20)
    )
    ((name, told),) = replica_env(workload, SLOT).items()
    assert name == "APE_SETTINGS"
    # The slot is the one template in it.
    assert told.count("{{") == 1
    found = json.loads(told.replace(SLOT, "3"))
    assert found == {"APE_AGENT_SLOT": "240+3", **given_env}
