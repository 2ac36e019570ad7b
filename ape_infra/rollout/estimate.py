"""How long a scale may take, from what this machine has been seen to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ape_infra.rollout.levels import Level, starts

# Without a history: an update of 60 containers took 15.8 s, a no-op 3 s (facts, 2 cores).
DEFAULT_BASE_SECONDS = 3.0
DEFAULT_SECONDS_PER_AGENT = 0.22
_CHANGING = ("create", "update", "replace", "delete", "create-replacement")


@dataclass(frozen=True)
class UpdateSpeed:
    """An update takes `base` seconds and `each` for every resource; `seen` updates told so."""

    base: float
    each: float
    seen: int

    def seconds(self, resources: int) -> float:
        return self.base + self.each * resources


def points(history: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(resources changed, seconds) of each update that succeeded, from `pulumi stack history`."""
    found = []
    for entry in history:
        if entry.get("kind") != "update" or entry.get("result") != "succeeded":
            continue
        try:
            begun, ended = (
                datetime.fromisoformat(str(entry[key]).replace("Z", "+00:00"))
                for key in ("startTime", "endTime")
            )
        except (KeyError, ValueError):
            continue
        changes = entry.get("resourceChanges") or {}
        changed = sum(int(changes.get(kind, 0)) for kind in _CHANGING)
        seconds = (ended - begun).total_seconds()
        if seconds >= 0:
            found.append((changed, seconds))
    return found


def pace(seen: Sequence[tuple[int, float]]) -> UpdateSpeed:
    """The line through the points by least squares, never falling; the facts' without points."""
    if not seen:
        return UpdateSpeed(DEFAULT_BASE_SECONDS, DEFAULT_SECONDS_PER_AGENT, 0)
    count = len(seen)
    mean_x = sum(x for x, _ in seen) / count
    mean_y = sum(y for _, y in seen) / count
    spread = sum((x - mean_x) ** 2 for x, _ in seen)
    if spread == 0:
        each = max(0.0, mean_y - DEFAULT_BASE_SECONDS) / mean_x if mean_x else 0.0
    else:
        each = max(0.0, sum((x - mean_x) * (y - mean_y) for x, y in seen) / spread)
    return UpdateSpeed(max(0.0, mean_y - each * mean_x), each, count)


@dataclass(frozen=True)
class Waves:
    """Changed agents go `size` at a time, `pause` seconds between and `watch` of watching."""

    size: int
    pause: float
    watch: float

    def seconds(self, agents: int) -> float:
        return -(-agents // self.size) * (self.pause + self.watch)


def seconds(
    levels: Sequence[Level],
    pace: UpdateSpeed,
    windows: Sequence[float],
    waves: Waves,
    *,
    a_step: int | None = None,
) -> float:
    """An estimate for the whole way; `windows` are the seconds that each level is watched.

    `a_step`: of a runtime that takes its new replicas in steps of so many, each the update of a
    service, and replaces by itself what it has.
    """

    def updates(level: Level) -> float:
        if a_step:
            return len(starts(level.before, level.agents, a_step)) * pace.seconds(1)
        alone = -(-level.replaces // waves.size) * pace.base
        return pace.seconds(level.starts + level.replaces) + alone

    return sum(
        updates(level) + waves.seconds(level.replaces) + window
        for level, window in zip(levels, windows, strict=True)
    )
