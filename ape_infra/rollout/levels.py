"""The levels by which a fleet goes from one size to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ape_infra.planning.tiers import Tier, tier_for

# The seed: start with 10 to 50 agents, then increments of 50 to 100.
DEFAULT_STEP = 50
MAX_STEP = 100
FIRST_STEP = 10


@dataclass(frozen=True)
class Level:
    """A size that the fleet must hold. `before` is the size it comes from; 0: not up."""

    before: int
    agents: int
    tier: Tier
    crosses: bool

    @property
    def starts(self) -> int:
        """Agents that start on top of those there are."""
        return max(0, self.agents - self.before)

    @property
    def replaces(self) -> int:
        """Agents that get the limits of another tier."""
        return min(self.before, self.agents) if self.crosses else 0


def sizes(now: int, goal: int, step: int | None = DEFAULT_STEP) -> Iterator[int]:
    """The sizes after `now`, up to and with `goal`.

    Upwards a size is at most `step` above the one before, and at most twice as large while the
    fleet is small; downwards at most `step` below. `step` None: at once.
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
    now: int,
    goal: int,
    tiers: Sequence[Tier],
    step: int | None = DEFAULT_STEP,
    *,
    sized_for: int = 0,
) -> tuple[Level, ...]:
    """The levels from `now` to `goal`, each with its tier and whether it changes the tier.

    The tier is that of `sized_for` agents while they are fewer.
    """
    made = []
    for size in sizes(now, goal, step):
        tier = tier_for(max(size, sized_for), tiers)
        crosses = now > 0 and tier_for(max(now, sized_for), tiers) != tier
        made.append(Level(now, size, tier, crosses))
        now = size
    return tuple(made)


def starts(before: int, agents: int, width: int) -> tuple[int, ...]:
    """The sizes on the way from `before` to `agents` that start at most `width` at once.

    For a runtime that starts all new replicas at the same time.
    """
    return (*range(before + width, agents, width), agents) if agents > before else (agents,)
