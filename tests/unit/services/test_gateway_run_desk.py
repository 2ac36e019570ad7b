"""POST, GET and DELETE /run, and the long poll of agents."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from ape_contracts.gateway_config import load
from ape_contracts.report_token import control, sign
from ape_gateway import run_desk
from ape_gateway.app import make_app
from ape_gateway.fleet import Fleet
from ape_gateway.masking import Mask
from ape_gateway.report_desk import ReportDesk
from ape_gateway.run_desk import RunDesk
from ape_gateway.runs import Runs
from tests.unit.services.conftest import Client, Serve

pytestmark = pytest.mark.unit
KEY = "key-of-the-stack"
RUN = {
    "id": "r1",
    "executor": "closed",
    "stages": [{"seconds": 60, "start": 2, "end": 2}],
    "scenarios": [{"name": "default"}],
}
LEADS = {"Authorization": f"Bearer {control(KEY)}"}
AGENTS = {"Authorization": f"Bearer {sign(KEY, 1, 4, 4)}"}
Make = Callable[..., Awaitable[Client]]


@pytest.fixture
def gateway(serve: Serve) -> Make:
    async def made(
        *, key: str = KEY, idle: bool = True, target: str = "http://127.0.0.1:9"
    ) -> Client:
        config = load(json.dumps({"routes": {"shop": {"base_url": target}}}))
        return await serve(make_app(config, report_key=key, idle=idle, max_agents=100))

    return made


async def asked(client: Client, method: str, path: str, body: Any = None, **kwargs: Any) -> Any:
    async with client.request(method, path, json=body, **kwargs) as answer:
        return answer.status, await answer.json()


async def next_of(client: Client, slot: Any, headers: Any = AGENTS) -> Any:
    return await asked(client, "POST", "/agents/next", {"slot": slot}, headers=headers)


async def until_idle(client: Client, agents: int) -> None:
    while (await asked(client, "GET", "/run"))[1]["idle"] < agents:
        await asyncio.sleep(0.005)


async def test_run_is_begun_watched_and_stopped_with_the_control_token(gateway: Make) -> None:
    client = await gateway()
    assert (await asked(client, "GET", "/run"))[1]["state"] == "none"
    status, body = await asked(client, "POST", "/run", RUN, headers=LEADS)
    assert (status, body["id"], body["state"]) == (201, "r1", "running")
    status, body = await asked(client, "POST", "/run", RUN, headers=LEADS)
    assert (status, body["error"]) == (409, "run_active")
    status, body = await asked(client, "GET", "/run?lease=r1", headers=LEADS)
    assert (status, body["state"], body["target"]) == (200, "running", 2)
    status, body = await asked(client, "DELETE", "/run", headers=LEADS)
    assert (status, body["state"], body["why_ended"]) == (200, "ended", "stopped")


async def test_lease_is_renewed_by_who_names_the_run(serve: Serve) -> None:
    now = [0.0]
    registry = CollectorRegistry()
    reports = ReportDesk(Fleet(registry, 1), "", registry)
    desk = RunDesk(Runs(lambda: now[0]), Mask())
    client = await serve(Starlette(routes=run_desk.routes(desk, reports, "", 10)))
    await asked(client, "POST", "/run", RUN | {"lease_seconds": 10})
    for path in ("/run?lease=r1", "/run?lease=r1", "/run?lease=r2", "/run"):
        now[0] += 6
        _, body = await asked(client, "GET", path)
    assert (body["state"], body["why_ended"], body["elapsed_seconds"]) == ("ended", "lease", 24)
    desk.close()


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/run"), ("DELETE", "/run"), ("GET", "/run?lease=r1")]
)
async def test_run_is_not_for_agents(gateway: Make, method: str, path: str) -> None:
    client = await gateway()
    for headers in ({}, AGENTS, {"Authorization": "Bearer é"}, {"Authorization": control(KEY)}):
        status, body = await asked(client, method, path, RUN, headers=headers)
        assert (status, body["error"]) == (401, "unauthorized")
    assert (await asked(client, "GET", "/run"))[1]["state"] == "none"


async def test_document_that_breaks_a_rule_is_refused_with_its_path(gateway: Make) -> None:
    client = await gateway(key="")
    status, body = await asked(client, "POST", "/run", RUN | {"executor": "both"})
    assert (status, body["error"]) == (422, "bad_request")
    assert body["message"].startswith("executor: must be one of closed, open")


async def test_agent_asks_for_its_own_slots_only(gateway: Make) -> None:
    client = await gateway(idle=False)
    assert await next_of(client, 4) == (200, {"free": True})
    assert (await next_of(client, 5))[0] == 403
    assert (await next_of(client, 4, headers={}))[0] == 401
    assert (await next_of(client, 4, headers=LEADS))[0] == 401
    for slot in (0, 101, True, "1", None, 1.0):
        assert (await next_of(client, slot))[0] == 422
    async with client.post("/agents/next", data=b"[", headers=AGENTS) as answer:
        assert answer.status == 422
    async with client.post("/agents/next", data=b" " * 5000, headers=AGENTS) as answer:
        assert answer.status == 413


async def test_waiting_agents_get_their_sessions_when_a_run_begins(gateway: Make) -> None:
    client = await gateway()
    polls = [asyncio.create_task(next_of(client, slot)) for slot in (1, 2, 3)]
    await until_idle(client, 3)
    # A poll holds nothing of what requests to the target share.
    metrics = await (await client.get("/metrics")).text()
    assert "ape_gateway_in_flight_requests 0.0" in metrics
    await asked(client, "POST", "/run", RUN, headers=LEADS)
    first, second = await asyncio.gather(*polls[:2])
    assert not polls[2].done()
    assert first[1]["start"]["session"] == 0
    assert second[1]["start"] | {"session": 0} == {
        "run": "r1",
        "session": 0,
        "scenario": first[1]["start"]["scenario"],
        "phase": "main",
        "user": None,
        "secret": [],
        "seed": None,
        "late_seconds": 0,
        "full": [],
        "pause": True,
    }
    await asked(client, "DELETE", "/run", headers=LEADS)
    polls[2].cancel()


async def test_open_run_wakes_a_waiting_agent_at_the_arrival(gateway: Make) -> None:
    client = await gateway()
    poll = asyncio.create_task(next_of(client, 1))
    await until_idle(client, 1)
    stages = [{"seconds": 60, "start": 5, "end": 5}]
    began = time.monotonic()
    await asked(client, "POST", "/run", RUN | {"executor": "open", "stages": stages}, headers=LEADS)
    assert (await poll)[1]["start"]["session"] == 0
    _, body = await next_of(client, 1)
    assert body["start"]["session"] == 1
    assert body["start"]["late_seconds"] < 0.1
    assert time.monotonic() - began == pytest.approx(0.2, abs=0.1)


async def test_agent_that_comes_later_is_woken_when_the_ramp_reaches_it(gateway: Make) -> None:
    client = await gateway()
    stages = [{"seconds": 20, "start": 0, "end": 200}]
    began = time.monotonic()
    await asked(client, "POST", "/run", RUN | {"stages": stages}, headers=LEADS)
    # The fourth is not needed before 0.3 s.
    slots = [asyncio.create_task(next_of(client, slot)) for slot in (1, 2, 3, 4)]
    await asyncio.gather(*slots)
    assert 0.29 < time.monotonic() - began < 0.6


async def test_poll_ends_by_itself(gateway: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_desk, "POLL_SECONDS", (0.02, 0.03))
    client = await gateway()
    assert await next_of(client, 1) == (200, {"idle": True})
    await asked(client, "POST", "/run", RUN | {"drain_seconds": 0}, headers=LEADS)
    for slot in (1, 2):
        assert "start" in (await next_of(client, slot))[1]
    assert await next_of(client, 3) == (200, {"wait": True})


async def test_agent_that_left_gets_no_session(gateway: Make) -> None:
    client = await gateway()
    poll = asyncio.create_task(next_of(client, 1))
    await until_idle(client, 1)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    await asyncio.sleep(0.02)
    # Its own poll again, in place of one that nobody reads.
    polls = [asyncio.create_task(next_of(client, 2)) for _ in range(2)]
    done, left = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
    assert [poll.result() for poll in done] == [(200, {"wait": True})]
    stages = [{"seconds": 60, "start": 1, "end": 1}]
    document = RUN | {"executor": "open", "stages": stages}
    await asked(client, "POST", "/run", document, headers=LEADS)
    (found,) = await asyncio.gather(*left)
    assert found[1]["start"]["session"] == 0
    assert (await asked(client, "GET", "/run"))[1]["active"] == 1


async def test_secret_of_a_user_in_a_path_is_in_no_log_and_no_result(
    gateway: Make, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    target = await serve(web.Application())
    client = await gateway(target=str(target.make_url("")).rstrip("/"))
    users = {"columns": ["pin"], "rows": [["1 2x"]], "secret": ["pin"], "mode": "shared"}
    await asked(client, "POST", "/run", RUN | {"users": users}, headers=LEADS)
    headers = {"X-APE-Run": "r1/default/main"}
    call = {"api_name": "shop", "method": "GET"}
    for path in ("/pins/1%202x/more", "/run"):
        await asked(client, "POST", "/mcp/request", call | {"path": path}, headers=headers)
    _, body = await asked(client, "GET", "/results", headers=LEADS)
    endpoints = {each["endpoint"] for each in body["requests"]}
    assert endpoints == {"/pins/{secret}/more", "/run"}
    await asked(client, "DELETE", "/run", headers=LEADS)
    await client.close()
    said = capsys.readouterr().out
    assert "/pins/{secret}/more" in said
    assert "2x" not in said


async def test_report_names_the_run_whose_sessions_are_to_end(gateway: Make) -> None:
    client = await gateway()
    document = RUN | {"drain_seconds": 0, "graceful_stop_seconds": 0}
    await asked(client, "POST", "/run", document, headers=LEADS)
    assert "start" in (await next_of(client, 1))[1]
    report = {"source": "a", "number": 1, "agents": [[1, "running"]], "memory_bytes": 1}
    _, body = await asked(client, "POST", "/agents/report", report, headers=AGENTS)
    assert "abort_run" not in body
    await asked(client, "DELETE", "/run", headers=LEADS)
    done = {"slot": 1, "result": "failure", "reason": "aborted", "seconds": 1, "steps": 1}
    of_run = {"run": "r1", "session": 0, "scenario": "default", "phase": "main", "late": 0}
    _, body = await asked(client, "POST", "/agents/report", report, headers=AGENTS)
    assert body["abort_run"] == "r1"
    report |= {"number": 2, "sessions": [done | of_run]}
    await asked(client, "POST", "/agents/report", report, headers=AGENTS)
    _, body = await asked(client, "GET", "/run")
    assert (body["state"], body["active"], body["ended"]) == ("ended", 0, 1)


async def test_gateway_that_stops_answers_the_polls(gateway: Make) -> None:
    client = await gateway()
    poll = asyncio.create_task(next_of(client, 1))
    await until_idle(client, 1)
    began = time.monotonic()
    await client.server.close()
    assert await poll == (200, {"idle": True})
    assert time.monotonic() - began < 1
