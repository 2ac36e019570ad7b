"""What one caller can take of the gateway: time, memory and connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from ape_contracts.gateway_config import load
from ape_gateway import app as gateway_app
from ape_gateway import connections, limits, wire
from ape_gateway.app import make_app
from ape_gateway.connections import CHECKED_VERSION, MAX_HEAD_BYTES, MAX_HEADERS, MAX_LINE_BYTES

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
HEAD = b"GET /health HTTP/1.1\r\nHost: gateway\r\n"
ANSWER_BYTES = 300_000
_MCP = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}


async def _large(_: web.Request) -> web.Response:
    return web.json_response("x" * ANSWER_BYTES)


@pytest.fixture
def gateway(serve: Any) -> Callable[..., Awaitable[Any]]:
    async def start(**route: Any) -> Any:
        target = web.Application()
        target.router.add_route("*", "/{rest:.*}", _large)
        upstream = await serve(target)
        given = {"base_url": str(upstream.make_url("")).rstrip("/")} | route
        return await serve(make_app(load(json.dumps({"routes": {"shop": given}}))))

    return start


@asynccontextmanager
async def connected(
    client: Any,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1 << 20)
    yield reader, writer
    writer.close()


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the next answer; 0: the connection was closed without one."""
    try:
        line = await asyncio.wait_for(reader.readline(), 5)
    except ConnectionError:
        return 0
    return int(line.split()[1]) if line else 0


async def fed(client: Any, data: Callable[[int], bytes], most: int) -> tuple[int, int]:
    """Bytes that were sent until the gateway answered or closed, and the answer's status."""
    async with connected(client) as (reader, writer):
        answered, count, number = asyncio.create_task(status_of(reader)), 0, 0
        while count < most and not answered.done():
            piece = data(number)
            writer.write(piece)
            count, number = count + len(piece), number + 1
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        return count, await answered


async def healthy(client: Any) -> float:
    """Seconds that /health takes."""
    started = time.monotonic()
    assert (await client.get("/health")).status == 200
    return time.monotonic() - started


async def test_endless_small_headers_get_431_before_they_take_memory(gateway: Any) -> None:
    client = await gateway()
    lines = [HEAD] + [b"".join(b"X-%d-%d: y\r\n" % (n, i) for i in range(600)) for n in range(999)]
    sent, status = await fed(client, lines.__getitem__, 4 << 20)
    assert sent < 2 << 20
    assert status in (0, 431)
    small = b"".join(b"X-%d: y\r\n" % i for i in range(9000)) + b"\r\n"
    assert len(small) > MAX_HEAD_BYTES
    async with connected(client) as (reader, writer):
        writer.write(HEAD + small)
        assert await status_of(reader) == 431
    for count, status in ((MAX_HEADERS - 10, 200), (MAX_HEADERS + 1, 431)):
        async with connected(client) as (reader, writer):
            writer.write(
                HEAD + b"".join(b"X-%d: %060d\r\n" % (i, i) for i in range(count)) + b"\r\n"
            )
            assert await status_of(reader) == status


async def test_one_long_header_gets_431_and_does_not_stop_health(gateway: Any) -> None:
    client = await gateway()
    piece = b"x" * 65_536
    sent, _ = await fed(client, lambda n: piece if n else HEAD + b"X-Long: ", 32 << 20)
    assert sent < 4 << 20
    assert await healthy(client) < 0.5
    for size, status in ((MAX_LINE_BYTES + 1, 431), (MAX_LINE_BYTES - 100, 200)):
        async with connected(client) as (reader, writer):
            writer.write(HEAD + b"X-Long: " + b"x" * size + b"\r\n\r\n")
            assert await status_of(reader) == status
    async with connected(client) as (reader, writer):
        writer.write(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert await status_of(reader) == 431


async def test_fields_after_a_chunked_body_do_not_take_memory_without_end(gateway: Any) -> None:
    client = await gateway()
    start = b"POST /mcp/request HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    start += b"1\r\n{\r\n0\r\n"
    piece = b"".join(b"X-%d: y\r\n" % i for i in range(6000))
    sent, status = await fed(client, lambda n: piece if n else start, 16 << 20)
    assert sent < 8 << 20
    assert status == 0


async def test_silent_and_slow_heads_end_at_the_deadline(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    client = await gateway()
    async with (
        connected(client) as (silent, _),
        connected(client) as (slow, writer),
        connected(client) as (blank, blanks),
        connected(client) as (kept, again),
    ):
        writer.write(HEAD)
        blanks.write(b"\r\n")
        again.write(HEAD + b"\r\n" + HEAD)
        assert await status_of(kept) == 200
        assert await status_of(silent) == 0
        assert await status_of(slow) == 408
        assert await status_of(blank) == 0
        rest = await asyncio.wait_for(kept.read(), 2)
        assert b" 408 " in rest, "the second head of a kept connection"


async def test_connections_of_one_address_are_counted_and_others_still_get_in(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = connections.protocol
    monkeypatch.setattr("ape_gateway.__main__.protocol", lambda _, all_most: own(8, all_most))
    client = await gateway()
    held = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(8)]
    async with connected(client) as (reader, _):
        assert await status_of(reader) == 0
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", client.port, local_addr=("127.0.0.2", 0)
    )
    writer.write(HEAD + b"\r\n")
    assert await status_of(reader) == 200
    for _, each in held:
        each.close()
    for _ in range(100):
        async with connected(client) as (reader, again):
            again.write(HEAD + b"\r\n")
            if await status_of(reader) == 200:
                break
    else:
        raise AssertionError("closed connections still count")
    writer.close()


async def test_body_that_nobody_reads_ends_its_connection(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    client = await gateway()
    async with connected(client) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        assert await status_of(reader) == 200
        await asyncio.wait_for(reader.read(), 2)


@pytest.mark.parametrize(("path", "most"), [("/mcp", 256 << 10), ("/agents/report", 1 << 20)])
async def test_length_of_a_body_is_looked_at_before_the_body(
    gateway: Any, path: str, most: int
) -> None:
    client = await gateway()
    for extra in (b"Content-Length: %d\r\n\r\n" % (most + 1), None):
        async with connected(client) as (reader, writer):
            writer.write(f"POST {path} HTTP/1.1\r\nHost: gateway\r\n".encode())
            if extra:
                writer.write(extra)
            else:
                writer.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (most + 1))
                writer.write(b" " * (most + 1))
            assert await status_of(reader) == 413


async def test_batch_of_many_items_is_rejected_by_its_length(gateway: Any) -> None:
    client = await gateway()
    call = {"name": "http_batch", "arguments": {"requests": [0] * 100_000}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    body = json.dumps(message, separators=(",", ":"))
    assert len(body) < 256 << 10
    started = time.monotonic()
    answer = await client.post("/mcp", data=body, headers=_MCP)
    assert time.monotonic() - started < 1
    result = (await answer.json())["result"]["structuredContent"]
    assert result["error"] == "bad_request"
    assert f"1 to {wire.MAX_BATCH}" in result["error_message"]


async def test_slow_upload_of_one_agent_is_not_a_timeout_of_another(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_app, "_TRANSFER_SECONDS", 5.0)
    client = await gateway(timeout=0.5)
    held = []
    for _ in range(24):
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"POST /mcp/request HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        writer.write(b" " * 200_000)
        await writer.drain()
        held.append(writer)
    await asyncio.sleep(0.1)
    body = {"api_name": "shop", "method": "GET", "path": "/x"}
    answer = await client.post("/mcp/request", json=body)
    found = await answer.json()
    assert (answer.status, found["error"]) == (200, None)
    for writer in held:
        writer.close()


async def _uploading(client: Any, address: str) -> asyncio.StreamWriter:
    """A large body that is not complete."""
    _, writer = await asyncio.open_connection("127.0.0.1", client.port, local_addr=(address, 0))
    writer.write(b"POST /mcp/request HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    writer.write(b" " * 200_000)
    await writer.drain()
    return writer


@pytest.mark.parametrize("addresses", [1, limits.LARGE_BODIES - 1])
async def test_slow_uploads_of_some_addresses_leave_memory_permits_to_others(
    gateway: Any, monkeypatch: pytest.MonkeyPatch, addresses: int
) -> None:
    monkeypatch.setattr(limits, "_PERMIT_SECONDS", 0.3)
    client = await gateway()
    held = [
        await _uploading(client, f"127.0.1.{1 + number % addresses}")
        for number in range(2 * limits.LARGE_BODIES)
    ]
    await asyncio.sleep(0.05)
    body = {"api_name": "shop", "method": "POST", "path": "/x", "data": "x" * 300_000}
    for _ in range(3):
        answer = await client.post("/mcp/request", json=body)
        assert (answer.status, (await answer.json())["error"]) == (200, None)
    for writer in held:
        writer.close()


async def test_address_with_large_bodies_in_flight_leaves_memory_permits_to_others() -> None:
    admission = limits.AdmissionController(limits.Limits())
    with ExitStack() as stack:

        async def acquired(address: str) -> None:
            permit = stack.enter_context(admission.memory_permit(address))
            await permit.acquire_for_body(1 << 20)
            permit.body_complete()

        for _ in range(limits.LARGE_BODIES - limits.KEPT_FOR_OTHERS):
            await acquired("greedy")
        waiting = asyncio.create_task(acquired("greedy"))
        for number in range(limits.KEPT_FOR_OTHERS):
            await acquired(f"other-{number}")
        assert not waiting.done()
        waiting.cancel()
    with admission.memory_permit("greedy") as again:
        await again.acquire_for_body(1 << 20)


async def test_wait_for_memory_is_not_the_targets_time(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGE_ANSWERS", 0)
    monkeypatch.setattr(limits, "_PERMIT_SECONDS", 0.4)
    client = await gateway(timeout=0.2)
    body = {"api_name": "shop", "method": "GET", "path": "/x"}
    answer = await client.post("/mcp/request", json=body)
    assert (answer.status, (await answer.json())["error"]) == (503, "gateway_busy")


async def test_bounds_were_checked_with_the_locked_uvicorn() -> None:
    lock = (limits.__file__).rpartition("/services/")[0] + "/services/requirements/gateway.lock"
    with open(lock) as file:
        assert f"uvicorn=={CHECKED_VERSION} " in file.read()
