"""The HTTP side of runs: POST, GET and DELETE /run, and the long poll POST /agents/next."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ape_contracts.run_document import RunDocumentError, parse
from ape_gateway.masking import Mask
from ape_gateway.report_desk import ReportDesk
from ape_gateway.result_routes import has_control
from ape_gateway.runs import WAIT, Answer, RunActive, Runs

# Below the timeout of agents for their requests. Not the same for all, who came together.
POLL_SECONDS = (15.0, 20.0)
_SLOT = "slot: must be the number of an agent, from 1 to {}."


class RunDesk:
    """Agents that wait for an order, and the timer of the next one.

    A poll holds a connection and nothing else: no memory permit, and it is not in flight. `mask`
    gets the secrets of the users.
    """

    def __init__(self, runs: Runs, mask: Mask) -> None:
        self.runs, self.mask = runs, mask
        self._polls: dict[int, asyncio.Future[Answer]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def pump(self) -> None:
        """Give out the orders that are due, and look when there may be more."""
        self._give_out(self.runs.tick())
        self.close()
        self._wake_within(self.runs.next_tick())

    def _give_out(self, orders: dict[int, Answer]) -> None:
        for slot, order in orders.items():
            poll = self._polls.pop(slot, None)
            if poll is not None and not poll.done():
                poll.set_result(order)

    def _wake_within(self, seconds: float | None) -> None:
        """Pump then, if not sooner."""
        loop, timer = asyncio.get_running_loop(), self._timer
        if seconds is None or (timer is not None and timer.when() <= loop.time() + seconds):
            return
        self.close()
        self._timer = loop.call_later(seconds, self.pump)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def order(self, slot: int, gone: Callable[[], Any]) -> Answer:
        """The order for an agent, within POLL_SECONDS. `gone` returns when it waits no longer."""
        if (before := self._polls.pop(slot, None)) is not None and not before.done():
            # Its agent was replaced, or lost its connection.
            before.set_result(WAIT)
        answer = self.runs.ask(slot)
        # Others may have got theirs, or be due sooner. Not all are looked at again.
        self._give_out(self.runs.take())
        self._wake_within(self.runs.next_tick((slot,)))
        if answer is not None:
            return answer
        poll: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._polls[slot] = poll
        leaving = asyncio.ensure_future(gone())
        try:
            seconds = random.uniform(*POLL_SECONDS)  # noqa: S311 - jitter
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait((poll, leaving), timeout=seconds, return_when=first)
        finally:
            leaving.cancel()
            if self._polls.get(slot) is poll:
                del self._polls[slot]
                if not poll.done():
                    poll.set_result(self.runs.withdraw(slot))
        return poll.result()

    def reported(self, report: dict[str, Any]) -> dict[str, Any]:
        """Take a report that was checked and counted; what its answer has of the run."""
        ended = [(s["slot"], s.get("run"), s.get("session")) for s in report.get("sessions") or ()]
        self.runs.reported(report["agents"], ended)
        run = self.runs.abort_run
        return {} if run is None else {"abort_run": run}


def routes(desk: RunDesk, reports: ReportDesk, key: str, max_slot: int) -> list[Route]:
    """`key`: see GatewaySettings.report_key_file; `max_slot`: see GatewaySettings.max_agents."""

    async def lead(request: Request) -> Response:
        lease = request.query_params.get("lease")
        reads = request.method in ("GET", "HEAD")
        if not (reads and lease is None) and not _may_lead(key, request):
            message = "Runs need the control token of the stack as a bearer token."
            return _error(401, "unauthorized", message)
        if request.method == "POST":
            try:
                document = parse(await request.body())
                desk.runs.begin(document)
                desk.mask.secrets = document.users.secrets() if document.users else ()
            except RunDocumentError as problem:
                return _error(422, "bad_request", str(problem))
            except RunActive:
                message = "A run is going on. Wait for its end, or end it with DELETE /run."
                return _error(409, "run_active", message)
        elif request.method == "DELETE":
            desk.runs.stop()
        elif lease is not None:
            desk.runs.renew(lease)
        desk.pump()
        status = 201 if request.method == "POST" else 200
        return JSONResponse(desk.runs.status(), status)

    async def following(request: Request) -> Response:
        slot = _slot(await request.body())
        if type(slot) is not int or not 1 <= slot <= max_slot:
            return _error(422, "bad_request", _SLOT.format(max_slot))
        refusal = reports.refusal(request.headers.get("authorization", ""), slot)
        if refusal is not None:
            return JSONResponse(refusal[1], refusal[0])
        return JSONResponse(await desk.order(slot, request.receive))

    return [
        Route("/run", lead, methods=["GET", "POST", "DELETE"]),
        Route("/agents/next", following, methods=["POST"]),
    ]


def _may_lead(key: str, request: Request) -> bool:
    return has_control(key, request.headers.get("authorization", ""))


def _slot(body: bytes) -> Any:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return given.get("slot") if isinstance(given, dict) else None


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": code, "message": message}, status)
