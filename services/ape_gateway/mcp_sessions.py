"""The MCP sessions of a route: one for each session of an agent, held by the SDK's client.

A server of 2026-07-28 has no sessions: its client is made without a request. An older one is asked
for a session (`initialize`), which is ended (DELETE) when it is idle, or one of too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from typing import Any, Literal

import anyio
import httpx2
import mcp_types as types
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from ape_contracts import VERSION
from ape_gateway.mcp_transport import MAX_STREAM_BYTES, Transport, current
from ape_service import logs

# More than an agent thinks; servers keep a session for about as long. A session has 60 KiB.
IDLE_SECONDS = 600.0
MAX_SESSIONS = 3000
OLDEST = "2025-06-18"
MAX_PAGES = 100
_OPEN_SECONDS, _CLOSE_SECONDS = 30.0, 3.0
_CLIENT = types.Implementation(name="ape", version=VERSION)
# What is known of a server: nothing yet, that it has sessions, or its own description instead.
Era = types.DiscoverResult | Literal["sessions"] | None
_log = logging.getLogger(__name__)


class NotMcp(Exception):
    """The server does not speak MCP, or a version that is too old."""


class Connection:
    """One client of the server, in a task of its own: the SDK's contexts end where they began."""

    def __init__(self, url: str, transport: Transport, era: Era) -> None:
        self._url, self._transport, self._era = url, transport, era
        # Of the caller for which it is opened.
        self.exchange = current.get()
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        # A caller that gives up does not see the failure.
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self.discovered: types.DiscoverResult | None = None
        # Whether it knows the tools, and so which arguments stand in headers.
        self.is_informed = False
        self.calls = 0
        self.used = time.monotonic()
        # In the context of the caller, whose headers it has until its end.
        self._task = asyncio.create_task(self._run())

    @property
    def is_open(self) -> bool:
        return not self._task.done()

    @property
    def has_failed(self) -> bool:
        """Whether it could not be opened."""
        ready = self._ready
        return ready.done() and not ready.cancelled() and ready.exception() is not None

    async def session(self) -> ClientSession:
        """Raises NotMcp, MCPError."""
        return await asyncio.shield(self._ready)

    def stop(self) -> None:
        """End it, without waiting."""
        self._stop.set()

    async def stopped(self) -> None:
        """Wait for its end, and for that of the server's session."""
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        try:
            async with (
                httpx2.AsyncClient(
                    transport=self._transport, timeout=None, trust_env=False
                ) as http,
                streamable_http_client(
                    self._url, http_client=http, max_sse_event_size=MAX_STREAM_BYTES
                ) as streams,
                ClientSession(*streams, client_info=_CLIENT) as session,
            ):
                with anyio.fail_after(_OPEN_SECONDS):
                    await self._negotiated(session)
                self._ready.set_result(session)
                await self._stop.wait()
        except BaseException as problem:
            if not self._ready.done():
                self._ready.set_exception(_said(problem))
            elif not isinstance(problem, Exception):
                raise
            else:
                _log.warning("mcp session ended", extra=logs.fields(error=type(problem).__name__))

    async def _negotiated(self, session: ClientSession) -> None:
        if isinstance(self._era, types.DiscoverResult):
            session.adopt(self._era)
            self.discovered = self._era
            return
        if self._era is None:
            with contextlib.suppress(MCPError, RuntimeError, ValueError):
                self.discovered = await session.discover()
                return
        found = await session.initialize()
        versions = HANDSHAKE_PROTOCOL_VERSIONS
        if versions.index(found.protocol_version) < versions.index(OLDEST):
            raise NotMcp(f"its version of MCP, {found.protocol_version}, is older than {OLDEST}")


def _said(problem: BaseException) -> Exception:
    """The first problem of a group, as one that callers expect."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    if isinstance(problem, MCPError | NotMcp):
        return problem
    if isinstance(problem, TimeoutError):
        return NotMcp(f"it has not answered initialize within {_OPEN_SECONDS:g} s")
    return NotMcp(f"its answer to initialize is not MCP ({type(problem).__name__})")


class Sessions:
    """The connections by key: that of an agent's session, or of those that name none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transport: Transport | None = None
        self._open: OrderedDict[str, Connection] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        # What the first connection has found out, so that others need not ask.
        self._era: Era = None

    def __len__(self) -> int:
        return len(self._open)

    def start(self, transport: Transport) -> None:
        self._transport = transport

    def of(self, key: str) -> Connection:
        """The connection of a key, a new one if the key has none; the caller counts its calls."""
        assert self._transport is not None
        found = self._open.get(key)
        if found is None or not found.is_open:
            found = Connection(self._url, self._transport, self._era)
            self._open[key] = found
        self._open.move_to_end(key)
        found.used = time.monotonic()
        self._end_idle()
        return found

    def learn(self, connection: Connection) -> None:
        """Keep what a connection has found out about the server."""
        self._era = connection.discovered or "sessions"

    def forget(self, key: str, connection: Connection) -> None:
        """End a connection that its server does not know, or that failed to open."""
        self.drop(key, connection)
        if connection.discovered is not None or connection.has_failed:
            # It may be another server by now.
            self._era = None

    def drop(self, key: str, connection: Connection) -> None:
        if self._open.get(key) is connection:
            del self._open[key]
        self._end(connection)

    async def end(self, key: str) -> bool:
        """End the session of a key, and wait for the server; False: the key has none."""
        connection = self._open.pop(key, None)
        if connection is None:
            return False
        connection.stop()
        await connection.stopped()
        return True

    def _end_idle(self) -> None:
        """End the longest unused ones: those that are idle, and those that are too many."""
        now = time.monotonic()
        for key, each in list(self._open.items())[:8]:
            if each.calls:
                continue
            if len(self._open) <= MAX_SESSIONS and now - each.used < IDLE_SECONDS:
                break
            del self._open[key]
            self._end(each)

    def _end(self, connection: Connection) -> None:
        connection.stop()
        task = asyncio.create_task(connection.stopped())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def sweep(self, every: float = IDLE_SECONDS / 10) -> None:
        """End idle connections forever, also when no calls come."""
        while True:
            await asyncio.sleep(every)
            self._end_idle()

    async def close(self) -> None:
        """End all of them, and wait a moment for the server."""
        for each in self._open.values():
            self._end(each)
        self._open.clear()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_SECONDS)


async def tools_of(session: ClientSession, most: int) -> list[types.Tool]:
    """The tools of the server, page by page. Raises MCPError."""
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        params: Any = types.PaginatedRequestParams(cursor=cursor) if cursor else None
        page = await session.list_tools(params=params)
        found += page.tools
        cursor = page.next_cursor
        if not cursor or len(found) >= most:
            break
    return found[:most]
