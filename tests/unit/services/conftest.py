"""Each service on an ephemeral loopback port."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient, TestServer
from yarl import URL

from ape_gateway.__main__ import config_of
from tests.support.agent_world import World, build
from tests.support.provider import Rig, rig_of

SERVICES = Path(__file__).resolve().parents[3] / "services"

Client = TestClient[Any, Any]
Serve = Callable[[Any], Awaitable[Client]]


class AsgiServer(BaseTestServer):
    """An ASGI app on a loopback port, served by the gateway's own settings of uvicorn."""

    def __init__(self, app: Any) -> None:
        super().__init__(scheme="http", host="127.0.0.1")
        self._app = app

    async def start_server(self, *_: Any, **__: Any) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self._root = URL.build(scheme="http", host="127.0.0.1", port=self.port)
        self._uvicorn = _TestServer(config_of(self._app))
        self._running = asyncio.create_task(self._uvicorn.serve([listening]))
        while not self._uvicorn.started and not self._running.done():
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        self._uvicorn.stopping.set()
        await self._running

    async def _make_runner(self, **_: Any) -> Any:
        raise NotImplementedError


class _TestServer(uvicorn.Server):
    """Ends at an event, not at uvicorn's next tick, and leaves signal handlers alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections at once: uvicorn waits 0.1 s, and looks again every 0.1 s."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(50):
            if not self.server_state.connections and not self.server_state.tasks:
                await self.lifespan.shutdown()
                return
            await asyncio.sleep(0.001)
        await super().shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start an app of aiohttp or ASGI; returns a client of it."""
    started: list[Client] = []

    async def start(app: Any) -> Client:
        own = isinstance(app, web.Application)
        client: Client = TestClient(TestServer(app) if own else AsgiServer(app))
        await client.start_server()
        started.append(client)
        return client

    yield start
    for client in reversed(started):
        await client.close()


@pytest.fixture
def world(serve: Serve, tmp_path: Path) -> Callable[..., Awaitable[World]]:
    """Build the world of agents; the proxy has the offline model unless one is given."""

    async def made(proxy: web.Application | None = None) -> World:
        return await build(serve, proxy, tmp_path / "heartbeat")

    return made


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents and proxy wait 10 ms before each retry."""
    for module in ("ape_agent.peers", "ape_proxy.app"):
        monkeypatch.setattr(f"{module}.backoff", lambda *_, **__: 0.01)


@pytest.fixture
def scenario() -> dict[str, Any]:
    """The demo's scenario.json."""
    made: dict[str, Any] = json.loads((SERVICES / "ape_demo_target" / "scenario.json").read_text())
    return made


@pytest.fixture
def rig(serve: Serve) -> Callable[..., Awaitable[Rig]]:
    """Start a provider with these answers, and the proxy in front of it."""
    return functools.partial(rig_of, serve)
