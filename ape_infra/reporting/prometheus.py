"""A client of Prometheus's HTTP API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_SECONDS = 30.0
# Prometheus rejects queries for more than 11,000 points per series.
MAX_POINTS = 500


class PrometheusError(Exception):
    """The request failed; the text states the URL and the reason."""


@dataclass(frozen=True)
class Series:
    """`points`: (Unix time, value), ordered by time."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


def steps(start: float, end: float) -> tuple[int, int, int]:
    """Return the first step, the last step and the step width of a range, in milliseconds.

    Steps are counted back from the end, so that the range includes the newest sample.
    """
    last, whole = round(1000 * end), round(1000 * (end - start))
    step = max(1000, math.ceil(whole / MAX_POINTS))
    return last - whole // step * step, last, step


class Prometheus:
    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    def range(self, query: str, start: float, end: float) -> list[Series]:
        """Return the series of `query`, without NaN and infinite values, which mean no data.

        `start` and `end`: Unix times. Raises PrometheusError.
        """
        first, last, step = steps(start, end)
        data = self._query(
            query=query,
            start=f"{first / 1000:.3f}",
            end=f"{last / 1000:.3f}",
            step=f"{step / 1000:.3f}",
        )
        series = []
        for found in data["result"]:
            points = tuple((float(t), float(v)) for t, v in found["values"])
            numbers = tuple(point for point in points if math.isfinite(point[1]))
            if numbers:
                series.append(Series(found["metric"], numbers))
        return series

    def _query(self, **params: str) -> Any:
        url = f"{self._base}/api/v1/query_range"
        try:
            answer = requests.get(url, params=params, timeout=TIMEOUT_SECONDS)
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise PrometheusError(f"{url}: {type(error).__name__}") from None
        if body.get("status") != "success":
            raise PrometheusError(f"{url}: {body.get('error', answer.status_code)}")
        return body.get("data")
