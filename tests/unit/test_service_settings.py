"""The document that a service reads: its rules, its errors, and what is the same on both sides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.limits import LIMITS
from ape_contracts.service_settings import (
    AgentSettings,
    DemoTargetSettings,
    GatewaySettings,
    ModelKind,
    ProxySettings,
    ServiceSettings,
    ServiceSettingsError,
    SocketProxySettings,
    Template,
    decode,
    encode,
)
from ape_infra.config import model
from ape_infra.planning import plan
from ape_infra.planning.services import BUILT_SERVICES, deployed, memory_mb
from ape_service.settings import load, read_secret

pytestmark = pytest.mark.unit
SUCCESS = {"method": "POST", "path": "/orders", "status": 201}
AGENT: dict[str, Any] = {
    "gateway_url": "http://gateway:8080",
    "proxy_url": "http://proxy:8080",
    "goal": "Buy a lamp.",
    "api": "shop",
    "success": SUCCESS,
}
JSON: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just([1]) | st.just({})
)


@pytest.mark.parametrize(
    "settings",
    [
        GatewaySettings(port=1234),
        ProxySettings(kind="recorded", recording_file="/r", queue_seconds=1, input_price="0.85"),
        DemoTargetSettings(faults=True),
        SocketProxySettings(logs=True),
        AgentSettings(**AGENT, endpoints=[{"method": "GET", "path": "/{id}"}], slot="5+2"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_document_is_read_as_it_was_written(settings: ServiceSettings) -> None:
    assert decode(type(settings), encode(settings)) == settings


@pytest.mark.parametrize(
    "kind", [GatewaySettings, ProxySettings, DemoTargetSettings, SocketProxySettings]
)
def test_an_empty_document_has_the_defaults(kind: type[ServiceSettings]) -> None:
    assert decode(kind, "{}") == kind()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot": "0"}, "slot: is not two numbers"),
        ({"slot": "-1+3"}, "slot: is not two numbers"),
        ({"slot": "0+{{.Task.Slot}}"}, "slot: is not two numbers"),
        ({"endpoints": {}}, "endpoints: must be a list"),
        ({"endpoints": [{"method": "GET"}]}, "endpoints: must be a list of {method, path"),
        ({"success": [1]}, "success: must be a JSON object"),
        ({"success": {}}, "success: must be {method, path, status"),
        ({"success": {**SUCCESS, "json_path": "a", "matches": "("}}, "success: .*regular expr"),
        ({"proxy_url": "proxy"}, "proxy_url: has no http:// or https://"),
        ({"think_time_seconds": -1}, "think_time_seconds: is -1; must be at least 0"),
        ({"think_time_seconds": "1"}, "think_time_seconds: must be a number"),
        ({"session_max_steps": True}, "session_max_steps: must be a whole number"),
        ({"session_max_steps": 2.5}, "session_max_steps: must be a whole number"),
        ({"goal": ""}, "goal: is empty"),
        ({"goal": None}, "goal: must be text"),
        ({"gaol": "g"}, "gaol: is not a setting of this service"),
    ],
)
def test_an_error_names_setting_rule_and_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ServiceSettingsError, match=rf"APE_SETTINGS\.{message}"):
        decode(AgentSettings, json.dumps(AGENT | change))


def test_all_broken_rules_are_reported_in_one_error() -> None:
    with pytest.raises(ServiceSettingsError) as caught:
        decode(AgentSettings, json.dumps(AGENT | {"goal": "", "agents_here": 0, "api": 3}))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", "[" * 100_000, '"{}"'],
    ids=["cut", "list", "null", "deep", "string"],
)
def test_a_document_that_is_not_an_object_is_refused(text: str) -> None:
    with pytest.raises(ServiceSettingsError, match="APE_SETTINGS: "):
        decode(AgentSettings, text)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ServiceSettingsError, match=r"APE_SETTINGS\.goal: is missing"):
        decode(AgentSettings, "{}")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_must_be_finite(value: str) -> None:
    with pytest.raises(ServiceSettingsError, match="request_timeout_seconds"):
        decode(ProxySettings, f'{{"request_timeout_seconds": {value}}}')


@given(st.dictionaries(st.sampled_from(["kind", "port", "record", "base_url", "x"]), JSON))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        found = decode(ProxySettings, json.dumps(document))
    except ServiceSettingsError as error:
        lines = str(error).splitlines()
        bad = {line.partition(":")[0].removeprefix("APE_SETTINGS.") for line in lines}
        assert bad <= document.keys()
    else:
        assert json.loads(encode(found)).items() >= document.items()


def test_broken_settings_are_not_written() -> None:
    with pytest.raises(ServiceSettingsError, match=r"APE_SETTINGS\.goal: is empty"):
        encode(AgentSettings(**AGENT | {"goal": ""}))


@given(st.text(st.sampled_from('{}"\\.ab')), st.text(st.sampled_from("{}ab")))
def test_only_a_template_is_one_for_swarm(persona: str, key: str) -> None:
    settings = AgentSettings(**AGENT, persona=persona, endpoints=[{"method": key, "path": persona}])
    assert "{{" not in encode(settings)
    assert encode(replace(settings, slot=Template("0+{{.Task.Slot}}"))).count("{{") == 1
    assert decode(AgentSettings, encode(settings)) == settings


@pytest.mark.parametrize(
    ("slot", "agents_here", "slots"),
    [
        ("250+3", 1, [253]),
        ("3", 1, [3]),
        # The third of three each, behind five thousand in others.
        ("5000+3", 3, [5007, 5008, 5009]),
        ("40+1", 20, list(range(41, 61))),
    ],
)
def test_the_slots_of_a_container_follow_from_those_before_it(
    slot: str, agents_here: int, slots: list[int]
) -> None:
    settings = AgentSettings(**AGENT, slot=slot, agents_here=agents_here)
    assert list(settings.slots) == slots


def test_a_service_reads_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APE_SETTINGS", '{"port": 81}')
    assert load(GatewaySettings) == GatewaySettings(port=81)
    monkeypatch.setenv("APE_SETTINGS", "")
    assert load(GatewaySettings) == GatewaySettings()


def test_a_secret_is_one_word_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert read_secret("token_file", str(file)) == "secret"
    assert read_secret("token_file", "") == ""
    for content in (b"", b"\n", b"two words", "é".encode(), b"\xff"):
        file.write_bytes(content)
        with pytest.raises(ServiceSettingsError, match=r"APE_SETTINGS\.token_file: .*token"):
            read_secret("token_file", str(file))
    with pytest.raises(ServiceSettingsError, match="No such file"):
        read_secret("token_file", str(tmp_path / "none"))


def test_models_are_those_of_the_stacks_settings() -> None:
    # cerebras is an earlier spelling in stack configs.
    assert {*get_args(ModelKind), "cerebras"} == set(get_args(model.ModelKind))


def test_every_built_service_but_the_agents_has_limits() -> None:
    assert set(LIMITS) == set(BUILT_SERVICES) - {"agent"}
    assert LIMITS["gateway"].cpus == LIMITS["proxy"].cpus == plan.SERVICE_CPUS / 3


def test_a_stack_runs_the_services_that_it_needs() -> None:
    assert deployed(demo_target=False, monitor=False) == ("agent", "gateway", "proxy")
    assert deployed(demo_target=True, monitor=True) == BUILT_SERVICES
    assert memory_mb(("agent", "gateway", "socket_proxy")) == 1024 + 64
