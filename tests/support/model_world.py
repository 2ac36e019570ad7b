"""The real demo target, gateway, proxy and agent in process, around an upstream that misbehaves."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from ape_agent.host import Host
from ape_agent.peers import Peer
from ape_agent.results import SessionResult, Step
from ape_agent.session import Session
from ape_agent.tools import Toolbox
from ape_contracts.gateway_config import load
from ape_contracts.service_settings import AgentSettings, ProxySettings
from ape_demo_target.app import make_app as demo_app
from ape_gateway.app import make_app as gateway_app
from ape_proxy.__main__ import app_of
from ape_service import pacing
from tests.support.model_behaviors import Behavior
from tests.support.model_upstream import Upstream
from tests.unit.services.conftest import SERVICES, AsgiServer

KEY = "k3y-of-the-provider"
STEPS = 6
SCENARIO: dict[str, Any] = json.loads((SERVICES / "ape_demo_target" / "scenario.json").read_text())


def address(server: BaseTestServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@web.middleware
async def _padded(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answers of some 1000 tokens, as of a large application."""
    answer: web.StreamResponse = await handler(request)
    if isinstance(answer, web.Response) and answer.content_type == "application/json":
        found = json.loads(answer.body or b"null")  # type: ignore[arg-type]
        answer.text = json.dumps(found | {"notes": "Lorem ipsum. " * 300})
    return answer


@dataclass
class Shop:
    """The target's and the gateway's address, for as many cases as there are."""

    target: str
    gateway: str


@asynccontextmanager
async def shop(*, large: bool = False) -> AsyncIterator[Shop]:
    app = demo_app()
    if large:
        app.middlewares.append(_padded)
    async with TestServer(app) as target:
        raw = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
        raw["routes"]["shop"]["base_url"] = address(target)
        gateway = AsgiServer(gateway_app(load(json.dumps(raw)), declared=1))
        await gateway.start_server()
        try:
            yield Shop(address(target), address(gateway))
        finally:
            await gateway.close()


@dataclass
class Rig:
    """An upstream, the proxy before it, and the settings of an agent."""

    upstream: Upstream
    proxy: str
    settings: AgentSettings
    steps: list[Step] = field(default_factory=list)

    async def session(self, slot: int = 1) -> SessionResult:
        """The result of one session, without an agent around it."""
        settings = self.settings
        gateway, proxy = (Peer(u, 8) for u in (settings.gateway_url, settings.proxy_url))
        try:
            return await Session(
                slot,
                settings,
                Toolbox(settings, settings.endpoints),
                gateway,
                proxy,
                self.steps.append,
            ).run()
        finally:
            gateway.close()
            proxy.close()

    def host(self) -> Host:
        return Host(self.settings)

    @property
    def told(self) -> str:
        """All that the model was answered in the last request."""
        messages = self.upstream.seen[-1].body["messages"][2:]
        return "\n".join(str(m.get("content")) for m in messages if m["role"] != "assistant")


@asynccontextmanager
async def rig(
    around: Shop,
    behavior: Behavior,
    folder: Path,
    *,
    echo: tuple[str, ...] = (),
    delay: float = 0.0,
    streams: bool = False,
    agent: dict[str, Any] | None = None,
    **proxy: Any,
) -> AsyncIterator[Rig]:
    """`proxy`, `agent`: settings other than those of a quick test."""
    upstream = Upstream(behavior, echo, delay, streams=streams)
    (folder / "key").write_text(KEY)
    async with TestServer(upstream.app()) as provider:
        chosen = {"queue_seconds": 5.0, "request_timeout_seconds": 5.0} | proxy
        settings = ProxySettings(
            kind="provider",
            name="m",
            base_url=address(provider) + "/v1",
            api_key_file=str(folder / "key"),
            echo=list(echo),
            **chosen,
        )
        async with TestServer(app_of(settings)) as front:
            made: dict[str, Any] = {
                "gateway_url": around.gateway,
                "proxy_url": address(front),
                "goal": SCENARIO["goal"],
                "api": SCENARIO["api"],
                "endpoints": SCENARIO["endpoints"],
                "success": SCENARIO["success"],
                "model_name": "m",
                "target_host": around.target.removeprefix("http://"),
                "think_time_seconds": 0.0,
                "ramp_seconds": 0.0,
                "report_seconds": 0.2,
                "session_max_seconds": 8.0,
                "heartbeat_file": str(folder / "heartbeat"),
                "stop_grace_seconds": 6.0,
            }
            yield Rig(upstream, address(front), AgentSettings(**made | (agent or {})))


def shorten_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents and proxy wait 5 ms before each retry, wherever they do it."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("ape_agent.", "ape_proxy.")) and hasattr(module, "backoff"):
            if module.backoff is pacing.backoff:
                monkeypatch.setattr(module, "backoff", lambda *_, **__: 0.005)


def warnings_of(caplog: pytest.LogCaptureFixture, package: str) -> list[str]:
    """The lines of level warning and above, with their fields."""
    return [
        f"{record.getMessage()} {getattr(record, 'ape', {})}"
        for record in caplog.records
        if record.name.startswith(package) and record.levelno >= logging.WARNING
    ]
