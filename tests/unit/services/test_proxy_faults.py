"""Providers that are slow, unreachable or too large, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ape_proxy import app as proxy_app
from ape_proxy import forward
from ape_proxy.app import Options, make_app
from ape_proxy.upstream import Connection, Upstream
from tests.support.provider import (
    ASK,
    COMPLETION,
    PATH,
    Handler,
    Provider,
    certificate,
    good,
    metric,
    tls_server,
)

pytestmark = [
    pytest.mark.unit,
    pytest.mark.asyncio,
    pytest.mark.usefixtures("short_backoff"),
]


async def test_request_of_a_client_that_disconnects_is_cancelled(rig: Any) -> None:
    ended = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        raise AssertionError("it is cancelled")

    # aiohttp's test server cancels as the service's own `run` does.
    here = await rig(slow, timeout=20)
    with pytest.raises(TimeoutError):
        await here.client.post(PATH, json=ASK, timeout=aiohttp.ClientTimeout(total=0.3))
    await asyncio.wait_for(ended.wait(), 3)
    assert await here.metric("ape_proxy_in_flight_requests") == 0
    assert await here.metric("ape_proxy_requests_total", result="cancelled") == 1


async def test_slow_provider_gets_504(rig: Any) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1)
        return web.json_response({})

    here = await rig(slow, timeout=0.2)
    for streaming in (False, True):
        got = await here.ask(stream=streaming)
        assert (got.status, (await got.json())["error"]["code"]) == (504, "upstream_timeout")
    assert len(here.provider.seen) == 2


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1", "tls"]
)
async def test_unreachable_provider_gets_502_without_the_key(
    serve: Any, base_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def unknown(host: Any, *args: Any, **more: Any) -> Any:
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **more)

    # The answer of a resolver, without its delay.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with AsyncExitStack() as stack:
        if tls := base_url == "tls":
            served = tls_server(Provider(good).app, certificate(tmp_path))
            base_url = await stack.enter_async_context(served)
        model = Upstream("llama", Connection(base_url, "k3y-of-the-stack"))
        client = await serve(make_app(model, Options(timeout=2)))
        for method, path in (("POST", PATH), ("GET", "/v1/models")):
            got = await client.request(method, path, json=ASK)
            assert (got.status, (await got.json())["error"]["code"]) == (
                502,
                "upstream_unreachable",
            )
            assert "k3y" not in await got.text()
        retried = await metric(client, "ape_proxy_retries_total") > 0
        assert retried != tls, "an untrusted certificate is not retried"


def huge(content_type: str, piece: bytes) -> Handler:
    """200 MB."""

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": content_type})
        await made.prepare(request)
        for _ in range((200 << 20) // len(piece)):
            await made.write(piece)
        return made

    return answer


@pytest.mark.parametrize("streaming", [False, True])
async def test_huge_answer_takes_bounded_memory_and_gets_502(rig: Any, streaming: bool) -> None:
    kind = "text/event-stream" if streaming else "application/json"
    here = await rig(huge(kind, b"x" * (1 << 16)), good)
    tracemalloc.start()
    try:
        got = await here.ask(stream=streaming)
        assert (got.status, (await got.json())["error"]["code"]) == (502, "answer_too_large")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * forward.MAX_ANSWER_BYTES
    assert (await here.ask()).status == 200, "the next request succeeds"


async def test_large_answers_beyond_the_memory_budget_get_503(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_app, "MAX_HELD_BYTES", 1 << 20)
    together = asyncio.Event()
    large = json.dumps(COMPLETION | {"padding": "x" * 300_000}).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "application/json"})
        await made.prepare(request)
        await made.write(large[:-1])
        await together.wait()
        await made.write(large[-1:])
        return made

    here = await rig(answer, retries=0)
    asked = [asyncio.create_task(here.ask()) for _ in range(8)]
    async with asyncio.timeout(5):
        # Three answers fit into the budget.
        while sum(each.done() for each in asked) < 5:
            await asyncio.sleep(0.01)
    done = [each for each in asked if each.done()]
    together.set()
    answers = await asyncio.gather(*asked)
    assert {a.status for a in answers} == {200, 503}
    assert [t.result().status for t in done] == [503] * len(done)
    assert all("Retry-After" in a.headers for a in answers if a.status == 503)
    assert (await here.ask()).status == 200, "reserved memory is given back"
