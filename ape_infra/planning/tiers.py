"""Limits of one agent by fleet size: the seed's tier table, and its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_AGENTS = 2000


@dataclass(frozen=True)
class Tier:
    """The limits of each agent while the fleet counts `min_agents` to `max_agents` (inclusive).

    `memory_mb` is in MiB, as Docker counts; `cpus` in cores.
    """

    min_agents: int
    max_agents: int
    memory_mb: int
    cpus: float

    @property
    def label(self) -> str:
        return f"{self.min_agents}-{self.max_agents}"


# The seed's table ("Dynamic Resource Allocation"); its last row, 501-1000+, ends at MAX_AGENTS.
DEFAULT_TIERS = (
    Tier(1, 50, 512, 0.5),
    Tier(51, 100, 384, 0.35),
    Tier(101, 200, 256, 0.25),
    Tier(201, 500, 192, 0.15),
    Tier(501, MAX_AGENTS, 128, 0.1),
)


def problems(tiers: Sequence[Tier]) -> list[tuple[str, str]]:
    """Broken rules of a tier table as (path, sentence); empty when the table is sound.

    The rules: the rows cover 1 to MAX_AGENTS with no gap and no overlap, and limits never rise
    as the fleet grows.
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
                    f"is {tier.min_agents}, which overlaps the row before. Set it to {expected}.",
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
        before = tiers[i - 1]
        for key, value, limit in (
            ("memoryMb", tier.memory_mb, before.memory_mb),
            ("cpus", tier.cpus, before.cpus),
        ):
            if value > limit:
                found.append(
                    (
                        f"{at}.{key}",
                        f"is {value}, above the {limit} of the row before. Limits must not rise "
                        f"as the fleet grows: set it to at most {limit}.",
                    )
                )
    if expected != MAX_AGENTS + 1:
        found.append(
            (
                f"tiers[{len(tiers) - 1}].maxAgents",
                f"is {tiers[-1].max_agents}. The table must end at {MAX_AGENTS}, the most.",
            )
        )
    return found


def tier_for(agents: int, tiers: Sequence[Tier] = DEFAULT_TIERS) -> Tier:
    """The row that covers `agents`. Raises ValueError when none does (an unsound table)."""
    for tier in tiers:
        if tier.min_agents <= agents <= tier.max_agents:
            return tier
    raise ValueError(f"no tier covers {agents} agents")
