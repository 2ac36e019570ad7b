"""The levels of a scale between any two sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.config.fleet import FleetSettings
from ape_infra.planning.tiers import MAX_AGENTS, tier_for
from ape_infra.rollout.levels import FIRST_STEP, MAX_STEP, levels, sizes, start_steps

pytestmark = pytest.mark.unit
SIZE = st.integers(1, MAX_AGENTS)
STEP = st.integers(1, MAX_STEP)


@given(st.integers(0, MAX_AGENTS), SIZE, STEP)
def test_levels_end_at_the_goal_in_steps_of_at_most_the_given_size(
    now: int, goal: int, step: int
) -> None:
    at = now
    for level in levels(now, goal, tier_for, step):
        assert level.previous_agents == at
        assert abs(level.agents - at) <= step
        assert (level.agents > at) == (goal > now), "one direction"
        if level.agents > at:
            assert level.agents - at <= max(FIRST_STEP, at), "a small fleet at most doubles"
        at = level.agents
    assert at == goal


@given(SIZE, SIZE, STEP)
def test_a_level_crosses_only_where_the_tier_changes(now: int, goal: int, step: int) -> None:
    for level in levels(now, goal, tier_for, step):
        changes = tier_for(level.previous_agents) != tier_for(level.agents)
        assert level.crosses == changes
        assert level.replaces == (min(level.previous_agents, level.agents) if changes else 0)
        assert level.tier == tier_for(level.agents)


@given(SIZE, SIZE, STEP)
def test_a_fleet_sized_for_its_goal_crosses_no_tier(now: int, goal: int, step: int) -> None:
    largest = max(now, goal)
    fleet = FleetSettings(sized_for=largest)
    for level in levels(now, goal, fleet.tier_of, step):
        assert not level.crosses
        assert level.tier == tier_for(largest)


def test_sizes_double_first_and_then_grow_by_the_step() -> None:
    assert list(sizes(5, 60)) == [15, 30, 60]
    assert list(sizes(60, 300)) == [110, 160, 210, 260, 300]
    assert list(sizes(60, 5)) == [10, 5]
    assert list(sizes(5, 60, None)) == [60]
    assert list(sizes(5, 5)) == []


@given(st.integers(0, MAX_AGENTS), SIZE, st.integers(1, 100))
def test_start_steps_never_exceed_the_width(before: int, agents: int, width: int) -> None:
    at = before
    for size in start_steps(before, agents, width):
        assert size - at <= width
        at = size
    assert at == agents


@pytest.mark.parametrize("step", [0, -1, MAX_STEP + 1])
def test_a_step_out_of_range_is_rejected(step: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        list(sizes(1, 9, step))
