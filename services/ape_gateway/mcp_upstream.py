"""The connection of a route to an MCP server: a request to /tools/NAME becomes a call of a tool.

Attempts, retries, timeouts and limits are those of every route. DELETE /session ends the session of
an agent, as clients do that have reached their goal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
import msgspec
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError

from ape_contracts.gateway_config import TIMEOUT, Route
from ape_contracts.operations import encode
from ape_gateway import answers, callers, mcp_tools, wire
from ape_gateway.mcp_sessions import Connection, NotMcp, Sessions, tools_of
from ape_gateway.mcp_transport import Exchange, Transport, current
from ape_gateway.operations import Catalog, load
from ape_gateway.upstream import (
    HEALTH_SECONDS,
    IDEMPOTENT,
    Attempts,
    PoolSizes,
    Response,
    Upstream,
    no_permit_needed,
    reason_of,
)
from ape_service import logs, trace
from ape_service.retry_after import retry_after

SESSION = "/session"
# A list is asked for again after so long: a server may have got other tools.
LISTED_SECONDS = 60.0
_LIST_SECONDS = 20.0
_MAX_LIST_BYTES = 8 << 20
# Of an answer beside its result.
_ENVELOPE_BYTES = 16 << 10
_MAX_MESSAGE_CHARS = 1000
_any = msgspec.json.Decoder()
_log = logging.getLogger(__name__)


class NotListed(Exception):
    """The tools cannot be listed: why."""


class _Failed(Exception):
    """A request failed with `problem`; `exchange`: with what it was sent."""

    def __init__(self, exchange: Exchange, problem: Exception) -> None:
        super().__init__(problem)
        self.exchange, self.problem = exchange, problem

    @property
    def is_expired(self) -> bool:
        """Whether the server does not know the session: then it has not run the tool.

        The specification says 404; some servers say 400.
        """
        status = self.exchange.status
        return status == 404 or (status == 400 and b"session" in self.exchange.content.lower())

    @property
    def words(self) -> str:
        problem = self.problem
        if isinstance(problem, MCPError):
            return f"{problem.message[:_MAX_MESSAGE_CHARS]} ({problem.code})"
        if isinstance(problem, NotMcp):
            return f"The server cannot be used: {problem}."
        return f"The answer is not valid MCP: {type(problem).__name__}."

    @property
    def outcome(self) -> str:
        """For people who look at the route: without words of the server's."""
        if self.exchange.error is not None:
            return reason_of(self.exchange.error)
        status = self.exchange.status
        return f"it answers status {status}" if status >= 400 else self.words


class McpUpstream(Upstream):
    """`api`: the name of the route."""

    def __init__(self, api: str, route: Route, pool: PoolSizes, user_agent: str) -> None:
        super().__init__(route, pool, user_agent)
        self._api = api
        self._sessions = Sessions(route.base_url)
        self._sweeping: asyncio.Task[None] | None = None
        self._listing = asyncio.Lock()
        self._catalog: Catalog | None = None
        self._listed = float("-inf")
        self._known: frozenset[str] = frozenset()
        self._repeatable: frozenset[str] = frozenset()
        # Whether arguments stand in headers too: then a client must know the tools.
        self._in_headers = False

    async def open(self) -> None:
        await super().open()
        assert self._session is not None
        self._sessions.start(Transport(self._session, self.route.timeout_seconds))
        self._sweeping = asyncio.create_task(self._sessions.sweep())

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._sessions.close()
        await super().close()

    def repeats(self, call: wire.Call) -> bool:
        """By the tool's own hint: the method is always POST."""
        return call.method in IDEMPOTENT or mcp_tools.name_of(call.path) in self._repeatable

    def has_tool(self, path: str) -> bool:
        if path == SESSION:
            return True
        name = mcp_tools.name_of(path)
        # Agents list the tools before they call one.
        return name in self._known if self._known else name is not None

    async def _once(
        self,
        call: wire.Call,
        trace_id: str,
        attempts: Attempts,
        acquire_permit: Callable[[int], Awaitable[None]],
        max_bytes: int,
    ) -> Response:
        started = time.monotonic()
        key = callers.session.get() or _shared(call.headers)
        if (call.method, call.bare_path) == ("DELETE", SESSION):
            await self._sessions.end(key)
            return Response(204, {}, None, "none", False, time.monotonic() - started, None)
        name = mcp_tools.name_of(call.path)
        if name is None or call.method != "POST":
            return _said(404, "Call a tool: POST /tools/NAME. GET /operations lists them.", started)
        arguments = _arguments(call.payload)
        if arguments is None:
            return _said(400, "The arguments of a tool are a JSON object.", started)
        most = max_bytes + _ENVELOPE_BYTES
        exchange = Exchange(lambda: self._headers(call, trace_id), acquire_permit, most, attempts)
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=name, arguments=arguments)
        )
        try:
            result, seconds = await self._called(key, exchange, request)
        except _Failed as failed:
            if failed.exchange.error is not None:
                raise failed.exchange.error from None
            return self._refused(failed, name, max_bytes, started)
        finally:
            await exchange.end()
        return _answered(*mcp_tools.result_of(result), max_bytes, seconds)

    async def _called(
        self, key: str, exchange: Exchange, request: types.CallToolRequest
    ) -> tuple[types.CallToolResult, float]:
        """The result of a tool and its seconds; a session that has expired is opened again, once.

        Raises _Failed.
        """
        for is_last in (False, True):
            try:
                async with self._in_session(key, exchange) as session:
                    exchange.begin()
                    started = time.monotonic()
                    result = await session.send_request(request, types.CallToolResult)
                    return result, time.monotonic() - started
            except _Failed as failed:
                # Nothing was sent where the connection has just ended.
                ended = failed.exchange is exchange and not exchange.status and not exchange.error
                if is_last or not (failed.is_expired or ended):
                    raise
                outcome = str(exchange.status) if exchange.status else "connection"
                exchange.attempts.outcomes.append(outcome)
                exchange.attempts.notify_retry(outcome)
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def _in_session(self, key: str, exchange: Exchange) -> AsyncIterator[ClientSession]:
        """The session of a key, whose requests have that exchange. Raises _Failed."""
        current.set(exchange)
        connection = self._sessions.of(key)
        connection.calls += 1
        try:
            session = await self._opened(key, connection)
            try:
                yield session
            except (MCPError, RuntimeError, ValueError) as problem:
                failed = _Failed(exchange, problem)
                if failed.is_expired or not connection.is_open:
                    self._sessions.forget(key, connection)
                raise failed from None
        finally:
            connection.calls -= 1
            connection.used = time.monotonic()

    async def _opened(self, key: str, connection: Connection) -> ClientSession:
        """Raises _Failed."""
        try:
            session = await connection.session()
            if self._in_headers and connection.discovered and not connection.is_informed:
                connection.is_informed = True
                await tools_of(session, mcp_tools.MAX_TOOLS)
        except (MCPError, NotMcp, RuntimeError, ValueError) as problem:
            self._sessions.forget(key, connection)
            raise _Failed(connection.exchange, problem) from None
        self._sessions.learn(connection)
        return session

    def _refused(self, failed: _Failed, name: str, max_bytes: int, started: float) -> Response:
        """The answer to a call that was answered with an error, or not as MCP."""
        exchange, problem = failed.exchange, failed.problem
        if exchange.cut:
            size = f"{exchange.most >> 10} KiB"
            return _said(502, f"The answer of the tool is larger than {size}.", started, cut=True)
        if exchange.status >= 400:
            return _http_error(exchange, max_bytes, started)
        if not isinstance(problem, MCPError):
            return _said(mcp_tools.FAILED, failed.words, started)
        is_known = name in self._known or not self._known
        return _said(mcp_tools.status_of(problem.code, is_known), failed.words, started)

    async def catalog(self, headers: dict[str, str]) -> Catalog:
        """The tools of the server as operations. Raises NotListed.

        `headers`: for a server that lists its tools only to those who have signed in.
        """
        async with self._listing:
            if self._catalog is not None and time.monotonic() - self._listed < LISTED_SECONDS:
                return self._catalog
            try:
                tools = await self._list(headers)
            except NotListed:
                if self._catalog is None:
                    raise
                return self._catalog
            if self.route.endpoints:
                tools = [tool for tool in tools if self._allows(tool.name)]
            self._known = frozenset(tool.name for tool in tools)
            self._repeatable = mcp_tools.repeatable(tools)
            self._in_headers = any(map(mcp_tools.is_in_headers, tools))
            operations = mcp_tools.operations_of(tools)
            text, left_out = encode(operations), len(tools) - len(operations.operations)
            _log.info("tools", extra=logs.fields(route=self._api, tools=len(tools), left=left_out))
            self._catalog, self._listed = load(self._api, text, sessions=True), time.monotonic()
            return self._catalog

    def _allows(self, name: str) -> bool:
        return self.route.endpoint("POST", mcp_tools.path_of(name)) is not None

    async def _list(self, headers: dict[str, str]) -> list[types.Tool]:
        """Raises NotListed."""
        exchange = self._own_exchange(headers, _MAX_LIST_BYTES)
        try:
            async with asyncio.timeout(_LIST_SECONDS):
                for is_last in (False, True):
                    try:
                        async with self._in_session(_shared(headers), exchange) as session:
                            return await tools_of(session, mcp_tools.MAX_TOOLS)
                    except _Failed as failed:
                        if is_last or not failed.is_expired:
                            raise NotListed(failed.outcome) from None
        except TimeoutError:
            pass
        raise NotListed(f"no complete answer within {_LIST_SECONDS:g} s")

    async def healthy(self, trace_id: str) -> tuple[bool, str]:
        """Whether the server answers a ping within 5 s; one without sessions, what it is."""
        del trace_id
        try:
            async with asyncio.timeout(min(HEALTH_SECONDS, self.route.timeout_seconds)):
                async with self._in_session(" health", self._own_exchange({}, 1 << 16)) as session:
                    if session.discover_result is not None:
                        await session.send_discover(str(session.protocol_version))
                    else:
                        await session.send_ping()
        except TimeoutError:
            return False, TIMEOUT
        except _Failed as failed:
            return False, failed.outcome
        return True, "200"

    def _own_exchange(self, headers: dict[str, str], most: int) -> Exchange:
        """Of a request of the gateway's own."""
        call = wire.Call(self._api, "POST", "/", headers)
        trace_id = trace.new_trace_id()
        return Exchange(lambda: self._headers(call, trace_id), no_permit_needed, most, Attempts())


def _shared(headers: dict[str, str]) -> str:
    """The key of the session that calls share which name none, if they have one identity."""
    return f" {headers.get('Authorization', '')}"


def _arguments(payload: bytes | None) -> dict[str, Any] | None:
    """The arguments of a call; None: they are not an object."""
    if payload is None:
        return {}
    try:
        found = _any.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _said(status: int, message: str, started: float, *, cut: bool = False) -> Response:
    """An answer in words."""
    content = mcp_tools.encoded({"error": message})
    body, encoding = answers.body_of(content, "application/json", "utf-8", False)
    return Response(status, {}, body, encoding, cut, time.monotonic() - started, None)


def _answered(
    status: int, content: bytes, content_type: str, max_bytes: int, seconds: float
) -> Response:
    cut = len(content) > max_bytes
    body, encoding = answers.body_of(content[:max_bytes], content_type, "utf-8", cut)
    headers: dict[str, str | list[str]] = {"content-type": content_type} if content else {}
    return Response(status, headers, body, encoding, cut, seconds, None, len(content))


def _http_error(exchange: Exchange, max_bytes: int, started: float) -> Response:
    """An answer of the server's HTTP, such as 401 or 503, as that of every target."""
    headers = exchange.answer_headers
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    content, cut = exchange.content[:max_bytes], len(exchange.content) > max_bytes
    body, encoding = answers.body_of(content, content_type, "utf-8", cut)
    seconds = time.monotonic() - started
    made = answers.headers_of(headers)
    wait = retry_after(headers)
    return Response(exchange.status, made, body, encoding, cut, seconds, wait, len(content))
