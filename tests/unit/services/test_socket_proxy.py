"""The socket proxy: what passes, and that nothing else reaches the daemon."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ape_socket_proxy.__main__ import Proxy, check
from ape_socket_proxy.rules import forwarded, refusal

pytestmark = pytest.mark.unit

PASS = [
    "/containers/json",
    "/containers/json?all=1&filters=%7B%7D",
    "/v1.41/containers/json",
    "/v1.41/containers/ape-dev-agent-0001/json",
    "/containers/0123456789abcdef/json?size=0",
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D",
    "/v1.41/info",
    "/version",
    "/_ping",
]
STOP = [
    "/",
    "/containers/x/logs",
    "/containers/x/archive?path=/",
    "/containers/x/export",
    "/containers/x/attach/ws",
    "/containers/x/json/../../y/export",
    "/containers/../images/json",
    "/containers/..%2Fimages/json",
    "/containers//json",
    "/v1.41/v1.41/info",
    "/images/json",
    "/secrets",
    "/networks",
    "/swarm",
    "/exec/x/json",
    "/info/",
    "//info",
    "http://docker/info",
    "/info#x",
    "/_ping\t",
    "*",
]


@pytest.mark.parametrize("target", PASS)
def test_read_only_paths_are_forwarded(target: str) -> None:
    assert refusal(f"GET {target} HTTP/1.1\r\nHost: x".encode()) is None


@pytest.mark.parametrize("target", STOP)
def test_other_paths_are_rejected(target: str) -> None:
    why = refusal(f"GET {target} HTTP/1.1\r\nHost: x".encode())
    assert why
    assert why.status in (400, 403)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "PATCH", "get", "CONNECT"])
@pytest.mark.parametrize("target", PASS)
def test_methods_other_than_get_are_rejected(method: str, target: str) -> None:
    why = refusal(f"{method} {target} HTTP/1.1\r\nHost: x".encode())
    assert why
    assert why.status == 403


@pytest.mark.parametrize(
    "header", ["Content-Length: 5", "Transfer-Encoding: chunked", "content-length : 5"]
)
def test_request_with_a_body_is_rejected(header: str) -> None:
    assert refusal(f"GET /info HTTP/1.1\r\n{header}".encode())


def test_log_paths_are_forwarded_only_when_enabled() -> None:
    for target in ("/containers/x/logs?stdout=1&follow=1", "/v1.41/networks"):
        head = f"GET {target} HTTP/1.1\r\nHost: x".encode()
        assert refusal(head)
        assert refusal(head, logs=True) is None
    assert refusal(b"GET /networks/x HTTP/1.1\r\nHost: x", logs=True)


def test_daemon_gets_none_of_the_callers_headers() -> None:
    head = b"GET /info HTTP/1.1\r\nHost: evil\r\nUpgrade: tcp\r\nConnection: Upgrade"
    assert forwarded(head) == b"GET /info HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"


class Daemon:
    """Records what reaches it; answers `silent` requests with a head and then nothing."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        if b"/events" in head:
            await reader.read()
        self.open -= 1
        writer.close()


@pytest_asyncio.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[tuple[Daemon, str]]:
    daemon, upstream, listen = Daemon(), str(tmp_path / "up"), str(tmp_path / "down")
    proxy = Proxy(upstream, with_logs=False)
    async with (
        await asyncio.start_unix_server(daemon, upstream),
        await asyncio.start_unix_server(proxy.handle, listen),
    ):
        yield daemon, listen


async def ask(listen: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(listen)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_socket_proxy_forwards_reads_and_rejects_the_rest(
    proxied: tuple[Daemon, str],
) -> None:
    daemon, listen = proxied
    assert (await ask(listen, b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"hello")
    for request in (
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /images/json HTTP/1.1\r\n\r\n",
    ):
        answer = await ask(listen, request)
        assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))
        assert b"socket proxy" in answer
    # A second request behind the first is not read.
    two = b"GET /info HTTP/1.1\r\n\r\nPOST /containers/create HTTP/1.1\r\n\r\n"
    await ask(listen, two)
    assert all(head.startswith(b"GET /info ") for head in daemon.heads)
    assert await asyncio.to_thread(check, listen)


async def test_caller_that_disconnects_ends_its_event_stream(proxied: tuple[Daemon, str]) -> None:
    daemon, listen = proxied
    reader, writer = await asyncio.open_unix_connection(listen)
    writer.write(b"GET /events HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"hello")
    assert daemon.open == 1
    writer.close()
    for _ in range(100):
        if daemon.open == 0:
            break
        await asyncio.sleep(0.02)
    assert daemon.open == 0


async def test_missing_daemon_gets_502(tmp_path: Path) -> None:
    listen = str(tmp_path / "down")
    proxy = Proxy(str(tmp_path / "none"), with_logs=False)
    async with await asyncio.start_unix_server(proxy.handle, listen):
        assert (await ask(listen, b"GET /info HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502")
        assert not await asyncio.to_thread(check, listen)
    assert not check(str(tmp_path / "nothing")), "and without a proxy it is not well"
