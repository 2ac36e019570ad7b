"""The agent's two peers, gateway and proxy: JSON over HTTP, and when each was last reached."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from ape_common import trace
from ape_common.pacing import backoff

MAX_ANSWER_BYTES = 4 << 20
_TRIES = 4
_MAX_RETRY_AFTER_SECONDS = 15.0


class PeerError(Exception):
    """The peer cannot be reached, is too slow, or answers what is no JSON object."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, Any]


class Peer:
    """`headers` go with every request to the peer."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._session = session
        self._headers = dict(headers or {})
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._reached = float("-inf")

    def away(self) -> float:
        """Seconds since the peer last answered; infinite before it did."""
        return time.monotonic() - self._reached

    async def probe(self) -> bool:
        """Whether GET /health answers 200 within 5 s."""
        try:
            async with self._session.get(
                self._url + "/health", timeout=aiohttp.ClientTimeout(total=5)
            ) as answer:
                await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        if answer.status == 200:
            self._reached = time.monotonic()
        return answer.status == 200

    async def post(self, path: str, body: Any, trace_id: str, *, patient: bool = True) -> Reply:
        """The reply to a JSON body. Raises PeerError.

        A patient call tries again, a few times, only where the first try had no effect: no
        connection was made, or the peer was too busy to begin (429, 503).
        """
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1 or not patient
            wait = backoff(attempt, cap=5)
            try:
                reply, retry_after = await self._once(path, body, trace_id)
                if last or reply.status not in (429, 503):
                    return reply
                wait = max(wait, min(retry_after, _MAX_RETRY_AFTER_SECONDS))
            except aiohttp.ClientConnectorError as problem:
                if last:
                    raise PeerError(type(problem).__name__) from None
            except (aiohttp.ClientError, OSError, TimeoutError) as problem:
                raise PeerError(type(problem).__name__) from None
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, path: str, body: Any, trace_id: str) -> tuple[Reply, float]:
        async with self._session.post(
            self._url + path,
            json=body,
            headers=self._headers | trace.headers(trace_id),
            timeout=self._timeout,
        ) as answer:
            content = bytearray()
            async for chunk in answer.content.iter_any():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    answer.close()
                    raise PeerError("the answer is too large")
            self._reached = time.monotonic()
            try:
                decoded = json.loads(content)
            except (ValueError, RecursionError):
                raise PeerError(f"status {answer.status}, and no JSON") from None
            if not isinstance(decoded, dict):
                raise PeerError(f"status {answer.status}, and no JSON object")
            after = answer.headers.get("Retry-After", "")
            return Reply(answer.status, decoded), float(after) if after.isdigit() else 0.0
