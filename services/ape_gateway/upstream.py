"""One route's way to its target: pool, attempts, rate limits, bounded answers."""

from __future__ import annotations

import asyncio
import email.utils
import io
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from ape_contracts.gateway_config import CONNECTION, TIMEOUT, Endpoint, Route
from ape_gateway import wire
from ape_service import trace

MAX_ANSWER_BYTES = 1 << 20
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_MAX_RETRY_AFTER_SECONDS = 30.0
_HEALTH_SECONDS = 5.0
# aiohttp sends larger bytes in one piece only with a warning.
_ONE_PIECE_BYTES = 1 << 20


class TargetUnreachable(Exception):
    """No connection, or it broke before the answer was whole; says how."""


class TargetTimeout(Exception):
    """No whole answer within the time there was; says how long that was."""


@dataclass(frozen=True, slots=True)
class Response:
    """`seconds`: from the request to the end of the body."""

    status: int
    headers: dict[str, str | list[str]]
    body: msgspec.Raw | str | None
    body_encoding: str
    truncated: bool
    seconds: float
    retry_after: float | None


@dataclass(slots=True)
class Attempts:
    """What was tried for one call.

    `outcomes`: of each attempt the target's status, "connection" or "timeout". `retried` is told
    the outcome of an attempt when another one follows.
    """

    retried: Callable[[str], None] | None = None
    outcomes: list[str] = field(default_factory=list)
    connections: int = 0

    def again(self, outcome: str) -> None:
        if self.retried is not None:
            self.retried(outcome)

    async def connected(self) -> None:
        """A kept connection that the target had closed is replaced by aiohttp on its own."""
        self.connections += 1
        if self.connections > 1:
            self.outcomes.append(CONNECTION)
            self.again(CONNECTION)


@dataclass(frozen=True)
class PoolSizes:
    """The plan's pool: connections kept open to a route's target, and for how long when idle.

    It bounds what is kept, not how much runs at once: requests beyond it open a connection of
    their own and close it. A pool that made agents wait would hide the target's behaviour.
    """

    connections: int = 10
    maxsize: int = 20
    keepalive: int = 50
    keepalive_seconds: float = 5.0

    @property
    def kept(self) -> int:
        return max(self.connections, self.maxsize, self.keepalive)


async def _no_room_needed(_: int) -> None:
    pass


def _counted() -> aiohttp.TraceConfig:
    """Tells each request's Attempts of every connection that it was given."""

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        await context.trace_request_ctx.connected()

    made = aiohttp.TraceConfig()
    made.on_connection_reuseconn.append(connected)
    made.on_connection_create_end.append(connected)
    return made


class Upstream:
    def __init__(self, route: Route, pool: PoolSizes) -> None:
        self.route = route
        self._pool = pool
        self._busy = 0
        self._tokens: dict[int, tuple[float, float]] = {}
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
        """Take a token of the rate limit; returns 0, or the seconds until there is one."""
        if endpoint.rate_limit is None:
            return 0.0
        now, per_second = time.monotonic(), endpoint.rate_limit / 60
        tokens, at = self._tokens.get(id(endpoint), (float(endpoint.rate_limit), now))
        tokens = min(float(endpoint.rate_limit), tokens + (now - at) * per_second)
        granted = tokens >= 1
        self._tokens[id(endpoint)] = (tokens - granted, now)
        return 0.0 if granted else (1 - tokens) / per_second

    async def send(
        self,
        call: wire.Call,
        trace_id: str,
        deadline: float,
        attempts: Attempts,
        room: Callable[[int], Awaitable[None]] = _no_room_needed,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Response:
        """The target's final response, before `deadline` (of time.monotonic).

        `attempts` is kept up to date; `room` is awaited with the size of the body, before more of
        it is read. Raises TargetUnreachable, TargetTimeout, and what `room` raises.
        """
        policy = self.route.retry_policy
        tries = policy.max_retries if call.method in _IDEMPOTENT else 0
        for attempt in range(tries + 1):
            left = min(self.route.timeout_seconds, deadline - time.monotonic())
            response: Response | None = None
            problem: TargetUnreachable | TargetTimeout | None = None
            try:
                async with asyncio.timeout(left):
                    response = await self._once(call, trace_id, attempts, room, max_bytes)
                outcome: int | str = response.status
            except TimeoutError:
                problem, outcome = (
                    TargetTimeout(f"no whole answer within {max(left, 0):.3g} s"),
                    TIMEOUT,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                problem, outcome = TargetUnreachable(_how(error)), CONNECTION
            attempts.outcomes.append(str(outcome))
            wait = max(
                policy.backoff_factor * 2**attempt,
                (response.retry_after if response else None) or 0.0,
            )
            if (
                attempt == tries
                or outcome not in policy.retry_on
                or wait > _MAX_RETRY_AFTER_SECONDS
                or time.monotonic() + wait >= deadline
            ):
                if response is not None:
                    return response
                if problem is not None:
                    raise problem
            attempts.again(str(outcome))
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        call: wire.Call,
        trace_id: str,
        attempts: Attempts,
        room: Callable[[int], Awaitable[None]],
        max_bytes: int,
    ) -> Response:
        if self._session is None:
            raise RuntimeError("open() comes first")
        # Later entries win: the operator's credentials are not the agents' to replace.
        headers = CIMultiDict(self.route.headers)
        headers.update(call.headers)
        headers.update(self.route.auth.headers)
        headers.update(trace.headers(trace_id))
        if self._busy >= self._pool.kept:
            headers["Connection"] = "close"
        data: bytes | io.BytesIO | None = None
        if call.payload is not None and not call.bodyless:
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
                params=wire.query_of(call) or None,
                data=data,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=attempts,
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > max_bytes:
                        response.close()
                        break
                    await room(len(content))
        finally:
            self._busy -= 1
        seconds = time.monotonic() - started
        truncated = len(content) > max_bytes
        body, encoding = wire.body_of(
            bytes(content[:max_bytes] if truncated else content),
            response.content_type,
            response.charset or "utf-8",
            truncated,
        )
        return Response(
            response.status,
            wire.headers_of(response.headers),
            body,
            encoding,
            truncated,
            seconds,
            _retry_after(response.headers.get("Retry-After")),
        )

    async def healthy(self, trace_id: str) -> tuple[bool, str]:
        """Whether the route's health path answers 2xx within 5 s, and the status or what failed."""
        call = wire.Call("", "GET", self.route.health_check.path, {})
        try:
            async with asyncio.timeout(min(_HEALTH_SECONDS, self.route.timeout_seconds)):
                response = await self._once(call, trace_id, Attempts(), _no_room_needed, 1 << 16)
        except TimeoutError:
            return False, TIMEOUT
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return False, _how(error)
        return 200 <= response.status < 300, str(response.status)


def _how(error: Exception) -> str:
    """What broke, in words that quote nothing of what was sent or answered."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | ssl.CertificateError):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.strerror or type(error.os_error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
        return "the connection was closed or reset"
    return f"what came is not valid HTTP: {type(error).__name__}"


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
