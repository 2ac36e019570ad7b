"""What callers take of the model is counted and limited: nobody gets it for free."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_agent.model import failure_of, problem_of
from ape_agent.peers import Reply
from ape_proxy.app import Options, make_app
from ape_proxy.budget import Budget, Prices, Tokens
from ape_proxy.callers import Callers
from ape_proxy.limiter import Limits
from ape_proxy.models import Offline
from ape_proxy.shaping import Shape
from ape_proxy.upstream import Connection, Upstream
from tests.support.provider import (
    ASK,
    COMPLETION,
    FINISH,
    PATH,
    ROLE,
    TEXT,
    Handler,
    good,
    says,
    status,
    stream,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("short_backoff")]
# COMPLETION uses 1000 and 500 tokens.
USED = 1500


def limited(most: int) -> Any:
    """A model with this limit of completion tokens."""
    return lambda url: Upstream("llama", Connection(url), Shape(max_tokens=most))


async def sent(here: Any, **more: Any) -> dict[str, Any]:
    """The request as the provider got it."""
    assert (await here.ask(**more)).status == 200
    found: dict[str, Any] = here.provider.seen[-1][1]
    return found


async def test_provider_gets_the_stacks_model_and_limit_whatever_the_caller_sends(rig: Any) -> None:
    here = await rig(good, model=limited(400))
    for more in (
        {"model": "gpt-dear"},
        {"n": 50, "best_of": 50, "service_tier": "priority", "logprobs": True},
        {"max_tokens": 1_000_000.0},
        {"max_completion_tokens": "1000000"},
        {"max_tokens": 999_999, "max_completion_tokens": 999_999},
        {"max_tokens": -1, "Max_Tokens": 10**6, "prediction": {"type": "content"}},
        {"max_completion_tokens": True, "models": ["gpt-dear"]},
    ):
        found = await sent(here, **more)
        assert found == ASK | {"model": "llama", "max_completion_tokens": 400}


async def left_after(here: Any, tokens: int) -> None:
    """Read so many tokens of a stream, and leave."""
    got = await here.ask(stream=True)
    for _ in range(tokens):
        assert await got.content.readuntil(b"\n\n")
    got.close()


async def until(check: Any, seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_tokens_of_a_stream_are_counted_when_its_client_leaves(rig: Any) -> None:
    here = await rig(stream(*[TEXT] * 375, 30.0), prices=Prices(1, 1), most_tokens=1200)
    await left_after(here, 375)

    async def counted() -> bool:
        return bool(await here.metric("ape_proxy_requests_total", result="cancelled") == 1)

    await until(counted)
    assert await here.metric("ape_proxy_output_tokens_total") == 375
    assert await here.metric("ape_proxy_input_tokens_total") > 0
    assert await here.metric("ape_proxy_cost_dollars_total") >= 375 / 1e6
    assert await here.metric("ape_proxy_budget_used_ratio") > 375 / 1200


async def test_tokens_of_a_stream_without_usage_or_with_an_end_are_counted(rig: Any) -> None:
    here = await rig(stream(ROLE, *[TEXT] * 7, FINISH), stream(*[TEXT] * 5, "abort"))
    await (await here.ask(stream=True)).read()
    assert await here.metric("ape_proxy_output_tokens_total") == 7
    with pytest.raises(aiohttp.ClientError):
        await (await here.ask(stream=True)).read()
    assert await here.metric("ape_proxy_output_tokens_total") == 12


async def test_answer_that_nobody_waits_for_counts_for_the_spend_limit(rig: Any) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    here = await rig(slow, good, model=limited(900), most_tokens=1000)
    with pytest.raises(TimeoutError):
        await here.client.post(PATH, json=ASK, timeout=aiohttp.ClientTimeout(total=0.1))

    async def counted() -> bool:
        return bool(await here.metric("ape_proxy_requests_total", result="cancelled") == 1)

    await until(counted)
    got = await here.ask()
    assert (got.status, (await got.json())["error"]["code"]) == (402, "budget_exhausted")


def answers_after(seconds: float) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(COMPLETION)

    return answer


@pytest.mark.parametrize(
    "limit",
    [{"most_tokens": 10 * USED}, {"most_dollars": 0.02, "prices": Prices(1, 2)}],
    ids=["tokens", "dollars"],
)
async def test_model_is_not_asked_beyond_the_spend_limit(rig: Any, limit: dict[str, Any]) -> None:
    here = await rig(answers_after(0.02), model=limited(USED), **limit)
    got = await asyncio.gather(*(here.ask() for _ in range(40)))
    found = sorted(answer.status for answer in got)
    # Requests wait for what those in flight give back; the last one may not fit anymore.
    assert found in ([200] * 10 + [402] * 30, [200] * 9 + [402] * 31)
    assert len(here.provider.seen) == found.count(200)
    asked = len(here.provider.seen)
    rejected = await here.ask()
    error = (await rejected.json())["error"]
    assert (rejected.status, error["code"]) == (402, "budget_exhausted")
    assert rejected.headers["x-should-retry"] == "false"
    assert "most" not in error["message"]
    assert "max" in error["message"], "it names the setting"
    assert len(here.provider.seen) == asked
    share = await here.metric("ape_proxy_budget_used_ratio")
    assert 0.85 < share <= 1
    assert await here.metric("ape_proxy_refusals_total", code="budget_exhausted") >= 30


async def test_rejections_of_the_provider_cost_nothing(rig: Any) -> None:
    here = await rig(*[status(503)] * 20, good, retries=0, model=limited(100), most_tokens=2000)
    for _ in range(20):
        assert (await here.ask()).status == 503
    assert (await here.ask()).status == 200


async def test_without_a_spend_limit_there_is_no_share_of_it(serve: Any) -> None:
    client = await serve(make_app(Offline()))
    assert "ape_proxy_budget" not in await (await client.get("/metrics")).text()


requests = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1)), max_size=30)


@given(requests, st.integers(1, 300), st.floats(0.01, 3))
@settings(max_examples=40)
def test_budget_is_never_exceeded_by_what_it_admits(
    asked: list[tuple[int, int, float]], tokens: int, dollars: float
) -> None:
    prices = Prices(10_000, 20_000)
    budget = Budget(tokens, dollars, prices)
    spent = Tokens(0, 0)
    in_flight: list[tuple[Tokens, Tokens]] = []
    for prompt, completion, part in asked:
        most = Tokens(prompt, completion)
        if budget.admits(most):
            budget.reserve(most)
            in_flight.append((most, Tokens(int(prompt * part), int(completion * part))))
        if len(in_flight) > 3:
            ended = in_flight.pop(0)
            budget.settle(*ended)
            spent = Tokens(spent[0] + ended[1][0], spent[1] + ended[1][1])
    for each in in_flight:
        budget.settle(*each)
        spent = Tokens(spent[0] + each[1][0], spent[1] + each[1][1])
    assert not budget.in_flight
    assert spent.total <= tokens
    assert prices.dollars(spent) <= dollars * (1 + 1e-6)


async def ask(client: Any, agent: str, **more: Any) -> Any:
    return await client.post(PATH, json=ASK | more, headers={"X-APE-Agent": agent})


async def test_agent_over_its_tokens_per_minute_does_not_delay_the_others(rig: Any) -> None:
    limits = Limits(agent_tokens_per_minute=2 * USED, queue_seconds=0.2)
    here = await rig(good, limits=limits, model=limited(USED - 100))
    greedy = await asyncio.gather(*(ask(here.client, "greedy") for _ in range(6)))
    assert sorted(a.status for a in greedy) == [200] * 2 + [429] * 4
    rejected = next(a for a in greedy if a.status == 429)
    assert (await rejected.json())["error"]["code"] == "queue_deadline"
    assert int(rejected.headers["Retry-After"]) > 1
    assert (await ask(here.client, "modest")).status == 200
    too_large = await ask(here.client, "modest", messages=["x" * 8 * USED])
    error = (await too_large.json())["error"]
    assert (too_large.status, error["code"]) == (400, "request_too_large")
    assert "modelTokensPerMinutePerAgent" in error["message"]


async def test_agent_gets_no_more_by_another_name(rig: Any) -> None:
    limits = Limits(agent_tokens_per_minute=2 * USED, queue_seconds=0.1)
    here = await rig(good, limits=limits, model=limited(USED - 100), agents_per_address=1)
    found = [(await ask(here.client, f"agent-{n}")).status for n in range(6)]
    assert found == [200] * 2 + [429] * 4


def test_names_of_an_address_are_as_many_as_its_agents() -> None:
    callers = Callers(3)
    assert len({callers.owner("a", str(n), 0.0) for n in range(100)}) == 3
    assert callers.owner("b", "0", 0.0) == "b 0"
    # It replaces one that was not used for a minute.
    assert callers.owner("a", "new", 100.0) == "a new"
    assert len({Callers().owner("a", str(n), 0.0) for n in range(100)}) == 100


async def test_quota_of_the_provider_has_the_time_until_its_reset(rig: Any) -> None:
    here = await rig(status(429, Retry_After="3600"))
    for _ in range(2):
        got = await here.ask()
        assert (got.status, (await got.json())["error"]["code"]) == (429, "quota_exhausted")
        assert 3590 <= int(got.headers["Retry-After"]) <= 3601
        assert got.headers["x-should-retry"] == "false"
    assert len(here.provider.seen) == 1


async def test_call_that_the_provider_could_not_read_is_passed_on_unchanged(rig: Any) -> None:
    refusal = {
        "error": {
            "message": "Failed to call a function.",
            "code": "tool_use_failed",
            "failed_generation": '<function=call_api>{"path": "/"}</function>',
        }
    }
    here = await rig(says(refusal, 400))
    got = await here.ask()
    assert (got.status, await got.json()) == (400, refusal)


def test_session_that_the_spend_limit_ends_fails_for_the_quota() -> None:
    body = {"error": {"code": "budget_exhausted", "message": "The spend limit is reached."}}
    failed = failure_of(Reply(402, body), problem_of(body))
    assert failed.reason == "model_quota"


async def test_count_of_a_model_in_the_proxy_is_limited_as_well(serve: Any) -> None:
    client = await serve(make_app(Offline(), Options(most_tokens=1100)))
    found = [(await client.post(PATH, json=ASK)).status for _ in range(6)]
    assert found[0] == 200
    assert found[-1] == 402
    assert json.dumps(found) == json.dumps(sorted(found))
