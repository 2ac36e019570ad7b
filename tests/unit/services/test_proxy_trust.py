"""Callers that want more of the proxy than an agent needs: memory, connections, answers of 500."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web

from ape_contracts.service_settings import VARIABLE, ProxySettings, encode
from ape_demo_target.app import make_app as demo_app
from ape_proxy import app as proxy_app
from ape_proxy import bounded, forward
from ape_proxy.app import make_app
from ape_proxy.models import Offline
from ape_service import connections
from ape_service import web as service_web
from tests.support.provider import ASK, FINISH, PATH, chunk, good, says, stream

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
ITEMS = b"[" + b",".join([b"[]"] * 340_000) + b"]"
TOKEN = "t0ken"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, psutil.Process]]:
    """The port of a proxy in a process of its own, with the offline model and a recording."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = tmp_path_factory.mktemp("proxy") / "token"
    token.write_text(TOKEN)
    settings = ProxySettings(bind="127.0.0.1", port=port, record=True, token_file=str(token))
    running = subprocess.Popen(
        [sys.executable, "-m", "ape_proxy"],
        env=os.environ | {VARIABLE: encode(settings)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield port, psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait(10)


async def answering(port: int) -> None:
    end = time.monotonic() + 10
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/health") as got:
                    assert got.status == 200
                    return
            assert time.monotonic() < end, "the proxy did not start"
            await asyncio.sleep(0.02)


async def sent(port: int, content: bytes, seconds: float = 5.0) -> bytes:
    """What is answered to these bytes, until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        async with asyncio.timeout(seconds):
            return await reader.read(1 << 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def post_all(port: int, bodies: list[bytes], **headers: str) -> list[tuple[int, Any]]:
    sent_headers = {"Authorization": f"Bearer {TOKEN}"} | headers

    async def one(session: aiohttp.ClientSession, body: bytes) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{port}{PATH}"
        async with session.post(url, data=body, headers=sent_headers) as got:
            return got.status, await got.json(content_type=None) if got.status >= 400 else None

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(one(session, body) for body in bodies))


async def test_encoded_bodies_are_refused_and_take_no_memory(
    process: tuple[int, psutil.Process],
) -> None:
    port, running = process
    await answering(port)
    before = running.memory_info().rss
    bomb = gzip.compress(b'{"messages": ' + ITEMS + b"}")
    assert len(bomb) < 8000
    for kind in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        found = await post_all(port, [bomb] * 4, **{"Content-Encoding": kind})
        assert {status for status, _ in found} == {415}
        assert found[0][1]["error"]["code"] == "unsupported_media_type"
    assert running.memory_info().rss - before < 16 << 20


async def test_values_and_depth_are_bounded_before_a_body_is_parsed(
    process: tuple[int, psutil.Process],
) -> None:
    port, running = process
    await answering(port)
    before = running.memory_info().rss
    deep = b'{"a":' * 101 + b"1" + b"}" * 101
    for nested in (ITEMS, deep, b'{"a":1},' * 120_000):
        body = b'{"messages": [], "more": [' + nested.rstrip(b",") + b"]}"
        found = await post_all(port, [body] * 6)
        assert {(s, b["error"]["code"]) for s, b in found} == {(400, "too_complex")}
    # The bodies themselves, of 1 MB.
    assert running.memory_info().rss - before < 160 << 20


async def test_parsed_size_of_a_body_counts_for_the_memory(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_app, "MAX_HELD_BYTES", 4 << 20)
    client = await serve(make_app(Offline()))
    many = json.dumps({"messages": [{} for _ in range(20_000)]})
    wide = json.dumps({"messages": ["x" * 900_000 + "\U0001f600"]})
    for body in (many, wide):
        assert len(body) < 2 << 20
        got = await client.post(PATH, data=body)
        assert (got.status, (await got.json())["error"]["code"]) == (503, "out_of_memory")
    assert (await client.post(PATH, json=ASK)).status == 200, "it is given back"


@pytest.mark.parametrize(
    ("text", "good_"),
    [
        ("[" * 100 + "]" * 100, True),
        ("[" * 101 + "]" * 101, False),
        ('"' + "[" * 5000 + '"', True),
        ('["\\"", "\\\\", ' + "[" * 99 + "]" * 99 + "]", True),
        ('["\\"", "\\\\", ' + "[" * 100 + "]" * 100 + "]", False),
        ("[" + "1," * 49_990 + "1]", True),
        ("[" + "1," * 50_001 + "1]", False),
        ('["' + "," * 60_000 + '"]', True),
    ],
)
async def test_brackets_in_strings_do_not_count(text: str, good_: bool) -> None:
    with contextlib.nullcontext() if good_ else pytest.raises(bounded.TooComplex):
        bounded.values_in(text)
        bounded.loads(text)


@asynccontextmanager
async def served(app: web.Application, **limits: int) -> AsyncIterator[int]:
    """The port of an app that is served as by `run`."""
    runner = connections.Runner(app, shutdown_timeout=1, **limits)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
APPS: list[Callable[[], web.Application]] = [lambda: make_app(Offline()), demo_app]


@pytest.mark.parametrize("make", APPS, ids=["proxy", "demo_target"])
async def test_silent_connections_do_not_shut_a_service(
    make: Callable[[], web.Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    async with served(make()) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        for _ in range(3):
            assert b" 200 OK" in await sent(port, HEALTH)
        closed = sum(reader.at_eof() or bool(reader.exception()) for reader, _ in silent)
        assert closed >= 40
        for _, writer in silent:
            writer.close()


async def test_connections_of_one_address_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_is_loopback", lambda _: False)
    async with served(make_app(Offline()), per_address=3) as port:
        open_ = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert await sent(port, HEALTH) == b""
        open_[0][1].close()
        await asyncio.sleep(0.02)
        assert b" 200 OK" in await sent(port, HEALTH)
        for _, writer in open_:
            writer.close()


async def test_headers_and_bodies_have_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.1)
    monkeypatch.setattr(service_web, "BODY_SECONDS", 0.1)
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".encode()
    async with served(make_app(Offline())) as port:
        began = time.monotonic()
        assert await sent(port, b"") == b""
        assert await sent(port, b"GET /health HTTP/1.1\r\nX-") == b""
        assert b" 408 " in await sent(port, head + b'{"messages"')
        assert time.monotonic() - began < 3


async def test_heads_of_requests_are_bounded(process: tuple[int, psutil.Process]) -> None:
    port, running = process
    await answering(port)
    before = running.memory_info().rss
    line = b"GET /health HTTP/1.1\r\nHost: a\r\n"
    assert b" 431 " in await sent(port, line + b"X-A: " + b"a" * 9000 + b"\r\n\r\n")
    assert b" 400 " in await sent(port, line + b"a:b\r\n" * 20_000)
    assert b" 431 " in await sent(port, line + (b"X: " + b"a" * 8000 + b"\r\n") * 12)
    pipelined = HEALTH.replace(b"close", b"keep-alive") + line + b"a:b\r\n" * 20_000
    assert b" 400 " in await sent(port, pipelined)
    assert running.memory_info().rss - before < 16 << 20


DEEP = "[" * 90 + "]" * 90
BODIES: list[Any] = [
    b"",
    b"{",
    b"\xff\xfe{\x00",
    b'{"messages": [NaN]}',
    b'{"messages": [1e999]}',
    b'{"messages": [' + b"9" * 5000 + b"]}",
    b'{"messages": [], "messages": [1]}',
    b'{"messages": [], "messages": 7}',
    b'{"messages": ["\\ud800"], "model": "\\ud800"}',
    f'{{"messages": [{{"role": "user", "content": {DEEP}}}]}}'.encode(),
    {"messages": [{"role": "assistant", "tool_calls": 1}]},
    {"messages": [{"role": "assistant", "tool_calls": [1, None, {"function": 1}]}]},
    {"messages": [None, 1, "a", [], {"role": 1}, {"role": "tool", "content": {"a": 1}}]},
    {"messages": [{"role": ["system"], "content": [1, {"text": 1}]}]},
    {"messages": [], "tools": 1, "stream": "no", "stream_options": 1, "tool_choice": [1]},
    {"messages": [], "tools": [None, {"function": 1}, {"type": []}], "n": "x"},
    {"messages": [], "max_tokens": 10**400, "temperature": 10**400},
    {"messages": [], "max_tokens": 1e300, "max_completion_tokens": -1e300},
    {"messages": {}},
    [],
    "text",
]
BRIEF = {
    "endpoints": [
        {"method": "GET", "path": "/{a}/\ud800", "body": json.loads('{"a":' * 80 + "1" + "}" * 80)}
    ],
    "values": {"a": "\ud800"},
}
TOOLS = [{"type": "function", "function": {"name": "call_api"}}]
BODIES.append({"messages": [{"role": "system", "content": json.dumps(BRIEF)}], "tools": TOOLS})


async def test_no_body_is_answered_with_500(process: tuple[int, psutil.Process]) -> None:
    port, _ = process
    await answering(port)
    raw = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in BODIES]
    for body, (status, answer) in zip(raw, await post_all(port, raw), strict=True):
        assert status in (200, 400), (body[:80], answer)


@pytest.mark.parametrize("value", [b"Bearer \xff\xfe", b"\x80", b"Bearer \xed\xa0\x80", b"Bearer"])
async def test_bytes_in_authorization_are_a_wrong_token(
    process: tuple[int, psutil.Process], value: bytes
) -> None:
    port, _ = process
    await answering(port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-APE-Agent: ".encode()
    rest = b"\r\nAuthorization: " + value + b"\r\nContent-Length: 2\r\n\r\n{}"
    assert b" 401 " in await sent(port, head + b"\xff" + rest)


async def test_deep_answer_is_passed_on_though_it_is_not_recorded(rig: Any) -> None:
    completion = b'{"choices": [{"message": {"content": "a", "x": %s}}]}' % (
        b"[" * 500 + b"]" * 500
    )
    here = await rig(says(completion), good, record=True)
    assert (await here.ask()).status == 200
    assert (await here.ask()).status == 200
    assert len((await (await here.client.get("/recording")).text()).splitlines()) == 1


async def test_usage_of_any_value_is_counted_within_bounds(rig: Any) -> None:
    odd: list[Any] = [10**400, -(10**400), True, "7", [], {"a": 1}]
    answers = [
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": tokens}}
        for tokens in odd
    ]
    here = await rig(*map(says, answers))
    for _ in answers:
        assert (await here.ask()).status == 200
    assert await here.metric("ape_proxy_input_tokens_total") <= 10**9 + 1


async def test_client_that_does_not_read_its_stream_is_left(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "STALLED_SECONDS", 0.1)
    here = await rig(stream(*[chunk(content="a" * 60_000)] * 400, FINISH))
    reader, writer = await asyncio.open_connection(here.client.host, here.client.port, limit=1)
    body = json.dumps(ASK | {"stream": True}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.read(1)
    end = time.monotonic() + 5
    while not await here.metric("ape_proxy_requests_total", result="cancelled"):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert await here.metric("ape_proxy_in_flight_requests") == 0
    assert await here.metric("ape_proxy_output_tokens_total") > 0
    writer.close()
