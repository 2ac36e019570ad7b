"""Agents of one container: their sessions, reports and end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ape_agent.host import Host
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from tests.support.agent_world import (
    wait_until,
)

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


async def test_agent_and_gateway_count_the_same_sessions_and_a_broken_target_is_a_failure(
    world: Any,
) -> None:
    here = await world()
    host = Host(here.settings)
    running = asyncio.create_task(host.run())

    async def succeeded() -> bool:
        return bool((await here.fleet())["sessions"]["success"] >= 3)

    async def failed() -> bool:
        return bool((await here.fleet())["sessions"]["by_reason"].get("target_error", 0) >= 2)

    await wait_until(succeeded)

    async def seen_running() -> bool:
        return bool((await here.fleet())["by_state"] == {"running": 1})

    await wait_until(seen_running)

    async def touched() -> bool:
        return Path(here.settings.heartbeat_file).exists()

    await wait_until(touched)
    await here.target.put("/_faults", json={"checkout": 500})
    await wait_until(failed)
    host.stop()
    await asyncio.wait_for(running, 6)
    fleet = await here.fleet()
    assert fleet["sessions"]["success"] == await here.orders()
    assert set(fleet["sessions"]["by_reason"]) == {"target_error"}
    text = await (await here.gateway.get("/metrics")).text()
    wanted = f'ape_sessions_total{{reason="goal_met",result="success"}} {await here.orders()}.0'
    assert wanted in text


async def test_stopped_agent_ends_its_session_and_reports_it_within_the_stop_grace(
    world: Any,
) -> None:
    here = await world()
    host = Host(replace(here.settings, think_time_seconds=30.0, stop_grace_seconds=4.5))
    running = asyncio.create_task(host.run())

    async def begun() -> bool:
        text = await (await here.gateway.get("/metrics")).text()
        return "ape_gateway_requests_total{" in text

    await wait_until(begun)
    started = time.monotonic()
    host.stop()
    await asyncio.wait_for(running, 4.5)
    assert time.monotonic() - started < 4.5
    assert (await here.fleet())["sessions"]["by_reason"] == {"aborted": 1}


async def test_agent_stays_without_new_sessions_after_the_test_duration(world: Any) -> None:
    here = await world()
    host = Host(replace(here.settings, test_duration_seconds=0.3))
    running = asyncio.create_task(host.run())

    async def finished() -> bool:
        return bool((await here.fleet())["by_state"] == {"finished": 1})

    await wait_until(finished)
    orders = await here.orders()
    await asyncio.sleep(0.4)
    assert not running.done()
    assert await here.orders() == orders > 0
    host.stop()
    await asyncio.wait_for(running, 3)


@pytest.mark.parametrize("stopped_at_once", [False, True])
async def test_results_are_kept_while_the_gateway_rejects_reports_and_counted_once_afterwards(
    world: Any, serve: Any, stopped_at_once: bool
) -> None:
    here = await world()
    refuse, refused = [True], list[int]()
    numbers: list[int] = []
    app = web.Application()

    async def pass_on(request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/agents/report" and json.loads(body)["sessions"]:
            if refuse[0]:
                refused.append(await here.orders())
                return web.json_response({}, status=503)
            numbers.append(json.loads(body)["number"])
        answer = await here.gateway.request(request.method, request.path, data=body)
        return web.Response(
            body=await answer.read(), status=answer.status, content_type="application/json"
        )

    app.router.add_route("*", "/{rest:.*}", pass_on)
    front = await serve(app)
    url = str(front.make_url("")).rstrip("/")
    host = Host(
        replace(
            here.settings,
            gateway_url=url,
            test_duration_seconds=1.2,
            stop_grace_seconds=4.0 if stopped_at_once else 6.0,
        )
    )
    running = asyncio.create_task(host.run())

    async def ordered() -> bool:
        # More sessions than the first batch had.
        return bool(refused and await here.orders() > refused[0])

    async def delivered() -> bool:
        return bool((await here.fleet())["sessions"]["success"] == await here.orders())

    await wait_until(ordered)
    assert (await here.fleet())["sessions"]["success"] == 0
    refuse[0] = False
    if not stopped_at_once:
        await wait_until(delivered)
    host.stop()
    await asyncio.wait_for(running, 6)
    # After a stop at once, the last order may be of a session that did not get its answer.
    assert (await here.fleet())["sessions"]["success"] >= await here.orders() - stopped_at_once
    assert len(numbers) == len(set(numbers))


async def test_agents_in_one_container_report_separately(world: Any) -> None:
    asked: list[tuple[str, str]] = []
    front = proxy_app(Offline())

    @web.middleware
    async def seen(request: web.Request, handler: Any) -> Any:
        if request.method == "POST":
            headers = request.headers
            asked.append((headers["X-APE-Agent"], headers.get("Authorization", "")))
        return await handler(request)

    front.middlewares.append(seen)
    here = await world(front)
    slots = range(21, 31)
    host = Host(replace(here.settings, slot="3", agents_here=10), "t")
    running = asyncio.create_task(host.run())

    async def done() -> bool:
        fleet = await here.fleet()
        return bool(fleet["alive"] == 10 and fleet["sessions"]["success"] >= 20)

    await wait_until(done)
    host.stop()
    await asyncio.wait_for(running, 6)
    fleet = await here.fleet()
    assert fleet["sessions"]["failure"] == 0
    assert fleet["sessions"]["success"] == await here.orders()
    assert {name for name, _ in asked} == {f"agent-{slot:04d}" for slot in slots}
    assert {token for _, token in asked} == {"Bearer t"}
    assert fleet["by_state"] == {"stopping": 10}
    text = await (await here.gateway.get("/metrics")).text()
    assert f'ape_steps_total{{result="ok"}} {6 * await here.orders()}.0' in text
    assert 'ape_agent_resident_memory_bytes{agent="0030"}' in text


async def test_agent_without_endpoints_gets_them_from_the_gateway(world: Any) -> None:
    here = await world()
    host = Host(replace(here.settings, endpoints=[]))
    running = asyncio.create_task(host.run())

    async def tried() -> bool:
        return bool((await here.fleet())["steps"].get("target_error", 0) > 0)

    # The gateway's config names no bodies, so the shop answers 422 to the first: POST /login.
    await wait_until(tried)
    host.stop()
    await asyncio.wait_for(running, 6)


async def test_agent_imports_no_heavy_modules() -> None:
    heavy = "{'pydantic', 'prometheus_client', 'aiohttp', 'httpx', 'openai'}"
    code = f"import sys, ape_agent.__main__; sys.exit(bool({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=False)
    assert ran.returncode == 0
