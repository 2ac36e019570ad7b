"""Counts and durations of a run by key, which can be added and subtracted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ape_contracts.sketch import Sketch, SketchError


class Key(NamedTuple):
    """`kind`: requests, sessions, failures, run or model. `what` is counted, such as status.

    `endpoint`: method and template; of `failures`, the detail. `label`: such as 2xx.
    """

    kind: str
    what: str
    scenario: str = ""
    phase: str = ""
    endpoint: str = ""
    label: str = ""


@dataclass
class Tally:
    counts: dict[Key, float] = field(default_factory=dict)
    sketches: dict[Key, Sketch] = field(default_factory=dict)

    def add(self, key: Key, number: float) -> None:
        self.counts[key] = self.counts.get(key, 0) + number

    def where(self, wanted: Callable[[Key], bool]) -> Tally:
        """The part with the wanted keys."""
        return Tally(
            {key: n for key, n in self.counts.items() if wanted(key)},
            {key: s for key, s in self.sketches.items() if wanted(key)},
        )

    def total(self, wanted: Callable[[Key], bool]) -> float:
        return sum(n for key, n in self.counts.items() if wanted(key))

    def durations(self, wanted: Callable[[Key], bool]) -> Sketch:
        return Sketch().merged(s for key, s in self.sketches.items() if wanted(key))

    def all(self) -> Iterator[Key]:
        """The keys of both."""
        yield from self.counts
        yield from self.sketches


def plus(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    found, parts = Tally(), dict[Key, list[Sketch]]()
    for each in tallies:
        for key, number in each.counts.items():
            found.add(key, number)
        for key, sketch in each.sketches.items():
            parts.setdefault(key, []).append(sketch)
    found.sketches = {key: Sketch().merged(those) for key, those in parts.items()}
    return found


def minus(later: Tally, earlier: Tally) -> Tally:
    """What was added to the same source since. What is not a later state of it counts whole."""
    found = Tally()
    for key, number in later.counts.items():
        before = earlier.counts.get(key, 0)
        if change := number - before if number >= before else number:
            found.counts[key] = change
    for key, sketch in later.sketches.items():
        try:
            change_of = sketch.minus(earlier.sketches.get(key) or Sketch())
        except SketchError:
            change_of = sketch
        if change_of.count:
            found.sketches[key] = change_of
    return found


def above(sketch: Sketch, limit: float) -> int:
    """The number of samples above the limit, as exact as the bins are."""
    low, high = 0, sketch.count
    # The largest rank whose value is at most the limit.
    while low < high:
        middle = (low + high + 1) // 2
        value = sketch.quantile(middle / sketch.count)
        if value is not None and value <= limit:
            low = middle
        else:
            high = middle - 1
    return sketch.count - low
