"""GET /results of the proxy: exact counts and percentiles since its start."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from ape_contracts.sketch import Sketch
from ape_proxy.app import Options, make_app
from ape_proxy.budget import Prices
from ape_proxy.models import Offline
from tests.support.provider import (
    DONE,
    FINISH,
    PATH,
    ROLE,
    TEXT,
    Handler,
    chunk,
    good,
    metric,
    says,
    status,
    stream,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("short_backoff")]
SKETCHES = ("ttft", "itl", "seconds", "queue", "tokens_per_second")


def usage(completion: int, reasoning: int | None = None) -> bytes:
    hidden = f', "completion_tokens_details": {{"reasoning_tokens": {reasoning}}}'
    return (
        b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": %d%s}}\n\n'
        % (completion, hidden.encode() if reasoning is not None else b"")
    )


async def results(here: Any) -> dict[str, Any]:
    found: dict[str, Any] = await (await here.client.get("/results")).json()
    return found


async def test_results_have_each_completion_once(rig: Any) -> None:
    here = await rig(good, status(400), status(500), good, prices=Prices(2, 4))
    before = await results(here)
    assert before["version"] == 1
    assert [before[name]["count"] for name in SKETCHES] == [0] * 5
    for _ in range(3):
        await (await here.ask()).read()
    await (await here.client.get("/nothing")).read()
    after = await results(here)
    assert after["boot"] == before["boot"]
    assert after["completions"] == {"success": 2, "error": 1}
    assert after["statuses"] == {"200": 2, "400": 1}
    assert after["finish"] == {"stop": 2}
    assert (after["retries"], after["tokens_in"], after["tokens_out"]) == (1, 2000, 1000)
    assert after["cost_dollars"] == pytest.approx(2 * 0.004)
    assert after["refused"] == {}
    assert after["budget"] is None
    seconds = Sketch.of(after["seconds"])
    assert (seconds.count, after["queue"]["count"]) == (3, 3)
    assert seconds.sum == pytest.approx(
        await here.metric("ape_proxy_request_duration_seconds_sum"), rel=0.01
    )
    assert after["ttft"]["count"] == after["itl"]["count"] == 0, "only streams have them"


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        # Three events with 16 tokens, and without a count.
        ([ROLE, TEXT, 0.1, TEXT, 0.1, TEXT, FINISH, usage(16), DONE], 0.2 / 15),
        ([ROLE, TEXT, 0.1, TEXT, 0.1, TEXT, FINISH, DONE], 0.2 / 2),
        # Reasoning before the first event is not part of the time; a part of the stream is.
        ([ROLE, TEXT, 0.2, TEXT, FINISH, usage(105, 100), DONE], 0.2 / 4),
        ([chunk(reasoning="hm"), 0.2, TEXT, FINISH, usage(105, 100), DONE], 0.2 / 104),
        ([ROLE, TEXT, FINISH, usage(16), DONE], None),
    ],
    ids=["usage", "events", "hidden_reasoning", "reasoning", "one_event"],
)
async def test_latency_between_tokens_is_by_the_models_count(
    rig: Any, parts: list[Any], seconds: float | None
) -> None:
    here = await rig(stream(*parts))
    await (await here.ask(stream=True)).read()
    found = await results(here)
    assert found["ttft"]["count"] == 1
    if seconds is None:
        assert found["itl"]["count"] == 0
    else:
        assert found["itl"]["count"] == 1
        assert seconds <= found["itl"]["max"] < seconds * 1.5
        assert await here.metric("ape_proxy_inter_token_seconds_count") == 1


async def test_only_the_last_attempt_counts_for_the_first_token(rig: Any) -> None:
    """An agent's stream that breaks before anything was passed on is asked for again."""
    here = await rig(stream(TEXT, 0.1, "abort"), stream(TEXT, 0.1, TEXT, FINISH, DONE))
    got = await here.client.post(
        PATH, json={"messages": [], "stream": True}, headers={"X-APE-Agent": "agent-0001"}
    )
    assert (got.status, await got.read()) == (200, TEXT + TEXT + FINISH + DONE)
    found = await results(here)
    assert (found["retries"], found["ttft"]["count"], found["itl"]["count"]) == (1, 1, 1)
    assert found["ttft"]["max"] > 0.1


async def test_results_tell_that_the_budget_is_exhausted(rig: Any) -> None:
    here = await rig(good, most_tokens=2000)
    assert (await results(here))["budget"] == {
        "used_ratio": 0.0,
        "exhausted": False,
        "words": "0 of 2000 tokens (maxTokens)",
    }
    await (await here.ask()).read()
    assert (await here.ask()).status == 402
    found = await results(here)
    assert found["budget"]["exhausted"]
    assert found["budget"]["used_ratio"] == 0.75
    assert found["refused"] == {"budget_exhausted": 1}


async def test_results_are_for_callers_with_the_token(serve: Any) -> None:
    server = await serve(make_app(Offline(), Options(token="s3cret")))
    assert (await server.get("/results")).status == 401
    got = await server.get("/results", headers={"Authorization": "Bearer s3cret"})
    assert (got.status, (await got.json())["refused"]) == (200, {"invalid_api_key": 1})


AGENT = {"X-APE-Agent": "agent-0001"}
ASK = {"messages": [], "stream": True}
ERROR = b'data: {"error": {"message": "later, k3y-of-the-stack", "code": %d}}\n\n'


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (stream(b": wait\n\n", 0.01, "abort"), "upstream_unreachable"),
        (stream(b": wait\n\n" + DONE), "bad_answer"),
        (stream(ERROR % 502), "502"),
        (stream(b"event: error\n", b'data: {"message": "later", "code": 503}\n\n'), "503"),
        (says(b'{"error": {"message": "later"}}', kind="text/event-stream"), "bad_answer"),
    ],
    ids=["reset", "nothing", "error", "named_error", "object"],
)
async def test_stream_that_fails_before_its_first_chunk_is_retried(
    rig: Any, first: Handler, cause: str
) -> None:
    here = await rig(first, stream(ROLE, TEXT, FINISH, DONE))
    got = await here.ask(stream=True)
    assert (got.status, await got.read()) == (200, ROLE + TEXT + FINISH + DONE)
    assert await here.metric("ape_proxy_retries_total", cause=cause) == 1


async def test_stream_that_begins_with_a_final_error_is_an_error(rig: Any) -> None:
    here = await rig(stream(b": wait\n\n", ERROR % 400))
    got = await here.ask(stream=True)
    assert (got.status, got.headers["x-should-retry"]) == (400, "false")
    assert await got.json() == {"error": {"message": "later, ***", "code": 400}}
    assert len(here.provider.seen) == 1


async def test_object_without_its_type_in_answer_to_a_stream_is_passed_on(rig: Any) -> None:
    here = await rig(says(b'{"choices": [{"message": {"content": "Hi"}}]}', kind="text/plain"))
    got = await here.ask(stream=True)
    assert (got.status, json.loads(await got.text())["choices"]) == (
        200,
        [{"message": {"content": "Hi"}}],
    )


async def test_error_in_the_middle_of_a_stream_has_no_secret(rig: Any) -> None:
    here = await rig(stream(TEXT, 0.05, ERROR % 500))
    assert b"later, ***" in await (await here.ask(stream=True)).read()


async def test_agent_learns_how_often_it_may_ask_again_and_the_proxy_counts(rig: Any) -> None:
    here = await rig(stream(TEXT, 0.6, TEXT, 0.05, "abort"), retries=2)
    for left, more in (("2", {}), ("0", {"x-ape-retries-left": "0"})):
        got = await here.client.post(PATH, json=ASK, headers=AGENT | more)
        assert (got.status, got.headers["x-ape-retries-left"]) == (200, left)
        got.close()
    assert await here.metric("ape_proxy_retries_total", cause="broken_stream") == 1
    refused = await rig(status(500), retries=2)
    more = {"x-ape-retries-left": "1"}
    assert (await refused.client.post(PATH, json=ASK, headers=AGENT | more)).status == 500
    assert len(refused.provider.seen) == 2, "one retry is left of two"
    assert "x-ape-retries-left" not in (await here.ask(stream=True)).headers, "not an agent"


async def test_agent_gets_a_stream_in_few_parts(rig: Any) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await made.prepare(request)
        for _ in range(20):
            await made.write(TEXT)
            await asyncio.sleep(0.005)
        await made.write(FINISH + DONE)
        return made

    here = await rig(slow)
    got = await here.client.post(PATH, json=ASK, headers=AGENT)
    parts = [part async for part, _ in got.content.iter_chunks() if part]
    assert b"".join(parts) == TEXT * 20 + FINISH + DONE
    assert len(parts) == 1
    assert await metric(here.client, "ape_proxy_time_to_first_token_seconds_count") == 1
