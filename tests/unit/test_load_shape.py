"""The shape of a load: targets, and the times at which sessions are to start."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_contracts.load_shape import (
    Stage,
    arrivals,
    most_from,
    next_above,
    stage_at,
    target_at,
    total_area,
    total_seconds,
)

pytestmark = pytest.mark.unit
UP_AND_DOWN = (Stage(10, 0, 10), Stage(20, 10, 10), Stage(5, 10, 0))
targets = st.floats(0, 50)
shapes = st.lists(
    st.builds(Stage, st.floats(0.1, 100), targets, targets), min_size=1, max_size=4
).map(tuple)


def times(*stages: Stage, poisson: bool = False, seed: str = "1") -> list[float]:
    return list(arrivals(stages, poisson=poisson, seed=seed))


def expected_until(stages: tuple[Stage, ...], seconds: float) -> float:
    """The integral of the rate, by its own arithmetic."""
    index, inside = stage_at(stages, seconds)
    before = math.fsum(stage.area for stage in stages[:index])
    stage = stages[index]
    return before + inside * (stage.start + stage.at(inside)) / 2


@pytest.mark.parametrize(
    ("seconds", "target"),
    [(-1, 0), (0, 0), (2.5, 2.5), (10, 10), (29.9, 10), (32.5, 5), (34.9, 0.2), (35, 0), (99, 0)],
)
def test_target_changes_evenly_within_a_stage(seconds: float, target: float) -> None:
    assert target_at(UP_AND_DOWN, seconds) == pytest.approx(target)


def test_target_jumps_at_a_boundary_to_the_later_stage() -> None:
    stages = (Stage(1, 3, 3), Stage(1, 7, 7))
    assert target_at(stages, math.nextafter(1, 0)) == 3
    assert target_at(stages, 1) == 7
    assert stage_at(stages, 1) == (1, 0)
    assert total_seconds(stages) == 2


def test_constant_arrivals_come_at_equal_intervals() -> None:
    assert times(Stage(2, 4, 4)) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_arrivals_of_a_ramp_come_when_its_integral_is_whole() -> None:
    # The integral of a rate of t is t²/2.
    assert times(Stage(10, 0, 10)) == pytest.approx([math.sqrt(2 * n) for n in range(50)])
    assert len(times(Stage(10, 10, 0))) == 50


def test_stage_without_a_rate_has_no_arrivals() -> None:
    made = times(Stage(2, 1, 1), Stage(10, 0, 0), Stage(2, 1, 1))
    assert made == [0, 1, 12, 13]


def test_constant_arrivals_do_not_drift_within_ten_minutes() -> None:
    # 0.1 is not a binary number: sums of it would be off.
    made = times(*[Stage(0.1, 37, 37)] * 6000)
    assert len(made) == 600 * 37
    assert max(abs(at - n / 37) for n, at in enumerate(made)) < 1e-6


@given(shapes)
@settings(max_examples=25)
def test_arrivals_are_as_many_as_the_integral_and_each_at_its_number(
    stages: tuple[Stage, ...],
) -> None:
    made = list(itertools.islice(arrivals(stages, poisson=False, seed=""), 3000))
    assert made == sorted(made)
    if len(made) < 3000:
        assert len(made) - 1e-6 <= math.ceil(total_area(stages)) <= len(made) + 1
    for number, at in list(enumerate(made))[:: max(1, len(made) // 50)]:
        assert expected_until(stages, at) == pytest.approx(number, abs=1e-4)


def kolmogorov_smirnov(sample: list[float]) -> float:
    """The largest distance of a sample's distribution from that of a unit exponential."""
    ordered, size = sorted(sample), len(sample)
    found = 0.0
    for number, value in enumerate(ordered):
        expected = 1 - math.exp(-value)
        found = max(found, (number + 1) / size - expected, expected - number / size)
    return found


@pytest.mark.parametrize("stages", [(Stage(500, 20, 20),), (Stage(1000, 0, 20),)])
def test_poisson_intervals_are_exponential(stages: tuple[Stage, ...]) -> None:
    made = times(*stages, poisson=True)
    # Of a rate that changes, in units of the expected number.
    scaled = [expected_until(stages, at) for at in made]
    gaps = [b - a for a, b in itertools.pairwise([0.0, *scaled])]
    assert 9700 < len(gaps) < 10_300
    # At 1 %; the constant arrivals are far above it.
    critical = 1.628 / math.sqrt(len(gaps))
    assert kolmogorov_smirnov(gaps) < critical
    assert kolmogorov_smirnov([1.0] * len(gaps)) > 10 * critical
    mean = sum(gaps) / len(gaps)
    products = [(a - mean) * (b - mean) for a, b in itertools.pairwise(gaps)]
    # And independent of the one before.
    assert abs(sum(products) / len(products)) < 0.05


def test_poisson_arrivals_follow_from_their_seed() -> None:
    stage = Stage(20, 5, 5)
    assert times(stage, poisson=True) == times(stage, poisson=True)
    assert times(stage, poisson=True) != times(stage, poisson=True, seed="2")


@pytest.mark.parametrize(
    ("level", "since", "expected"),
    [(0, 0, 0), (3, 0, 3), (3, 5, 5), (9.5, 31, None), (10, 0, None), (5, 31, 31), (5, 33, None)],
)
def test_target_is_next_above_a_level_where_its_line_crosses_it(
    level: float, since: float, expected: float | None
) -> None:
    assert next_above(UP_AND_DOWN, level, since) == expected


def test_highest_target_is_that_of_what_is_left() -> None:
    assert most_from(UP_AND_DOWN, 0) == 10
    assert most_from(UP_AND_DOWN, 32.5) == 5
    assert most_from((Stage(1, 9, 9), Stage(1, 2, 4)), 1) == 4
