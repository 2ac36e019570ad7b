"""What happened between two expositions of gateway and proxy, a few seconds apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ape_contracts import metrics

Sample = tuple[str, Mapping[str, str], float]
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Rates:
    """Of so many `seconds`. Latencies in seconds, by quantile; None: nothing happened."""

    seconds: float
    sessions_per_second: float
    success_rate: float | None
    requests_per_second: float
    request_seconds: Mapping[float, float | None]
    first_token_seconds: Mapping[float, float | None]
    tokens_in_per_second: float
    tokens_out_per_second: float


def added(before: Iterable[Sample], after: Iterable[Sample]) -> list[Sample]:
    """Each sample of `after` less that of `before`; one that fell has begun again."""
    was = {(name, *sorted(labels.items())): value for name, labels, value in before}
    made = []
    for name, labels, value in after:
        old = was.get((name, *sorted(labels.items())), 0.0)
        made.append((name, labels, value - old if value >= old else value))
    return made


def total(found: Iterable[Sample], name: str, **labels: str) -> float:
    return sum(
        value
        for sample, has, value in found
        if sample == name and all(has.get(k) == v for k, v in labels.items())
    )


def quantile(found: Iterable[Sample], name: str, q: float) -> float | None:
    """The quantile of a histogram, as Prometheus computes it: linear within a bucket."""
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
