"""An agent: waits for its peers, and runs sessions until the test ends or it is stopped.

Before each session it asks the gateway: in a run, this decides when the agent acts, and on what.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from ape_agent.ledger import ReportQueue
from ape_agent.orders import FREE, Grant, Orders
from ape_agent.peers import PeerError, Peers
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
# Between two questions of an agent whose test has ended.
_FINISHED_SECONDS = 5.0
# The tools of a scenario; without one, those of sessions outside of runs.
ToolboxProvider = Callable[[Mapping[str, Any] | None], Coroutine[Any, Any, Toolbox]]
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
        orders: Orders,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.slot, self._settings, self._peers = slot, settings, peers
        self._queue, self._toolbox, self._stop = queue, toolbox, stop
        self._orders, self._credentials = orders, credentials
        self._state = "waiting"
        # When the first session outside of runs began.
        self._started: float | None = None
        # The open session of a run, its task, and whether the run cancelled it.
        self._held: tuple[str, Session, asyncio.Task[SessionResult]] | None = None
        self._aborted = False

    @property
    def state(self) -> str:
        """One of metrics.AGENT_STATES."""
        return "stopping" if self._stop.is_set() else self._state

    def abort(self, run: str) -> None:
        """Cancel the session, if it is one of that run."""
        if self._held is not None and self._held[0] == run and not self._held[1].is_over:
            self._aborted = True
            self._held[2].cancel()

    async def run(self) -> None:
        """Run until the stop; a session that is cancelled ends as `aborted`."""
        toolbox = await self._unless_stopped(self._toolbox(None))
        if toolbox is None:
            return
        failures = 0
        while not self._stop.is_set():
            order = await self._order()
            if not isinstance(order, Grant) and (order != FREE or not await self._may_begin()):
                continue
            grant = order if isinstance(order, Grant) else None
            session = await self._session(toolbox, grant)
            if session is None:
                return
            self._state = "running"
            result = await self._result_of(session, grant)
            self._queue.session(result)
            if result.reason == "aborted" and not self._aborted:
                return
            if grant is not None and not self._aborted and result.result != metrics.SUCCESS:
                if result.reason not in grant.full:
                    await self._orders.transcript(grant, result, session.transcript())
            failures = 0 if result.acted else failures
            failures = await self._after(result, grant, failures)

    async def _order(self) -> Grant | str | None:
        """What the gateway answers; None: nothing, or the stop came first."""
        if self._state != "finished":
            self._state = "waiting"
        try:
            return await self._unless_stopped(self._orders.next(self.slot))
        except PeerError as problem:
            if not problem.reached:
                self._peers.mark_suspect()
            await self._pause(backoff(1))
            await self._unless_stopped(self._peers.ready())
            return None

    async def _may_begin(self) -> bool:
        """Whether a session outside of runs may begin now; else it is to be asked again."""
        settings, now = self._settings, time.monotonic()
        if self._started is None:
            delay = startup_delay(self.slot, settings.start_delay_seed, settings.ramp_seconds)
            await self._pause(delay)
            self._started = now + delay
            # A run may have begun.
            return not delay
        if 0 < settings.test_duration_seconds <= now - self._started:
            self._state = "finished"
            await self._pause(_FINISHED_SECONDS)
            return False
        return True

    async def _session(self, toolbox: Toolbox, grant: Grant | None) -> Session | None:
        """None: the stop came first."""
        settings = self._settings
        if grant is not None:
            settings = grant.settings(settings)
            if grant.scenario.get("operations"):
                found = await self._unless_stopped(self._toolbox(grant.scenario))
                if found is None:
                    return None
                toolbox = found
        return Session(
            self.slot,
            settings,
            toolbox,
            self._peers.gateway,
            self._peers.proxy,
            self._queue.step,
            self._credentials,
            grant,
        )

    async def _result_of(self, session: Session, grant: Grant | None) -> SessionResult:
        self._aborted = False
        if grant is None:
            return await session.run()
        task = asyncio.create_task(session.run())
        self._held = (grant.run, session, task)
        try:
            return await task
        finally:
            self._held = None

    async def _after(self, result: SessionResult, grant: Grant | None, failures: int) -> int:
        """Pause after a session; how many failed in a row without a step."""
        pauses = (grant is None or grant.pause) and not self._aborted
        if not fails_again(result) or self._aborted:
            settings = self._settings if grant is None else grant.settings(self._settings)
            # Never zero: a target that fails at once must not cause a busy loop.
            await self._pause(max(settings.think_time_seconds, 0.01) if pauses else 0.0)
            return failures
        self._state = "waiting"
        if pauses:
            await self._pause(self._shortened(pause_after(result, failures), grant))
        if result.unreachable or result.reason == "gateway_error":
            self._peers.mark_suspect()
        await self._unless_stopped(self._peers.ready())
        return failures + 1

    def _shortened(self, pause: float, grant: Grant | None) -> float:
        """At most until the test of sessions outside of runs ends."""
        most = self._settings.test_duration_seconds
        if grant is not None or not most or self._started is None:
            return pause
        return min(pause, most - (time.monotonic() - self._started))

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
