"""The thresholds of a run, as its summary has them."""

from __future__ import annotations

from collections.abc import Sequence

from ape_infra.runs.measured import Measured
from ape_infra.runs.summary import ThresholdResult
from ape_infra.runs.thresholds import Threshold, evaluate


class Thresholds:
    """Evaluates the thresholds of a run, at its end and before."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._thresholds = thresholds

    def results(self, measured: Measured) -> list[ThresholdResult]:
        return [_result(threshold, measured) for threshold in self._thresholds]

    def aborting(self, measured: Measured, elapsed: float) -> ThresholdResult | None:
        """The first one that ends the run: not met after its delay, with a sample."""
        for threshold in self._thresholds:
            if threshold.abort and elapsed >= threshold.delay_seconds:
                found = _result(threshold, measured)
                if found.value is not None and not found.passed:
                    return found
        return None


def _result(threshold: Threshold, measured: Measured) -> ThresholdResult:
    found = evaluate(threshold, measured)
    return ThresholdResult(
        expression=threshold.text,
        value=found.value,
        passed=found.passed,
        abort=threshold.abort,
        samples=found.samples,
    )
