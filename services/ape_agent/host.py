"""The container: its agents on one event loop, their peers watched and their results sent once."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
from contextlib import suppress
from typing import Any

from ape_agent.agent import Agent
from ape_agent.ledger import ReportQueue
from ape_agent.peers import Peer, PeerError, Peers
from ape_agent.settings import Settings
from ape_service import logs, trace
from ape_service.pacing import backoff

# Of the stop grace, what is kept for the last report.
REPORT_SECONDS = 2.0
MAX_PACE_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Host:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._ledger = ReportQueue()
        self._trace_id = trace.new_trace_id()
        timeout = settings.request_timeout
        token = settings.proxy_token
        self._peers = Peers(
            Peer(settings.gateway_url, timeout),
            Peer(
                settings.proxy_url, timeout, {"Authorization": f"Bearer {token}"} if token else None
            ),
            settings.heartbeat_file,
        )
        self._learning = asyncio.Lock()
        self._learned: list[dict[str, Any]] | None = settings.endpoints or None
        self._agents = [
            Agent(slot, settings, self._peers, self._ledger, self._briefing, self._stop)
            for slot in settings.slots
        ]

    def stop(self) -> None:
        """End, within the stop grace."""
        self._stop.set()

    async def run(self) -> None:
        """Live until `stop`."""
        logs.trace_id.set(self._trace_id)
        helpers = [asyncio.create_task(work) for work in (self._peers.watch(), self._report())]
        agents = [asyncio.create_task(agent.run()) for agent in self._agents]
        stopped = asyncio.create_task(self._stop.wait())
        # Without the stop nothing ends but by a fault of ours, which must not go on silently.
        await asyncio.wait((stopped, *helpers, *agents), return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set():
            grace = max(0.0, self._settings.stop_grace - 2 * REPORT_SECONDS)
            await asyncio.wait(agents, timeout=grace)
        tasks = (stopped, *helpers, *agents)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError, PeerError):
            async with asyncio.timeout(REPORT_SECONDS):
                await self._send()
                while not self._ledger.empty:
                    await self._send()
        self._peers.close()
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    async def _briefing(self) -> list[dict[str, Any]]:
        """The endpoints: the settings' or, where they have none, the gateway's, asked for once."""
        await self._peers.ready()
        async with self._learning:
            attempt = 0
            while self._learned is None:
                with suppress(PeerError):
                    reply = await self._peers.gateway.get("/tools")
                    if reply.status == 200:
                        self._learned = endpoints_of(reply.body, self._settings.api)
                        if not self._learned:
                            _log.warning("the gateway names no endpoints; the model has the goal")
                        break
                await asyncio.sleep(backoff(attempt))
                attempt += 1
        return self._learned or []

    async def _report(self) -> None:
        """Forever: who is here and what was done, as often as the gateway asks for."""
        failures = 0
        while True:
            try:
                pace = await self._send()
                failures = 0
                if self._ledger.behind:
                    continue
            except PeerError:
                pace = backoff(failures, base=self._settings.pace)
                failures += 1
            await asyncio.sleep(pace * random.uniform(0.9, 1.0))  # noqa: S311 - jitter

    async def _send(self) -> float:
        """Send one report; returns the seconds until the next. Raises PeerError."""
        batch = self._ledger.batch()
        reply = await self._peers.gateway.post(
            "/agents/report",
            {
                "source": self._ledger.source,
                "memory_bytes": resident_bytes(),
                "agents": [[agent.slot, agent.state] for agent in self._agents],
                **batch,
            },
            self._trace_id,
            patient=False,
        )
        if reply.status not in (200, 413, 422):
            raise PeerError(f"status {reply.status}")
        if reply.status != 200:
            # The gateway will never take it; kept, it would block what follows.
            _log.error("report refused", extra=logs.fields(status=reply.status))
        self._ledger.acknowledge()
        wanted = reply.body.get("report_after_seconds")
        if isinstance(wanted, int | float) and 0.1 <= wanted <= MAX_PACE_SECONDS:
            return float(wanted)
        return self._settings.pace


def endpoints_of(tools: dict[str, Any], api: str) -> list[dict[str, Any]]:
    """The endpoints of route `api` in the gateway's GET /tools, one a method and path."""
    found = tools.get("tools")
    return [
        {"method": method, "path": endpoint["path"], "description": endpoint.get("description", "")}
        for tool in (found if isinstance(found, list) else [])
        if tool.get("api") == api
        for endpoint in tool.get("endpoints") or []
        for method in endpoint.get("methods") or ["GET"]
    ]


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
