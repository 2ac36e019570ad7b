"""The services on the path, and each of them on an ephemeral loopback port."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

SERVICES = Path(__file__).resolve().parents[3] / "services"
for part in ("common", "gateway", "proxy", "agent", "demo_target", "socket_proxy"):
    if str(SERVICES / part) not in sys.path:
        sys.path.insert(0, str(SERVICES / part))

Client = TestClient[web.Request, web.Application]
Serve = Callable[[web.Application], Awaitable[Client]]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start an app; answers a client of it."""
    started: list[Client] = []

    async def start(app: web.Application) -> Client:
        client: Client = TestClient(TestServer(app))
        await client.start_server()
        started.append(client)
        return client

    yield start
    for client in reversed(started):
        await client.close()


@pytest.fixture
def scenario() -> dict[str, Any]:
    """The demo's scenario.json."""
    made: dict[str, Any] = json.loads((SERVICES / "demo_target" / "scenario.json").read_text())
    return made
