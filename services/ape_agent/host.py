"""The agents of a container: one event loop, one check of the peers, one sender of reports."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any
from urllib.parse import urlencode

from ape_agent.agent import Agent
from ape_agent.ledger import ReportQueue
from ape_agent.orders import Orders
from ape_agent.peers import Peer, PeerError, Peers
from ape_agent.supplied import authorization, carried
from ape_agent.tools import MAX_TYPED, Toolbox
from ape_contracts import operations
from ape_contracts.service_settings import AgentSettings
from ape_service import logs, trace
from ape_service.pacing import backoff

# The part of the stop grace that is reserved for the last report.
REPORT_SECONDS = 2.0
MAX_INTERVAL_SECONDS = 10.0
# Of a gateway without operations, or without the route.
_UNKNOWN = (404, 405, 422)
# Besides the first: of scenarios.
_MAX_TOOLBOXES = 50
# A URL has at most 8 KB.
_ASKED_AT_ONCE = 20
_log = logging.getLogger(__name__)


class Host:
    """`token` is what the agents present to the proxy, `report_token` what signs their reports to

    the gateway; empty: nothing. `credentials`: of each agent, for its sign-in, or none.
    """

    def __init__(
        self,
        settings: AgentSettings,
        token: str = "",
        report_token: str = "",
        credentials: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._signature = {"Authorization": f"Bearer {report_token}"} if report_token else None
        self._queue = ReportQueue()
        self._trace_id = trace.new_trace_id()
        self._peers = Peers(
            Peer(settings.gateway_url, settings.request_timeout_seconds),
            Peer(
                settings.proxy_url,
                settings.model_timeout_seconds,
                {"Authorization": f"Bearer {token}"} if token else None,
            ),
            settings.heartbeat_file,
        )
        self._toolbox_lock = asyncio.Lock()
        # By the operations of scenarios; None: all.
        self._toolboxes: dict[str | None, Toolbox] = {}
        orders = Orders(self._peers.gateway, self._signature, self._trace_id)
        self._first_credentials = credentials[0] if credentials else {}
        self._agents = [
            Agent(slot, settings, self._peers, self._queue, self._toolbox, self._stop, orders, each)
            for slot, each in zip_longest(settings.slots, credentials)
        ]

    def stop(self) -> None:
        """Stop within the stop grace."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`."""
        logs.trace_id.set(self._trace_id)
        helpers = [asyncio.create_task(work) for work in (self._peers.watch(), self._report())]
        agents = [asyncio.create_task(agent.run()) for agent in self._agents]
        stopped = asyncio.create_task(self._stop.wait())
        # Without the stop, a task ends only because of a bug, which must not stay unnoticed.
        await asyncio.wait((stopped, *helpers, *agents), return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set():
            grace = max(0.0, self._settings.stop_grace_seconds - 2 * REPORT_SECONDS)
            await asyncio.wait(agents, timeout=grace)
        tasks = (stopped, *helpers, *agents)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError, PeerError):
            async with asyncio.timeout(REPORT_SECONDS):
                await self._send()
                while not self._queue.empty:
                    await self._send()
        self._peers.close()
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    async def _toolbox(self, scenario: Mapping[str, Any] | None = None) -> Toolbox:
        """The tools of a scenario, or of every session. The gateway is asked once: for operations,

        and for endpoints if it has none and the settings name none.
        """
        await self._peers.ready()
        only = [(str(m), str(p)) for m, p in scenario["operations"]] if scenario else None
        key = None if only is None else json.dumps(only)
        async with self._toolbox_lock:
            attempt = 0
            while key not in self._toolboxes:
                try:
                    made = await toolbox(
                        self._settings, self._peers.gateway, self._first_credentials, only
                    )
                except PeerError:
                    await asyncio.sleep(backoff(attempt))
                    attempt += 1
                    continue
                if len(self._toolboxes) > _MAX_TOOLBOXES:
                    # Those of an earlier run; the first one is always needed.
                    del self._toolboxes[list(self._toolboxes)[1]]
                self._toolboxes[key] = made
            return self._toolboxes[key]

    async def _report(self) -> None:
        """Report agents and results forever, at the interval that the gateway asks for."""
        failures = 0
        while True:
            try:
                interval = await self._send()
                failures = 0
                if self._queue.has_backlog:
                    continue
            except PeerError:
                interval = backoff(failures, base=self._settings.report_seconds)
                failures += 1
            await asyncio.sleep(interval * random.uniform(0.9, 1.0))  # noqa: S311 - jitter

    async def _send(self) -> float:
        """Send one report; returns the seconds until the next. Raises PeerError."""
        batch = self._queue.batch()
        reply = await self._peers.gateway.post(
            "/agents/report",
            {
                "source": self._queue.source,
                "memory_bytes": resident_bytes(),
                "agents": [[agent.slot, agent.state] for agent in self._agents],
                **batch,
            },
            self._trace_id,
            headers=self._signature,
            retry=False,
        )
        if reply.status not in (200, 413, 422):
            raise PeerError(f"status {reply.status}")
        if reply.status != 200:
            # The gateway will never accept it; kept, it would block the following reports.
            _log.error("report rejected", extra=logs.fields(status=reply.status))
        self._queue.acknowledge()
        if isinstance(run := reply.body.get("abort_run"), str):
            for agent in self._agents:
                agent.abort(run)
        wanted = reply.body.get("report_after_seconds")
        if isinstance(wanted, int | float) and 0.1 <= wanted <= MAX_INTERVAL_SECONDS:
            return float(wanted)
        return self._settings.report_seconds


async def toolbox(
    settings: AgentSettings,
    gateway: Peer,
    credentials: Mapping[str, str] | None = None,
    only: Sequence[tuple[str, str]] | None = None,
) -> Toolbox:
    """The tools for these settings, by what the gateway knows. Raises PeerError.

    `credentials`: for a target that lists its tools only to those who have signed in. `only`:
    methods and paths of a scenario; None: all that there are.
    """
    supplied = carried(settings.sign_in)
    known = await authorization(settings.sign_in, credentials or {})
    headers = {"Authorization": known} if known else None
    reply = await _asked(gateway, f"/operations?{urlencode({'api': settings.api})}", headers)
    count = reply.get("count")
    if isinstance(count, int) and count > 0:
        try:
            given = reply.get("operations") if count <= MAX_TYPED else None
            if only is not None:
                given = given or await _operations_of(settings.api, gateway, only)
            found = operations.of({"operations": given or []}).operations
            if only is not None:
                found = tuple(each for each in found if (each.method, each.path) in only)
                count = len(found)
            if count:
                return Toolbox(
                    settings,
                    operations=found,
                    count=count,
                    supplied=supplied,
                    sessions=reply.get("sessions") is True,
                )
        except operations.OperationsError as problem:
            _log.error("operations", extra=logs.fields(error=str(problem)[:200]))
    endpoints = settings.endpoints
    if not endpoints:
        endpoints = endpoints_of(await _asked(gateway, "/tools"), settings.api)
        if not endpoints:
            _log.warning("the gateway names no endpoints")
    return Toolbox(settings, endpoints if only is None else _chosen(endpoints, only))


async def _operations_of(
    api: str, gateway: Peer, only: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Operations of a document that is too large to be listed. Raises PeerError."""
    found: list[dict[str, Any]] = []
    for at in range(0, len(only), _ASKED_AT_ONCE):
        named = "\n".join(f"{m} {p}" for m, p in only[at : at + _ASKED_AT_ONCE])
        reply = await _asked(gateway, f"/operations?{urlencode({'api': api, 'only': named})}")
        found += reply.get("operations") or []
    return found


def _chosen(
    endpoints: list[dict[str, Any]], only: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """The endpoints of a scenario, in their order, and then those that were not known."""
    known = [each for each in endpoints if (each["method"], each["path"]) in only]
    names = {(each["method"], each["path"]) for each in known}
    return known + [{"method": m, "path": p} for m, p in only if (m, p) not in names]


async def _asked(
    gateway: Peer, path: str, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The gateway's answer; empty if it has none of that kind. Raises PeerError."""
    try:
        reply = await gateway.get(path, headers)
    except PeerError as problem:
        if problem.status in _UNKNOWN:
            return {}
        raise
    if reply.status in _UNKNOWN:
        return {}
    if reply.status != 200:
        raise PeerError(f"status {reply.status}", reached=True)
    return reply.body


def endpoints_of(tools: dict[str, Any], api: str) -> list[dict[str, Any]]:
    """The endpoints of route `api` in the gateway's GET /tools, one for each method and path."""
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
