"""Readings in, verdict out: whether a fleet holds its level, and why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ape_infra.planning.plan import Plan
from ape_infra.rollout.readings import Counters, Readings
from monitoring.thresholds import Thresholds

# An agent ends its first session some seconds after its start delay.
SETTLE_EXTRA_SECONDS = 20.0
MIN_OBSERVATION_SECONDS = 15.0
# The gateway counts an agent as alive for so long after its last heartbeat.
HEARTBEAT_SECONDS = 30.0


@dataclass(frozen=True)
class Limits:
    """The monitor's thresholds, in per cent; `deaths` of one container make a restart loop.

    Errors have risen when their rate is more than `rise` (0 to 1) above that of the level before,
    and there are at least `few` requests or sessions to tell it from.
    """

    memory: float
    cpu: float
    disk: float
    container_memory: float
    deaths: int
    healthy: float = 95.0
    rise: float = 0.05
    few: int = 10

    @classmethod
    def of(cls, thresholds: Thresholds) -> Limits:
        return cls(
            memory=thresholds["systemMemoryPercent"].raise_at,
            cpu=thresholds["systemCpuPercent"].raise_at,
            disk=thresholds["diskPercent"].raise_at,
            container_memory=thresholds["containerMemoryPercent"].raise_at,
            deaths=int(thresholds["agentRestarts"].raise_at),
        )


@dataclass(frozen=True)
class Check:
    """`ok` None: could not be seen. `saw` and `rule` are for people."""

    name: str
    ok: bool | None
    saw: str
    rule: str

    @property
    def text(self) -> str:
        return f"{self.name}: {self.saw} ({self.rule})"


@dataclass(frozen=True)
class CheckResults:
    checks: tuple[Check, ...]

    @property
    def held(self) -> bool:
        return all(check.ok is not False for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(check.text for check in self.checks if check.ok is False)


def observation_seconds(plan: Plan, health_retries: int) -> float:
    """How long a level must hold: so long that a health check that fails has spoken."""
    if plan.health_interval_seconds is None:
        return HEARTBEAT_SECONDS
    return max(MIN_OBSERVATION_SECONDS, float(plan.health_interval_seconds * health_retries))


def settle_seconds(plan: Plan, start_period: float) -> float:
    """How long agents that have just started may take to be seen healthy."""
    interval = plan.health_interval_seconds
    return start_period + (interval or HEARTBEAT_SECONDS) + SETTLE_EXTRA_SECONDS


def needed(agents: int, limits: Limits) -> int:
    """Healthy agents that a level of `agents` needs."""
    return math.ceil(agents * limits.healthy / 100)


def ready(agents: int, now: Readings, limits: Limits) -> bool:
    """Whether the level has come up, so that its window can begin."""
    return now.healthy >= needed(agents, limits) and all(now.services.values())


def _at_most(name: str, values: Sequence[float | None], limit: float, how: str) -> Check:
    seen = [v for v in values if v is not None]
    if not seen:
        return Check(name, None, "cannot be seen from here", f"below {limit:g} %")
    worst = fmean(seen) if how == "mean" else max(seen)
    return Check(name, worst < limit, f"{worst:.0f} % at {how}", f"below {limit:g} %")


def _deaths(now: Readings, limits: Limits) -> Check:
    looping = sorted(name for name, times in now.deaths.items() if times >= limits.deaths)
    saw = f"{len(now.deaths)} containers ended by themselves"
    if looping:
        some = ", ".join(looping[:3]) + (" and others" if len(looping) > 3 else "")
        saw = f"{some} ended {limits.deaths} times or more"
    return Check("restarts", not looping, saw, f"fewer than {limits.deaths} of one container")


def safety_checks(seen: Sequence[Readings], limits: Limits) -> CheckResults:
    """What must never be, while a level comes up as well as afterwards. `seen` is not empty."""
    fullest = max(
        (item for now in seen for item in now.container_memory.items()),
        key=lambda item: item[1],
        default=None,
    )
    return CheckResults(
        (
            _deaths(seen[-1], limits),
            _at_most("memory", [r.memory_percent for r in seen], limits.memory, "most"),
            _at_most("disk", [r.disk_percent for r in seen], limits.disk, "most"),
            Check(
                "container memory",
                None if fullest is None else fullest[1] < limits.container_memory,
                "cannot be seen from here"
                if fullest is None
                else f"{fullest[1]:.0f} % of its limit at most, in {fullest[0]}",
                f"below {limits.container_memory:g} %",
            ),
        )
    )


def steady_state_checks(agents: int, seen: Sequence[Readings], limits: Limits) -> CheckResults:
    """What must hold at every moment of the window. `seen` is not empty."""
    fewest = min(r.healthy for r in seen)
    need = needed(agents, limits)
    names = sorted({name for r in seen for name in r.services})
    down = [name for name in names if not all(r.services.get(name, False) for r in seen)]
    return CheckResults(
        (
            Check(
                "agents",
                fewest >= need,
                f"{fewest} of {agents} healthy at least",
                f"{limits.healthy:g} %, that is {need}",
            ),
            Check(
                "services",
                not down,
                f"{' and '.join(down)} down" if down else f"{' and '.join(names)} up",
                "all up",
            ),
            *safety_checks(seen, limits).checks,
        )
    )


def _risen(
    name: str,
    now: float | None,
    before: float | None,
    count: float,
    limits: Limits,
) -> Check:
    rule = f"at most {100 * limits.rise:g} points above the level before"
    if now is None or count < limits.few:
        return Check(name, None, f"{count:.0f} seen, too few to tell", rule)
    was = before or 0.0
    saw = f"{100 * now:.1f} % of {count:.0f}, {100 * was:.1f} % before"
    return Check(name, now <= was + limits.rise, saw, rule)


def verdict(
    agents: int, seen: Sequence[Readings], before: Counters | None, limits: Limits
) -> CheckResults:
    """The verdict of a whole window. `before`: what was counted at the level before, if known."""
    done = seen[-1].counters.since(seen[0].counters)
    old = before or Counters()
    return CheckResults(
        (
            *steady_state_checks(agents, seen, limits).checks,
            _at_most("cpu", [r.cpu_percent for r in seen], limits.cpu, "mean"),
            _risen("errors", done.error_rate, old.error_rate, done.requests, limits),
            _risen(
                "failed sessions",
                done.failure_rate,
                old.failure_rate,
                done.success + done.failure,
                limits,
            ),
        )
    )
