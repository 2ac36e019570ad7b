"""Rates and quantiles between two expositions of gateway and proxy, a few seconds apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from ape_contracts import metrics

# (name, labels, value)
Sample = tuple[str, Mapping[str, str], float]
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Rates:
    """Rates over the last `seconds`. A quantile or a share is None if there was no event.

    `request_seconds` and `first_token_seconds`: quantile -> latency in seconds.
    """

    seconds: float
    sessions_per_second: float
    success_rate: float | None
    requests_per_second: float
    request_seconds: Mapping[float, float | None]
    first_token_seconds: Mapping[float, float | None]
    tokens_in_per_second: float
    tokens_out_per_second: float


def samples(exposition: bytes | None) -> list[Sample]:
    """Return the samples of an exposition; none if it is None."""
    if exposition is None:
        return []
    return [
        (s.name, s.labels, s.value)
        for family in text_string_to_metric_families(exposition.decode(errors="replace"))
        for s in family.samples
    ]


def added(before: Iterable[Sample], after: Iterable[Sample]) -> list[Sample]:
    """Subtract `before` from `after`; a counter that decreased was reset, and counts from 0."""
    previous = {(name, *sorted(labels.items())): value for name, labels, value in before}
    differences = []
    for name, labels, value in after:
        old = previous.get((name, *sorted(labels.items())), 0.0)
        differences.append((name, labels, value - old if value >= old else value))
    return differences


def total(found: Iterable[Sample], name: str, **labels: str) -> float:
    """Sum the samples of this name that have these labels."""
    return sum(
        value
        for sample, sample_labels, value in found
        if sample == name and all(sample_labels.get(k) == v for k, v in labels.items())
    )


def quantile(found: Iterable[Sample], name: str, q: float) -> float | None:
    """Return a quantile of a histogram, linear within a bucket as in Prometheus; None if empty."""
    buckets: dict[float, float] = {}
    for sample, labels, value in found:
        if sample == f"{name}_bucket":
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    bounds = sorted(buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    rank = q * bounds[-1][1]
    for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *bounds]):
        if up_to >= rank and up_to > below:
            if high == float("inf"):
                return low
            return low + (high - low) * (rank - below) / (up_to - below)
    return bounds[-1][0]


def rates(before: Iterable[Sample], after: Iterable[Sample], seconds: float) -> Rates:
    """Return the rates between two expositions that were read `seconds` apart."""
    found = added(before, after)
    success = total(found, metrics.SESSIONS.name, result=metrics.SUCCESS)
    sessions = total(found, metrics.SESSIONS.name)
    requests = total(found, metrics.GATEWAY_REQUESTS.name) + total(
        found, metrics.GATEWAY_ERRORS.name
    )
    return Rates(
        seconds=seconds,
        sessions_per_second=sessions / seconds,
        success_rate=success / sessions if sessions else None,
        requests_per_second=requests / seconds,
        request_seconds={q: quantile(found, metrics.GATEWAY_SECONDS.name, q) for q in QUANTILES},
        first_token_seconds={
            q: quantile(found, metrics.PROXY_FIRST_TOKEN_SECONDS.name, q) for q in QUANTILES
        },
        tokens_in_per_second=total(found, metrics.PROXY_TOKENS_IN.name) / seconds,
        tokens_out_per_second=total(found, metrics.PROXY_TOKENS_OUT.name) / seconds,
    )
