"""Limits of the model's provider, its context and settings, and what the fleet shows."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from ape_agent.host import Host
from tests.support import model_answers as answers
from tests.support import model_behaviors as known
from tests.support import model_forms as forms
from tests.support import model_world
from tests.support.model_answers import Answer
from tests.support.model_behaviors import Behavior
from tests.support.model_upstream import Upstream
from tests.support.model_world import STEPS, Rig, Shop

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
# A request that was sent before its sender had read the first rejection.
ON_ITS_WAY_SECONDS = 0.05
REFUSED_KEY = known.always(answers.REFUSALS["key_wrong"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Shop]:
    async with model_world.shop() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large_shop() -> AsyncIterator[Shop]:
    async with model_world.shop(large=True) as made:
        yield made


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    model_world.shorten_backoff(monkeypatch)


async def fleet(shop: Shop) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{shop.gateway}/fleet") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end, "the condition was not met in time"
        await asyncio.sleep(0.05)


async def stop(host: Host, running: asyncio.Task[None]) -> None:
    host.stop()
    await asyncio.wait_for(running, 6)


def sent_during(
    upstream: Upstream, seconds: float, on_its_way: float = ON_ITS_WAY_SECONDS
) -> list[float]:
    """When requests came after the first rejection and before the reset, in seconds from it."""
    rejected = next(seen for seen in upstream.seen if seen.status == 429)
    return [
        round(seen.at - rejected.answered, 3)
        for seen in upstream.seen
        if rejected.answered + on_its_way < seen.at < rejected.at + seconds
    ]


@pytest.mark.usefixtures("short_backoff")
@pytest.mark.parametrize("kind", answers.WINDOWS)
async def test_proxy_sends_nothing_until_the_reset_in_whichever_header_it_stands(
    kind: str, shop: Shop, tmp_path: Path
) -> None:
    seconds = 0.3
    behavior = known.window(seconds, answers.WINDOWS[kind], answers.TOO_MANY)
    async with model_world.rig(shop, behavior, tmp_path) as rig:
        outcomes = await asyncio.gather(*(rig.session(slot) for slot in (1, 2, 3)))
    assert {outcome.reason for outcome in outcomes} == {"goal_met"}
    assert sent_during(rig.upstream, seconds) == []
    # The third came after the reset at once: no other limit than the exhausted one counts.
    assert max(outcome.seconds for outcome in outcomes) < seconds + 3


async def test_20_agents_send_nothing_between_the_first_429_and_the_reset_and_then_succeed(
    shop: Shop, tmp_path: Path
) -> None:
    seconds = 2.0
    behavior = known.window(seconds, answers.WINDOWS["cerebras"], answers.TOO_MANY)
    agents = {"agents_here": 20, "session_max_seconds": 20.0}
    async with model_world.rig(shop, behavior, tmp_path, delay=0.02, agent=agents) as rig:
        before = (await fleet(shop))["sessions"]
        host = rig.host()
        running = asyncio.create_task(host.run())

        async def succeeded() -> bool:
            return bool((await fleet(shop))["sessions"]["success"] >= before["success"] + 20)

        await until(succeeded, 15)
        failed = (await fleet(shop))["sessions"]["failure"] - before["failure"]
        await stop(host, running)
    assert failed == 0
    assert sum(seen.status == 429 for seen in rig.upstream.seen) <= 20
    assert sent_during(rig.upstream, seconds, on_its_way=0.2) == []
    assert rig.upstream.most_attempts <= 2


@pytest.mark.usefixtures("short_backoff")
async def test_daily_limit_ends_all_sessions_at_once_and_is_logged_once_with_its_reset(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    daily = known.always(answers.QUOTAS["day"])
    async with model_world.rig(shop, daily, tmp_path, delay=0.02) as rig:
        first = await asyncio.gather(*(rig.session(slot) for slot in (1, 2, 3)))
        others = await asyncio.gather(*(rig.session(slot) for slot in (4, 5, 6)))
    assert {outcome.reason for outcome in (*first, *others)} == {"model_quota"}
    assert max(outcome.seconds for outcome in others) < 1
    assert rig.upstream.requests <= len(first)
    lines = model_world.warnings_of(caplog, "ape_proxy")
    said = [line for line in lines if re.search(r"\d\d:\d\d", line)]
    assert len(said) == 1, lines


def limit_of(rig_upstream: Upstream) -> int:
    """A context that holds the first request, and about two results of the large shop."""
    return known.tokens(rig_upstream.seen[0].body) + 2600


async def needed_context(large_shop: Shop, folder: Path) -> int:
    async with model_world.rig(large_shop, known.well_behaved, folder) as rig:
        assert (await rig.session()).reason == "goal_met"
    limit = limit_of(rig.upstream)
    assert known.tokens(rig.upstream.seen[-1].body) > limit + 1000
    return limit


@pytest.mark.usefixtures("short_backoff")
@pytest.mark.parametrize("provider", answers.CONTEXT_REFUSALS)
async def test_session_continues_without_its_oldest_results_when_the_context_is_full(
    provider: str, large_shop: Shop, tmp_path: Path
) -> None:
    limit = await needed_context(large_shop, tmp_path)
    behavior = known.context(limit, answers.CONTEXT_REFUSALS[provider])
    async with model_world.rig(large_shop, behavior, tmp_path) as rig:
        outcome = await rig.session()
    assert outcome.reason == "goal_met", outcome
    assert not rig.upstream.broken
    # The agent has learned the limit: it does not run into it at every step.
    assert sum(seen.status != 200 for seen in rig.upstream.seen) <= STEPS
    last = rig.upstream.seen[-1].body["messages"]
    assert last[:2] == rig.upstream.seen[0].body["messages"]
    assert any("left out" in str(m.get("content")) for m in last[2:]), last


async def test_agent_stays_below_the_context_of_its_settings(
    large_shop: Shop, tmp_path: Path
) -> None:
    limit = await needed_context(large_shop, tmp_path)
    behavior = known.context(limit, answers.CONTEXT_REFUSALS["openai"])
    agent = {"context_tokens": limit}
    async with model_world.rig(large_shop, behavior, tmp_path, agent=agent) as rig:
        outcome = await rig.session()
    assert outcome.reason == "goal_met", outcome
    assert [seen.status for seen in rig.upstream.seen] == [200] * STEPS


EXTRA = answers.openai_error("Extra inputs are not permitted", "unsupported_value")


def demands(check: Callable[[dict[str, Any]], bool]) -> Behavior:
    """A provider that refuses a request unless `check` holds."""
    return lambda body, n: known.well_behaved(body, n) if check(body) else Answer(EXTRA, 400)


PROFILES: dict[str, tuple[Behavior, dict[str, Any]]] = {
    "temperature_left_out": (
        demands(lambda b: "temperature" not in b and b["seed"] == 7),
        {"parameters": {"temperature": 0, "seed": 7}, "omit": ["temperature"]},
    ),
    "max_completion_tokens": (
        demands(lambda b: b.get("max_completion_tokens") == 900 and "max_tokens" not in b),
        {"max_tokens": 900},
    ),
    "max_tokens": (
        demands(lambda b: b.get("max_tokens") == 900 and "max_completion_tokens" not in b),
        {"max_tokens": 900, "tokens_field": "max_tokens"},
    ),
    "no_limit_of_tokens": (
        demands(lambda b: "max_tokens" not in b and "max_completion_tokens" not in b),
        {},
    ),
    "no_tool_choice": (demands(lambda b: "tool_choice" not in b), {"tool_choice": False}),
    "tool_choice_until_the_first_call": (
        demands(lambda b: (b.get("tool_choice") == "required") == (len(b["messages"]) == 2)),
        {},
    ),
    "nothing_that_nobody_set": (
        demands(lambda b: set(b) <= {"model", "messages", "tools", "tool_choice"}),
        {"agent": {"stream": False}},
    ),
    "no_stream": (demands(lambda b: not {"stream", "stream_options"} & {*b}), {"omit": ["stream"]}),
    "no_stream_options": (
        demands(lambda b: b["stream"] and "stream_options" not in b),
        {"omit": ["stream_options"]},
    ),
}


@pytest.mark.parametrize("name", PROFILES)
async def test_request_has_what_the_provider_takes_and_nothing_else(
    name: str, shop: Shop, tmp_path: Path
) -> None:
    behavior, settings = PROFILES[name]
    async with model_world.rig(shop, behavior, tmp_path, **settings) as rig:
        outcome = await rig.session()
    assert outcome.reason == "goal_met", outcome
    assert rig.upstream.requests == STEPS


@pytest.mark.parametrize(
    ("seconds", "reason"), [(0.05, "goal_met"), (1.0, "model_error")], ids=["within", "past"]
)
@pytest.mark.usefixtures("short_backoff")
async def test_slow_model_is_waited_for_as_the_settings_allow(
    seconds: float, reason: str, shop: Shop, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"first_byte_seconds": 0.2, "retries": 1}
    async with model_world.rig(shop, known.slow(seconds), tmp_path, **limits) as rig:
        outcome = await rig.session()
    assert outcome.reason == reason, outcome
    if reason != "goal_met":
        assert "upstream_timeout" in outcome.report()["detail"]
        assert outcome.seconds < 0.9


async def test_answer_that_comes_in_pieces_is_waited_for_past_the_first_byte(
    shop: Shop, tmp_path: Path
) -> None:
    behavior = known.first(known.slow(0.15, "trickle"))
    async with model_world.rig(shop, behavior, tmp_path, first_byte_seconds=0.2) as rig:
        assert (await rig.session()).reason == "goal_met"


async def test_no_more_requests_are_in_flight_than_the_concurrency(
    shop: Shop, tmp_path: Path
) -> None:
    async with model_world.rig(
        shop, known.well_behaved, tmp_path, concurrency=2, delay=0.01
    ) as rig:
        outcomes = await asyncio.gather(*(rig.session(slot) for slot in range(1, 7)))
    assert {outcome.reason for outcome in outcomes} == {"goal_met"}
    assert rig.upstream.most_in_flight == 2


FAILING: dict[str, Behavior] = {
    "model_error": REFUSED_KEY,
    "model_truncated": known.says(forms.text("First I would"), "length"),
    "gave_up": known.says(forms.text("Sure!")),
    "model_refused": known.says(forms.text(None, refusal="No.")),
    "context_full": known.always(answers.CONTEXT_REFUSALS["openai"]),
    "model_quota": known.always(answers.QUOTAS["day"]),
}


async def test_agents_whose_sessions_fail_without_a_step_pause_longer_and_longer(
    shop: Shop, tmp_path: Path
) -> None:
    async def requests(name: str) -> tuple[str, int]:
        folder = tmp_path / name
        folder.mkdir()
        agents = {"agents_here": 3}
        async with model_world.rig(shop, FAILING[name], folder, agent=agents) as rig:
            host = rig.host()
            running = asyncio.create_task(host.run())
            await asyncio.sleep(1.5)
            await stop(host, running)
        return name, rig.upstream.requests

    found = dict(await asyncio.gather(*map(requests, FAILING)))
    # Three agents, at most four sessions each, of two requests where the model is reminded.
    assert all(count <= 24 for count in found.values()), found
    assert found["model_quota"] <= 3


async def test_fleet_shows_the_words_of_the_provider_and_the_repaired_calls(
    tmp_path: Path,
) -> None:
    nested = known.each(forms.NEAR_MISSES["nested_parameters"])

    def either(body: dict[str, Any], count: int) -> Answer:
        """The agent of slot 1 is refused, the other one writes nested arguments."""
        first = "agent-0001" in str(body["messages"][0])
        return (REFUSED_KEY if first else nested)(body, count)

    async with (
        model_world.shop() as shop,
        model_world.rig(shop, either, tmp_path, agent={"agents_here": 2}) as rig,
    ):
        host = rig.host()
        running = asyncio.create_task(host.run())

        async def both() -> bool:
            sessions = (await fleet(shop))["sessions"]
            return bool(sessions["success"] and sessions["failure"])

        await until(both)
        await stop(host, running)
        sessions = (await fleet(shop))["sessions"]
        metrics = await _text(f"{shop.gateway}/metrics")
    assert sessions["by_reason"] == {"model_error": sessions["failure"]}
    [shown] = sessions["failures"]
    assert (shown["reason"], shown["sessions"]) == ("model_error", sessions["failure"])
    assert "Wrong API Key" in shown["detail"]
    assert "wrong_api_key" in shown["detail"]
    repaired = re.search(r'ape_agent_repaired_calls_total\{kind="nested"\} (\d+)', metrics)
    assert repaired is not None
    assert int(repaired[1]) >= STEPS


async def _text(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def test_user_agent_names_the_product_and_its_version(shop: Shop, tmp_path: Path) -> None:
    rig: Rig
    async with model_world.rig(shop, known.well_behaved, tmp_path) as rig:
        await rig.session()
    assert re.search(r"(?i)\bape[a-z-]*/\d", rig.upstream.seen[0].headers.get("User-Agent", ""))
