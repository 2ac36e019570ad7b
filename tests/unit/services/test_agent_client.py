"""The agent's HTTP client against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from ape_agent.client import MAX_ANSWER_BYTES, Client, HttpError, NotConnected

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


def url(client: Any) -> str:
    return str(client.make_url("")).rstrip("/")


@asynccontextmanager
async def raw(answer: Callable[[asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """A server that answers every connection's first request by `answer(writer)`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_client_reuses_connections_and_keeps_answers_separate(serve: Any) -> None:
    ports: set[int] = set()

    async def echo(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        await asyncio.sleep(0.01)
        return web.Response(body=await request.read(), headers={"X-Way": request.path_qs})

    app = web.Application()
    app.router.add_route("*", "/base/{rest:.*}", echo)
    client = Client(url(await serve(app)) + "/base/")
    for _ in range(5):
        sent = [str(i).encode() * 1000 for i in range(4)]
        got = await asyncio.gather(
            *(client.request("POST", f"/{i}?q=1", timeout=5, body=b) for i, b in enumerate(sent))
        )
        assert [(a.status, a.body) for a in got] == [(200, body) for body in sent]
        assert [a.headers["x-way"] for a in got] == [f"/base/{i}?q=1" for i in range(4)]
    assert len(ports) == 4
    client.close()


async def test_client_does_not_use_an_idle_connection_that_was_closed(serve: Any) -> None:
    app = web.Application()

    async def bye(request: web.Request) -> web.Response:
        assert request.transport is not None
        asyncio.get_running_loop().call_later(0.05, request.transport.abort)
        return web.Response(text="once")

    app.router.add_get("/", bye)
    client = Client(url(await serve(app)))
    for _ in range(3):
        assert (await client.request("GET", "/", timeout=5)).body == b"once"
        await asyncio.sleep(0.1)


async def test_client_raises_not_connected_without_a_server() -> None:
    with pytest.raises(NotConnected):
        await Client("http://127.0.0.1:1").request("GET", "/", timeout=5)
    with pytest.raises(NotConnected):
        await Client("http://no-such-host.invalid").request("GET", "/", timeout=5)


async def _garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"I speak no HTTP\r\n\r\n")


async def _half(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def _nothing(writer: asyncio.StreamWriter) -> None:
    pass


async def _stalled(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    await asyncio.sleep(1)


async def _huge(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n")
    try:
        for _ in range(200):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
            sent.append(1)
    except OSError:
        pass


sent: list[int] = []


@pytest.mark.parametrize("answer", [_garbage, _half, _nothing, _stalled, _huge])
async def test_client_raises_on_a_broken_answer_without_a_retry(answer: Any) -> None:
    connections: list[int] = []

    async def counted(writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await answer(writer)

    async with raw(counted) as at:
        with pytest.raises(HttpError) as caught:
            await Client(at).request("POST", "/", timeout=0.5, body=b"{}")
    assert not isinstance(caught.value, NotConnected)
    assert connections == [1]
    # The client reads at most the maximum, and the buffers of the sockets.
    assert len(sent) < (MAX_ANSWER_BYTES >> 20) + 16
