"""The shape of a load: stages between whose targets it changes evenly, as pure functions.

A target is a number of active agents, or of sessions that start per second.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

# What is left of an arrival through rounding is none.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Stage:
    """`seconds` (above 0) in which the target goes from `start` to `end`, evenly."""

    seconds: float
    start: float
    end: float

    @property
    def area(self) -> float:
        return self.seconds * (self.start + self.end) / 2

    def at(self, seconds: float) -> float:
        return self.start + (self.end - self.start) * seconds / self.seconds

    def seconds_until(self, area: float) -> float:
        """After which the area below the target is `area`, at most the whole stage's."""
        rise = (self.end - self.start) / self.seconds
        root = math.sqrt(max(0.0, self.start**2 + 2 * rise * area))
        # This form of the quadratic formula loses no digits where the target hardly changes.
        return min(self.seconds, 2 * area / (self.start + root)) if area > 0 else 0.0


def total_seconds(stages: Sequence[Stage]) -> float:
    return math.fsum(stage.seconds for stage in stages)


def total_area(stages: Sequence[Stage]) -> float:
    """All arrivals of stages whose targets are rates."""
    return math.fsum(stage.area for stage in stages)


def stage_at(stages: Sequence[Stage], seconds: float) -> tuple[int, float]:
    """The index of the stage at a time since the start, and the seconds in it.

    At a boundary the later stage counts, and after the end the end of the last one.
    """
    begun = 0.0
    for index, stage in enumerate(stages):
        if seconds < begun + stage.seconds:
            return index, max(0.0, seconds - begun)
        begun += stage.seconds
    return len(stages) - 1, stages[-1].seconds


def target_at(stages: Sequence[Stage], seconds: float) -> float:
    """The target at a time since the start; 0 outside of the stages."""
    if not 0 <= seconds < total_seconds(stages):
        return 0.0
    index, inside = stage_at(stages, seconds)
    return stages[index].at(inside)


def most_from(stages: Sequence[Stage], seconds: float) -> float:
    """The highest target from a time until the end."""
    first, inside = stage_at(stages, seconds)
    later = [max(stage.start, stage.end) for stage in stages[first + 1 :]]
    return max(stages[first].at(inside), stages[first].end, *later, 0.0)


def next_above(stages: Sequence[Stage], level: float, seconds: float) -> float | None:
    """The first time from `seconds` on from which the target is above `level`; None: never."""
    first, inside = stage_at(stages, max(0.0, seconds))
    begun = math.fsum(stage.seconds for stage in stages[:first])
    for stage in stages[first:]:
        if stage.at(inside) > level:
            return begun + inside
        if stage.end > level:
            crossing = stage.seconds * (level - stage.start) / (stage.end - stage.start)
            return begun + max(inside, crossing)
        begun, inside = begun + stage.seconds, 0.0
    return None


def arrivals(stages: Sequence[Stage], *, poisson: bool, seed: str) -> Iterator[float]:
    """When sessions are to start, in seconds since the start; the targets are rates per second.

    Constant: when the expected number of arrivals passes 0, 1, 2, and so on; each is computed from
    its own number, so that nothing drifts. Poisson: the sums of intervals of a unit rate, through
    the same function, which gives a Poisson process of the rate of the stages.
    """
    numbers = _unit_arrivals(seed) if poisson else _whole_numbers()
    due = next(numbers)
    # Exact sums, however many stages there are.
    passed, begun = Fraction(), Fraction()
    for stage in stages:
        area, before, since = stage.area, float(passed), float(begun)
        while due - before < area - _ROUNDING:
            yield since + stage.seconds_until(due - before)
            due = next(numbers)
        passed, begun = passed + Fraction(area), begun + Fraction(stage.seconds)


def _whole_numbers() -> Iterator[float]:
    number = 0
    while True:
        yield float(number)
        number += 1


def _unit_arrivals(seed: str) -> Iterator[float]:
    chance, at = random.Random(f"{seed}/arrivals"), 0.0  # noqa: S311 - no secret
    while True:
        at += chance.expovariate(1.0)
        yield at
