"""Limits of the provider: all agents wait until the reset, and nothing is sent meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ape_proxy.errors import ProxyError
from ape_proxy.limiter import Limiter, Limits, Pauses
from ape_proxy.resets import seconds_of, wait_of
from tests.support.provider import Handler, Rig, good, says, status

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("short_backoff")]
RESET, LEFT = "x-ratelimit-reset-", "x-ratelimit-remaining-"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("33011.382867", 33011.382867),
        ("0", 0),
        ("3.66s", 3.66),
        ("6ms", 0.006),
        ("2m59.56s", 179.56),
        ("1h2m", 3720),
        ("1d", 86400),
        ("1H2M3S", 3723),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("3.66s later", None),
    ],
)
def test_reset_is_read_in_each_form_of_a_duration(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


def test_reset_is_read_as_a_time_since_1970() -> None:
    for scale in (1, 1000):
        assert seconds_of(str(int((time.time() + 60) * scale))) == pytest.approx(60, abs=2)
        assert seconds_of(str(int((time.time() - 60) * scale))) == 0


@given(
    st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999), st.booleans()
)
def test_duration_is_the_sum_of_its_parts(h: int, m: int, s: int, ms: int, whole: bool) -> None:
    parts = [(h, "h"), (m, "m"), (s, "s"), (ms, "ms")]
    text = "".join(f"{n}{unit}" for n, unit in parts if n or whole) or "0s"
    assert seconds_of(text) == pytest.approx(h * 3600 + m * 60 + s + ms / 1000)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After-Ms": "1500"}, 1.5),
        ({"Retry-After": "soon"}, None),
        # Cerebras
        ({f"{LEFT}tokens-minute": "0", f"{RESET}tokens-minute": "4.5"}, 4.5),
        ({f"{LEFT}tokens-minute": "12", f"{RESET}tokens-minute": "4.5"}, None),
        (
            {f"{LEFT}tokens-minute": "0", f"{RESET}tokens-minute": "4.5"}
            | {f"{LEFT}requests-day": "0", f"{RESET}requests-day": "33011.38"}
            | {f"{LEFT}requests-hour": "5", f"{RESET}requests-hour": "99999"},
            33011.38,
        ),
        # Groq and OpenAI
        ({f"{LEFT}tokens": "0", f"{RESET}tokens": "3.66s"}, 3.66),
        ({f"{LEFT}requests": "0", f"{RESET}requests": "2m59.56s", "retry-after": "2"}, 179.56),
        # Spelled as the provider likes, without a reset, or with one that cannot be right.
        ({"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "6ms"}, 0.006),
        ({f"{LEFT}tokens": "0"}, None),
        ({f"{LEFT}tokens": "none", f"{RESET}tokens": "9s"}, None),
        ({f"{LEFT}tokens": "0", f"{RESET}tokens": "99999999"}, None),
    ],
)
def test_wait_is_the_longest_of_the_exhausted_limits(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert wait_of(CIMultiDict(headers)) == seconds


@given(
    st.dictionaries(st.sampled_from(["retry-after", f"{LEFT}a", f"{RESET}a"]), st.text(max_size=12))
)
def test_wait_of_any_headers_is_a_bounded_number_or_none(headers: dict[str, str]) -> None:
    wait = wait_of(headers)
    assert wait is None or 0 <= wait <= 366 * 86400


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=20))
def test_pauses_count_no_second_twice(steps: list[tuple[float, float]]) -> None:
    now, pauses = 100.0, Pauses(100.0)
    paused: list[tuple[float, float]] = []
    for gap, length in steps:
        now += gap
        before = pauses.seconds(now)
        pauses.add(now, now + length)
        paused.append((now, now + length))
        assert pauses.seconds(now) == pytest.approx(before), "the past stays as it is"
    union, last = 0.0, 0.0
    for begin, end in paused:
        union += max(0.0, min(end, now) - max(begin, last))
        last = max(last, min(end, now))
    assert pauses.seconds(now) == pytest.approx(union)


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_pause_does_not_count_against_the_time_in_the_queue() -> None:
    limiter = Limiter(Limits(in_flight=1, queue_seconds=0.15))
    limiter.pause(0.3)
    async with limiter.reserve("a", 1, soon()):
        began = soon(0)
        with pytest.raises(ProxyError) as caught:
            async with limiter.reserve("b", 1, soon()):
                pass
        assert caught.value.code == "queue_deadline"
        assert 0.14 < soon(0) - began < 1, "other waits count"


async def test_pause_that_begins_while_requests_are_queued_extends_their_time() -> None:
    limiter = Limiter(Limits(in_flight=1, queue_seconds=0.2))
    order: list[str] = []

    async def one(name: str, end: float) -> None:
        try:
            async with limiter.reserve(name, 1, end):
                order.append(name)
        except ProxyError as problem:
            order.append(f"{name} {problem.code}")

    async with limiter.reserve("first", 1, soon()):
        tasks = [asyncio.create_task(one("b", soon(5))), asyncio.create_task(one("c", soon(0.3)))]
        await asyncio.sleep(0.05)
        limiter.pause(0.4)
        await asyncio.sleep(0.01)
        assert order == ["c quota_exhausted"], "it cannot wait for the end of the pause"
    await asyncio.gather(*tasks)
    assert order == ["c quota_exhausted", "b"]
    assert (limiter.queued, limiter.in_flight) == (0, 0)


KINDS = ["retry", "retry-ms", "date", "cerebras", "groq"]


def window(kind: str, seconds: float, asked: list[float]) -> Handler:
    """429 for that long after the first request, with the header of `kind`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        now = time.monotonic()
        asked.append(now)
        left = seconds - (now - asked[0])
        if left <= 0:
            return await good(request)
        date = formatdate(-(-(time.time() + left) // 1), usegmt=True)
        headers = {
            "retry": {"Retry-After": f"{left:.3f}"},
            "retry-ms": {"Retry-After-Ms": f"{left * 1000:.0f}"},
            "date": {"Retry-After": date},
            "cerebras": {f"{LEFT}tokens-minute": "0", f"{RESET}tokens-minute": f"{left:.3f}"},
            "groq": {f"{LEFT}tokens": "0", f"{RESET}tokens": f"{left:.2f}s"},
        }[kind]
        error = {"message": "Tokens per minute limit exceeded.", "code": "token_quota_exceeded"}
        return await says(error, 429, **headers)(request)

    return answer


@pytest.mark.parametrize("kind", KINDS)
async def test_all_agents_wait_until_the_reset_and_then_succeed(rig: Any, kind: str) -> None:
    asked: list[float] = []
    # Half a second of queue: the wait for the provider does not count.
    limits = Limits(queue_seconds=0.5)
    here: Rig = await rig(window(kind, 0.8, asked), limits=limits)
    tasks = [asyncio.create_task(here.ask()) for _ in range(5)]
    while len(asked) < 5:
        await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(here.ask()) for _ in range(15)]
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
    meanwhile = [at for at in asked[5:] if at < asked[0] + 0.8]
    assert meanwhile == [], "nothing is sent before the reset"
    assert len(asked) == 25


async def test_reset_that_the_provider_rounds_down_is_waited_for(rig: Any) -> None:
    began = time.monotonic()

    async def rounds(request: web.Request) -> web.StreamResponse:
        if time.monotonic() - began < 0.24:
            headers = {f"{LEFT}tokens": "0", f"{RESET}tokens": "0.2s"}
            return await says({"error": "x"}, 429, **headers)(request)
        return await good(request)

    here = await rig(rounds, retries=1)
    began = time.monotonic()
    assert ((await here.ask()).status, len(here.provider.seen)) == (200, 2)


async def test_daily_limit_ends_completions_at_once_until_its_reset(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {f"{LEFT}requests-day": "0", f"{RESET}requests-day": "33011.382867"}
    here = await rig(says({"error": {"message": "Day's over."}}, 429, **headers))
    began = time.monotonic()
    answers = await asyncio.gather(*(here.ask() for _ in range(5)))
    seen = len(here.provider.seen)
    answers += [await here.ask() for _ in range(5)]
    assert time.monotonic() - began < 2
    reset = time.strftime("%Y-%m-%d %H:", time.gmtime(time.time() + 33011.4))
    for got in answers:
        error = (await got.json())["error"]
        assert (got.status, error["code"]) == (429, "quota_exhausted")
        assert reset in error["message"]
        assert "Day's over." in error["message"]
        assert got.headers["x-should-retry"] == "false"
    assert len(here.provider.seen) == seen <= 5, "nobody asks before the reset"
    lines = [r for r in caplog.records if reset in str(r.__dict__)]
    assert [r.getMessage() for r in lines] == ["quota exhausted"]
    assert reset in lines[0].__dict__["ape"]["until"]


async def test_limit_that_ends_later_than_the_completion_is_remembered_until_then(
    rig: Any,
) -> None:
    here = await rig(status(429, Retry_After="0.7"), good, timeout=0.5)
    assert (await (await here.ask()).json())["error"]["code"] == "quota_exhausted"
    assert (await here.ask()).status == 429
    assert len(here.provider.seen) == 1
    await asyncio.sleep(0.4)
    assert (await here.ask()).status == 200, "a completion that can wait for the reset does"


async def test_queued_requests_are_rejected_when_the_quota_is_exhausted(rig: Any) -> None:
    begun = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        begun.set()
        await asyncio.sleep(0.2)
        return await status(429, Retry_After="3600")(request)

    here = await rig(slow, limits=Limits(in_flight=1))
    began = time.monotonic()
    answers = await asyncio.gather(*(here.ask() for _ in range(10)))
    assert {(await a.json())["error"]["code"] for a in answers} == {"quota_exhausted"}
    assert (len(here.provider.seen), time.monotonic() - began < 2) == (1, True)


async def test_rejection_of_the_provider_keeps_its_body_and_headers(rig: Any) -> None:
    here = await rig(
        status(429, Retry_After="0.2", X_RateLimit_Limit_Requests="9"), timeout=3, retries=0
    )
    got = await here.ask()
    assert (got.status, got.headers["Retry-After"]) == (429, "0.2")
    assert (got.headers["X-RateLimit-Limit-Requests"], got.headers["x-should-retry"]) == (
        "9",
        "false",
    )
    assert await got.json() == {"error": {"message": "own 429"}}
    assert await here.metric("ape_proxy_requests_total", result="error", status="429") == 1
    assert len(here.provider.seen) == 1
