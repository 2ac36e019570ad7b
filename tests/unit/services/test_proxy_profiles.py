"""Each profile against a server that refuses what that provider refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from ape_contracts.providers import PROVIDERS, REASONING_FIELDS, endpoint
from ape_contracts.service_settings import ProxySettings
from ape_proxy.shaping import shape_of
from ape_proxy.upstream import Connection, Upstream
from tests.support.provider import FINISH, TEXT, Handler, good, says, stream

pytestmark = [pytest.mark.unit, pytest.mark.asyncio, pytest.mark.usefixtures("short_backoff")]
Body = dict[str, Any]
# Takes a request; yields what is wrong with it.
Rules = Callable[[Body], Iterator[str]]
# Parameters that a stack or a client may set.
PARAMETERS = {
    "temperature": 0,
    "top_p": 0.9,
    "seed": 7,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "logit_bias": {},
    "logprobs": False,
    "user": "agent-0001",
}


def assistants(body: Body) -> Iterator[tuple[Body, set[str]]]:
    """Each message of the assistant, and the fields of reasoning in it and its calls."""
    for message in body["messages"]:
        if message["role"] == "assistant":
            inside = {name for call in message.get("tool_calls") or () for name in call}
            yield message, ({*message} | inside) & {*REASONING_FIELDS}


def no_reasoning(body: Body, *allowed: str) -> Iterator[str]:
    for _, found in assistants(body):
        yield from (f"property {name} is unsupported" for name in found - {*allowed})


def cerebras(body: Body) -> Iterator[str]:
    yield from no_reasoning(body, "reasoning")
    yield from {"frequency_penalty", "presence_penalty", "logit_bias"} & body.keys()


def openai(body: Body) -> Iterator[str]:
    """A model that reasons."""
    if body.get("temperature", 1) != 1:
        yield "Unsupported value: 'temperature'"
    yield from {"max_tokens", "top_p", "frequency_penalty", "presence_penalty"} & body.keys()


def vllm(body: Body) -> Iterator[str]:
    if body.get("stream_options") and not body.get("stream"):
        yield "Stream options can only be defined when `stream=True`."
    for message, _ in assistants(body):
        for call in message.get("tool_calls") or ():
            json.loads(call["function"]["arguments"])


def ollama(body: Body) -> Iterator[str]:
    if "max_tokens" not in body:
        yield "(it does not end)"


def openrouter(body: Body) -> Iterator[str]:
    if body.get("tool_choice") == "required":
        yield "No endpoints found that support the provided 'tool_choice' value."
    for message, _ in assistants(body):
        if message.get("tool_calls") and "reasoning_details" not in message:
            yield "reasoning_details must be preserved"


def groq(body: Body) -> Iterator[str]:
    yield from no_reasoning(body)
    yield from {"logprobs", "top_logprobs", "logit_bias"} & body.keys()


MISTRAL = {"model", "messages", "tools", "tool_choice", "max_tokens", "temperature", "top_p"} | {
    *("random_seed", "stop", "stream", "response_format", "parallel_tool_calls", "n", "prediction"),
    *("presence_penalty", "frequency_penalty", "prompt_mode", "safe_prompt", "reasoning_effort"),
}


def mistral(body: Body) -> Iterator[str]:
    for name in body.keys() - MISTRAL:
        yield f"Extra inputs are not permitted: {name}"
    yield from no_reasoning(body)
    if body.get("tool_choice", "auto") not in ("auto", "none", "any", "required"):
        yield "tool_choice"


def deepseek(body: Body) -> Iterator[str]:
    if body.get("tool_choice") == "required":
        yield "Thinking mode does not support this tool_choice"
    for message, _ in assistants(body):
        if not message.get("reasoning_content"):
            yield "The `reasoning_content` in the thinking mode must be passed back to the API."


def custom(body: Body) -> Iterator[str]:
    """Gemini."""
    for message, _ in assistants(body):
        for call in message.get("tool_calls") or ():
            if "extra_content" not in call:
                yield "Function call is missing a thought_signature in functionCall parts."


RULES: dict[str, Rules] = {
    "cerebras": cerebras,
    "openai": openai,
    "vllm": vllm,
    "ollama": ollama,
    "openrouter": openrouter,
    "groq": groq,
    "mistral": mistral,
    "deepseek": deepseek,
    "custom": custom,
}


def strict(rules: Rules) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if problems := sorted(rules(body)):
            return await says({"error": {"message": "; ".join(problems)}}, 400)(request)
        return await (stream(TEXT, FINISH) if body.get("stream") else good)(request)

    return answer


def settings_of(name: str) -> ProxySettings:
    """What the infrastructure makes of a profile, without settings of the stack."""
    profile = PROVIDERS[name]
    return ProxySettings(
        kind="provider",
        provider=name,
        name="m",
        tokens_field=profile.tokens_field,
        max_tokens=400,
        omit=list(profile.omit),
        parameters=profile.parameters,
        echo=list(profile.echo),
        tool_choice=profile.tool_choice,
    )


def asked(**more: Any) -> Body:
    """A later turn of an agent: the model's messages are carried back whole."""
    thoughts = {n: [{"text": "hm"}] if n == "reasoning_details" else "hm" for n in REASONING_FIELDS}
    call = {
        "id": "abcdefghi",
        "type": "function",
        "function": {"name": "call_api", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "abc"}},
    }
    said = {"role": "assistant", "content": None, "tool_calls": [call]} | thoughts
    tools = [{"type": "function", "function": {"name": "call_api", "parameters": {}}}]
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        said,
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "{}"},
        # Without a thought, and without a call.
        {"role": "assistant", "content": "Hm."},
        {"role": "user", "content": "Call the tool."},
    ]
    return {"messages": messages, "tools": tools, "tool_choice": "required"} | more


def model(name: str) -> Callable[[str], Upstream]:
    shape = shape_of(settings_of(name))
    return lambda base_url: Upstream("m", Connection(base_url), shape)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_request_with_a_profile_has_nothing_that_the_provider_refuses(
    rig: Any, name: str
) -> None:
    here = await rig(strict(RULES[name]), model=model(name))
    for more in ({}, {"stream": True}, PARAMETERS, {"max_tokens": 9}, {"max_completion_tokens": 9}):
        got = await here.ask(**asked(**more))
        assert got.status == 200, await got.text()
    sent = [body for _, body in here.provider.seen]
    limit = PROVIDERS[name].tokens_field
    assert [body[limit] for body in sent] == [400, 400, 400, 9, 9]
    assert {body["model"] for body in sent} == {"m"}
    assert all(body["tools"] for body in sent)


@pytest.mark.parametrize("name", sorted({*PROVIDERS} - {"vllm"}))
async def test_rules_of_a_provider_refuse_what_another_profile_sends(rig: Any, name: str) -> None:
    """So that the test above shows something."""
    bare = Upstream("m", Connection("http://m"))
    plain = bare.shape(asked(**PARAMETERS, max_tokens=9))
    raw = asked(**PARAMETERS, max_completion_tokens=9)
    assert [*RULES[name](plain), *RULES[name](raw)]


async def test_profiles_are_complete() -> None:
    assert RULES.keys() == PROVIDERS.keys()
    for name, profile in PROVIDERS.items():
        assert not set(profile.echo) - {*REASONING_FIELDS}
        assert not set(profile.filled) - {*profile.echo}
        assert not {"messages", "model", "tools", "stream"} & {*profile.omit, *profile.renamed}
        if profile.base_url:
            assert endpoint(profile.base_url, "/models").endswith("/v1/models"), name
            assert "host.docker.internal" in profile.base_url or profile.needs_key
        json.dumps(dataclasses.asdict(profile))
