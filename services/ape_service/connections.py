"""The connections of an HTTP service: how many there are, and the heads of their requests.

aiohttp itself bounds a line, the number of headers, and the time that a connection may be silent.
"""

from __future__ import annotations

import resource
from collections import Counter
from ipaddress import ip_address
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from ape_service.answers import error
from ape_service.malformed import malformed

MAX_CONNECTIONS = 4096
# Two for each of the 100 agents that a container may have, and room for other programs.
MAX_PER_ADDRESS = 512
MAX_LINE_BYTES, MAX_HEADERS, MAX_HEAD_BYTES = 8190, 100, 64 << 10
# Until the first request has its headers, and between two requests. Clients keep an idle connection
# for less: agents 4 s, aiohttp 15 s.
SILENT_SECONDS = 20.0
# Of a request that is answered before its body was read.
UNREAD_SECONDS = 2.0


class Connection(RequestHandler):
    """A connection that is closed when the head of a request is too large."""

    __slots__ = ("_head_bytes",)

    def __init__(self, manager: Server, **more: Any) -> None:
        super().__init__(manager, **more)
        self._head_bytes = 0

    @property
    def is_idle(self) -> bool:
        return not self._request_in_progress and not self._messages

    @property
    def was_used(self) -> bool:
        return self._request_count > 0

    def data_received(self, data: bytes) -> None:
        request, waiter = self._current_request, self._waiter
        # Of the next request, before the answer to this one.
        early = request is not None and request._payload.is_eof()
        super().data_received(data)
        if not early and (waiter is None or waiter.done()):
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            if self.transport is not None and not early:
                self.transport.write(_TOO_LARGE)
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that is not HTTP is its sender's mistake, and not a line of the log each."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        malformed.count()
        if isinstance(exc, LineTooLong):
            answer = error(431, "headers_too_large", "A line of the request is too long.")
        else:
            answer = error(status, "bad_request", "The request is not valid HTTP.")
        answer.force_close()
        return answer


_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Connections(Server):
    """At most `most` connections, and `per_address` of one address that is not loopback.

    At the limit, a new connection takes the place of an idle one of the address that has most of
    them: first of those that never sent a request.
    """

    def __init__(self, server: Server, most: int, per_address: int) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=server._loop,
            **server._kwargs,
        )
        self._most, self._per_address = most, per_address
        self._addresses: dict[RequestHandler, str] = {}
        self._counts: Counter[str] = Counter()

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: Any) -> None:
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._addresses[handler] = address
        self._counts[address] += 1
        if self._counts[address] > self._per_address and not _is_loopback(address):
            transport.abort()
        elif len(self._addresses) > self._most:
            self._make_room(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._forget(handler)

    def _forget(self, handler: RequestHandler) -> None:
        if (address := self._addresses.pop(handler, None)) is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def _make_room(self, new: RequestHandler, transport: Any) -> None:
        address = self._counts.most_common(1)[0][0]
        oldest: Connection | None = None
        for each, owner in self._addresses.items():
            if owner != address or each is new or not isinstance(each, Connection):
                continue
            if each.is_idle and each.transport is not None:
                oldest = oldest or each
                if not each.was_used:
                    oldest = each
                    break
        if oldest is None or oldest.transport is None:
            transport.abort()
            return
        oldest.transport.abort()
        # Its own notice comes later.
        self._forget(oldest)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return True


class Runner(web.AppRunner):
    """Runs an app of aiohttp within the limits above."""

    def __init__(
        self, app: web.Application, *, per_address: int = MAX_PER_ADDRESS, **more: Any
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=SILENT_SECONDS,
            lingering_time=UNREAD_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            # Encoded bodies are refused, and not decoded before that.
            auto_decompress=False,
            **more,
        )
        self._per_address = per_address

    async def _make_server(self) -> Server:
        # Each request in flight has a connection to the model, besides its own.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        made = await super()._make_server()
        return Connections(made, min(MAX_CONNECTIONS, files // 2), self._per_address)
