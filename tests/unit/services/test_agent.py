from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from ape_agent.agent import Agent
from ape_agent.peers import Peer
from ape_agent.session import Jar, Session, meets, present
from ape_agent.settings import Settings, Success, from_env
from ape_common import env
from ape_common.gateway_config import load
from ape_demo_target.app import make_app as demo_app
from ape_gateway.app import make_app as gateway_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
SERVICES = Path(__file__).resolve().parents[3] / "services"


class World:
    """Demo target, gateway, offline proxy, and the settings of an agent among them."""

    def __init__(self, target: Any, gateway: Any, proxy: Any, settings: Settings) -> None:
        self.target, self.gateway, self.proxy, self.settings = target, gateway, proxy, settings

    async def orders(self) -> int:
        return int((await (await self.target.get("/orders/stats")).json())["orders"])

    async def fleet(self) -> dict[str, Any]:
        found: dict[str, Any] = await (await self.gateway.get("/fleet")).json()
        return found

    async def session(self, **changed: Any) -> Any:
        """The outcome of one session, without an agent around it."""
        settings = replace(self.settings, **changed)
        async with aiohttp.ClientSession() as http:
            return await Session(
                settings,
                Peer(http, settings.gateway_url, 5),
                Peer(http, settings.proxy_url, 5),
            ).run()


@pytest.fixture
def world(serve: Any, scenario: dict[str, Any], tmp_path: Path) -> Any:
    async def build(proxy: web.Application | None = None) -> World:
        target = await serve(demo_app(faults=True))
        raw = json.loads((SERVICES / "demo_target" / "gateway.json").read_text())
        raw["routes"]["shop"]["base_url"] = str(target.make_url("")).rstrip("/")
        gateway = await serve(gateway_app(load(json.dumps(raw)), declared=1))
        model = await serve(proxy or proxy_app(Offline()))
        settings = Settings(
            slot=1,
            gateway_url=str(gateway.make_url("")).rstrip("/"),
            proxy_url=str(model.make_url("")).rstrip("/"),
            goal=scenario["goal"],
            api=scenario["api"],
            endpoints=scenario["endpoints"],
            success=Success(**scenario["success"]),
            think_time=0.0,
            start_delay_max=0.0,
            heartbeat=0.2,
            heartbeat_file=str(tmp_path / "heartbeat"),
            stop_grace=6.0,
        )
        return World(target, gateway, model, settings)

    return build


async def until(check: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.05)


async def test_end_to_end_counts_agree_and_a_broken_target_counts_as_failure(world: Any) -> None:
    here = await world()
    agent = Agent(here.settings)
    running = asyncio.create_task(agent.run())

    async def succeeded() -> bool:
        return bool((await here.fleet())["sessions"]["success"] >= 3)

    async def failed() -> bool:
        return bool((await here.fleet())["sessions"]["by_reason"].get("target_error", 0) >= 2)

    await until(succeeded)

    async def seen_running() -> bool:
        return bool((await here.fleet())["by_state"] == {"running": 1})

    await until(seen_running)

    async def touched() -> bool:
        return Path(here.settings.heartbeat_file).exists()

    await until(touched)
    await here.target.put("/_faults", json={"checkout": 500})
    await until(failed)
    agent.stop()
    await asyncio.wait_for(running, 6)
    fleet = await here.fleet()
    assert fleet["sessions"]["success"] == await here.orders()
    assert set(fleet["sessions"]["by_reason"]) == {"target_error"}
    text = await (await here.gateway.get("/metrics")).text()
    wanted = f'ape_sessions_total{{reason="goal_met",result="success"}} {await here.orders()}.0'
    assert wanted in text


async def test_the_last_session_and_report_come_within_the_grace(world: Any) -> None:
    here = await world()
    agent = Agent(replace(here.settings, think_time=30.0, stop_grace=4.5))
    running = asyncio.create_task(agent.run())

    async def begun() -> bool:
        text = await (await here.gateway.get("/metrics")).text()
        return "ape_gateway_requests_total{" in text

    await until(begun)
    started = time.monotonic()
    agent.stop()
    await asyncio.wait_for(running, 4.5)
    assert time.monotonic() - started < 4.5
    assert (await here.fleet())["sessions"]["by_reason"] == {"aborted": 1}


async def test_the_test_ends_and_the_agent_stays(world: Any) -> None:
    here = await world()
    agent = Agent(replace(here.settings, test_duration=0.3))
    running = asyncio.create_task(agent.run())

    async def finished() -> bool:
        return bool((await here.fleet())["by_state"] == {"finished": 1})

    await until(finished)
    orders = await here.orders()
    await asyncio.sleep(0.4)
    assert not running.done()
    assert await here.orders() == orders > 0
    agent.stop()
    await asyncio.wait_for(running, 3)


async def test_it_waits_for_its_peers_without_a_heartbeat_file_or_spinning(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await world()
    probes = [0]
    probe = Peer.probe

    async def counted(peer: Peer) -> bool:
        probes[0] += 1
        return await probe(peer)

    monkeypatch.setattr(Peer, "probe", counted)
    agent = Agent(replace(here.settings, proxy_url="http://127.0.0.1:1"))
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(1.5)
    assert 2 <= probes[0] <= 25
    assert not Path(here.settings.heartbeat_file).exists()
    assert (await here.fleet())["by_state"] == {"waiting": 1}
    agent.stop()
    await asyncio.wait_for(running, 3)


async def test_results_are_kept_while_the_gateway_is_away(world: Any, serve: Any) -> None:
    here = await world()
    refuse = [True]
    taken: list[str] = []
    app = web.Application()

    async def pass_on(request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/agents/sessions":
            if refuse[0]:
                return web.json_response({}, status=503)
            taken.extend(s["id"] for s in json.loads(body)["sessions"])
        answer = await here.gateway.request(request.method, request.path, data=body)
        return web.Response(
            body=await answer.read(), status=answer.status, content_type="application/json"
        )

    app.router.add_route("*", "/{rest:.*}", pass_on)
    front = await serve(app)
    url = str(front.make_url("")).rstrip("/")
    agent = Agent(replace(here.settings, gateway_url=url, test_duration=0.5))
    running = asyncio.create_task(agent.run())

    async def over() -> bool:
        return bool((await here.fleet())["by_state"] == {"finished": 1})

    async def delivered() -> bool:
        return bool((await here.fleet())["sessions"]["success"] == await here.orders())

    await until(over)
    assert (await here.fleet())["sessions"]["success"] == 0 < await here.orders()
    refuse[0] = False
    await until(delivered)
    assert len(taken) == len(set(taken))
    agent.stop()
    await asyncio.wait_for(running, 3)


def talker(turns: Any) -> web.Application:
    """A model that makes the calls that `turns(n)` gives: a dict, None to end, or a status."""
    app = web.Application()
    asked = [0]

    async def complete(_: web.Request) -> web.Response:
        turn = turns(asked[0])
        asked[0] += 1
        if isinstance(turn, int):
            return web.json_response({"error": {}}, status=turn)
        message: dict[str, Any] = {"role": "assistant", "content": "I did it, success!"}
        if turn is not None:
            function = {"name": "call_api", "arguments": json.dumps(turn)}
            message["tool_calls"] = [{"id": "c", "type": "function", "function": function}]
        return web.json_response({"choices": [{"message": message}]})

    app.router.add_post("/v1/chat/completions", complete)
    return app


@pytest.mark.parametrize(
    ("turns", "changed", "reason"),
    [
        (lambda n: None, {}, "gave_up"),
        (lambda n: 500, {}, "model_error"),
        (lambda n: {"method": "GET", "path": "/products"} if n == 0 else None, {}, "target_error"),
        (lambda n: {"method": "GET", "path": "/admin"} if n == 0 else None, {}, "gateway_error"),
        (lambda n: {"method": "GET", "path": "/cart"}, {"session_max_steps": 3}, "step_limit"),
        (
            lambda n: {"method": "GET", "path": "/cart"},
            {"session_max_seconds": 0.3, "think_time": 0.2},
            "time_limit",
        ),
        (lambda n: {"method": "GET"}, {"session_max_steps": 2}, "step_limit"),
        (
            lambda n: {"method": "GET", "path": "/cart"},
            {"gateway_url": "http://127.0.0.1:1"},
            "gateway_error",
        ),
    ],
)
async def test_each_failure_has_its_reason(
    world: Any, turns: Any, changed: dict[str, Any], reason: str
) -> None:
    here = await world(talker(turns))
    outcome = await here.session(**changed)
    assert (outcome.result, outcome.reason) == ("failure", reason)


async def test_a_session_without_login_answer_fails_by_the_target(world: Any) -> None:
    here = await world()
    success = replace(here.settings.success, json_path="no_such_field")
    outcome = await here.session(success=success)
    assert (outcome.result, outcome.reason, await here.orders()) == ("failure", "gave_up", 1)
    outcome = await here.session()
    assert (outcome.result, outcome.reason, outcome.steps) == ("success", "goal_met", 6)


async def test_the_jar_keeps_cookies_and_the_logins_token() -> None:
    jar = Jar()
    assert jar.headers() == {}
    headers = {"set-cookie": ["a=1; Path=/", "b=2; HttpOnly"]}
    jar.take("GET", "/x", 200, headers, {"token": "not a login"})
    assert jar.headers() == {"Cookie": "a=1; b=2"}
    jar.take("POST", "/login", 401, {"set-cookie": ["a=; Max-Age=0"]}, {"token": "refused"})
    assert jar.headers() == {"Cookie": "b=2"}
    jar.take("POST", "/login", 200, {}, {"data": {"access_token": "t"}})
    assert jar.headers() == {"Cookie": "b=2", "Authorization": "Bearer t"}


async def test_success_needs_method_path_status_and_field() -> None:
    success = Success("POST", "/orders/{id}/pay", 201, "a.0.b")
    body = {"a": [{"b": 0}]}
    assert meets(success, "POST", "/orders/7/pay", 201, body)
    assert not meets(success, "GET", "/orders/7/pay", 201, body)
    assert not meets(success, "POST", "/orders/7", 201, body)
    assert not meets(success, "POST", "/orders/7/pay", 200, body)
    assert not meets(success, "POST", "/orders/7/pay", 201, {"a": [{"b": None}]})
    assert not present([], "0")


async def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, scenario: dict[str, Any]
) -> None:
    given = {
        "APE_AGENT_SLOT": "3",
        "APE_SLOT_OFFSET": "250",
        "APE_GATEWAY_URL": "http://gateway:8080/",
        "APE_PROXY_URL": "http://proxy:8080",
        "APE_GOAL": "g",
        "APE_TARGET_API": "shop",
        "APE_ENDPOINTS": json.dumps(scenario["endpoints"]),
        "APE_SUCCESS": json.dumps(scenario["success"]),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = from_env()
    assert (settings.slot, settings.name) == (253, "agent-0253")
    assert (settings.gateway_url, settings.stop_grace) == ("http://gateway:8080", 10.0)
    for name, bad in [
        ("APE_AGENT_SLOT", "0"),
        ("APE_ENDPOINTS", "{}"),
        ("APE_SUCCESS", "[1]"),
        ("APE_PROXY_URL", "proxy"),
        ("APE_THINK_TIME_SECONDS", "-1"),
        ("APE_GOAL", ""),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, bad)
            with pytest.raises(env.EnvError, match=name):
                from_env()


async def test_the_agent_imports_neither_pydantic_nor_prometheus() -> None:
    code = (
        "import sys, ape_agent.__main__;"
        "sys.exit(bool({'pydantic', 'prometheus_client'} & set(sys.modules)))"
    )
    path = f"{SERVICES / 'common'}:{SERVICES / 'agent'}"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert ran.returncode == 0
