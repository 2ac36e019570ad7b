"""Real agents among the demo target, the gateway, and a proxy or a scripted model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from ape_agent.peers import Peer
from ape_agent.results import SessionResult, Step
from ape_agent.session import Session
from ape_agent.tools import Toolbox
from ape_contracts.gateway_config import load
from ape_contracts.service_settings import AgentSettings
from ape_demo_target.app import make_app as demo_app
from ape_gateway.app import make_app as gateway_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline

SERVICES = Path(__file__).resolve().parents[2] / "services"
CHECKOUT = {"method": "POST", "path": "/checkout", "status": 201}


class World:
    """Demo target, gateway, offline proxy, and the settings of an agent among them."""

    def __init__(
        self, target: Any, gateway: Any, proxy: Any, settings: AgentSettings, serve: Any
    ) -> None:
        self.target, self.gateway, self.proxy, self.settings = target, gateway, proxy, settings
        self.serve = serve

    async def orders(self) -> int:
        return int((await (await self.target.get("/orders/stats")).json())["orders"])

    async def fleet(self) -> dict[str, Any]:
        found: dict[str, Any] = await (await self.gateway.get("/fleet")).json()
        return found

    async def session(
        self, *, credentials: dict[str, str] | None = None, **changed: Any
    ) -> tuple[SessionResult, list[Step]]:
        """The result and the steps of one session, without an agent."""
        settings, steps = replace(self.settings, **changed), list[Step]()
        gateway, proxy = (Peer(u, 5) for u in (settings.gateway_url, settings.proxy_url))
        session = Session(
            1,
            settings,
            Toolbox(settings, settings.endpoints),
            gateway,
            proxy,
            steps.append,
            credentials,
        )
        outcome = await session.run()
        gateway.close()
        proxy.close()
        return outcome, steps


async def build(serve: Any, proxy: web.Application | None, heartbeat_file: Path) -> World:
    """A world with `proxy`; without one, with the offline model."""
    scenario = json.loads((SERVICES / "ape_demo_target" / "scenario.json").read_text())
    target = await serve(demo_app(faults=True))
    raw = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
    raw["routes"]["shop"]["base_url"] = str(target.make_url("")).rstrip("/")
    gateway = await serve(gateway_app(load(json.dumps(raw)), declared=1))
    model = await serve(proxy or proxy_app(Offline()))
    settings = AgentSettings(
        slot="1",
        gateway_url=str(gateway.make_url("")).rstrip("/"),
        proxy_url=str(model.make_url("")).rstrip("/"),
        goal=scenario["goal"],
        api=scenario["api"],
        endpoints=scenario["endpoints"],
        success=scenario["success"],
        think_time_seconds=0.0,
        ramp_seconds=0.0,
        report_seconds=0.2,
        heartbeat_file=str(heartbeat_file),
        stop_grace_seconds=6.0,
    )
    return World(target, gateway, model, settings, serve)


async def wait_until(check: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end, "the condition was not met in time"
        await asyncio.sleep(0.05)


def scripted_model(calls: Any, bodies: list[dict[str, Any]] | None = None) -> web.Application:
    """A model that makes the calls `calls(n)`: a dict, None to end, or a status.

    The requests are appended to `bodies`.
    """

    def answer(n: int) -> Any:
        wanted = calls(n)
        if isinstance(wanted, int):
            return wanted, {"error": {}}, {}
        if wanted is None:
            return {"role": "assistant", "content": "I did it, success!"}
        return call(wanted)

    return model_of(answer, bodies)


def model_of(answers: Callable[[int], Any], bodies: list[Any] | None = None) -> web.Application:
    """A model whose n-th answer is `answers(n)`: a message, or (status, body, headers).

    The requests are appended to `bodies`.
    """
    app = web.Application()
    asked = [0]

    async def complete(request: web.Request) -> web.Response:
        if bodies is not None:
            bodies.append(await request.json())
        answer = answers(asked[0])
        asked[0] += 1
        if isinstance(answer, dict):
            finish = answer.pop("finish_reason", "stop")
            choice = {"index": 0, "message": answer, "finish_reason": finish}
            answer = 200, {"choices": [choice]}, {}
        status, body, headers = answer
        return web.json_response(body, status=status, headers=headers)

    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/health", _healthy)
    return app


async def _healthy(_: web.Request) -> web.Response:
    return web.json_response({})


def call(arguments: Any, call_id: str | None = "c", **more: Any) -> dict[str, Any]:
    """A message with one tool call; `arguments` that are not a text become JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    made: dict[str, Any] = {"type": "function", "function": {"name": "call_api", "arguments": text}}
    if call_id is not None:
        made["id"] = call_id
    return {"role": "assistant", "content": None, "tool_calls": [made], **more}


def results_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool results in a request to the model."""
    return [json.loads(m["content"]) for m in body["messages"] if m["role"] == "tool"]
