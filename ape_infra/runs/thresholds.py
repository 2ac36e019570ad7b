"""Whether a run meets its thresholds. Pure; `ape_infra.config.thresholds` has their form."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from ape_contracts.text import plain
from ape_infra.config.run import RunSettings
from ape_infra.config.thresholds import METRICS, Threshold, ThresholdError, did_you_mean, parse

__all__ = ["METRICS", "Measured", "Outcome", "Threshold", "ThresholdError", "evaluate", "parse"]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Distribution(Protocol):
    """Values of a metric; see ape_contracts.sketch."""

    @property
    def count(self) -> int: ...
    @property
    def mean(self) -> float | None: ...
    @property
    def min(self) -> float | None: ...
    @property
    def max(self) -> float | None: ...
    def quantile(self, q: float) -> float | None: ...


class Measured(Protocol):
    """The measurements of a run, by the metrics in METRICS.

    `durations`: of a metric whose kind is distribution; None: it has no sample.
    `number`: of any other, with its samples: what could have counted, so that 0 dropped of 100
    sessions, or 0 requests with a status of 100, are a value, and 0 of none are not.
    `seconds`: what rates are per.
    """

    @property
    def seconds(self) -> float: ...
    def durations(self, metric: str, labels: Mapping[str, str]) -> Distribution | None: ...
    def number(self, metric: str, labels: Mapping[str, str]) -> tuple[float | None, int]: ...


class Outcome(NamedTuple):
    """`value` None: no sample was seen, or the value is not known; then it is not passed."""

    value: float | None
    passed: bool
    samples: int


def of_settings(run: RunSettings) -> tuple[Threshold, ...]:
    """Return the thresholds of a run. Raises ThresholdError, unless the settings were parsed."""
    return tuple(map(parse, run.thresholds))


def evaluate(threshold: Threshold, measured: Measured) -> Outcome:
    """Return whether what was measured meets a threshold."""
    value, samples = _value(threshold, measured)
    if not samples or value is None or math.isnan(value):
        return Outcome(None, False, samples)
    return Outcome(value, _COMPARE[threshold.operator](value, threshold.limit), samples)


def _value(threshold: Threshold, measured: Measured) -> tuple[float | None, int]:
    metric, labels = METRICS[threshold.metric], dict(threshold.labels)
    if metric.kind == "distribution":
        found = measured.durations(metric.name, labels)
        if found is None or not found.count:
            return None, 0
        return _statistic(threshold, found), found.count
    value, samples = measured.number(metric.name, labels)
    if metric.kind == "count" and threshold.aggregate == "rate" and value is not None:
        return (value / measured.seconds if measured.seconds else None), samples
    return value, samples


def _statistic(threshold: Threshold, found: Distribution) -> float | None:
    if threshold.percentile is not None:
        return found.quantile(threshold.percentile / 100)
    return {"count": found.count, "mean": found.mean, "min": found.min, "max": found.max}[
        threshold.aggregate
    ]


def unknown(
    thresholds: Sequence[Threshold], scenarios: Collection[str], endpoints: Collection[str]
) -> Iterator[tuple[int, ThresholdError]]:
    """Yield the thresholds, by their index, that name a scenario or an endpoint that a run lacks.

    `endpoints`: such as POST /checkout, with templates such as /products/{id}.
    """
    known = {"scenario": scenarios, "endpoint": endpoints}
    for at, threshold in enumerate(thresholds):
        for name, value in threshold.labels:
            if name in known and value not in known[name]:
                rule = f'"{plain(value)}" is not the name of {_WORDS[name]} of the run.'
                position = max(threshold.text.find(value), 0) + 1
                yield at, ThresholdError(position, rule, did_you_mean(value, known[name]))


_WORDS = {"scenario": "a scenario", "endpoint": "an endpoint"}
