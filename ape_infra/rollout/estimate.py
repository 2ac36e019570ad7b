"""The expected duration of a scale, from the updates that this machine has done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ape_infra.planning.plan import containers
from ape_infra.rollout.levels import Level, start_steps

# Without a history: on 2 cores an update of 60 containers took 15.8 s, one of none 3 s.
DEFAULT_BASE_SECONDS = 3.0
DEFAULT_SECONDS_PER_AGENT = 0.22
_CHANGING = ("create", "update", "replace", "delete", "create-replacement")


@dataclass(frozen=True)
class UpdateSpeed:
    """An update takes `base` seconds, and `each` for every resource; fitted to `seen` updates."""

    base: float
    each: float
    seen: int

    def seconds(self, resources: int) -> float:
        return self.base + self.each * resources


def points(history: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Return (changed resources, seconds) of each successful update of `pulumi stack history`."""
    found = []
    for entry in history:
        if entry.get("kind") != "update" or entry.get("result") != "succeeded":
            continue
        try:
            started, ended = (
                datetime.fromisoformat(str(entry[key]).replace("Z", "+00:00"))
                for key in ("startTime", "endTime")
            )
        except (KeyError, ValueError):
            continue
        changes = entry.get("resourceChanges") or {}
        changed = sum(int(changes.get(kind, 0)) for kind in _CHANGING)
        seconds = (ended - started).total_seconds()
        if seconds >= 0:
            found.append((changed, seconds))
    return found


def fit_speed(seen: Sequence[tuple[int, float]]) -> UpdateSpeed:
    """Fit a line that does not fall to the points by least squares; without points, a default."""
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
    """`size` containers change at a time, `pause` seconds apart, and are watched for `watch`."""

    size: int
    pause: float
    watch: float

    def count(self, changed: int) -> int:
        """Waves in which `changed` containers change."""
        return -(-changed // self.size)

    def seconds(self, changed: int) -> float:
        return self.count(changed) * (self.pause + self.watch)


def seconds(
    levels: Sequence[Level],
    speed: UpdateSpeed,
    observations: Sequence[float],
    waves: Waves,
    *,
    agents_per_container: int = 1,
    agents_per_update: int | None = None,
) -> float:
    """Estimate the seconds of all levels; `observations` are the observation windows, in seconds.

    `agents_per_update`: for a runtime that starts all new replicas at once, the agents that are
    added per update. Each update is of one service, which replaces its own containers.
    """

    def level_seconds(level: Level) -> float:
        started = containers(level.starts, agents_per_container)
        replaced = containers(level.replaces, agents_per_container)
        if agents_per_update:
            steps = start_steps(level.previous_agents, level.agents, agents_per_update)
            updates = len(steps) * speed.seconds(1)
        else:
            updates = speed.seconds(started + replaced) + waves.count(replaced) * speed.base
        return updates + waves.seconds(replaced)

    return sum(map(level_seconds, levels)) + sum(observations)
