"""A profile of a provider and the settings of the model become the settings of the proxy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.providers import PROVIDERS
from ape_contracts.service_settings import ProxySettings, decode, encode
from ape_infra.config import addresses
from ape_infra.config.errors import SettingsError
from ape_infra.config.model import ModelSettings
from ape_infra.config.parsing import parse
from ape_infra.config.provider import key_note, key_secret, resolve
from ape_infra.config.secrets import CEREBRAS_API_KEY, MODEL_API_KEY

pytestmark = pytest.mark.unit
URL = "https://model.example/v1"


def model_of(provider: str, **settings: Any) -> ModelSettings:
    """The settings of a stack with this provider, and a base URL and a name where it needs them."""
    given = {"model": "provider", "provider": provider, "modelName": "m"}
    if not PROVIDERS[provider].base_url:
        given["modelBaseUrl"] = URL
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
    secrets = [MODEL_API_KEY] if PROVIDERS[provider].needs_key else []
    return parse(given | texts, secrets).model


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_needs_only_what_its_profile_leaves_open(provider: str) -> None:
    profile, found = PROVIDERS[provider], resolve(model_of(provider))
    assert (found.kind, found.provider, found.name) == ("provider", provider, "m")
    assert found.base_url == profile.base_url or URL
    assert (found.tokens_field, found.max_tokens) == (profile.tokens_field, 4096)
    assert (found.omit, found.echo) == (list(profile.omit), list(profile.echo))
    assert found.tool_choice == profile.tool_choice
    assert ("temperature" in found.parameters) != ("temperature" in profile.omit)
    assert decode(ProxySettings, encode(found)) == found


@pytest.mark.parametrize("provider", [name for name, each in PROVIDERS.items() if each.needs_key])
def test_a_provider_that_asks_for_a_key_is_rejected_without_one(provider: str) -> None:
    with pytest.raises(SettingsError, match="ape:modelApiKey: is not set"):
        parse({"model": "provider", "provider": provider, "modelName": "m"})


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_field_that_the_user_set_is_sent_to_any_provider(provider: str) -> None:
    own = {
        "modelTemperature": "0.7",
        "modelTopP": "1",
        "modelSeed": "42",
        "modelReasoningEffort": "low",
        "modelBody": {"service_tier": "flex", "user": "u"},
    }
    found = resolve(model_of(provider, **own))
    expected = {
        "temperature": 0.7,
        "top_p": 1,
        "seed": 42,
        "reasoning_effort": "low",
        "service_tier": "flex",
        "user": "u",
    }
    assert found.parameters == PROVIDERS[provider].parameters | expected
    assert not set(expected) & set(found.omit)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_field_can_be_left_out(provider: str) -> None:
    found = resolve(
        model_of(
            provider,
            modelMaxTokens=0,
            modelTemperature="default",
            modelToolChoice="off",
            modelOmit=["parallel_tool_calls", "seed"],
            modelSeed="1",
        )
    )
    assert found.parameters == PROVIDERS[provider].parameters
    assert (found.max_tokens, found.tool_choice) == (0, False)
    assert set(found.omit) == {*PROVIDERS[provider].omit, "parallel_tool_calls", "seed"}


@pytest.mark.parametrize(
    ("text", "expected"), [("auto", 0), ("0", 0), ("1.5", 1.5), ("", None), ("default", None)]
)
def test_temperature_is_a_number_or_not_sent(text: str, expected: float | None) -> None:
    found = resolve(model_of("cerebras", modelTemperature=text)).parameters
    assert found.get("temperature") == expected


def test_cerebras_is_an_earlier_spelling_of_its_provider() -> None:
    earlier = resolve(parse({"model": "cerebras"}, [CEREBRAS_API_KEY]).model)
    later = parse({"model": "provider", "provider": "cerebras"}, [CEREBRAS_API_KEY])
    assert earlier == resolve(later.model)
    assert (earlier.kind, earlier.name) == ("provider", "gpt-oss-120b")


@pytest.mark.parametrize("model", ["offline", "recorded"])
def test_a_model_of_the_project_needs_neither_key_nor_name(model: str) -> None:
    settings = {"model": model, "provider": "vllm", "production": "true"}
    if model == "recorded":
        settings["modelRecording"] = "recording.jsonl"
    found = resolve(parse(settings, ["grafanaPassword"]).model)
    assert found.kind == model
    assert encode(found)


def test_a_part_never_takes_longer_than_the_whole_completion() -> None:
    found = resolve(model_of("cerebras", modelTimeoutSeconds=8))
    times = (found.queue_seconds, found.connect_seconds, found.first_byte_seconds)
    assert max(times) == found.request_timeout_seconds == 8
    slow = resolve(model_of("cerebras", modelTimeoutSeconds=600, modelFirstByteSeconds=300))
    assert (slow.first_byte_seconds, slow.request_timeout_seconds) == (300, 600)


@pytest.mark.parametrize(
    ("provider", "secrets", "used", "noted"),
    [
        ("cerebras", [CEREBRAS_API_KEY], CEREBRAS_API_KEY, False),
        ("cerebras", [CEREBRAS_API_KEY, MODEL_API_KEY], MODEL_API_KEY, True),
        ("groq", [CEREBRAS_API_KEY, MODEL_API_KEY], MODEL_API_KEY, True),
        ("ollama", [CEREBRAS_API_KEY], "", True),
        ("ollama", [], "", False),
    ],
)
def test_the_key_of_another_provider_is_not_used_and_a_note_reports_it(
    provider: str, secrets: list[str], used: str, noted: bool
) -> None:
    model = model_of(provider)
    assert key_secret(model, secrets) == used
    assert bool(key_note(model, secrets)) == noted


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.8.9.1"),
        *("127.1", "0", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]"),
    ],
)
def test_an_address_of_the_container_itself_is_rejected_with_the_docker_host(host: str) -> None:
    for url in (f"http://{host}", f"https://{host}:8000/v1?a=b"):
        problem = addresses.reachable_problem(url, swarm=False)
        assert problem.endswith("write host.docker.internal in its place.")
        with pytest.raises(SettingsError, match=r"ape:modelBaseUrl: names "):
            parse({"model": "provider", "provider": "vllm", "modelName": "m", "modelBaseUrl": url})


@pytest.mark.parametrize(
    "host",
    [
        *("api.example", "localhost.example", "mylocalhost", "10.0.0.1", "128.0.0.1", "[fd00::1]"),
        *("host.docker.internal", "127.example", "::", "1.2.3.4"),
    ],
)
def test_any_other_address_is_accepted(host: str) -> None:
    assert addresses.reachable_problem(f"http://{host}:8000", swarm=False) == ""


@given(st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_no_loopback_address_is_accepted(address: object) -> None:
    assert addresses.is_loopback(str(address))


@given(st.text())
def test_any_text_is_a_url_or_not(text: str) -> None:
    for url in (text, f"http://{text}"):
        assert isinstance(addresses.reachable_problem(url, swarm=True), str)
        found = addresses.container_url_problems("x", url, "", credentials="", swarm=False)
        assert all(name == "x" for name, _ in found)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host.docker.internal:8000/v1?a=b", "http://127.0.0.1:8000/v1?a=b"),
        ("http://HOST.docker.internal", "http://127.0.0.1"),
        ("https://api.example:1/v1", "https://api.example:1/v1"),
        ("", ""),
    ],
)
def test_the_docker_host_is_this_machine_for_a_check(url: str, expected: str) -> None:
    assert addresses.from_this_machine(url) == expected


PRODUCTION = {"production": "true", "model": "provider", "modelName": "m"}
LOCAL = {"modelBaseUrl": "http://10.0.0.9:8000/v1"}


@pytest.mark.parametrize(
    "more",
    [
        {"maxTokens": "1000"},
        {"maxCostDollars": "5", "modelInputPrice": "1", "modelOutputPrice": "2"},
        {"allowUnlimitedSpending": "true"},
        {"provider": "vllm", **LOCAL},
        {"provider": "ollama"},
        {"model": "offline"},
        {"production": "false"},
    ],
)
def test_production_accepts_a_model_with_a_spend_limit_or_without_a_bill(
    more: dict[str, str],
) -> None:
    secrets = ["grafanaPassword", MODEL_API_KEY]
    found = resolve(parse(PRODUCTION | more, secrets).model)
    assert str(found.most_tokens) == more.get("maxTokens", "0")
    assert found.most_dollars == more.get("maxCostDollars", "0")


@pytest.mark.parametrize(
    ("more", "secrets"),
    [
        ({}, [MODEL_API_KEY]),
        ({"provider": "groq"}, [MODEL_API_KEY]),
        ({"provider": "custom", **LOCAL}, [MODEL_API_KEY]),
        ({"provider": "vllm", "modelInputPrice": "1", **LOCAL}, []),
    ],
)
def test_production_refuses_a_model_that_is_billed_without_a_spend_limit(
    more: dict[str, str], secrets: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(PRODUCTION | more, ["grafanaPassword", *secrets])
    (line,) = refused.value.lines
    assert line.startswith("ape:maxTokens: ")
    assert "pulumi config set ape:maxTokens" in line
