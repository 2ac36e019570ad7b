"""The levels by which a fleet goes from one size to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ape_infra.planning.tiers import Tier

DEFAULT_STEP = 50
MAX_STEP = 100
FIRST_STEP = 10


@dataclass(frozen=True)
class Level:
    """A fleet size to reach from `previous_agents` (0: the stack is not up).

    `crosses`: whether `tier` differs from that of the previous level.
    """

    previous_agents: int
    agents: int
    tier: Tier
    crosses: bool

    @property
    def starts(self) -> int:
        """Agents that start in addition to those that run."""
        return max(0, self.agents - self.previous_agents)

    @property
    def replaces(self) -> int:
        """Agents that get the limits of another tier."""
        return min(self.previous_agents, self.agents) if self.crosses else 0


def sizes(now: int, goal: int, step: int | None = DEFAULT_STEP) -> Iterator[int]:
    """The sizes after `now`, up to and including `goal`.

    Upward, a size is at most `step` above the previous one, and a small fleet at most doubles.
    Downward, it is at most `step` below. `step` None: `goal` at once. Raises ValueError for a step
    that is not within 1 to MAX_STEP.
    """
    if step is not None and not 1 <= step <= MAX_STEP:
        raise ValueError(f"step {step} is not within 1 to {MAX_STEP}")
    while now != goal:
        if step is None:
            now = goal
        elif now < goal:
            now = min(goal, now + min(step, max(FIRST_STEP, now)))
        else:
            now = max(goal, now - step)
        yield now


def levels(
    now: int, goal: int, tier_of: Callable[[int], Tier], step: int | None = DEFAULT_STEP
) -> tuple[Level, ...]:
    """The levels from `now` to `goal`; `tier_of` is the tier of a fleet of a given size."""
    made = []
    for size in sizes(now, goal, step):
        tier = tier_of(size)
        made.append(Level(now, size, tier, crosses=now > 0 and tier_of(now) != tier))
        now = size
    return tuple(made)


def start_steps(previous_agents: int, agents: int, width: int) -> tuple[int, ...]:
    """The sizes from `previous_agents` to `agents` that each start at most `width` agents.

    For a runtime that starts all new replicas at the same time.
    """
    if agents <= previous_agents:
        return (agents,)
    return (*range(previous_agents + width, agents, width), agents)
