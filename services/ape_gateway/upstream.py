"""The connection of one route to its target: pool, attempts, rate limits, bounded answers."""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict
from yarl import URL

from ape_contracts import VERSION
from ape_contracts.gateway_config import CONNECTION, TIMEOUT, Endpoint, Route
from ape_contracts.service_settings import GatewaySettings
from ape_gateway import answers, wire
from ape_gateway.limits import SMALL_BYTES
from ape_service import trace
from ape_service.retry_after import retry_after
from ape_service.token_bucket import TokenBucket

MAX_ANSWER_BYTES = 1 << 20
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_MAX_RETRY_AFTER_SECONDS = 30.0
HEALTH_SECONDS = 5.0
# Of requests for which neither the route nor the agent sets one.
USER_AGENT = f"ape/{VERSION}"
# aiohttp sends larger bytes in one piece only with a warning.
_ONE_PIECE_BYTES = 1 << 20
# Only where it matters: aiohttp takes longer with it.
_NO_TYPE = ("Content-Type",)


class TargetUnreachable(Exception):
    """No connection was made, or it was closed before the answer was complete."""


class TargetTimeout(Exception):
    """No complete answer arrived in time."""


@dataclass(frozen=True, slots=True)
class Response:
    """`seconds`: from the request to the end of the body. `size`: bytes of the body, as read."""

    status: int
    headers: dict[str, str | list[str]]
    body: msgspec.Raw | str | None
    body_encoding: str
    truncated: bool
    seconds: float
    retry_after: float | None
    size: int = 0


@dataclass(slots=True)
class Attempts:
    """The attempts of one call.

    `outcomes`: of each attempt the target's status, "connection" or "timeout". `on_retry` gets the
    outcome of an attempt when another one follows.
    """

    on_retry: Callable[[str], None] | None = None
    outcomes: list[str] = field(default_factory=list)
    connections: int = 0

    def notify_retry(self, outcome: str) -> None:
        if self.on_retry is not None:
            self.on_retry(outcome)

    async def connected(self) -> None:
        """Count a connection; aiohttp replaces a kept one that the target had closed."""
        self.connections += 1
        if self.connections > 1:
            self.outcomes.append(CONNECTION)
            self.notify_retry(CONNECTION)


@dataclass(frozen=True)
class PoolSizes:
    """The plan's pool: connections kept open to a route's target, and for how long when idle.

    It bounds the connections that are kept, not the requests that run at once: further requests
    open a connection of their own and close it. A pool that made agents wait would hide the
    target's behavior.
    """

    connections: int = GatewaySettings.pool_connections
    maxsize: int = GatewaySettings.pool_maxsize
    keepalive: int = GatewaySettings.keepalive_connections
    keepalive_seconds: float = GatewaySettings.keepalive_seconds

    @property
    def kept(self) -> int:
        return max(self.connections, self.maxsize, self.keepalive)


async def no_permit_needed(_: int) -> None:
    pass


async def _paused(
    clock: asyncio.Timeout, acquire_permit: Callable[[int], Awaitable[None]], size: int
) -> None:
    """Acquire the permit; the clock stands still meanwhile."""
    due, started = clock.when(), asyncio.get_running_loop().time()
    clock.reschedule(None)
    try:
        await acquire_permit(size)
    finally:
        waited = asyncio.get_running_loop().time() - started
        clock.reschedule(None if due is None else due + waited)


def _counted() -> aiohttp.TraceConfig:
    """Counts every connection of a request in its Attempts."""

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        await context.trace_request_ctx.connected()

    made = aiohttp.TraceConfig()
    made.on_connection_reuseconn.append(connected)
    made.on_connection_create_end.append(connected)
    return made


class Upstream:
    def __init__(self, route: Route, pool: PoolSizes, user_agent: str) -> None:
        self.route = route
        self._pool = pool
        self._user_agent = {"User-Agent": user_agent}
        self._own = frozenset(map(wire.canonical, route.auth.headers))
        self._busy = 0
        now = time.monotonic()
        self._limits = {
            id(endpoint): TokenBucket(endpoint.rate_limit, now)
            for endpoint in route.endpoints
            if endpoint.rate_limit is not None
        }
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=self._pool.keepalive_seconds, ttl_dns_cache=30
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # send() bounds each attempt as a whole.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[_counted()],
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def admit(self, endpoint: Endpoint) -> float:
        """Take a token of the rate limit; returns 0, or the seconds until one is available."""
        limit = self._limits.get(id(endpoint))
        if limit is None:
            return 0.0
        now = time.monotonic()
        if (wait := limit.wait(1, now)) == 0:
            limit.take(1, now)
        return wait

    def has_tool(self, path: str) -> bool:
        """Whether the path is of a tool of an MCP server, as far as its tools are known."""
        return True

    def repeats(self, call: wire.Call) -> bool:
        """Whether the call may be sent again by itself."""
        return call.method in IDEMPOTENT

    async def send(
        self,
        call: wire.Call,
        trace_id: str,
        deadline: float,
        attempts: Attempts,
        acquire_permit: Callable[[int], Awaitable[None]] = no_permit_needed,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Response:
        """The target's final response, before `deadline` (of time.monotonic).

        `attempts` is kept up to date; `acquire_permit` is awaited with the size of a large body
        before more of it is read. That time is not the target's, and not in its timeout. Raises
        TargetUnreachable, TargetTimeout, and what `acquire_permit` does.
        """
        policy = self.route.retry_policy
        retries = policy.max_retries if self.repeats(call) else 0
        for attempt in range(retries + 1):
            left = min(self.route.timeout_seconds, deadline - time.monotonic())
            response: Response | None = None
            problem: TargetUnreachable | TargetTimeout | None = None
            try:
                async with asyncio.timeout(left) as clock:
                    paused = partial(_paused, clock, acquire_permit)
                    response = await self._once(call, trace_id, attempts, paused, max_bytes)
                outcome: int | str = response.status
            except TimeoutError:
                problem, outcome = (
                    TargetTimeout(f"no complete answer within {max(left, 0):.3g} s"),
                    TIMEOUT,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                problem, outcome = TargetUnreachable(reason_of(error)), CONNECTION
            attempts.outcomes.append(str(outcome))
            wait = max(
                policy.backoff_factor * 2**attempt,
                (response.retry_after if response else None) or 0.0,
            )
            if (
                attempt == retries
                or outcome not in policy.retry_on
                or wait > _MAX_RETRY_AFTER_SECONDS
                or time.monotonic() + wait >= deadline
            ):
                if response is not None:
                    return response
                if problem is not None:
                    raise problem
            attempts.notify_retry(str(outcome))
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        call: wire.Call,
        trace_id: str,
        attempts: Attempts,
        acquire_permit: Callable[[int], Awaitable[None]],
        max_bytes: int,
    ) -> Response:
        if self._session is None:
            raise RuntimeError("open() comes first")
        headers = self._headers(call, trace_id)
        data: bytes | io.BytesIO | None = None
        if call.payload is None:
            headers.pop("Content-Type", None)
        else:
            headers.setdefault("Content-Type", "application/json")
            large = len(call.payload) > _ONE_PIECE_BYTES
            data = io.BytesIO(call.payload) if large else call.payload
        attempts.connections = 0
        started = time.monotonic()
        self._busy += 1
        try:
            async with self._session.request(
                call.method,
                URL(self.route.base_url + call.path),
                params=call.query or None,
                data=data,
                headers=headers,
                skip_auto_headers=_NO_TYPE if data is None and call.method != "GET" else None,
                allow_redirects=False,
                trace_request_ctx=attempts,
            ) as response:
                content, truncated = await _content(response, acquire_permit, max_bytes)
        finally:
            self._busy -= 1
        seconds = time.monotonic() - started
        body, encoding = answers.body_of(
            content,
            response.content_type,
            response.charset or "utf-8",
            truncated,
        )
        return Response(
            response.status,
            answers.headers_of(response.headers),
            body,
            encoding,
            truncated,
            seconds,
            retry_after(response.headers),
            len(content),
        )

    def _headers(self, call: wire.Call, trace_id: str) -> CIMultiDict[str]:
        # Later entries win: agents cannot replace the operator's credentials.
        headers = CIMultiDict(self._user_agent)
        headers.update(self.route.headers)
        for name, value in call.headers.items():
            # A twin (X_Api_Key) is a header of its own here, and the same to some targets.
            if not self._own or wire.canonical(name) not in self._own:
                headers[name] = value
        headers.update(self.route.auth.headers)
        headers.update(trace.headers(trace_id))
        if self._busy >= self._pool.kept:
            headers["Connection"] = "close"
        return headers

    async def healthy(self, trace_id: str) -> tuple[bool, str]:
        """Whether the route's health path answers 2xx within 5 s, and the status or the reason."""
        call = wire.Call("", "GET", self.route.health_check.path, {})
        try:
            async with asyncio.timeout(min(HEALTH_SECONDS, self.route.timeout_seconds)):
                response = await self._once(call, trace_id, Attempts(), no_permit_needed, 1 << 16)
        except TimeoutError:
            return False, TIMEOUT
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return False, reason_of(error)
        return 200 <= response.status < 300, str(response.status)


async def _content(
    response: aiohttp.ClientResponse,
    acquire_permit: Callable[[int], Awaitable[None]],
    max_bytes: int,
) -> tuple[bytes, bool]:
    """The body's beginning, and whether there is more of it that is too large or not readable."""
    content = bytearray()
    try:
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > max_bytes:
                response.close()
                return bytes(content[:max_bytes]), True
            if len(content) > SMALL_BYTES:
                await acquire_permit(len(content))
    except aiohttp.ClientPayloadError as error:
        if not isinstance(error.__cause__, ContentEncodingError):
            raise
        # The target answered; only its gzip or the like is broken.
        return bytes(content), True
    return bytes(content), False


def reason_of(error: Exception) -> str:
    """The reason for the error; it quotes nothing that was sent or answered."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | ssl.CertificateError):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.strerror or type(error.os_error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was closed before the answer was complete"
    if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
        return "the connection was closed or reset"
    return f"the answer is not valid HTTP: {type(error).__name__}"
