"""The estimated duration of a scale, from a history of updates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.planning.tiers import tier_for
from ape_infra.rollout.estimate import UpdateSpeed, Waves, fit_speed, points, seconds
from ape_infra.rollout.levels import levels

pytestmark = pytest.mark.unit


def entry(start: str, end: str, **changes: int) -> dict[str, object]:
    return {
        "kind": "update",
        "result": "succeeded",
        "startTime": f"2026-01-01T10:00:{start}.000Z",
        "endTime": f"2026-01-01T10:00:{end}.000Z",
        "resourceChanges": changes,
    }


def test_speed_is_fitted_to_the_successful_updates() -> None:
    history: list[dict[str, Any]] = [
        entry("00", "05", create=10, same=5),
        entry("10", "25", create=50),
        {"kind": "refresh", "result": "succeeded"},
        entry("30", "31", create=900) | {"result": "failed"},
    ]
    assert points(history) == [(10, 5.0), (50, 15.0)]
    found = fit_speed(points(history))
    assert (found.base, found.each) == pytest.approx((2.5, 0.25))
    assert found.seen == 2
    assert found.seconds(100) == pytest.approx(27.5)


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1000)), max_size=20))
def test_a_fitted_speed_is_never_negative(seen: list[tuple[int, float]]) -> None:
    found = fit_speed(seen)
    assert found.base >= 0
    assert found.each >= 0


def test_an_estimate_counts_waves_and_observation_windows() -> None:
    steps = levels(40, 60, tier_for)
    waves, speed = Waves(10, 3, 15), UpdateSpeed(2, 0.1, 1)
    # One level: 20 start and 40 are replaced, in 4 waves.
    assert seconds(steps, speed, [75.0], waves) == pytest.approx(2 + 0.1 * 60 + 4 * 18 + 4 * 2 + 75)
    # The same as services: two steps of ten, each an update of one, and Swarm's own waves.
    assert seconds(steps, speed, [75.0], waves, agents_per_update=10) == pytest.approx(
        2 * 2.1 + 4 * 18 + 75
    )


def test_an_estimate_counts_containers_not_agents() -> None:
    waves, speed = Waves(10, 3, 15), UpdateSpeed(2, 0.1, 1)
    alone = seconds(levels(100, 150, tier_for, None), speed, [0.0], waves)
    dense = seconds(
        levels(2000, 3000, lambda agents: tier_for(agents // 20), None),
        speed,
        [0.0],
        waves,
        agents_per_container=20,
    )
    assert dense == pytest.approx(alone)
