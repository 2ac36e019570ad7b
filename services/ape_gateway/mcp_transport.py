"""The HTTP under an MCP session: requests of the SDK's client over the connections of a route.

The SDK answers a failed connection with the end of the whole session, and an HTTP error with a
general sentence. So a request never fails here: what happened is kept in its Exchange, which the
caller of a tool sets (the SDK sends a request in the context of its caller).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

import aiohttp
import httpx2
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ape_gateway.limits import SMALL_BYTES, Overloaded
from ape_gateway.upstream import Attempts

MAX_STREAM_BYTES = 4 << 20
_GRACE_SECONDS = 5.0
_ERROR_SECONDS, _MAX_ERROR_BYTES = 5.0, 64 << 10
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
# For the end of a stream of events after the answer, so that its connection can be kept.
_REST_SECONDS, _MAX_REST_BYTES = 0.5, 64 << 10
# Set by the connection itself, or by the headers of the route.
_OWN = frozenset(
    (b"host", b"connection", b"user-agent", b"accept-encoding", b"content-length", b"cookie")
)
_OF_MCP = ("mcp-", "last-event-id")
# aiohttp has decoded the body.
_DECODED = frozenset((b"content-encoding", b"content-length", b"transfer-encoding"))
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
_CANNOT = 502
Headers = Callable[[], CIMultiDict[str]]
Acquire = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class Exchange:
    """What a caller gives its requests, and what became of the last one.

    `headers`: of each request, without those of MCP. `most`: bytes of an answer. `error`: why there
    is none; `content`: the beginning of one that has an error's status; `cut`: it has too much.
    """

    headers: Headers
    acquire: Acquire
    most: int
    attempts: Attempts
    status: int = 0
    answer_headers: CIMultiDictProxy[str] = field(default_factory=lambda: _NO_HEADERS)
    content: bytes = b""
    cut: bool = False
    error: Exception | None = None
    is_over: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def permitted(self, size: int) -> bool:
        """Acquire the permit for a large answer; False: the caller has gone. Raises Overloaded."""
        async with self.lock:
            if not self.is_over:
                await self.acquire(size)
        return not self.is_over

    async def end(self) -> None:
        """The caller goes: nothing is acquired for it any more."""
        async with self.lock:
            self.is_over = True

    def begin(self) -> None:
        self.status, self.cut, self.error = 0, False, None
        self.answer_headers, self.content = _NO_HEADERS, b""
        # Each request has its own connections.
        self.attempts.connections = 0


current: ContextVar[Exchange] = ContextVar("mcp_exchange")


class Transport(httpx2.AsyncBaseTransport):
    """`session`: the connections. Only POSTs are of an exchange: GET is a stream without end."""

    def __init__(self, session: aiohttp.ClientSession, seconds: float) -> None:
        """`seconds`: after which an answer is given up that nobody waits for any more."""
        self._session = session
        self._timeouts = {
            "POST": aiohttp.ClientTimeout(total=seconds + _GRACE_SECONDS),
            "DELETE": aiohttp.ClientTimeout(total=_GRACE_SECONDS),
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = current.get()
        counts = request.method == "POST"
        if counts:
            exchange.begin()
        headers = exchange.headers()
        for name in [name for name in headers if name.lower().startswith(_OF_MCP)]:
            del headers[name]
        for key, value in request.headers.raw:
            if key.lower() not in _OWN:
                headers[key.decode("latin-1")] = value.decode("latin-1")
        if cookies := request.headers.get("cookie"):
            # Those that the server has set in the session.
            headers["Cookie"] = cookies
        try:
            answer = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                data=await request.aread() or None,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeouts.get(request.method, _NO_TIMEOUT),
                trace_request_ctx=exchange.attempts if counts else Attempts(),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if counts:
                exchange.error = error
            return httpx2.Response(_CANNOT, request=request)
        headers_of = [(k, v) for k, v in answer.raw_headers if k.lower() not in _DECODED]
        if not counts or answer.status < 400:
            stream: httpx2.AsyncByteStream = _Body(answer, exchange if counts else None)
        else:
            # The SDK does not read all of them.
            exchange.content = await _beginning(answer)
            stream = httpx2.ByteStream(exchange.content)
        if counts:
            exchange.status, exchange.answer_headers = answer.status, answer.headers
        return httpx2.Response(answer.status, headers=headers_of, stream=stream, request=request)


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """The beginning of an error's body, or what has come of it."""
    content = b""
    with suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
        async with asyncio.timeout(_ERROR_SECONDS):
            while len(content) < _MAX_ERROR_BYTES and not answer.content.at_eof():
                content += await answer.content.readany()
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()
    return content[:_MAX_ERROR_BYTES]


class _Body(httpx2.AsyncByteStream):
    """The body of an answer: at most so much of it, and without an error in its middle."""

    def __init__(self, answer: aiohttp.ClientResponse, exchange: Exchange | None) -> None:
        self._answer, self._exchange = answer, exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, size = self._exchange, 0
        try:
            async for chunk in self._answer.content.iter_any():
                size += len(chunk)
                if exchange is None:
                    if size > MAX_STREAM_BYTES:
                        return
                    yield chunk
                    continue
                if size > exchange.most:
                    exchange.cut = True
                    return
                if size > SMALL_BYTES and not await exchange.permitted(size):
                    return
                yield chunk
        except (aiohttp.ClientError, OSError, ValueError, Overloaded) as error:
            if exchange is not None:
                exchange.error = error

    async def aclose(self) -> None:
        content, rest = self._answer.content, 0
        try:
            if self._exchange is not None and not self._exchange.cut:
                with suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
                    async with asyncio.timeout(_REST_SECONDS):
                        while not content.at_eof() and rest < _MAX_REST_BYTES:
                            rest += len(await content.readany())
        finally:
            if content.at_eof():
                self._answer.release()
            else:
                self._answer.close()
