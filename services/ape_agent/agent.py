"""An agent: waits for its peers, and runs sessions until the test ends or it is stopped."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from ape_agent.ledger import ReportQueue
from ape_agent.peers import Peers
from ape_agent.results import SessionResult
from ape_agent.session import Session
from ape_agent.tools import Toolbox
from ape_contracts import metrics
from ape_contracts.service_settings import AgentSettings
from ape_service.pacing import backoff, startup_delay

# Further sessions would fail for the same reason for a while.
_LASTING = ("gateway_error", "model_error", "model_quota")
MAX_PAUSE_SECONDS = 30.0
# Agents that waited for the same moment do not all continue in it.
_SPREAD_SECONDS = 5.0
ToolboxProvider = Callable[[], Coroutine[Any, Any, Toolbox]]
_T = TypeVar("_T")


class Agent:
    """`toolbox` returns the tools once the peers are available; `stop` ends the agent.

    `credentials`: of its sign-in.
    """

    def __init__(
        self,
        slot: int,
        settings: AgentSettings,
        peers: Peers,
        queue: ReportQueue,
        toolbox: ToolboxProvider,
        stop: asyncio.Event,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.slot, self._settings, self._peers = slot, settings, peers
        self._queue, self._toolbox, self._stop = queue, toolbox, stop
        self._credentials = credentials
        self._state = "waiting"

    @property
    def state(self) -> str:
        """One of metrics.AGENT_STATES."""
        return "stopping" if self._stop.is_set() else self._state

    async def run(self) -> None:
        """Run until the stop; a session that is cancelled ends as `aborted`."""
        settings = self._settings
        toolbox = await self._unless_stopped(self._toolbox())
        if toolbox is None:
            return
        delay = startup_delay(self.slot, settings.start_delay_seed, settings.ramp_seconds)
        await self._pause(delay)
        started = time.monotonic()
        failures = 0
        while not self._stop.is_set():
            if 0 < settings.test_duration_seconds <= time.monotonic() - started:
                self._state = "finished"
                await self._stop.wait()
                return
            self._state = "running"
            result = await Session(
                self.slot,
                settings,
                toolbox,
                self._peers.gateway,
                self._peers.proxy,
                self._queue.step,
                self._credentials,
            ).run()
            self._queue.session(result)
            if result.reason == "aborted":
                return
            failures = 0 if result.acted else failures
            if not fails_again(result):
                # Never zero: a target that fails at once must not cause a busy loop.
                await self._pause(max(settings.think_time_seconds, 0.01))
                continue
            self._state = "waiting"
            left = settings.test_duration_seconds - (time.monotonic() - started)
            pause = pause_after(result, failures)
            await self._pause(min(pause, left) if settings.test_duration_seconds else pause)
            failures += 1
            if result.unreachable or result.reason == "gateway_error":
                self._peers.mark_suspect()
            await self._unless_stopped(self._peers.ready())

    async def _pause(self, seconds: float) -> None:
        """Sleep until the stop, at most `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of `work`; None if the stop comes first."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()


def fails_again(result: SessionResult) -> bool:
    """Whether the next session is likely to fail like this one; then the agent waits longer."""
    if result.result == metrics.SUCCESS:
        return False
    return result.reason in _LASTING or not result.acted


def pause_after(result: SessionResult, failures: int) -> float:
    """Seconds until the next session, after `failures` earlier failures in a row without a step."""
    if result.wait_seconds is not None:
        return result.wait_seconds + random.uniform(0.0, _SPREAD_SECONDS)  # noqa: S311 - jitter
    return backoff(failures, cap=MAX_PAUSE_SECONDS)
