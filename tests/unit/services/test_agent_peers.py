"""Agents whose gateway or proxy is away, overloaded or fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ape_agent.host import Host
from ape_agent.peers import Peer
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from ape_service.pacing import backoff
from tests.support.agent_world import (
    wait_until,
)

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


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
    host = Host(replace(here.settings, agents_here=20))
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
