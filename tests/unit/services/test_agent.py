from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ape_agent.host import Host
from ape_agent.peers import Peer
from ape_agent.session import CookieJar, Session, Step
from ape_agent.settings import Settings, from_env
from ape_contracts import conditions
from ape_contracts.gateway_config import load
from ape_demo_target.app import make_app as demo_app
from ape_gateway.app import make_app as gateway_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from ape_service import env
from ape_service.pacing import backoff

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
SERVICES = Path(__file__).resolve().parents[3] / "services"


CHECKOUT = {"method": "POST", "path": "/checkout", "status": 201}


class World:
    """Demo target, gateway, offline proxy, and the settings of an agent among them."""

    def __init__(
        self, target: Any, gateway: Any, proxy: Any, settings: Settings, serve: Any
    ) -> None:
        self.target, self.gateway, self.proxy, self.settings = target, gateway, proxy, settings
        self.serve = serve

    async def orders(self) -> int:
        return int((await (await self.target.get("/orders/stats")).json())["orders"])

    async def fleet(self) -> dict[str, Any]:
        found: dict[str, Any] = await (await self.gateway.get("/fleet")).json()
        return found

    async def session(self, **changed: Any) -> tuple[Any, list[Step]]:
        """The result and the steps of one session, without an agent."""
        settings, steps = replace(self.settings, **changed), list[Step]()
        gateway, proxy = (Peer(u, 5) for u in (settings.gateway_url, settings.proxy_url))
        session = Session(1, settings, settings.endpoints, gateway, proxy, steps.append)
        outcome = await session.run()
        gateway.close()
        proxy.close()
        return outcome, steps


@pytest.fixture
def world(serve: Any, scenario: dict[str, Any], tmp_path: Path) -> Any:
    async def build(proxy: web.Application | None = None) -> World:
        target = await serve(demo_app(faults=True))
        raw = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
        raw["routes"]["shop"]["base_url"] = str(target.make_url("")).rstrip("/")
        gateway = await serve(gateway_app(load(json.dumps(raw)), declared=1))
        model = await serve(proxy or proxy_app(Offline()))
        settings = Settings(
            slots=range(1, 2),
            gateway_url=str(gateway.make_url("")).rstrip("/"),
            proxy_url=str(model.make_url("")).rstrip("/"),
            goal=scenario["goal"],
            api=scenario["api"],
            endpoints=scenario["endpoints"],
            success=conditions.parse(scenario["success"]),
            think_time=0.0,
            ramp=0.0,
            pace=0.2,
            heartbeat_file=str(tmp_path / "heartbeat"),
            stop_grace=6.0,
        )
        return World(target, gateway, model, settings, serve)

    return build


async def wait_until(check: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end, "the condition was not met in time"
        await asyncio.sleep(0.05)


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
    host = Host(replace(here.settings, think_time=30.0, stop_grace=4.5))
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
    host = Host(replace(here.settings, test_duration=0.3))
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


async def test_agent_without_a_peer_waits_without_a_heartbeat_file_or_busy_loop(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await world()
    probes = [0]
    probe = Peer.probe

    async def counted(peer: Peer) -> bool:
        probes[0] += 1
        return await probe(peer)

    monkeypatch.setattr(Peer, "probe", counted)
    host = Host(replace(here.settings, proxy_url="http://127.0.0.1:1"))
    running = asyncio.create_task(host.run())
    await asyncio.sleep(0.7)
    assert 2 <= probes[0] <= 12
    assert not Path(here.settings.heartbeat_file).exists()
    assert (await here.fleet())["by_state"] == {"waiting": 1}
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
            test_duration=1.2,
            stop_grace=4.0 if stopped_at_once else 6.0,
        )
    )
    running = asyncio.create_task(host.run())

    async def ordered() -> bool:
        # More sessions than the first batch had.
        return bool(refused and await here.orders() >= refused[0] + 3)

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


def scripted_model(calls: Any, bodies: list[dict[str, Any]] | None = None) -> web.Application:
    """A model that makes the calls `calls(n)`: a dict, None to end, or a status.

    The requests are appended to `bodies`.
    """
    app = web.Application()
    asked = [0]

    async def complete(request: web.Request) -> web.Response:
        call = calls(asked[0])
        if bodies is not None:
            bodies.append(await request.json())
        asked[0] += 1
        if isinstance(call, int):
            return web.json_response({"error": {}}, status=call)
        message: dict[str, Any] = {"role": "assistant", "content": "I did it, success!"}
        if call is not None:
            function = {"name": "call_api", "arguments": json.dumps(call)}
            message["tool_calls"] = [{"id": "c", "type": "function", "function": function}]
        return web.json_response({"choices": [{"message": message}]})

    app.router.add_post("/v1/chat/completions", complete)
    return app


@pytest.mark.parametrize(
    ("calls", "changed", "reason"),
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
@pytest.mark.usefixtures("short_backoff")
async def test_failed_session_reports_the_reason(
    world: Any, calls: Any, changed: dict[str, Any], reason: str
) -> None:
    here = await world(scripted_model(calls))
    outcome, _ = await here.session(**changed)
    assert (outcome.result, outcome.reason) == ("failure", reason)


async def test_session_at_its_time_limit_reports_no_step_without_an_answer(world: Any) -> None:
    here = await world()

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/mcp/request", slow)
    gateway = await here.serve(app)
    url = str(gateway.make_url("")).rstrip("/")
    outcome, steps = await here.session(gateway_url=url, session_max_seconds=0.3)
    assert (outcome.reason, outcome.steps, steps) == ("time_limit", 1, [])


async def test_model_gets_persona_endpoints_values_and_answers(world: Any) -> None:
    asked: list[dict[str, Any]] = []
    turns = [{"method": "GET", "path": "/products"}, {"method": "GET"}]
    here = await world(scripted_model(lambda n: turns[n] if n < len(turns) else None, asked))
    _, steps = await here.session(persona="A pensioner who reads every label.")
    system = asked[0]["messages"][0]["content"]
    brief = json.loads(system[system.index('{"goal"') :])
    assert brief["persona"] == "A pensioner who reads every label."
    assert brief["endpoints"] == here.settings.endpoints
    assert brief["values"]["agent"] == "agent-0001"
    results = [json.loads(m["content"]) for m in asked[-1]["messages"] if m["role"] == "tool"]
    assert results[0]["status"] == 401
    assert "method and path" in results[1]["error"]
    assert [step.result for step in steps] == ["target_error", "bad_call"]


async def test_session_succeeds_by_the_targets_answers_and_not_by_the_models_words(
    world: Any,
) -> None:
    here = await world()
    success = conditions.parse({**CHECKOUT, "value_path": "no_such_field"})
    outcome, _ = await here.session(success=success)
    assert (outcome.result, outcome.reason, await here.orders()) == ("failure", "gave_up", 1)
    # Conditions on two answers: the cart must have held something, and the order has an id.
    cart = {"method": "GET", "path": "/cart", "status": 200, "value_path": "items[0].product_id"}
    success = conditions.parse(
        {**CHECKOUT, "value_path": "order_id", "matches": "^order-", "also": [cart]}
    )
    outcome, steps = await here.session(success=success)
    assert (outcome.result, outcome.reason, outcome.steps) == ("success", "goal_met", 6)
    assert [step.result for step in steps] == ["ok"] * 6
    assert steps[0].since is None
    assert all(step.seconds and step.seconds > 0 for step in steps)
    assert all(step.since and step.since > 0 for step in steps[1:])


async def test_cookie_jar_stores_cookies_and_the_token_of_a_successful_login() -> None:
    jar = CookieJar()
    assert jar.headers() == {}
    headers = {"set-cookie": ["a=1; Path=/", "b=2; HttpOnly"]}
    jar.store("GET", "/x", 200, headers, {"token": "not a login"})
    assert jar.headers() == {"Cookie": "a=1; b=2"}
    jar.store("POST", "/login", 401, {"set-cookie": ["a=; Max-Age=0"]}, {"token": "refused"})
    assert jar.headers() == {"Cookie": "b=2"}
    jar.store("POST", "/login", 200, {}, {"data": {"access_token": "t"}})
    assert jar.headers() == {"Cookie": "b=2", "Authorization": "Bearer t"}


async def test_cookie_jar_removes_expired_cookies_and_finds_nested_tokens() -> None:
    jar = CookieJar()
    jar.store("GET", "/", 200, {"set-cookie": ["a=1", "b=2"]}, None)
    gone = ["a=x; expires=Thu, 01 Jan 1970 00:00:00 GMT", "b=; Max-Age=0"]
    jar.store("GET", "/", 200, {"set-cookie": gone}, None)
    assert jar.headers() == {}
    jar.store("POST", "/auth", 200, {}, {"user": {"session": {"token": "deep"}}})
    assert jar.headers() == {"Authorization": "Bearer deep"}


async def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, scenario: dict[str, Any], tmp_path: Path
) -> None:
    given = {
        "APE_AGENT_SLOT": "250+3",
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
    assert list(settings.slots) == [253]
    assert (settings.gateway_url, settings.stop_grace) == ("http://gateway:8080", 10.0)
    token = tmp_path / "token"
    token.write_text("secret\n")
    # The third of three each, behind five thousand in others.
    dense = {
        "APE_AGENT_SLOT": "5000+3",
        "APE_AGENTS_HERE": "3",
        "APE_PROXY_TOKEN_FILE": str(token),
        "APE_ENDPOINTS": "",
    }
    with monkeypatch.context() as patch:
        for name, value in dense.items():
            patch.setenv(name, value)
        settings = from_env()
        assert (list(settings.slots), settings.proxy_token) == ([5007, 5008, 5009], "secret")
        assert settings.endpoints == []
    for name, bad in [
        ("APE_AGENT_SLOT", "0"),
        ("APE_AGENT_SLOT", "-1+3"),
        ("APE_ENDPOINTS", "{}"),
        ("APE_SUCCESS", "[1]"),
        ("APE_SUCCESS", json.dumps({**CHECKOUT, "value_path": "a", "matches": "("})),
        ("APE_PROXY_URL", "proxy"),
        ("APE_THINK_TIME_SECONDS", "-1"),
        ("APE_GOAL", ""),
        ("APE_PROXY_TOKEN_FILE", str(tmp_path / "none")),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, bad)
            with pytest.raises(env.EnvError, match=name):
                from_env()


async def test_one_variable_may_hold_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "APE_AGENT_SLOT": "40+1",
        "APE_GATEWAY_URL": "http://gateway:8080",
        "APE_PROXY_URL": "http://proxy:8080",
        "APE_GOAL": "of the one variable",
        "APE_TARGET_API": "shop",
        "APE_SUCCESS": json.dumps(CHECKOUT),
        "APE_AGENTS_HERE": "20",
    }
    given = {"APE_SETTINGS": json.dumps(told), "APE_TARGET_API": "own"}
    monkeypatch.setattr(os, "environ", given)
    settings = from_env()
    assert (settings.goal, settings.api) == ("of the one variable", "own")
    assert settings.slots == range(41, 61)
    for rubbish in ("{", "[]", '{"APE_GOAL": 1}', "null"):
        monkeypatch.setattr(os, "environ", {"APE_SETTINGS": rubbish})
        with pytest.raises(env.EnvError, match="APE_SETTINGS: must be a JSON object"):
            from_env()


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
    host = Host(replace(here.settings, slots=slots, proxy_token="t"))
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


async def test_agents_become_unhealthy_without_a_peer_and_recover_with_it(
    world: Any, serve: Any, monkeypatch: Any
) -> None:
    """Away: sessions fail with a reason, the heartbeat file is removed, and probes are few.

    Back: the sessions succeed again.
    """
    monkeypatch.setattr("ape_agent.peers.backoff", partial(backoff, base=0.1, cap=3))
    monkeypatch.setattr("ape_agent.peers.AWAY_SECONDS", 0.5)
    monkeypatch.setattr("ape_agent.peers.TOUCH_SECONDS", 0.2)
    away, asked = [False], [0]
    front = proxy_app(Offline())

    @web.middleware
    async def gone(request: web.Request, handler: Any) -> Any:
        if away[0]:
            asked[0] += 1
            assert request.transport is not None
            request.transport.abort()
        return await handler(request)

    front.middlewares.append(gone)
    here = await world(front)
    host = Host(replace(here.settings, slots=range(1, 21)))
    running = asyncio.create_task(host.run())
    file = Path(here.settings.heartbeat_file)

    async def going() -> bool:
        return file.exists() and (await here.fleet())["sessions"]["success"] >= 20

    async def degraded() -> bool:
        return not file.exists() and (await here.fleet())["by_state"] == {"waiting": 20}

    await wait_until(going)
    away[0] = True
    await wait_until(degraded)
    asked[0] = 0
    await asyncio.sleep(0.5)
    # One probe at a time for all twenty agents, with backoff.
    assert asked[0] <= 3
    away[0] = False
    before = (await here.fleet())["sessions"]
    assert before["by_reason"].keys() == {"model_error"}

    async def again() -> bool:
        fleet = await here.fleet()
        return file.exists() and fleet["sessions"]["success"] > before["success"]

    await wait_until(again, 30)
    host.stop()
    await asyncio.wait_for(running, 6)


async def test_agent_imports_no_heavy_modules() -> None:
    heavy = "{'pydantic', 'prometheus_client', 'aiohttp', 'httpx', 'openai'}"
    code = f"import sys, ape_agent.__main__; sys.exit(bool({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=False)
    assert ran.returncode == 0
