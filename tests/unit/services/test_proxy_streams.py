"""Streams through the proxy: forwarded as they come, measured, and broken visibly."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ape_proxy.budget import Prices
from tests.support.provider import (
    DONE,
    FINISH,
    ROLE,
    TEXT,
    USAGE,
    Handler,
    chunk,
    good,
    stream,
)

pytestmark = [
    pytest.mark.unit,
    pytest.mark.asyncio,
    pytest.mark.usefixtures("short_backoff"),
]


async def test_stream_is_forwarded_as_it_comes_and_measured(rig: Any) -> None:
    go_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await made.prepare(request)
        await made.write(ROLE)
        await asyncio.sleep(0.3)
        await made.write(TEXT)
        await go_on.wait()
        await made.write(TEXT + FINISH + USAGE + DONE)
        return made

    here = await rig(answer, prices=Prices(2, 4))
    got = await here.ask(stream=True)
    passed = await asyncio.wait_for(got.content.readexactly(len(ROLE + TEXT)), 3)
    assert passed == ROLE + TEXT
    go_on.set()
    # The usage was asked for by the proxy, not by the client.
    assert (await got.content.read()).replace(b"\n", b"") == (TEXT + FINISH + DONE).replace(
        b"\n", b""
    )
    assert here.provider.seen[0][1]["stream_options"] == {"include_usage": True}
    assert await here.metric("ape_proxy_input_tokens_total", model="llama") == 5
    assert await here.metric("ape_proxy_output_tokens_total", model="llama") == 2
    assert await here.metric("ape_proxy_cost_dollars_total") == pytest.approx(18e-6)
    first = "ape_proxy_time_to_first_token_seconds"
    assert await here.metric(f"{first}_count") == 1
    assert await here.metric(f"{first}_sum") >= 0.3, "a role is not a token"
    assert await here.metric("ape_proxy_inter_token_seconds_count") == 1
    assert await here.metric("ape_proxy_output_tokens_per_second_count") == 1


async def test_events_in_pieces_of_any_size_are_measured_alike(rig: Any) -> None:
    whole = ROLE + TEXT * 5 + FINISH + USAGE + DONE
    for size in (1, 7, 64):
        parts = [whole[i : i + size] for i in range(0, len(whole), size)]
        here = await rig(stream(*parts))
        got = await here.ask(stream=True, stream_options={"include_usage": True})
        assert await got.read() == whole
        assert await here.metric("ape_proxy_inter_token_seconds_count") == 1
        assert await here.metric("ape_proxy_output_tokens_total") == 2


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("reset", stream(TEXT, 0.1, "abort")),
        ("stalled", stream(TEXT, 3)),
        ("cut short", stream(TEXT)),
        ("without a finish reason", stream(TEXT, 0.1, DONE)),
    ],
)
async def test_broken_stream_is_incomplete_for_the_client_and_counted(
    rig: Any, name: str, answer: Handler
) -> None:
    here = await rig(answer, timeout=0.5)
    got = await here.ask(stream=True)
    assert await asyncio.wait_for(got.content.readany(), 3) == TEXT
    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(got.content.read(), 3)
    assert await here.metric("ape_proxy_requests_total", result="incomplete", status="200") == 1
    assert await here.metric("ape_proxy_requests_total") == 1
    assert len(here.provider.seen) == 1, "no retry after the first byte"


async def test_slow_client_gets_all_of_a_stream_before_its_break(rig: Any) -> None:
    here = await rig(stream(*[TEXT * 100] * 500))
    got = await here.ask(stream=True)
    await asyncio.sleep(0.3)
    came = bytearray()

    async def read() -> None:
        async for part in got.content.iter_any():
            came.extend(part)

    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(read(), 10)
    assert len(came) == len(TEXT) * 50_000


async def test_stream_that_breaks_before_its_first_byte_is_retried(rig: Any) -> None:
    here = await rig(stream(0.1, "abort"), stream(TEXT, FINISH, DONE))
    got = await here.ask(stream=True)
    assert (got.status, await got.read()) == (200, TEXT + FINISH + DONE)
    assert await here.metric("ape_proxy_retries_total", cause="upstream_unreachable") == 1


async def test_error_inside_a_stream_is_forwarded_and_counted_as_incomplete(rig: Any) -> None:
    error = b'data: {"error": {"message": "overloaded"}}\n\n'
    here = await rig(stream(TEXT, error))
    assert await (await here.ask(stream=True)).read() == TEXT + error
    assert await here.metric("ape_proxy_requests_total", result="incomplete") == 1


async def test_stream_of_a_client_that_disconnects_is_cancelled(rig: Any) -> None:
    here = await rig(stream(TEXT, *([TEXT * 100] * 20000), DONE), good)
    got = await here.ask(stream=True)
    await got.content.readany()
    got.close()

    async with asyncio.timeout(5):
        while await here.metric("ape_proxy_requests_total", result="cancelled") < 1:
            await asyncio.sleep(0.05)
    assert await here.metric("ape_proxy_in_flight_requests") == 0
    assert (await here.ask()).status == 200


async def test_malformed_events_of_a_stream_are_forwarded_unchanged(rig: Any) -> None:
    junk = b'data: {"choices": [7]}\n\ndata: {{{\n\n: a comment\n\ndata: [1]\n\n'
    here = await rig(stream(junk, TEXT, FINISH, DONE))
    assert await (await here.ask(stream=True)).read() == junk + TEXT + FINISH + DONE
    assert await here.metric("ape_proxy_requests_total", result="success") == 1


@pytest.mark.parametrize(
    ("parts", "finish", "result"),
    [
        ((TEXT, FINISH, DONE), "stop", "success"),
        ((chunk(tool_calls=[{"index": 0, "id": "a"}]), FINISH), "stop", "success"),
        ((chunk(function_call={"name": "f"}), FINISH), "stop", "success"),
        ((chunk(refusal="No."), FINISH), "stop", "success"),
        ((ROLE, FINISH, DONE), "stop", "incomplete"),
        ((chunk(reasoning="hm"), FINISH.replace(b"stop", b"length")), "length", "incomplete"),
        ((TEXT, FINISH.replace(b"stop", b"eos")), "other", "success"),
    ],
)
async def test_stream_counts_by_its_finish_reason_and_as_success_only_with_a_message(
    rig: Any, parts: tuple[bytes, ...], finish: str, result: str
) -> None:
    here = await rig(stream(*parts))
    assert await (await here.ask(stream=True)).read() == b"".join(parts)
    assert await here.metric("ape_proxy_finished_total", model="llama", finish_reason=finish) == 1
    assert await here.metric("ape_proxy_requests_total", result=result) == 1
    assert await here.metric("ape_proxy_requests_total") == 1


@pytest.mark.parametrize("kind", ["", "text/plain; charset=utf-8", "text/event-stream"])
async def test_stream_without_its_type_is_a_stream(rig: Any, kind: str) -> None:
    async def untyped(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        head = f"Content-Type: {kind}\r\n" if kind else ""
        body = TEXT + FINISH + DONE
        request.transport.write(
            f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await asyncio.sleep(0.2)
        raise asyncio.CancelledError

    here = await rig(untyped)
    got = await here.ask(stream=True)
    assert (got.content_type, await got.read()) == ("text/event-stream", TEXT + FINISH + DONE)
    assert await here.metric("ape_proxy_finished_total", finish_reason="stop") == 1


async def test_error_inside_a_stream_is_in_the_log(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    error = b'data: {"error": {"message": "overloaded", "code": 529}}\n\n'
    here = await rig(stream(TEXT, error))
    await (await here.ask(stream=True)).read()
    (line,) = [r.__dict__["ape"] for r in caplog.records if r.getMessage() == "completion"]
    assert line == {"model": "llama", "result": "incomplete", "status": 200} | {
        "code": "529",
        "error": "overloaded",
    }
