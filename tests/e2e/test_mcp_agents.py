"""Real agents with MCP servers as targets: the demo target's, and one made with the SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from ape_agent.host import Host, toolbox
from ape_agent.peers import Peer
from ape_agent.results import SessionResult, Step
from ape_agent.session import Session
from ape_contracts.service_settings import AgentSettings
from ape_demo_target.app import make_app as demo_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from tests.support.agent_world import call, model_of, results_of
from tests.support.mcp_target import API, gateway, target
from tests.support.model_world import address
from tests.unit.services.conftest import SERVICES

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]
DEMO: dict[str, Any] = json.loads((SERVICES / "ape_demo_target" / "mcp_scenario.json").read_text())


def settings_of(gateway_url: str, proxy: Any, **more: Any) -> AgentSettings:
    return AgentSettings(
        gateway_url=gateway_url,
        proxy_url=address(proxy),
        api=API,
        think_time_seconds=0.0,
        session_max_seconds=20.0,
        **more,
    )


async def session(
    settings: AgentSettings, credentials: dict[str, str] | None = None
) -> tuple[SessionResult, list[Step]]:
    steps: list[Step] = []
    before, proxy = Peer(settings.gateway_url, 10), Peer(settings.proxy_url, 10)
    tools = await toolbox(settings, before, credentials)
    result = await Session(1, settings, tools, before, proxy, steps.append, credentials).run()
    before.close()
    proxy.close()
    return result, steps


@asynccontextmanager
async def shop() -> AsyncIterator[tuple[Any, Any]]:
    """(the demo target, the gateway before its MCP server)."""
    async with TestServer(demo_app()) as demo, gateway(f"{address(demo)}/mcp") as gate:
        yield demo, gate


async def test_offline_model_buys_by_the_tools_of_the_demo_server(tmp_path: Path) -> None:
    async with shop() as (_, gate), TestServer(proxy_app(Offline())) as proxy:
        settings = settings_of(
            gate.url,
            proxy,
            slot="1",
            goal=DEMO["goal"],
            success=DEMO["success"],
            heartbeat_file=str(tmp_path / "beat"),
            report_seconds=0.1,
            ramp_seconds=0.0,
        )
        host = Host(settings)
        running = asyncio.create_task(host.run())
        async with asyncio.timeout(15):
            while (await gate.get("/fleet"))[1]["sessions"]["success"] < 3:
                await asyncio.sleep(0.05)
        host.stop()
        await running
        _, fleet = await gate.get("/fleet")
        assert fleet["sessions"]["failure"] == 0, fleet


async def test_model_is_given_the_servers_own_tools_and_their_schemas() -> None:
    asked: list[dict[str, Any]] = []

    def use(tool: str, **arguments: Any) -> dict[str, Any]:
        made = call(arguments)
        made["tool_calls"][0]["function"]["name"] = tool
        return made

    turns = [
        use("fail", why="no stock"),
        use("put", item={"quantity": 2}),
        use("put", item={"sku": "S1", "quantity": 2}),
    ]

    def answer(n: int) -> dict[str, Any]:
        return turns[n] if n < len(turns) else {"role": "assistant", "content": "I cannot go on."}

    success = {"method": "POST", "path": "/tools/put", "status": 200, "value_path": "order_id"}
    async with (
        target() as (found, url),
        gateway(url) as gate,
        TestServer(model_of(answer, asked)) as model,
    ):
        settings = settings_of(gate.url, model, goal="Buy.", success=success)
        result, steps = await session(settings)
    assert result.reason == "goal_met", results_of(asked[-1])
    functions = {each["function"]["name"]: each["function"] for each in asked[0]["tools"]}
    put = functions["put"]["parameters"]
    assert list(put["properties"]) == put["required"] == ["item"]
    assert list(put["properties"]["item"]["properties"]) == ["sku", "quantity"]
    assert functions["add"]["description"] == "POST /tools/add. Add two numbers."
    shown = results_of(asked[-1])
    assert (shown[0]["status"], shown[1]["status"]) == (422, 422)
    assert "sku" in shown[1]["body"]
    assert [step.result for step in steps] == ["target_error", "target_error", "ok"]
    # One session with the server, that ends with the agent's.
    calls = found.headers("tools/call")
    assert len(found.headers("initialize")) == 2
    assert len({headers["mcp-session-id"] for headers in calls}) == 1
    assert found.methods().count("DELETE") == 2


async def test_server_that_asks_for_a_token_gets_that_of_the_sign_in() -> None:
    success = {"method": "POST", "path": "/tools/add", "status": 200, "value_path": "result"}
    async with (
        target() as (found, url),
        gateway(url) as gate,
        TestServer(proxy_app(Offline())) as proxy,
    ):
        found.token = "t0k3n"
        steps = [{"kind": "bearer", "credential": "token"}]
        settings = settings_of(gate.url, proxy, goal="Add.", success=success, sign_in=steps)
        result, _ = await session(settings, {"token": found.token})
        assert result.reason == "goal_met", result.detail
        assert (await gate.call("add", {"a": 1, "b": 1}))["status_code"] == 401
        ending = [headers for method, headers, _ in found.seen if method == "DELETE"]
        assert ending[0]["authorization"] == "Bearer t0k3n"
