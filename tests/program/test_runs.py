"""Settings of a run change no container, except `sessions`."""

import json

import pytest

from ape_contracts.service_settings import GatewaySettings, decode
from ape_infra.config.run import RunSettings
from tests.support.program_mocks import Recorder, run

pytestmark = pytest.mark.program
# Every setting of the group with a value other than its default.
ALL = {
    "executor": "open",
    "arrivals": "poisson",
    "stages": [{"duration": "1m", "target": 2}],
    "warmUp": "5s",
    "rampDown": "5s",
    "gracefulStop": "1m",
    "maxLate": "2s",
    "scenarios": [{"name": "buy", "goal": "Buy.", "operations": ["POST /checkout"]}],
    "users": "users.csv",
    "usersMode": "random",
    "usersSecret": ["password"],
    "usersWhenUsedUp": "stop",
    "seed": "7",
    "thresholds": ["session_success >= 95%"],
    "transcripts": 9,
}
# They exclude stages.
CONSTANT = {"executor": "open", "duration": "10m", "rate": "2"}


def resources(found: Recorder) -> dict[tuple[str, str], str]:
    return {(r.type, r.name): json.dumps(r.inputs, default=str) for r in found.resources}


def idle(found: Recorder) -> bool:
    (gateway,) = (r for r in found.of("Container") if r.name == "gateway")
    envs = gateway.inputs["envs"]
    given = envs["value"] if isinstance(envs, dict) else envs
    text = dict(e.split("=", 1) for e in given)["APE_SETTINGS"]
    return decode(GatewaySettings, text).idle


def test_no_setting_of_a_run_but_sessions_changes_a_resource() -> None:
    keys = {field.alias for field in RunSettings.model_fields.values()}
    assert keys == {*ALL, *CONSTANT, "sessions"}
    before = resources(run("dev", agents=2))
    assert resources(run("dev", agents=2, **ALL)) == before
    assert resources(run("dev", agents=2, **CONSTANT)) == before


def test_sessions_in_runs_only_are_a_setting_of_the_gateway() -> None:
    before, found = run("dev", agents=2), run("dev", agents=2, sessions="runs")
    assert (idle(before), idle(found)) == (False, True)
    one, other = resources(before), resources(found)
    assert {name for name in one if one[name] != other[name]} == {
        ("docker:index/container:Container", "gateway")
    }
