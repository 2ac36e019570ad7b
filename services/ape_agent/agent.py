"""One agent's life: wait for its peers, hold sessions, until the test is over or it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from ape_agent.ledger import ReportQueue
from ape_agent.peers import Peers
from ape_agent.session import Session
from ape_agent.settings import Settings
from ape_service.pacing import backoff, startup_delay

_BEGIN_AGAIN_AFTER = ("gateway_error", "model_error")
EndpointProvider = Callable[[], Coroutine[Any, Any, list[dict[str, Any]]]]
_T = TypeVar("_T")


class Agent:
    """`briefing` gives the endpoints when the peers are there; `stop` ends the agent."""

    def __init__(
        self,
        slot: int,
        settings: Settings,
        peers: Peers,
        ledger: ReportQueue,
        briefing: EndpointProvider,
        stop: asyncio.Event,
    ) -> None:
        self.slot, self._settings, self._peers = slot, settings, peers
        self._ledger, self._briefing, self._stop = ledger, briefing, stop
        self._state = "waiting"

    @property
    def state(self) -> str:
        """One of names.AGENT_STATES."""
        return "stopping" if self._stop.is_set() else self._state

    async def run(self) -> None:
        """Live until the stop; cancelled in a session, that is over as `aborted`."""
        settings = self._settings
        endpoints = await self._unless_stopped(self._briefing())
        if endpoints is None:
            return
        await self._pause(startup_delay(self.slot, settings.start_delay_seed, settings.ramp))
        begun = time.monotonic()
        troubles = 0
        while not self._stop.is_set():
            if 0 < settings.test_duration <= time.monotonic() - begun:
                self._state = "finished"
                await self._stop.wait()
                return
            self._state = "running"
            outcome = await Session(
                self.slot,
                settings,
                endpoints,
                self._peers.gateway,
                self._peers.proxy,
                self._ledger.step,
            ).run()
            self._ledger.session(outcome)
            if outcome.reason == "aborted":
                return
            if outcome.reason in _BEGIN_AGAIN_AFTER:
                self._state = "waiting"
                await self._pause(backoff(troubles))
                troubles += 1
                self._peers.doubt()
                await self._unless_stopped(self._peers.ready())
            else:
                troubles = 0
                # Never zero: a target that fails at once must not make us spin.
                await self._pause(max(settings.think_time, 0.01))

    async def _pause(self, seconds: float) -> None:
        """Sleep, or wake at the stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What `work` gives; None where the stop comes first."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()
