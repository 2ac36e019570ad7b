"""Questions to Prometheus' HTTP API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_SECONDS = 30.0
# Prometheus refuses more points a series than 11,000.
MAX_POINTS = 500


class PrometheusError(Exception):
    """It did not answer, or refused; says why."""


@dataclass(frozen=True)
class Series:
    """`points`: (Unix time, value), in the order of time."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


def steps(start: float, end: float) -> tuple[int, int, int]:
    """First, last and distance of a range's steps in milliseconds, as Prometheus counts them.

    They are counted back from the end, so that what has come just now is seen.
    """
    last, whole = round(1000 * end), round(1000 * (end - start))
    step = max(1000, math.ceil(whole / MAX_POINTS))
    return last - whole // step * step, last, step


class Prometheus:
    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    def _ask(self, method: str, path: str, **params: Any) -> Any:
        try:
            answer = requests.request(
                method, f"{self._base}{path}", params=params, timeout=TIMEOUT_SECONDS
            )
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise PrometheusError(f"{self._base}{path}: {type(error).__name__}") from None
        if body.get("status") != "success":
            raise PrometheusError(f"{self._base}{path}: {body.get('error', answer.status_code)}")
        return body.get("data")

    def range(self, query: str, start: float, end: float) -> list[Series]:
        """The series of `query`; what is not a number (no data in a rate) is left out."""
        first, last, step = steps(start, end)
        data = self._ask(
            "GET",
            "/api/v1/query_range",
            query=query,
            start=f"{first / 1000:.3f}",
            end=f"{last / 1000:.3f}",
            step=f"{step / 1000:.3f}",
        )
        made = []
        for found in data["result"]:
            points = tuple((float(t), float(v)) for t, v in found["values"])
            numbers = tuple(p for p in points if p[1] == p[1] and abs(p[1]) != float("inf"))
            if numbers:
                made.append(Series(found["metric"], numbers))
        return made

    def at(self, query: str, when: float) -> list[Series]:
        data = self._ask("GET", "/api/v1/query", query=query, time=when)
        return [
            Series(found["metric"], ((float(found["value"][0]), float(found["value"][1])),))
            for found in data["result"]
        ]

    def snapshot(self) -> str:
        """Name of a snapshot in its data directory. Needs --web.enable-admin-api."""
        return str(self._ask("POST", "/api/v1/admin/tsdb/snapshot")["name"])
