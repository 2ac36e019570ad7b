"""The limits that services share: Retry-After, token bucket, memory budget."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ape_service.memory import MemoryBudget, MemoryExhausted, MemoryReservation
from ape_service.retry_after import retry_after
from ape_service.token_bucket import TokenBucket

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After-Ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "-1"}, None),
    ],
)
def test_retry_after_gives_seconds_of_a_number_or_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(CIMultiDict(headers)) == seconds


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 30), st.floats(1, 500)), min_size=1, max_size=60),
)
def test_token_bucket_never_grants_more_than_its_rate(
    per_minute: int, steps: list[tuple[float, float]]
) -> None:
    """In any t seconds at most one minute's tokens are taken, and those that t seconds refill."""
    bucket, now = TokenBucket(per_minute, 0.0), 0.0
    taken: list[tuple[float, float]] = []
    for pause, amount in steps:
        amount = min(amount, per_minute)
        now += pause
        now += bucket.wait(amount, now)
        assert bucket.wait(amount, now) == 0, "the tokens are available after the wait"
        bucket.take(amount, now)
        taken.append((now, amount))
    for i, (begin, _) in enumerate(taken):
        total = 0.0
        for end, amount in taken[i:]:
            total += amount
            assert total <= per_minute * (1 + (end - begin) / 60) + 0.01


def test_token_bucket_takes_back_unused_tokens_and_owes_those_used_beyond() -> None:
    bucket = TokenBucket(600, 0.0)
    bucket.take(600, 0.0)
    assert bucket.wait(100, 0.0) == pytest.approx(10)
    bucket.take(-100, 0.0)
    assert bucket.wait(100, 0.0) == 0
    bucket.take(200, 0.0)
    assert bucket.wait(100, 0.0) == pytest.approx(20)
    assert bucket.wait(600, 3600.0) == 0
    assert bucket.wait(601, 3600.0) > 0, "at most one minute's tokens are saved"
    assert TokenBucket(0, 0.0).wait(10**9, 0.0) == 0


def test_memory_budget_rejects_what_exceeds_it_and_gets_it_back() -> None:
    budget = MemoryBudget(100)
    with MemoryReservation(budget) as one, MemoryReservation(budget) as other:
        one.grow(60)
        other.grow(40)
        with pytest.raises(MemoryExhausted):
            other.grow(1)
        one.shrink(10)
        other.grow(10)
        assert (one.size, other.size, budget.free) == (50, 50, 0)
    assert budget.free == 100


async def test_memory_budget_lets_a_request_wait_until_memory_is_free() -> None:
    budget = MemoryBudget(100)
    with MemoryReservation(budget) as other:
        with MemoryReservation(budget) as one:
            one.grow(100)
            with pytest.raises(MemoryExhausted):
                await other.grow_within(50, 0.01)
            waiting = [asyncio.create_task(other.grow_within(50, 5)) for _ in range(2)]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert (other.size, budget.free) == (100, 0)
    assert budget.free == 100
