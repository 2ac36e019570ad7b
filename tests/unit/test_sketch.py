"""Sketches: percentiles within 1 % of those of the sorted samples, however they came together."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_contracts.sketch import LARGEST, SMALLEST, Sketch, SketchError

pytestmark = pytest.mark.unit
QUANTILES = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
_random = random.Random(7)  # noqa: S311 - no secret
DISTRIBUTIONS: dict[str, Callable[[], float]] = {
    "uniform": lambda: _random.uniform(0.001, 2),
    "exponential": lambda: _random.expovariate(20),
    "lognormal": lambda: _random.lognormvariate(-3, 1.5),
    "pareto": lambda: 0.01 * _random.paretovariate(1.1),
    "two_modes": lambda: _random.choice((0.02, 2.0)) * _random.uniform(0.9, 1.1),
    "constant": lambda: 0.25,
}


def sketch_of(values: list[float]) -> Sketch:
    made = Sketch()
    for value in values:
        made.add(value)
    return made


def exact(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered), max(1, math.ceil(q * len(ordered) - 1e-9))) - 1]


def assert_close(sketch: Sketch, values: list[float], within: float = 0.0051) -> None:
    assert sketch.count == len(values)
    for q in QUANTILES:
        assert sketch.quantile(q) == pytest.approx(exact(values, q), rel=within), q
    assert sketch.sum == pytest.approx(sum(values))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_are_close_to_those_of_the_sorted_samples(name: str) -> None:
    values = [DISTRIBUTIONS[name]() for _ in range(3000)]
    made = sketch_of(values)
    assert_close(made, values)
    assert (made.min, made.max) == (min(values), max(values))
    assert_close(Sketch.of(json.loads(json.dumps(made.plain()))), values)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_merged_sketches_have_the_percentiles_of_all_samples(name: str) -> None:
    parts = [[DISTRIBUTIONS[name]() for _ in range(n)] for n in (900, 1, 700)]
    # Other values: of another range than the first.
    parts.append([value * 50 for value in parts[0]])
    whole = [value for part in parts for value in part]
    sketches = [sketch_of(part) for part in parts]
    assert_close(Sketch().merged(sketches), whole)
    assert_close(sketches[0].merged(sketches[1:]), whole)
    assert_close(sketches[0], parts[0])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_difference_has_the_percentiles_of_what_came_later(name: str) -> None:
    early = [DISTRIBUTIONS[name]() for _ in range(800)]
    late = [DISTRIBUTIONS[name]() for _ in range(900)]
    made = sketch_of(early)
    before = Sketch.of(made.plain())
    for value in late:
        made.add(value)
    # Its extremes are as exact as the bins are.
    assert_close(made.minus(before), late, within=0.0051)
    assert_close(made, early + late)


def test_difference_from_nothing_and_to_the_same_is_exact() -> None:
    made = sketch_of([0.1, 0.2, 0.7])
    assert made.minus(Sketch()).plain() == made.plain()
    assert made.minus(made).plain() == Sketch().plain()
    with pytest.raises(SketchError, match="not an earlier state"):
        sketch_of([0.1]).minus(sketch_of([5.0]))


def test_few_samples_have_the_percentiles_of_their_ranks() -> None:
    made = sketch_of([10.0, 1.0])
    assert made.quantile(0.5) == pytest.approx(1.0, rel=0.005)
    # At least 95 % of two samples are both.
    assert (made.quantile(0.95), made.quantile(0.51)) == (10.0, 10.0)
    twenty = sketch_of([float(n) for n in range(1, 21)])
    assert twenty.quantile(0.95) == pytest.approx(19, rel=0.005)
    assert (Sketch().quantile(0.5), Sketch().mean, Sketch().min) == (None, None, None)
    assert made.mean == pytest.approx(5.5)


def test_bins_are_bounded_whatever_the_values_are() -> None:
    made = sketch_of([10.0**n for n in range(-300, 300)])
    made.add(-1.0)
    made.add(math.nan)
    made.add(math.inf)
    assert made.count == 603
    assert (made.min, made.max) == (0.0, LARGEST)
    assert len(made.plain()["bins"]) <= 2994
    assert Sketch.of(made.plain()).plain() == made.plain()
    for value in (SMALLEST, LARGEST):
        assert sketch_of([value, value]).quantile(0.4) == pytest.approx(value, rel=0.005)


GOOD = sketch_of([0.0, 0.1, 0.1, 3.0]).plain()
BIN = next(iter(GOOD["bins"]))


@pytest.mark.parametrize(
    "changed",
    [
        None,
        [],
        "x",
        {},
        GOOD | {"more": 1},
        GOOD | {"count": 5},
        GOOD | {"count": True},
        GOOD | {"zero": -1},
        GOOD | {"sum": math.nan},
        GOOD | {"sum": -1},
        GOOD | {"min": 4.0},
        GOOD | {"max": None},
        GOOD | {"max": math.inf},
        GOOD | {"bins": []},
        GOOD | {"bins": GOOD["bins"] | {BIN: 2.0}},
        GOOD | {"bins": GOOD["bins"] | {BIN: 0}},
        GOOD | {"bins": GOOD["bins"] | {BIN: 10**16}},
        GOOD | {"bins": GOOD["bins"] | {"9999": 1}, "count": 5},
        GOOD | {"bins": GOOD["bins"] | {"-0": 1}, "count": 5},
        GOOD | {"bins": GOOD["bins"] | {"01": 1}, "count": 5},
        GOOD | {"bins": {str(n): 1 for n in range(-1000, 3000)}},
        Sketch().plain() | {"sum": 1.0},
    ],
)
def test_data_that_is_not_a_sketch_is_refused(changed: Any) -> None:
    Sketch.of(GOOD)
    with pytest.raises(SketchError):
        Sketch.of(changed)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1e6), max_size=30), st.lists(st.floats(0, 1e6), max_size=30))
def test_a_difference_after_a_merge_has_the_bins_of_what_was_merged(
    a: list[float], b: list[float]
) -> None:
    first, second = sketch_of(a), sketch_of(b)
    again = Sketch.of(first.merged([second]).minus(first).plain()).plain()
    assert again["bins"] == second.plain()["bins"]
    assert (again["count"], again["zero"]) == (second.count, second.plain()["zero"])
