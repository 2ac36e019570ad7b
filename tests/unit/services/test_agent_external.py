"""Ten agents and an external application."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ape_agent.host import Host
from ape_agent.settings import Settings
from ape_contracts import conditions
from ape_contracts.gateway_config import load
from ape_gateway.app import make_app as gateway_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from tests.support import external_app

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


async def test_ten_agents_reach_a_goal_in_an_external_application(
    serve: Any, tmp_path: Path
) -> None:
    with external_app.served("127.0.0.1") as target:
        config = {"routes": {"httpbin": {"base_url": target}}}
        gateway = await serve(gateway_app(load(json.dumps(config))))
        proxy = await serve(proxy_app(Offline()))
        settings = Settings(
            slots=range(1, 11),
            gateway_url=str(gateway.make_url("")).rstrip("/"),
            proxy_url=str(proxy.make_url("")).rstrip("/"),
            goal=external_app.GOAL,
            api="httpbin",
            endpoints=external_app.ENDPOINTS,
            success=conditions.parse(external_app.SUCCESS),
            think_time=0.01,
            ramp=0.2,
            pace=0.2,
            heartbeat_file=str(tmp_path / "heartbeat"),
        )
        host = Host(settings)
        running = asyncio.create_task(host.run())
        for _ in range(300):
            fleet = await (await gateway.get("/fleet")).json()
            if fleet["sessions"]["success"] >= 10:
                break
            await asyncio.sleep(0.1)
        host.stop()
        await asyncio.wait_for(running, 8)
    fleet = await (await gateway.get("/fleet")).json()
    assert fleet["alive"] == 10
    assert fleet["sessions"]["success"] >= 10
    assert fleet["sessions"]["failure"] == 0
