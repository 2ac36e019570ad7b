from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from ape_proxy import offline
from ape_proxy.app import make_app
from ape_proxy.models import Offline, Upstream

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
TOOLS = [{"type": "function", "function": {"name": "call_api", "parameters": {}}}]


def brief(endpoints: list[dict[str, Any]], session: str = "s") -> list[dict[str, Any]]:
    values = {"session": session, "agent": "agent-0007"}
    text = "A {name} is a value. " + json.dumps({"endpoints": endpoints, "values": values})
    return [{"role": "system", "content": text}, {"role": "user", "content": "Go."}]


def played(
    endpoints: list[dict[str, Any]], answers: list[dict[str, Any]], session: str = "s"
) -> tuple[list[dict[str, Any]], str]:
    """The calls that the model makes when these answers come back, and its last words."""
    messages, calls = brief(endpoints, session), []
    while isinstance(turn := offline.next_turn(messages, TOOLS), offline.ToolCall):
        calls.append(json.loads(turn.arguments))
        function = {"name": turn.name, "arguments": turn.arguments}
        call_id = f"c{len(calls)}"
        messages += [
            {"role": "assistant", "tool_calls": [{"id": call_id, "function": function}]},
            {
                "role": "tool",
                "tool_call_id": call_id,
                "content": json.dumps(answers[len(calls) - 1]),
            },
        ]
    return calls, turn


async def test_the_offline_model_walks_any_list_with_values_it_has_seen() -> None:
    endpoints = [
        {"method": "POST", "path": "/signup", "body": {"mail": "{agent}@x", "deep": ["{agent}"]}},
        {"method": "GET", "path": "/boards"},
        {"method": "POST", "path": "/boards/{id}/cards", "body": {"owner": "{user_id}"}},
        {"method": "GET", "path": "/cards/{card_id}"},
    ]
    answers = [
        {"status": 201, "body": {"user": {"id": "u 1"}}},
        {"status": 200, "body": [{"id": 41, "tags": [{"id": 9}]}]},
        {"status": 201, "body": {"card": {"id": "a/b"}}},
        {"status": 200, "body": {}},
    ]
    calls, words = played(endpoints, answers)
    assert calls == [
        {
            "method": "POST",
            "path": "/signup",
            "body": {"mail": "agent-0007@x", "deep": ["agent-0007"]},
        },
        {"method": "GET", "path": "/boards"},
        {"method": "POST", "path": "/boards/41/cards", "body": {"owner": "u 1"}},
        {"method": "GET", "path": "/cards/a%2Fb"},
    ]
    assert "nothing left" in words


async def test_the_offline_model_stops_at_an_error_and_at_a_missing_value() -> None:
    endpoints = [{"method": "GET", "path": "/a"}, {"method": "GET", "path": "/b/{b_id}"}]
    calls, words = played(endpoints, [{"status": 500, "body": None}])
    assert (len(calls), "500" in words) == (1, True)
    calls, words = played(endpoints, [{"status": 200, "body": {"c_id": 1}}])
    assert (len(calls), "{b_id}" in words) == (1, True)


async def test_sessions_choose_differently_and_each_always_alike() -> None:
    endpoints = [
        {"method": "GET", "path": "/products"},
        {"method": "GET", "path": "/products/{id}"},
    ]
    answers = [
        {"status": 200, "body": {"products": [{"id": i} for i in range(10)]}},
        {"status": 200, "body": {}},
    ]
    chosen = [played(endpoints, answers, f"s{i}")[0][1]["path"] for i in range(30)]
    assert chosen == [played(endpoints, answers, f"s{i}")[0][1]["path"] for i in range(30)]
    assert len(set(chosen)) > 3


async def test_the_openai_client_works_with_and_without_streaming(serve: Any) -> None:
    server = await serve(make_app(Offline()))
    client = openai.AsyncOpenAI(base_url=str(server.make_url("/v1")), api_key="x", max_retries=0)
    assert [m.id async for m in client.models.list()] == ["ape-offline"]
    messages: Any = brief([{"method": "GET", "path": "/a"}])
    asked: Any = {"model": "any", "messages": messages, "tools": TOOLS}
    answer = await client.chat.completions.create(**asked)
    assert answer.model == "ape-offline"
    call = answer.choices[0].message.tool_calls[0].function
    assert json.loads(call.arguments) == {"method": "GET", "path": "/a"}
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage.prompt_tokens > 0
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.tool_calls[0].function.arguments == call.arguments
    assert chunks[1].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].usage.completion_tokens > 0
    plain = await client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "Hello"}]
    )
    assert "ape-offline" in plain.choices[0].message.content
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="any", messages="no")  # type: ignore[call-overload]
    text = await (await server.get("/metrics")).text()
    assert 'ape_proxy_requests_total{model="ape-offline",status="200"} 3.0' in text
    assert 'ape_proxy_requests_total{model="ape-offline",status="400"} 1.0' in text
    assert 'ape_proxy_time_to_first_token_seconds_count{model="ape-offline"} 3.0' in text


class Provider:
    """A provider with OpenAI's API that answers what the test says."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.answer: Any = None
        self.app = web.Application()
        self.app.router.add_post("/v1/chat/completions", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.headers["Authorization"], await request.json()))
        answer: web.StreamResponse = await self.answer(request)
        return answer


@pytest.fixture
def upstream(serve: Any) -> Any:
    async def start(answer: Any, timeout: float = 5) -> Any:
        provider = Provider()
        provider.answer = answer
        server = await serve(provider.app)
        model = Upstream("llama", str(server.make_url("/v1")), "k3y", timeout)
        return provider, await serve(make_app(model))

    return start


async def test_a_429_stays_a_429_with_its_body_and_retry_after(upstream: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=429, body=b'{"error": {"message": "slow"}}', headers={"Retry-After": "7"}
        )

    provider, client = await upstream(answer)
    got = await client.post(
        "/v1/chat/completions", json={"messages": []}, headers={"Authorization": "Bearer agent"}
    )
    assert (got.status, got.headers["Retry-After"]) == (429, "7")
    assert await got.read() == b'{"error": {"message": "slow"}}'
    assert provider.seen == [("Bearer k3y", {"model": "llama", "messages": []})]
    text = await (await client.get("/metrics")).text()
    assert 'ape_proxy_requests_total{model="llama",status="429"} 1.0' in text


async def test_a_stream_passes_as_it_comes(upstream: Any) -> None:
    go_on = asyncio.Event()
    first = b'data: {"choices": [{"delta": {"role": "assistant", "content": "a"}}]}\n\n'
    rest = (
        b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
        b"data: [DONE]\n\n"
    )

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(first)
        await go_on.wait()
        await stream.write(rest)
        return stream

    _, client = await upstream(answer)
    got = await client.post("/v1/chat/completions", json={"messages": [], "stream": True})
    assert await asyncio.wait_for(got.content.readexactly(len(first)), 3) == first
    go_on.set()
    assert await got.content.read() == rest
    text = await (await client.get("/metrics")).text()
    assert 'ape_proxy_output_tokens_total{model="llama"} 2.0' in text
    assert 'ape_proxy_time_to_first_token_seconds_count{model="llama"} 1.0' in text


async def test_a_broken_stream_is_incomplete_for_the_client_and_counted(upstream: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
        request.transport.abort()
        return stream

    _, client = await upstream(answer)
    got = await client.post("/v1/chat/completions", json={"messages": [], "stream": True})
    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(got.content.read(), 3)
    text = await (await client.get("/metrics")).text()
    assert 'ape_proxy_requests_total{model="llama",status="incomplete"} 1.0' in text


async def test_a_slow_provider_is_504_and_none_is_502(upstream: Any, serve: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.json_response({})

    _, client = await upstream(answer, 0.1)
    assert (await client.post("/v1/chat/completions", json={"messages": []})).status == 504
    client = await serve(make_app(Upstream("llama", "http://127.0.0.1:1/v1", "k3y", 5)))
    got = await client.post("/v1/chat/completions", json={"messages": []})
    assert got.status == 502
    assert "k3y" not in await got.text()
