"""Real agents, the gateway, the offline proxy and the demo target in process, for runs."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from ape_agent.host import Host
from ape_contracts.gateway_config import load
from ape_contracts.report_token import control, sign
from ape_contracts.service_settings import AgentSettings
from ape_demo_target.app import make_app as demo_app
from ape_gateway.app import make_app as gateway_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from tests.support.model_world import SCENARIO, address
from tests.unit.services.conftest import SERVICES, AsgiServer

KEY = "key-of-the-stack"


class Seen(NamedTuple):
    """A request that the target got."""

    at: float
    method: str
    path: str
    body: str
    authorization: str


@dataclass
class Target:
    """`delay`: before each answer."""

    log: list[Seen] = field(default_factory=list)
    delay: float = 0.0

    def app(self) -> web.Application:
        @web.middleware
        async def logged(request: web.Request, handler: Any) -> web.StreamResponse:
            at, body = time.monotonic(), await request.read()
            if body:
                # For the handler, which reads it too.
                with warnings.catch_warnings(action="ignore"):
                    request.content.unread_data(body)
            token = request.headers.get("Authorization", "")
            self.log.append(Seen(at, request.method, request.path, body.decode(), token))
            await asyncio.sleep(self.delay)
            answer: web.StreamResponse = await handler(request)
            return answer

        made = demo_app()
        made.middlewares.append(logged)
        return made

    def of(self, method: str, path: str) -> list[Seen]:
        return [seen for seen in self.log if (seen.method, seen.path) == (method, path)]


@dataclass
class RunWorld:
    target: Target
    client: aiohttp.ClientSession
    host: Host

    async def ask(self, method: str, path: str, body: Any = None, *, token: bool = True) -> Any:
        """Status and body of the gateway's answer, to the one who leads the run."""
        headers = {"Authorization": f"Bearer {control(KEY)}"} if token else {}
        async with self.client.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def begin(self, *stages: tuple[float, float], **changed: Any) -> dict[str, Any]:
        """Post a run of stages (seconds, target); its status."""
        document = {
            "id": "r1",
            "executor": "closed",
            "stages": [{"seconds": s, "start": t, "end": t} for s, t in stages],
            "scenarios": [{"name": "default"}],
        }
        status, body = await self.ask("POST", "/run", document | changed)
        assert status == 201, body
        found: dict[str, Any] = body
        return found

    async def status(self) -> dict[str, Any]:
        status, body = await self.ask("GET", "/run?lease=r1")
        assert status == 200
        found: dict[str, Any] = body
        return found

    async def until(self, state: str, seconds: float = 20) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while (found := await self.status())["state"] != state:
            assert time.monotonic() < end, found
            await asyncio.sleep(0.03)
        return found

    async def results(self, sessions: int, seconds: float = 20) -> dict[str, Any]:
        """GET /results, when so many sessions are reported."""
        end = time.monotonic() + seconds
        while (found := (await self.ask("GET", "/results"))[1])["last_session"] < sessions:
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)
        result: dict[str, Any] = found
        return result


@asynccontextmanager
async def run_world(
    folder: Path, agents: int = 4, *, idle: bool = True, **agent: Any
) -> AsyncIterator[RunWorld]:
    """`agent`: settings other than those of a quick test."""
    target = Target()
    raw = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
    async with TestServer(target.app()) as served, TestServer(proxy_app(Offline())) as proxy:
        raw["routes"]["shop"]["base_url"] = address(served)
        gateway = AsgiServer(gateway_app(load(json.dumps(raw)), report_key=KEY, idle=idle))
        await gateway.start_server()
        made: dict[str, Any] = {
            "gateway_url": address(gateway),
            "proxy_url": address(proxy),
            "goal": SCENARIO["goal"],
            "api": SCENARIO["api"],
            "endpoints": SCENARIO["endpoints"],
            "success": SCENARIO["success"],
            "agents_here": agents,
            "think_time_seconds": 0.0,
            "ramp_seconds": 0.0,
            "report_seconds": 0.2,
            "heartbeat_file": str(folder / "heartbeat"),
            "stop_grace_seconds": 6.0,
        }
        host = Host(AgentSettings(**made | agent), "", sign(KEY, 1, agents, agents))
        running = asyncio.create_task(host.run())
        try:
            async with aiohttp.ClientSession(address(gateway)) as client:
                world = RunWorld(target, client, host)
                await _all_ask(world, agents if idle else 0)
                yield world
        finally:
            host.stop()
            await running
            await gateway.close()


async def _all_ask(world: RunWorld, agents: int) -> None:
    while (await world.ask("GET", "/run"))[1]["idle"] < agents:
        await asyncio.sleep(0.02)
