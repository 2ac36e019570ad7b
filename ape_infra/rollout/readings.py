"""The measurements of one moment of a rollout, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


class OverrideError(ValueError):
    """A file of injected readings is malformed."""


@dataclass(frozen=True)
class Counters:
    """Totals since the services started. They restart at 0 when a service is replaced."""

    requests: float = 0.0
    errors: float = 0.0
    success: float = 0.0
    failure: float = 0.0

    def since(self, before: Counters) -> Counters:
        """The increase since `before`; a counter below its earlier value has restarted at 0."""
        mine, theirs = asdict(self), asdict(before)
        return Counters(**{k: v - theirs[k] if v >= theirs[k] else v for k, v in mine.items()})

    @property
    def error_rate(self) -> float | None:
        """Errors per request, 0 to 1; None without a request."""
        return self.errors / self.requests if self.requests else None

    @property
    def failure_rate(self) -> float | None:
        """Failed sessions per session, 0 to 1; None without a session."""
        total = self.success + self.failure
        return self.failure / total if total else None


@dataclass(frozen=True)
class Readings:
    """Percentages are 0 to 100; None: not visible from this host (a daemon on another machine).

    `running` and `healthy` count agents. `deaths`: container -> how often it exited by itself
    recently. `container_memory`: container -> used percentage of its limit.
    `services`: gateway and proxy -> whether they answer.
    """

    running: int = 0
    healthy: int = 0
    deaths: Mapping[str, int] = field(default_factory=dict)
    services: Mapping[str, bool] = field(default_factory=dict)
    memory_percent: float | None = None
    cpu_percent: float | None = None
    disk_percent: float | None = None
    container_memory: Mapping[str, float] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)


_INJECTABLE = {f.name for f in fields(Readings)} - {"counters"}


def overridden(found: Readings, rules: Any) -> Readings:
    """Return `found` with the readings of `rules`, which a test injects.

    `rules`: a list of {"from_agents": n, "set": {reading: value}}. A rule applies while at least
    `from_agents` agents run; later rules win. Raises OverrideError.
    """
    if not isinstance(rules, list):
        raise OverrideError("must be a list of {from_agents, set}")
    for rule in rules:
        values = rule.get("set") if isinstance(rule, dict) else None
        if not isinstance(values, dict) or not set(values) <= _INJECTABLE:
            raise OverrideError(f"set: must name some of {', '.join(sorted(_INJECTABLE))}")
        if found.running >= int(rule.get("from_agents", 0)):
            found = replace(found, **values)
    return found
