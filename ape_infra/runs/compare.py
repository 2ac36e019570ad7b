"""The differences of two runs, and which of them are more than noise.

Noise is measured, not assumed: the intervals of a run's main phase become at most MAX_BLOCKS blocks
of consecutive intervals, and a value is computed again from blocks drawn with replacement (a block
bootstrap, within each stage). How far these values are apart is the value's standard error; of it
follow the 95 % interval of a change and its probability (Student's t). `significant` allows for the
number of comparisons (Holm): where nothing changed, a table has one in at most 1 of 20 cases.
"""

from __future__ import annotations

import math
import random
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from ddsketch import LogarithmicMapping

from ape_contracts.sketch import ACCURACY, SMALLEST, Sketch
from ape_infra.runs.student import two_sided, width

RESAMPLES = 400
# At least this many blocks, and samples beyond a percentile, are needed for an interval.
MIN_BLOCKS, MIN_BEYOND = 4, 5
MAX_BLOCKS = 40
LEVEL = 0.05
MAX_ENDPOINTS = 100
# A sketch's values are off by ACCURACY in either run.
RESOLUTION = math.log1p(2 * ACCURACY)
AGGREGATES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_value_of: Callable[[int], float] = LogarithmicMapping(ACCURACY).value


class NotComparable(Exception):
    """The measurements cannot be compared; the text states the reason and the remedy."""


@dataclass(frozen=True)
class Difference:
    """A value of two runs. `change`, `low` and `high` are in percent; of a share, in points of one.

    `low` and `high`: the 95 % interval of the change; None if a run is too short for one.
    """

    metric: str
    aggregate: str
    endpoint: str | None
    kind: str  # seconds, rate or share
    a: float | None
    b: float | None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    significant: bool = False

    @property
    def name(self) -> str:
        """As a threshold names it."""
        labels = f'{{endpoint="{self.endpoint}"}}' if self.endpoint is not None else ""
        return f"{self.metric}{labels}{'.' if self.aggregate else ''}{self.aggregate}"

    def data(self) -> dict[str, Any]:
        keys = ("name", "kind", "a", "b", "change", "low", "high", "significant")
        return {key: getattr(self, key) for key in keys}


@dataclass
class Block:
    """Consecutive intervals of a stage as one."""

    seconds: float = 0
    succeeded: int = 0
    failed: int = 0
    requests_failed: int = 0
    endpoints: dict[str, list[Sketch]] = field(default_factory=dict)
    session_duration: list[Sketch] = field(default_factory=list)
    ttft: list[Sketch] = field(default_factory=list)

    def add(self, interval: Mapping[str, Any]) -> None:
        self.seconds += float(interval["to"]) - float(interval["from"])
        sessions = interval["sessions"]
        self.succeeded += int(sessions["succeeded"])
        self.failed += int(sessions["failed"])
        self.requests_failed += int(interval["requests_failed"])
        for endpoint, plain in interval["endpoints"].items():
            self.endpoints.setdefault(endpoint, []).append(Sketch.of(plain))
        self.session_duration.append(Sketch.of(sessions["seconds"]))
        if interval["ttft"] is not None:
            self.ttft.append(Sketch.of(interval["ttft"]))

    @cached_property
    def requests(self) -> Sketch:
        return Sketch().merged(x for sketches in self.endpoints.values() for x in sketches)


@dataclass(frozen=True)
class Blocks:
    """A run: its blocks, those of a stage side by side, and draws of as many of them."""

    blocks: list[Block]
    stages: int
    draws: list[list[int]]

    @property
    def freedom(self) -> int:
        return len(self.blocks) - self.stages

    @property
    def inflation(self) -> float:
        """What a bootstrap's standard error is too small by: it takes the mean of few blocks."""
        return math.sqrt(len(self.blocks) / self.freedom)


def main_intervals(measurements: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The intervals that count: without warm-up and ramp-down."""
    return [x for x in measurements["intervals"] if x["phase"] == "main"]


def _stages(intervals: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Consecutive intervals by stage; a stage of fewer than two joins the one before it."""
    found: list[list[Mapping[str, Any]]] = []
    for interval in intervals:
        if found and (found[-1][-1]["stage"] == interval["stage"] or len(found[-1]) < 2):
            found[-1].append(interval)
        else:
            found.append([interval])
    if len(found) > 1 and len(found[-1]) < 2:
        found[-2:] = [found[-2] + found[-1]]
    return found


def blocks_of(measurements: Mapping[str, Any], seed: str, resamples: int = RESAMPLES) -> Blocks:
    """Cut a run into blocks, and draw them. Raises NotComparable."""
    try:
        intervals = main_intervals(measurements)
        size = max(1, math.ceil(len(intervals) / MAX_BLOCKS))
        blocks: list[Block] = []
        ranges = []
        for stage in _stages(intervals):
            first = len(blocks)
            for at, interval in enumerate(stage):
                if at % size == 0:
                    blocks.append(Block())
                blocks[-1].add(interval)
            ranges.append(range(first, len(blocks)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotComparable(
            f"measurements.json is damaged: {type(error).__name__}: {error}. Run the test again."
        ) from None
    draw = random.Random(seed)  # noqa: S311
    draws = [
        [at for each in ranges for at in draw.choices(each, k=len(each))] for _ in range(resamples)
    ]
    return Blocks(blocks, len(ranges), draws)


class Estimate(NamedTuple):
    """A value, and its standard error; of the logarithm, but for a share. None: cannot be known."""

    value: float | None
    error: float | None = None


def _spread(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1))


def _error(run: Blocks, values: Sequence[float]) -> float | None:
    """The standard error of a value, computed again for each draw, if nearly all have it."""
    if run.freedom < 1 or len(run.blocks) < MIN_BLOCKS or len(values) < 0.95 * len(run.draws):
        return None
    return _spread(values) * run.inflation


def ratio(run: Blocks, above: Sequence[float], below: Sequence[float], *, log: bool) -> Estimate:
    """The sum of `above` by the sum of `below`, both a value per block."""
    if not sum(below):
        return Estimate(None)
    found = []
    for draw in run.draws:
        top = sum(map(above.__getitem__, draw))
        bottom = sum(map(below.__getitem__, draw))
        if bottom > 0 and (top > 0 or not log):
            found.append(math.log(top / bottom) if log else top / bottom)
    return Estimate(sum(above) / sum(below), _error(run, found))


def percentiles(run: Blocks, sketches: Sequence[Sketch]) -> dict[str, Estimate]:
    """The percentiles of all `sketches`, one per block.

    The samples of a block up to each bin are one large number, of 64 bits a bin: so those of a draw
    are a sum of numbers.
    """
    whole = Sketch().merged(sketches)
    if not whole.count:
        return dict.fromkeys(AGGREGATES, Estimate(None))
    plain = [x.plain() for x in sketches]
    indices = sorted({int(index) for x in plain for index in x["bins"]})
    logs = [math.log(SMALLEST), *(math.log(_value_of(index)) for index in indices)]
    packed = []
    for each in plain:
        total, until = each["zero"], array("Q", [each["zero"]])
        for index in indices:
            total += each["bins"].get(str(index), 0)
            until.append(total)
        packed.append(int.from_bytes(until.tobytes(), sys.byteorder))
    found: dict[str, list[float]] = {name: [] for name in AGGREGATES}
    for draw in run.draws:
        number = sum(map(packed.__getitem__, draw))
        until_bin = memoryview(number.to_bytes(8 * len(logs), sys.byteorder)).cast("Q")
        if count := until_bin[-1]:
            for name, q in AGGREGATES.items():
                found[name].append(logs[bisect_left(until_bin, max(1, math.ceil(q * count)))])
    return {
        name: Estimate(
            whole.quantile(q),
            _error(run, found[name]) if whole.count * (1 - q) >= MIN_BEYOND else None,
        )
        for name, q in AGGREGATES.items()
    }


class Measured(NamedTuple):
    """A value of one run. `kind`: seconds, rate or share."""

    metric: str
    aggregate: str
    endpoint: str | None
    kind: str
    estimate: Estimate


def estimates(run: Blocks, endpoints: Sequence[str]) -> Iterator[Measured]:
    """Yield all that is compared, of the whole run and of `endpoints`."""

    def durations(
        metric: str, sketches: Sequence[Sketch], endpoint: str | None = None
    ) -> Iterator[Measured]:
        for name, value in percentiles(run, sketches).items():
            yield Measured(metric, name, endpoint, "seconds", value)

    blocks = run.blocks
    seconds = [x.seconds for x in blocks]
    requests = [x.requests for x in blocks]
    counts = [float(x.count) for x in requests]
    ended = [float(x.succeeded + x.failed) for x in blocks]
    succeeded = [float(x.succeeded) for x in blocks]
    bad = [float(x.requests_failed) for x in blocks]
    failed_requests = ratio(run, bad, counts, log=False)
    success = ratio(run, succeeded, ended, log=False)
    yield from durations("http_req_duration", requests)
    yield Measured("http_req_failed", "", None, "share", failed_requests)
    yield Measured("http_reqs", "rate", None, "rate", ratio(run, counts, seconds, log=True))
    yield Measured("session_success", "", None, "share", success)
    yield from durations("session_duration", [Sketch().merged(x.session_duration) for x in blocks])
    yield Measured("sessions", "rate", None, "rate", ratio(run, ended, seconds, log=True))
    yield from durations("ttft", [Sketch().merged(x.ttft) for x in blocks])
    for endpoint in endpoints:
        merged = [Sketch().merged(x.endpoints.get(endpoint, ())) for x in blocks]
        yield from durations("http_req_duration", merged, endpoint)


def common_endpoints(a: Blocks, b: Blocks) -> list[str]:
    """The endpoints of both runs, those with most requests first."""
    counts: dict[str, int] = {}
    for block in a.blocks + b.blocks:
        for endpoint, sketches in block.endpoints.items():
            counts[endpoint] = counts.get(endpoint, 0) + sum(x.count for x in sketches)
    both = [x for x in counts if all(any(x in y.endpoints for y in run.blocks) for run in (a, b))]
    return sorted(both, key=lambda x: (-counts[x], x))[:MAX_ENDPOINTS]


def _welch(a: Blocks, b: Blocks, errors: tuple[float, float]) -> int:
    """The degrees of freedom of a difference of two values with these standard errors."""
    squares = [x * x for x in errors]
    if not sum(squares):
        return min(a.freedom, b.freedom)
    parts = sum(x * x / run.freedom for x, run in zip(squares, (a, b), strict=True))
    return max(1, int(sum(squares) ** 2 / parts)) if parts else min(a.freedom, b.freedom)


def _difference(a: Blocks, b: Blocks, one: Measured, two: Measured) -> tuple[Difference, float]:
    """Return the difference, and the probability of such a change by chance."""
    (first, first_error), (second, second_error) = one.estimate, two.estimate
    found = Difference(one.metric, one.aggregate, one.endpoint, one.kind, first, second)
    share = one.kind == "share"
    if first is None or second is None or (not share and min(first, second) <= 0):
        return found, 1.0
    change = second - first if share else math.log(second / first)

    def percent(x: float) -> float:
        return 100 * (x if share else math.expm1(min(x, 50.0)))

    found = replace(found, change=percent(change))
    if first_error is None or second_error is None:
        return found, 1.0
    errors = (first_error, second_error)
    error, freedom = math.hypot(*errors), _welch(a, b, errors)
    blur = RESOLUTION if one.kind == "seconds" else 0.0
    half = width(LEVEL, freedom) * error + blur
    beyond = max(0.0, abs(change) - blur)
    chance = two_sided(beyond / error, freedom) if error else float(beyond < 1e-12)
    return replace(found, low=percent(change - half), high=percent(change + half)), chance


def holm(chances: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of the probabilities are small enough, considering how many there are."""
    found = [False] * len(chances)
    for done, at in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[at] > level / (len(chances) - done):
            break
        found[at] = True
    return found


def differences(
    a: Mapping[str, Any], b: Mapping[str, Any], *, resamples: int = RESAMPLES
) -> list[Difference]:
    """Compare two `measurements.json`; the same ones give the same result. Raises NotComparable."""
    if a.get("version") != 1 or b.get("version") != 1:
        raise NotComparable(
            f"The measurements have the versions {a.get('version')} and {b.get('version')}, and "
            "this release compares version 1. Run both tests with this release."
        )
    first, second = blocks_of(a, "a", resamples), blocks_of(b, "b", resamples)
    endpoints = common_endpoints(first, second)
    rows = [
        _difference(first, second, *pair)
        for pair in zip(estimates(first, endpoints), estimates(second, endpoints), strict=True)
    ]
    judged = [chance for found, chance in rows if found.low is not None]
    sure = iter(holm(judged))
    return [
        replace(found, significant=next(sure)) if found.low is not None else found
        for found, _ in rows
    ]


def beyond(found: Difference, sign: str, limit: float) -> bool | None:
    """Whether the change is above (`>`) or below (`<`) the limit, and not by noise.

    That is: the whole 95 % interval is on that side of no change. None: there is no interval.
    """
    if found.change is None or found.low is None or found.high is None:
        return None
    if sign == ">":
        return found.change > limit and found.low > 0
    return found.change < limit and found.high < 0
