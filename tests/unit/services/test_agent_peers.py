"""Agents whose gateway or proxy is away, overloaded or fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ape_agent.agent import MAX_PAUSE_SECONDS, fails_again, pause_after
from ape_agent.host import Host
from ape_agent.peers import Peer, PeerError, Peers
from ape_agent.results import SessionResult
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from ape_service.pacing import backoff
from tests.support.agent_world import model_of, wait_until

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
    away, probes, completions = [False], [0], [0]
    front = proxy_app(Offline())

    @web.middleware
    async def gone(request: web.Request, handler: Any) -> Any:
        if away[0]:
            (probes if request.path == "/health" else completions)[0] += 1
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
    probes[0] = completions[0] = 0
    since = time.monotonic()
    await asyncio.sleep(0.5)
    # One probe at a time for all twenty agents, with backoff; a busy machine sleeps longer.
    assert completions[0] == 0
    assert probes[0] <= 1 + (time.monotonic() - since) / 0.25
    away[0] = False
    before = (await here.fleet())["sessions"]
    assert {failure["reason"] for failure in before["failures"]} == {"model_error"}, before
    assert all("did not answer" in failure["detail"] for failure in before["failures"])

    async def again() -> bool:
        fleet = await here.fleet()
        return file.exists() and fleet["sessions"]["success"] > before["success"]

    await wait_until(again, 30)
    host.stop()
    await asyncio.wait_for(running, 6)


class Silent:
    """A peer that answers each probe, after `answered` was called."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self._answered = answered

    def away(self) -> float:
        return 0.0

    async def probe(self) -> bool:
        self._answered()
        return True


async def test_suspicion_during_a_probe_is_checked_before_agents_continue(tmp_path: Path) -> None:
    probed = list[bool]()

    def answered() -> None:
        probed.append(peers.available)
        if len(probed) == 1:
            peers.mark_suspect()

    gateway: Any = Silent(lambda: None)
    proxy: Any = Silent(answered)
    peers = Peers(gateway, proxy, str(tmp_path / "heartbeat"))
    watching = asyncio.create_task(peers.watch())
    await asyncio.wait_for(peers.ready(), 5)
    watching.cancel()
    assert probed == [False, False]


@pytest.mark.usefixtures("short_backoff")
@pytest.mark.parametrize(
    ("status", "headers", "requests"),
    [
        (503, {}, 4),
        (429, {}, 4),
        (503, {"X-Should-Retry": "false"}, 1),
        (429, {"x-should-retry": "False"}, 1),
        (500, {}, 1),
        (502, {"Retry-After": "1"}, 1),
    ],
)
async def test_request_is_sent_again_only_if_the_peer_did_nothing_and_did_not_forbid_it(
    world: Any, status: int, headers: dict[str, str], requests: int
) -> None:
    asked: list[Any] = []
    here = await world(model_of(lambda _: (status, {"error": {}}, headers), asked))
    outcome, _ = await here.session()
    assert outcome.reason == "model_error"
    assert not outcome.unreachable
    assert len(asked) == requests


async def test_model_has_a_timeout_of_its_own(world: Any) -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.json_response({"choices": []})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", slow)
    here = await world(app)
    settings = replace(here.settings, request_timeout_seconds=30.0, model_timeout_seconds=0.1)
    host = Host(settings)
    peer = host._peers.proxy
    with pytest.raises(PeerError, match="TimeoutError") as failed:
        await peer.post("/v1/chat/completions", {}, "0" * 32)
    assert not failed.value.reached
    peer.close()


def failed(reason: str, **more: Any) -> SessionResult:
    return SessionResult(1, "failure", reason, 0, 0.1, **more)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (failed("model_error"), True),
        (failed("model_truncated"), True),
        (failed("gave_up"), True),
        (failed("step_limit"), True),
        (failed("gave_up", acted=True), False),
        (failed("target_error", acted=True), False),
        (failed("gateway_error", acted=True), True),
        (failed("model_quota", acted=True), True),
        (SessionResult(1, "success", "goal_met", 6, 0.1), False),
    ],
)
async def test_sessions_that_fail_again_are_known(result: SessionResult, expected: bool) -> None:
    assert fails_again(result) is expected


async def test_pause_grows_to_its_limit_and_lasts_until_a_known_reset() -> None:
    pauses = [pause_after(failed("gave_up"), n) for n in range(12)]
    assert all(0 < p <= MAX_PAUSE_SECONDS for p in pauses)
    assert max(pauses[:2]) < 1.1
    assert min(pauses[8:]) >= MAX_PAUSE_SECONDS / 2
    assert 3600 <= pause_after(failed("model_quota", wait_seconds=3600.0), 0) <= 3605


@pytest.mark.parametrize(
    ("answer", "most"),
    [
        ({"content": "", "finish_reason": "length"}, 5),
        ({"content": "I like shops."}, 10),
        ((429, {"error": {"code": "quota_exhausted"}}, {"Retry-After": "9999"}), 1),
    ],
)
async def test_agent_on_a_failing_model_does_not_ask_in_a_tight_loop(
    world: Any, answer: Any, most: int
) -> None:
    asked: list[Any] = []
    fixed = json.dumps(answer)
    # The quota's answer must not be repeated by the peer either.
    headers = {"x-should-retry": "false"}

    def fails(_: int) -> Any:
        made = json.loads(fixed)
        return made if isinstance(made, dict) else (made[0], made[1], made[2] | headers)

    here = await world(model_of(fails, asked))
    host = Host(here.settings)
    running = asyncio.create_task(host.run())
    await asyncio.sleep(1.5)
    assert 1 <= len(asked) <= most
    started = time.monotonic()
    host.stop()
    await asyncio.wait_for(running, 3)
    assert time.monotonic() - started < 2


async def test_pause_ends_with_the_test(world: Any) -> None:
    quota = {"error": {"code": "quota_exhausted", "message": "Until tomorrow."}}
    headers = {"Retry-After": "9999", "x-should-retry": "false"}
    here = await world(model_of(lambda _: (429, quota, headers)))
    host = Host(replace(here.settings, test_duration_seconds=0.5))
    running = asyncio.create_task(host.run())

    async def finished() -> bool:
        return bool((await here.fleet())["by_state"] == {"finished": 1})

    await wait_until(finished)
    assert (await here.fleet())["sessions"]["failures"] == [
        {
            "reason": "model_quota",
            "detail": "429 quota_exhausted: Until tomorrow.",
            "sessions": 1,
        }
    ]
    host.stop()
    await asyncio.wait_for(running, 3)
