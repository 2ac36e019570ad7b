"""The agent's life: wait for its peers, hold sessions, report, stop when told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import aiohttp
from ape_common import logs, trace
from ape_common.pacing import backoff, startup_delay

from ape_agent.peers import Peer, PeerError
from ape_agent.session import Outcome, Session
from ape_agent.settings import Settings

# A peer away for longer makes the agent unhealthy: it stops touching its heartbeat file.
AWAY_SECONDS = 30.0
TOUCH_SECONDS = 5.0
MAX_KEPT, MAX_BATCH = 1000, 50
# Of the stop grace, what is kept for the last report.
REPORT_SECONDS = 2.0
_BEGIN_AGAIN_AFTER = ("gateway_error", "model_error")
_log = logging.getLogger(__name__)


class Agent:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._state = "waiting"
        self._kept: deque[Outcome] = deque(maxlen=MAX_KEPT)
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._trace_id = trace.new_trace_id()

    def stop(self) -> None:
        """End, within the stop grace."""
        self._stop.set()

    async def run(self) -> None:
        """Live until `stop`."""
        logs.trace_id.set(self._trace_id)
        settings = self._settings
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as http:
            self._gateway = Peer(http, settings.gateway_url, settings.request_timeout)
            self._proxy = Peer(
                http, settings.proxy_url, settings.request_timeout, settings.proxy_headers
            )
            helpers = [
                asyncio.create_task(work) for work in (self._touch(), self._beat(), self._deliver())
            ]
            work = asyncio.create_task(self._work())
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                grace = max(0.0, settings.stop_grace - 2 * REPORT_SECONDS)
                await asyncio.wait((work,), timeout=grace)
            stopped.cancel()
            for task in (work, *helpers):
                task.cancel()
            ended = await asyncio.gather(work, *helpers, return_exceptions=True)
            with suppress(TimeoutError, PeerError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._send_kept()
            if isinstance(ended[0], Exception):
                raise ended[0]

    def _enter(self, state: str) -> None:
        """Change the state; the next heartbeat tells of it at once."""
        if state != self._state:
            self._state = state
            self._changed.set()

    async def _pause(self, seconds: float) -> None:
        """Sleep, or wake at the stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _ready(self) -> None:
        """Wait until gateway and proxy are there, or the stop."""
        attempt = 0
        while not self._stop.is_set():
            there = await asyncio.gather(self._gateway.probe(), self._proxy.probe())
            if all(there):
                return
            self._enter("waiting")
            if attempt == 0:
                _log.warning("waiting", extra=logs.fields(gateway=there[0], proxy=there[1]))
            await self._pause(backoff(attempt))
            attempt += 1

    async def _work(self) -> None:
        settings = self._settings
        await self._ready()
        await self._pause(
            startup_delay(settings.slot, settings.start_delay_seed, settings.start_delay_max)
        )
        begun = time.monotonic()
        troubles = 0
        while not self._stop.is_set():
            if 0 < settings.test_duration <= time.monotonic() - begun:
                break
            self._enter("running")
            session = Session(settings, self._gateway, self._proxy)
            outcome = await session.run()
            self._note(outcome)
            if outcome.reason == "aborted":
                return
            if outcome.reason in _BEGIN_AGAIN_AFTER:
                await self._pause(backoff(troubles))
                troubles += 1
                await self._ready()
            else:
                troubles = 0
                # Never zero: a target that fails at once must not make us spin.
                await self._pause(max(settings.think_time, 0.01))
        if not self._stop.is_set():
            _log.info("test is over")
            self._enter("finished")
            await self._stop.wait()

    def _note(self, outcome: Outcome) -> None:
        _log.info("session", extra=logs.fields(**outcome.report()))
        logs.trace_id.set(self._trace_id)
        self._kept.append(outcome)
        self._news.set()

    async def _touch(self) -> None:
        path = Path(self._settings.heartbeat_file)
        while True:
            if max(self._gateway.away(), self._proxy.away()) < AWAY_SECONDS:
                try:
                    path.touch()
                except OSError as problem:
                    _log.error("heartbeat file", extra=logs.fields(error=problem.strerror))
            await asyncio.sleep(TOUCH_SECONDS if path.exists() else 0.5)

    async def _beat(self) -> None:
        """Heartbeats to the gateway; a word with the proxy where the sessions had none."""
        while True:
            self._changed.clear()
            state = "stopping" if self._stop.is_set() else self._state
            body = {"agent": self._settings.name, "slot": self._settings.slot, "state": state}
            with suppress(PeerError):
                await self._gateway.post("/agents/heartbeat", body, self._trace_id, patient=False)
            if self._proxy.away() > self._settings.heartbeat:
                await self._proxy.probe()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._settings.heartbeat)

    async def _deliver(self) -> None:
        """Hand finished sessions to the gateway, soon after each; keep them while it is away."""
        attempt = 0
        while True:
            await self._news.wait()
            self._news.clear()
            while self._kept:
                try:
                    await self._send_kept()
                    attempt = 0
                except PeerError:
                    await asyncio.sleep(backoff(attempt))
                    attempt += 1

    async def _send_kept(self) -> None:
        """Send all there is, in batches. Raises PeerError; then they are kept."""
        while self._kept:
            batch = list(self._kept)[:MAX_BATCH]
            reply = await self._gateway.post(
                "/agents/sessions",
                {
                    "agent": self._settings.name,
                    "slot": self._settings.slot,
                    "sessions": [outcome.report() for outcome in batch],
                },
                self._trace_id,
                patient=False,
            )
            if reply.status not in (200, 413, 422):
                raise PeerError(f"status {reply.status}")
            if reply.status != 200:
                # The gateway will never take it; kept, it would block what follows.
                _log.error("report refused", extra=logs.fields(status=reply.status))
            # The bounded deque may have dropped some of the batch meanwhile.
            for outcome in batch:
                with suppress(ValueError):
                    self._kept.remove(outcome)
