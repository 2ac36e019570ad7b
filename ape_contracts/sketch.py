"""Durations in bins: their count, sum and percentiles, which can be merged and subtracted.

A DDSketch (https://arxiv.org/abs/1908.10693): the bounds of the bins grow by a constant factor, so
that a percentile is off by at most ACCURACY of itself, however many samples there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from ddsketch import LogarithmicMapping
from ddsketch.store import DenseStore

ACCURACY = 0.005
# A smaller value counts as zero, and a larger one as the largest: this bounds the bins, to 2994.
SMALLEST, LARGEST = 1e-6, 1e7
MAX_COUNT = 10**15
_mapping: Any = LogarithmicMapping(ACCURACY)
_PER_LOG = 1 / math.log(_mapping.gamma)
_FIRST, _LAST = _mapping.key(SMALLEST), _mapping.key(LARGEST)
_INDEX = re.compile(r"0|-?[1-9]\d{0,4}")
_KEYS = {"count", "sum", "min", "max", "zero", "bins"}


class SketchError(ValueError):
    """Plain data is not a sketch, or is not an earlier state of the same one."""


class Sketch:
    """Of values from 0; `min` and `max` are None without a sample."""

    __slots__ = ("_store", "_zero", "max", "min", "sum")

    def __init__(self) -> None:
        self._store: Any = DenseStore()
        self._zero = 0
        self.sum = 0.0
        self.min: float | None = None
        self.max: float | None = None

    @property
    def count(self) -> int:
        return self._zero + int(self._store.count)

    @property
    def mean(self) -> float | None:
        return self.sum / self.count if self.count else None

    def add(self, value: float) -> None:
        """Count a value; one that is negative, or not a number, as zero."""
        if value >= SMALLEST:
            if value > LARGEST:
                value = LARGEST
            # As the mapping and its store do it, without their seven calls.
            index = math.ceil(math.log(value) * _PER_LOG)
            store = self._store
            if store.min_key <= index <= store.max_key:
                store.bins[index - store.offset] += 1.0
                store.count += 1.0
            else:
                store.add(index)
        else:
            if not value > 0:
                value = 0.0
            self._zero += 1
        self.sum += value
        if self.max is None or self.min is None:
            self.min = self.max = value
        elif value > self.max:
            self.max = value
        elif value < self.min:
            self.min = value

    def quantile(self, q: float) -> float | None:
        """The smallest value that at least the part `q` of the samples do not exceed."""
        count = self.count
        if self.min is None or self.max is None or not count:
            return None
        # Of a whole number, as 0.95 * 20 is meant, whatever its last bit.
        rank = min(count, max(1, math.ceil(q * count - 1e-9)))
        if rank == count:
            return self.max
        if rank <= self._zero:
            return self.min
        value = float(_mapping.value(self._store.key_at_rank(rank - self._zero - 1)))
        return min(self.max, max(self.min, value))

    def minus(self, earlier: Sketch) -> Sketch:
        """What was added since the `earlier` state of this sketch. Raises SketchError.

        Its `min` and `max` are as exact as the bins are.
        """
        if not earlier.count:
            return self.merged(())
        found = Sketch()
        before = earlier._bins()
        bins = self._bins()
        if earlier._zero > self._zero or any(n > bins.get(i, 0) for i, n in before.items()):
            raise SketchError("The other sketch is not an earlier state of this one.")
        found._zero = self._zero - earlier._zero
        found._fill({i: n - before.get(i, 0) for i, n in bins.items()})
        left = found._bins()
        if not found.count or self.min is None or self.max is None:
            return found
        found.sum = max(0.0, self.sum - earlier.sum)
        low = 0.0 if found._zero else float(_mapping.value(min(left)))
        high = float(_mapping.value(max(left))) if left else 0.0
        found.min, found.max = (min(self.max, max(self.min, value)) for value in (low, high))
        return found

    def merged(self, others: Iterable[Sketch]) -> Sketch:
        """This sketch and the others as one: `Sketch().merged(all_of_them)`."""
        found = Sketch()
        for each in (self, *others):
            if each.min is None or each.max is None:
                continue
            found._store.merge(each._store)
            found._zero += each._zero
            found.sum += each.sum
            found.min = each.min if found.min is None else min(found.min, each.min)
            found.max = each.max if found.max is None else max(found.max, each.max)
        return found

    def plain(self) -> dict[str, Any]:
        """As JSON has it: {count, sum, min, max, zero, bins: {"INDEX": samples}}."""
        return {
            "count": self.count,
            "sum": self.sum,
            "min": self.min,
            "max": self.max,
            "zero": self._zero,
            "bins": {str(index): n for index, n in self._bins().items()},
        }

    @classmethod
    def of(cls, plain: Any) -> Sketch:
        """The sketch of plain data, which may be anything. Raises SketchError."""
        if not isinstance(plain, dict) or plain.keys() != _KEYS:
            raise SketchError(f"A sketch must be an object of {', '.join(sorted(_KEYS))}.")
        raw = plain["bins"]
        if not isinstance(raw, dict) or len(raw) > _LAST - _FIRST + 1:
            raise SketchError(f"bins: must be an object of at most {_LAST - _FIRST + 1} bins.")
        found = cls()
        found._zero = _whole(plain["zero"], "zero", 0)
        found._fill({_index(index): _whole(n, "bins", 1) for index, n in raw.items()})
        if _whole(plain["count"], "count", 0) != found.count:
            raise SketchError("count: must be the sum of zero and bins.")
        if not found.count:
            if plain["min"] is not None or plain["max"] is not None or plain["sum"] != 0:
                raise SketchError("min, max, sum: must be null, null and 0 without a sample.")
            return found
        found.sum = _number(plain["sum"], "sum", LARGEST * MAX_COUNT)
        found.min, found.max = (_number(plain[key], key, LARGEST) for key in ("min", "max"))
        if found.min > found.max:
            raise SketchError("min: must be at most max.")
        return found

    def _bins(self) -> dict[int, int]:
        """Samples by index, of bins that are not empty, in their order."""
        offset = self._store.offset
        return {at + offset: int(n) for at, n in enumerate(self._store.bins) if n}

    def _fill(self, bins: dict[int, int]) -> None:
        for index in sorted(bins):
            if bins[index]:
                self._store.add(index, bins[index])


def _index(text: Any) -> int:
    if not isinstance(text, str) or not _INDEX.fullmatch(text) or not _FIRST <= int(text) <= _LAST:
        raise SketchError(f"bins: an index must be a whole number from {_FIRST} to {_LAST}.")
    return int(text)


def _whole(value: Any, where: str, least: int) -> int:
    if type(value) is not int or not least <= value <= MAX_COUNT:
        raise SketchError(f"{where}: must be a whole number from {least} to {MAX_COUNT}.")
    return value


def _number(value: Any, where: str, most: float) -> float:
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise SketchError(f"{where}: must be a number from 0 to {most:g}.")
    return float(value)
