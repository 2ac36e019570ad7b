"""The proxy's API, with the official clients."""

from __future__ import annotations

import json
from typing import Any

import cerebras.cloud.sdk as cerebras
import openai
import pytest

from ape_proxy.app import Options, make_app
from ape_proxy.models import Offline
from ape_proxy.recording import Recorded
from tests.support.provider import ASK, PATH, good, metric, says, status

pytestmark = [
    pytest.mark.unit,
    pytest.mark.asyncio,
    pytest.mark.usefixtures("short_backoff"),
]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "call_api", "parameters": {"type": "object"}}}
]
TOKEN = "t0ken"


CLIENTS: list[Any] = [
    pytest.param(openai.AsyncOpenAI, openai, "/v1", id="openai"),
    pytest.param(cerebras.AsyncCerebras, cerebras, "", id="cerebras"),
]


def official(kind: Any, client: Any, path: str, token: str = TOKEN, **more: Any) -> Any:
    if kind is cerebras.AsyncCerebras:
        more["warm_tcp_connection"] = False
    return kind(base_url=str(client.make_url(path)), api_key=token, **more)


@pytest.mark.parametrize(("kind", "sdk", "path"), CLIENTS)
async def test_official_clients_work_unchanged(serve: Any, kind: Any, sdk: Any, path: str) -> None:
    server = await serve(make_app(Offline(), Options(token=TOKEN)))
    brief = {"endpoints": [{"method": "GET", "path": "/a"}], "values": {}}
    messages: Any = [{"role": "system", "content": json.dumps(brief)}]
    async with official(kind, server, path) as client:
        assert [m.id for m in (await client.models.list()).data] == ["ape-offline"]
        asked: Any = {"model": "any", "messages": messages, "tools": TOOLS}
        answer = await client.chat.completions.create(**asked)
        assert answer.model == "ape-offline"
        call = answer.choices[0].message.tool_calls[0].function
        assert json.loads(call.arguments) == {"method": "GET", "path": "/a"}
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.usage.prompt_tokens > 0

        events = await client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        chunks = [event async for event in events]
        assert chunks[0].choices[0].delta.tool_calls[0].function.arguments == call.arguments
        assert chunks[1].choices[0].finish_reason == "tool_calls"
        assert chunks[-1].usage.completion_tokens > 0
        events = await client.chat.completions.create(**asked, stream=True)
        assert all([event.choices async for event in events]), "no usage without stream_options"

        words = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hello"}]
        )
        assert "ape-offline" in words.choices[0].message.content
        with pytest.raises(sdk.BadRequestError, match="messages"):
            await client.chat.completions.create(model="any", messages="no")
    async with official(kind, server, path, token="wrong") as stranger:
        with pytest.raises(sdk.AuthenticationError) as caught:
            await stranger.chat.completions.create(**asked)
        assert caught.value.body["code"] == "invalid_api_key"
    count = "ape_proxy_requests_total"
    assert await metric(server, count, result="success", status="200") == 4
    assert await metric(server, count, result="error", status="400") == 1
    first = "ape_proxy_time_to_first_token_seconds_count"
    assert await metric(server, first, model="ape-offline") == 2, "only streams have a first token"


@pytest.mark.parametrize(("kind", "sdk", "path"), CLIENTS)
@pytest.mark.parametrize(
    ("number", "error"),
    [(429, "RateLimitError"), (401, "AuthenticationError"), (500, "InternalServerError")],
)
async def test_official_clients_raise_the_providers_errors(
    rig: Any, kind: Any, sdk: Any, path: str, number: int, error: str
) -> None:
    here = await rig(status(number), retries=0)
    async with official(kind, here.client, path) as client:
        with pytest.raises(getattr(sdk, error), match=f"own {number}") as caught:
            await client.chat.completions.create(model="llama", messages=ASK["messages"])
    assert caught.value.status_code == number
    assert len(here.provider.seen) == 1, "only the proxy retries"


@pytest.mark.parametrize("shown", [None, "Bearer wrong", "Bearer ", "Basic t0ken", "t0ken"])
async def test_request_without_the_token_gets_401(serve: Any, shown: str | None) -> None:
    client = await serve(make_app(Offline(), Options(token=TOKEN, record=True)))
    headers = {"Authorization": shown} if shown else {}
    for method, path in (("POST", PATH), ("GET", "/v1/models"), ("GET", "/recording")):
        got = await client.request(method, path, headers=headers, json={})
        assert (got.status, (await got.json())["error"]["code"]) == (401, "invalid_api_key")
    for path in ("/health", "/metrics"):
        assert (await client.get(path, headers=headers)).status == 200
    assert await metric(client, "ape_proxy_refusals_total", code="invalid_api_key") == 3


async def test_rejections_have_the_form_of_openai(serve: Any) -> None:
    client = await serve(make_app(Offline()))
    for content, number in ((b"{", 400), (b"[]", 400), (b"x" * (5 << 20), 413)):
        got = await client.post(PATH, data=content)
        assert got.status == number
        assert {"message", "type", "param", "code"} == set((await got.json())["error"])
    assert (await (await client.get("/nothing")).json())["error"]["code"] == "not_found"


async def test_models_are_those_of_the_provider(rig: Any) -> None:
    here = await rig(good)
    got = await here.client.get("/v1/models")
    assert [m["id"] for m in (await got.json())["data"]] == ["llama"]


async def test_models_of_a_provider_are_passed_on_with_its_rejections(rig: Any) -> None:
    here = await rig(good)
    answers = [
        (says({"object": "list", "data": [], "more": 1}), 200, None),
        (says({"error": {"message": "Wrong API key", "code": "wrong_api_key"}}, 401), 401, None),
        (says(b"<h1>Not Found", 404, "text/html"), 404, "upstream_error"),
        (says(b"<h1>Sign in", 200, "text/html"), 502, "bad_answer"),
    ]
    for answer, number, code in answers:
        here.provider.models_answer = answer
        got = await here.client.get("/v1/models")
        body = await got.json()
        assert got.status == number
        assert code is None or body["error"]["code"] == code
        assert ("more" in body) == (number == 200)
    # Rejections of the provider are not the proxy's.
    assert await here.metric("ape_proxy_refusals_total", code="wrong_api_key") == 0


@pytest.mark.parametrize("model", [Offline(), Recorded("llama", {})])
async def test_models_of_a_model_in_the_proxy_are_its_name(serve: Any, model: Any) -> None:
    client = await serve(make_app(model))
    found = await (await client.get("/v1/models")).json()
    assert [m["id"] for m in found["data"]] == [model.name]
