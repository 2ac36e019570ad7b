"""Limits of one agent by fleet size: the default tier table, and the rules of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_AGENTS = 2000


@dataclass(frozen=True)
class Tier:
    """Limits of each agent in a fleet of `min_agents` to `max_agents` (inclusive).

    `memory_mb` is in MiB, `cpus` in cores.
    """

    min_agents: int
    max_agents: int
    memory_mb: int
    cpus: float

    @property
    def label(self) -> str:
        return f"{self.min_agents}-{self.max_agents}"


DEFAULT_TIERS = (
    Tier(1, 50, 512, 0.5),
    Tier(51, 100, 384, 0.35),
    Tier(101, 200, 256, 0.25),
    Tier(201, 500, 192, 0.15),
    Tier(501, MAX_AGENTS, 128, 0.1),
)


def problems(tiers: Sequence[Tier]) -> list[tuple[str, str]]:
    """Return the broken rules of a tier table as (path, sentence).

    The rows must cover 1 to MAX_AGENTS with no gap and no overlap, and limits must not rise as the
    fleet grows.
    """
    found: list[tuple[str, str]] = []
    if not tiers:
        return [("tiers", "is empty. Give at least one row, or remove the key to use the default.")]
    expected = 1
    for i, tier in enumerate(tiers):
        at = f"tiers[{i}]"
        if tier.min_agents > expected:
            found.append(
                (
                    f"{at}.minAgents",
                    f"is {tier.min_agents}, which leaves a gap: no row covers {expected} to "
                    f"{tier.min_agents - 1} agents. Set it to {expected}.",
                )
            )
        elif tier.min_agents < expected:
            found.append(
                (
                    f"{at}.minAgents",
                    f"is {tier.min_agents}, which overlaps the previous row. Set it to {expected}.",
                )
            )
        if tier.max_agents < tier.min_agents:
            found.append(
                (
                    f"{at}.maxAgents",
                    f"is {tier.max_agents}, below minAgents {tier.min_agents}. Raise it.",
                )
            )
        expected = tier.max_agents + 1
        if i == 0:
            continue
        previous = tiers[i - 1]
        for key, value, limit in (
            ("memoryMb", tier.memory_mb, previous.memory_mb),
            ("cpus", tier.cpus, previous.cpus),
        ):
            if value > limit:
                found.append(
                    (
                        f"{at}.{key}",
                        f"is {value}, above the {limit} of the previous row. Limits must not rise "
                        f"as the fleet grows: set it to at most {limit}.",
                    )
                )
    if expected != MAX_AGENTS + 1:
        found.append(
            (
                f"tiers[{len(tiers) - 1}].maxAgents",
                f"is {tiers[-1].max_agents}. The table must end at {MAX_AGENTS}, the maximum.",
            )
        )
    return found


def tier_for(agents: int, tiers: Sequence[Tier] = DEFAULT_TIERS) -> Tier:
    """Return the row that covers `agents`. Raises ValueError when none does."""
    for tier in tiers:
        if tier.min_agents <= agents <= tier.max_agents:
            return tier
    raise ValueError(f"no tier covers {agents} agents")
