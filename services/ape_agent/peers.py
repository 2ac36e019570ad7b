"""The agents' two peers, gateway and proxy: JSON over HTTP, and whether they are available."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ape_agent.client import Client, HttpError, NotConnected
from ape_agent.stream import Stream
from ape_service import logs, trace
from ape_service.pacing import backoff
from ape_service.retry_after import retry_after

_ATTEMPTS = 4
_MAX_RETRY_AFTER_SECONDS = 60.0
_SHOULD_RETRY = "x-should-retry"
_PROBE_SECONDS = 5.0
# A peer that was silent for this long is probed.
_QUIET_SECONDS = 10.0
# A peer that is away for longer makes the container unhealthy: the heartbeat file is removed.
AWAY_SECONDS = 30.0
TOUCH_SECONDS = 5.0
# Of all agents that mark their peers as suspect, the peers get at most one probe per interval.
_BETWEEN_PROBES_SECONDS = 0.2
_log = logging.getLogger(__name__)


class PeerError(Exception):
    """The peer cannot be reached, is too slow, or its answer is not a JSON object.

    `reached`: whether it answered at all, and then with which `status`.
    """

    def __init__(self, message: str, *, reached: bool = False, status: int = 0) -> None:
        super().__init__(message)
        self.reached, self.status = reached, status


@dataclass(frozen=True)
class Reply:
    """Names of headers are in lower case. `in_stream`: it came as events, also an error."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    in_stream: bool = False

    @property
    def retry_helps(self) -> bool:
        """Whether the peer rejected the request as overloaded, without any effect."""
        final = self.headers.get(_SHOULD_RETRY, "").strip().lower() == "false"
        return self.status in (429, 503) and not final and not self.in_stream


class Peer:
    def __init__(self, url: str, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: of every request; `timeout`: seconds."""
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

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Raises PeerError."""
        return await self._once("GET", path, b"", {**self._headers, **(headers or {})})

    async def post(
        self,
        path: str,
        body: Any,
        trace_id: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry: bool = True,
        stream: bool = False,
    ) -> Reply:
        """The reply to a JSON body. Raises PeerError.

        `stream`: it may come as the events of a chat completion; the reply has what they make.

        `retry`: up to three times, only if the attempt had no effect: no connection was made, or
        the peer rejected the request as overloaded (429, 503) without `x-should-retry: false`.
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        sent = {**self._headers, **trace.headers(trace_id), **(headers or {})}
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1 or not retry
            wait = backoff(attempt, cap=5)
            try:
                reply = await self._once("POST", path, content, sent, Stream() if stream else None)
                if last or not reply.retry_helps:
                    return reply
                wait = max(wait, min(retry_after(reply.headers) or 0.0, _MAX_RETRY_AFTER_SECONDS))
            except _NotReached:
                if last:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        stream: Stream | None = None,
    ) -> Reply:
        try:
            answer = await self._client.request(
                method, path, timeout=self._timeout, headers=headers, body=body, stream=stream
            )
        except NotConnected as problem:
            raise _NotReached(str(problem)) from None
        except HttpError as problem:
            if stream is None or stream.headers is None or not stream.is_whole:
                raise PeerError(str(problem)) from None
        self._reached = time.monotonic()
        if stream is not None and stream.headers is not None:
            status, found = stream.reply()
            return Reply(status, found, stream.headers, in_stream=True)
        try:
            decoded = json.loads(answer.body)
        except (ValueError, RecursionError):
            why = f"status {answer.status}, and not JSON"
            raise PeerError(why, reached=True, status=answer.status) from None
        if not isinstance(decoded, dict):
            raise PeerError(f"status {answer.status}, and not a JSON object", reached=True)
        return Reply(answer.status, decoded, answer.headers)

    def close(self) -> None:
        self._client.close()


class _NotReached(PeerError):
    """No connection was made."""


class Peers:
    """Both peers, checked once for all agents of the container."""

    def __init__(self, gateway: Peer, proxy: Peer, heartbeat_file: str) -> None:
        self.gateway, self.proxy = gateway, proxy
        self._file = Path(heartbeat_file)
        self._available = asyncio.Event()
        self._suspect = asyncio.Event()

    @property
    def available(self) -> bool:
        return self._available.is_set()

    async def ready(self) -> None:
        """Wait until both are available."""
        await self._available.wait()

    def mark_suspect(self) -> None:
        """After a failed call: agents wait until both peers have answered again."""
        self._available.clear()
        self._suspect.set()

    async def watch(self) -> None:
        """Probe silent peers forever, with backoff while one is away.

        The heartbeat file is touched while the event loop runs and both peers are available, and
        removed when one has been away for long: its age shows the container's health.
        """
        failures = 0
        while True:
            suspected = self._suspect.is_set()
            self._suspect.clear()
            found = await asyncio.gather(
                *(
                    peer.probe()
                    if suspected or not self.available or peer.away() > _QUIET_SECONDS
                    else _yes()
                    for peer in (self.gateway, self.proxy)
                )
            )
            if all(found):
                # An agent may have failed since; its suspicion is checked first.
                if not self._suspect.is_set():
                    self._available.set()
                failures, wait = 0, TOUCH_SECONDS
            else:
                if failures == 0:
                    fields = logs.fields(gateway=found[0], proxy=found[1])
                    _log.warning("waiting for peers", extra=fields)
                self._available.clear()
                wait = backoff(failures)
                failures += 1
            self._beat()
            await asyncio.sleep(_BETWEEN_PROBES_SECONDS)
            if not failures:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._suspect.wait(), wait)
            else:
                # A suspect peer does not shorten the backoff.
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
