"""The agents' two peers, gateway and proxy: JSON over HTTP, and whether they are there."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ape_agent.client import Client, HttpError, NotConnected
from ape_service import logs, trace
from ape_service.pacing import backoff

_TRIES = 4
_MAX_RETRY_AFTER_SECONDS = 15.0
_PROBE_SECONDS = 5.0
# A peer that was not heard of for so long is asked how it is.
_QUIET_SECONDS = 10.0
# A peer away for longer makes the container unhealthy: its heartbeat file goes.
AWAY_SECONDS = 30.0
TOUCH_SECONDS = 5.0
# However many agents doubt their peers at once, they are asked no more often.
_BETWEEN_PROBES_SECONDS = 0.2
_log = logging.getLogger(__name__)


class PeerError(Exception):
    """The peer cannot be reached, is too slow, or answers what is no JSON object."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, Any]


class Peer:
    def __init__(self, url: str, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        """`headers` go with every request; `timeout` is in seconds."""
        self._client = Client(url)
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._reached = float("-inf")

    def away(self) -> float:
        """Seconds since the peer last answered; infinite before it did."""
        return time.monotonic() - self._reached

    async def probe(self) -> bool:
        """Whether GET /health answers 200 within 5 s."""
        try:
            answer = await self._client.request("GET", "/health", timeout=_PROBE_SECONDS)
        except HttpError:
            return False
        if answer.status == 200:
            self._reached = time.monotonic()
        return answer.status == 200

    async def get(self, path: str) -> Reply:
        """Raises PeerError."""
        return (await self._once("GET", path, b"", self._headers))[0]

    async def post(
        self,
        path: str,
        body: Any,
        trace_id: str,
        *,
        headers: Mapping[str, str] | None = None,
        patient: bool = True,
    ) -> Reply:
        """The reply to a JSON body. Raises PeerError.

        A patient call tries again, a few times, only where the first try had no effect: no
        connection was made, or the peer was too busy to begin (429, 503).
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        sent = {**self._headers, **trace.headers(trace_id), **(headers or {})}
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1 or not patient
            wait = backoff(attempt, cap=5)
            try:
                reply, retry_after = await self._once("POST", path, content, sent)
                if last or reply.status not in (429, 503):
                    return reply
                wait = max(wait, min(retry_after, _MAX_RETRY_AFTER_SECONDS))
            except _NotReached:
                if last:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[Reply, float]:
        try:
            answer = await self._client.request(
                method, path, timeout=self._timeout, headers=headers, body=body
            )
        except NotConnected as problem:
            raise _NotReached(str(problem)) from None
        except HttpError as problem:
            raise PeerError(str(problem)) from None
        self._reached = time.monotonic()
        try:
            decoded = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise PeerError(f"status {answer.status}, and no JSON") from None
        if not isinstance(decoded, dict):
            raise PeerError(f"status {answer.status}, and no JSON object")
        after = answer.headers.get("retry-after", "")
        return Reply(answer.status, decoded), float(after) if after.isdecimal() else 0.0

    def close(self) -> None:
        self._client.close()


class _NotReached(PeerError):
    """No connection was made."""


class Peers:
    """Both peers, watched once for all agents of the container."""

    def __init__(self, gateway: Peer, proxy: Peer, heartbeat_file: str) -> None:
        self.gateway, self.proxy = gateway, proxy
        self._file = Path(heartbeat_file)
        self._there = asyncio.Event()
        self._doubt = asyncio.Event()

    @property
    def there(self) -> bool:
        return self._there.is_set()

    async def ready(self) -> None:
        """Wait until both are there."""
        await self._there.wait()

    def doubt(self) -> None:
        """A call failed: agents wait until both peers have answered anew."""
        self._there.clear()
        self._doubt.set()

    async def watch(self) -> None:
        """Forever: ask the peers where they were quiet, with backoff while one is away.

        The heartbeat file is touched while the loop turns and both are there, and removed when
        one has stayed away: its age is the container's health.
        """
        failures = 0
        while True:
            doubted = self._doubt.is_set()
            self._doubt.clear()
            found = await asyncio.gather(
                *(
                    peer.probe()
                    if doubted or not self.there or peer.away() > _QUIET_SECONDS
                    else _yes()
                    for peer in (self.gateway, self.proxy)
                )
            )
            if all(found):
                self._there.set()
                failures, wait = 0, TOUCH_SECONDS
            else:
                if failures == 0:
                    fields = logs.fields(gateway=found[0], proxy=found[1])
                    _log.warning("waiting for peers", extra=fields)
                self._there.clear()
                wait = backoff(failures)
                failures += 1
            self._beat()
            await asyncio.sleep(_BETWEEN_PROBES_SECONDS)
            if not failures:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._doubt.wait(), wait)
            else:
                # Doubt does not shorten the backoff.
                await asyncio.sleep(wait)

    def _beat(self) -> None:
        try:
            if max(self.gateway.away(), self.proxy.away()) < AWAY_SECONDS:
                self._file.touch()
            else:
                self._file.unlink(missing_ok=True)
        except OSError as problem:
            _log.error("heartbeat file", extra=logs.fields(error=problem.strerror))

    def close(self) -> None:
        self.gateway.close()
        self.proxy.close()


async def _yes() -> bool:
    return True
