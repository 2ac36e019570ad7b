"""One route's way to its target: pool, retries, rate limits, bounded answers."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from ape_common import trace
from ape_common.gateway_config import CONNECTION, TIMEOUT, Endpoint, Route
from yarl import URL

from ape_gateway import wire

MAX_ANSWER_BYTES = 1 << 20
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_MAX_RETRY_AFTER_SECONDS = 30.0


class Unreachable(Exception):
    """No connection, or it broke before the answer was whole."""


class TooSlow(Exception):
    """No whole answer within the route's timeout."""


@dataclass(frozen=True)
class Answer:
    """`seconds`: of the final attempt."""

    status: int
    headers: dict[str, str | list[str]]
    body: Any
    body_encoding: str
    truncated: bool
    seconds: float
    retry_after: float | None


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


class Upstream:
    def __init__(self, route: Route, pool: PoolSizes, max_timeout: float) -> None:
        self.route = route
        self._pool = pool
        self._timeout = min(route.timeout_seconds, max_timeout)
        self._busy = 0
        self._tokens: dict[int, tuple[float, float]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=self._pool.keepalive_seconds, ttl_dns_cache=30
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
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

    async def send(self, call: wire.Call, trace_id: str, retried: Callable[[str], None]) -> Answer:
        """The target's final answer; `retried` is told the cause of each attempt that was not.

        Raises Unreachable, TooSlow, wire.WireError.
        """
        policy = self.route.retry_policy
        tries = policy.max_retries if call.method in _IDEMPOTENT else 0
        for attempt in range(tries + 1):
            wait = policy.backoff_factor * 2**attempt
            last = attempt == tries
            try:
                answer = await self._once(call, trace_id)
                if last or answer.status not in policy.retry_on:
                    return answer
                cause = str(answer.status)
                wait = max(wait, answer.retry_after or 0.0)
                if wait > _MAX_RETRY_AFTER_SECONDS:
                    return answer
            except Unreachable:
                if last or CONNECTION not in policy.retry_on:
                    raise
                cause = CONNECTION
            except TooSlow:
                if last or TIMEOUT not in policy.retry_on:
                    raise
                cause = TIMEOUT
            retried(cause)
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, call: wire.Call, trace_id: str) -> Answer:
        if self._session is None:
            raise RuntimeError("open() comes first")
        # Later entries win: the operator's credentials are not the agents' to replace.
        headers: dict[str, str] = {}
        for source in (self.route.headers, call.headers, self.route.auth.headers):
            given = {name.lower() for name in source}
            headers = {k: v for k, v in headers.items() if k.lower() not in given} | source
        headers |= trace.headers(trace_id)
        if self._busy >= self._pool.kept:
            headers["Connection"] = "close"
        body: dict[str, Any] = {}
        if call.method in ("GET", "HEAD"):
            body["params"] = wire.query_of(call.payload)
        elif call.payload is not None:
            body["json"] = call.payload
        started = time.monotonic()
        self._busy += 1
        try:
            async with self._session.request(
                call.method,
                URL(self.route.base_url + call.path),
                headers=headers,
                allow_redirects=False,
                **body,
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        response.close()
                        break
                seconds = time.monotonic() - started
                truncated = len(content) > MAX_ANSWER_BYTES
                decoded, encoding = wire.body_of(
                    bytes(content[:MAX_ANSWER_BYTES]),
                    response.content_type,
                    response.charset or "utf-8",
                    truncated,
                )
                return Answer(
                    response.status,
                    wire.headers_of(response.headers),
                    decoded,
                    encoding,
                    truncated,
                    seconds,
                    _retry_after(response.headers.get("Retry-After")),
                )
        except TimeoutError:
            raise TooSlow(f"no answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(type(error).__name__) from None
        finally:
            self._busy -= 1


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
