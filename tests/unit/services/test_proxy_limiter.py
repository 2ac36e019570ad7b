"""The proxy's limits: the order of admission, and rejections."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ape_proxy.app import Options, make_app
from ape_proxy.completion import DEFAULT_COMPLETION_TOKENS, charge
from ape_proxy.errors import ProxyError
from ape_proxy.limiter import Limiter, Limits, RoundRobin
from ape_proxy.models import Offline
from ape_proxy.upstream import Connection, Upstream

pytestmark = pytest.mark.unit
PATH = "/v1/chat/completions"


@given(st.lists(st.integers(0, 4), max_size=40))
def test_round_robin_serves_the_owners_alternately(owners: list[int]) -> None:
    queue: RoundRobin[tuple[int, int]] = RoundRobin()
    for number, owner in enumerate(owners):
        queue.push(str(owner), (owner, number))
    out = []
    while queue:
        out.append(queue.pop())
    assert sorted(out) == sorted((o, n) for n, o in enumerate(owners))
    for owner in set(owners):
        mine = [n for o, n in out if o == owner]
        assert mine == sorted(mine)
        # No owner is served twice while another one waits.
        at = [i for i, (o, _) in enumerate(out) if o == owner]
        for one, next_ in itertools.pairwise(at):
            between = [o for o, _ in out[one + 1 : next_]]
            assert len(between) == len(set(between))
            waiting = {o for o, _ in out[next_ + 1 :]} - {owner}
            assert waiting <= set(between)


async def test_removed_item_is_not_in_the_queue() -> None:
    queue: RoundRobin[str] = RoundRobin()
    for item in "abc":
        queue.push("one", item)
    queue.push("two", "d")
    assert queue.remove("one", "a")
    assert not queue.remove("one", "a")
    assert not queue.remove("three", "a")
    assert [queue.pop() for _ in range(len(queue))] == ["b", "d", "c"]


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def served(limiter: Limiter, asked: list[tuple[str, int]]) -> list[str]:
    """The order in which the requests are admitted, one at a time."""
    order: list[str] = []

    async def one(agent: str, tokens: int) -> None:
        async with limiter.reserve(agent, tokens, soon()):
            order.append(agent)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(*each) for each in asked))
    return order


async def test_agent_with_many_requests_does_not_delay_the_others() -> None:
    limiter = Limiter(Limits(in_flight=1))
    asked = [("greedy", 1)] * 5 + [("b", 1), ("c", 1)]
    assert await served(limiter, asked) == ["greedy", "greedy", "b", "c", *["greedy"] * 3]
    assert (limiter.in_flight, limiter.queued) == (0, 0)


async def test_limits_per_minute_apply_to_all_agents_together() -> None:
    clock = asyncio.get_running_loop().time
    for limits, tokens in (
        (Limits(requests_per_minute=600), 1),
        (Limits(tokens_per_minute=6000), 10),
    ):
        limiter, began = Limiter(limits), clock()
        # 600 at once, and two more at ten per second.
        await served(limiter, [(f"agent-{i}", tokens) for i in range(602)])
        assert clock() - began >= 0.19


async def test_unused_tokens_are_given_back_and_excess_tokens_are_owed() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1000))
    clock = asyncio.get_running_loop().time
    began = clock()
    for _ in range(8):
        async with limiter.reserve("a", 900, soon()) as reservation:
            reservation.used = 10
    assert clock() - began < 3, "without it, the second would pass its deadline"
    async with limiter.reserve("a", 10, soon()) as reservation:
        reservation.used = 5000
    with pytest.raises(ProxyError, match="in time") as caught:
        async with limiter.reserve("a", 10, soon(0.05)):
            pass
    assert 200 < (caught.value.retry_after or 0) < 300


async def test_full_queue_gets_503_and_a_passed_deadline_429() -> None:
    limiter = Limiter(Limits(in_flight=1, queue=1))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(limiter.reserve("a", 1, soon()))
        waits = asyncio.create_task(served(limiter, [("b", 1)]))
        while not limiter.queued:
            await asyncio.sleep(0)
        with pytest.raises(ProxyError) as caught:
            await stack.enter_async_context(limiter.reserve("c", 1, soon()))
        assert (caught.value.status, caught.value.code) == (503, "queue_full")
        waits.cancel()
        await asyncio.wait([waits])
        assert limiter.queued == 0
        with pytest.raises(ProxyError) as caught:
            await stack.enter_async_context(limiter.reserve("c", 1, soon(0.02)))
        assert (caught.value.status, caught.value.code) == (429, "queue_deadline")
    assert (limiter.in_flight, limiter.queued) == (0, 0)
    assert await served(limiter, [("d", 1)]) == ["d"]


async def test_pause_delays_all_agents() -> None:
    limiter = Limiter(Limits())
    began = asyncio.get_running_loop().time()
    limiter.pause(0.2)
    assert sorted(await served(limiter, [("a", 1), ("b", 1)])) == ["a", "b"]
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_request_cancelled_at_its_admission_reserves_nothing() -> None:
    limiter = Limiter(Limits(in_flight=1, requests_per_minute=1000))
    async with limiter.reserve("a", 1, soon()):
        waits = asyncio.create_task(served(limiter, [("b", 1)]))
        while not limiter.queued:
            await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait([waits])
    assert (limiter.in_flight, limiter.queued) == (0, 0)
    assert await served(limiter, [("c", 1)]) == ["c"]


def test_request_is_charged_its_prompt_and_maximum_of_completion_tokens() -> None:
    assert charge({"max_completion_tokens": 400, "max_tokens": 9}, 4000) == 1400
    assert charge({"max_tokens": 9}, 0) == 9
    assert charge({"max_tokens": 9, "n": 3}, 0) == 27
    nonsense: Any
    for nonsense in (None, 0, -1, "9", []):
        assert charge({"max_tokens": nonsense, "n": nonsense}, 1) == 1 + DEFAULT_COMPLETION_TOKENS


async def ask(client: Any, agent: str = "agent-0001", **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 50} | more
    return await client.post(PATH, json=body, headers={"X-APE-Agent": agent})


async def test_requests_beyond_the_limits_get_429_or_503_with_retry_after(serve: Any) -> None:
    limits = Limits(requests_per_minute=30, queue=1, queue_seconds=0.3)
    client = await serve(make_app(Offline(), Options(limits=limits)))
    answers = await asyncio.gather(*(ask(client, f"agent-{i:04d}") for i in range(32)))
    found = sorted(a.status for a in answers)
    assert found == [200] * 30 + [429, 503]
    for answer in answers:
        if answer.status != 200:
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["error"]["code"] in ("queue_full", "queue_deadline")
    text = await (await client.get("/metrics")).text()
    assert 'ape_proxy_queue_seconds_bucket{le="0.25",model="ape-offline"} 31.0' in text
    assert 'ape_proxy_queue_seconds_count{model="ape-offline"} 32.0' in text
    assert 'ape_proxy_refusals_total{code="queue_full"} 1.0' in text
    assert 'ape_proxy_refusals_total{code="queue_deadline"} 1.0' in text


async def test_request_above_the_tokens_per_minute_is_rejected_at_once(serve: Any) -> None:
    limits = Limits(tokens_per_minute=1000)
    client = await serve(make_app(Offline(), Options(limits=limits)))
    got = await ask(client, max_completion_tokens=2000)
    assert (got.status, (await got.json())["error"]["code"]) == (400, "request_too_large")
    # The offline model reports the tokens used: five times 600 do not need three minutes.
    answers = [await ask(client, max_completion_tokens=600) for _ in range(5)]
    assert {a.status for a in answers} == {200}


@pytest.mark.usefixtures("short_backoff")
async def test_retry_counts_against_the_limits_again(serve: Any) -> None:
    seen = []

    async def provider(request: web.Request) -> web.Response:
        seen.append(json.loads(await request.read()))
        return web.json_response({"error": {}}, status=503)

    app = web.Application()
    app.router.add_post(PATH, provider)
    server = await serve(app)
    limits = Limits(requests_per_minute=2, queue_seconds=0.2)
    model = Upstream("llama", Connection(str(server.make_url("/v1"))))
    client = await serve(make_app(model, Options(limits=limits, retries=5)))
    got = await ask(client)
    # The provider's own answer is worth more than that of the queue, and nobody else retries it.
    assert (got.status, got.headers["x-should-retry"]) == (503, "false")
    assert len(seen) == 2, "each attempt is one of the requests per minute"
