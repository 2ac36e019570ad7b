"""The checks of a level: from readings to results, without I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ape_infra.checks.check import Check, failed
from ape_infra.planning.plan import Plan
from ape_infra.rollout.readings import Counters, Readings
from monitoring.thresholds import Thresholds

# An agent finishes its first session some seconds after its start delay.
SETTLE_EXTRA_SECONDS = 20.0
MIN_OBSERVATION_SECONDS = 15.0
# The gateway counts an agent as alive for this long after its last heartbeat.
HEARTBEAT_SECONDS = 30.0
_OK = {"ok": True, "fail": False}


@dataclass(frozen=True)
class Limits:
    """The monitor's thresholds, in percent; `deaths` of one container make a restart loop.

    Errors have increased when their rate is more than `max_rate_increase` (0 to 1) above that of
    the previous level, among at least `min_samples` requests or sessions.
    """

    memory: float
    cpu: float
    disk: float
    container_memory: float
    deaths: int
    healthy: float = 95.0
    max_rate_increase: float = 0.05
    min_samples: int = 10

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
class LevelCheck(Check):
    """A check with the rule that it tests. It has no remedy: a failure rolls the level back."""

    rule: str = ""

    @property
    def text(self) -> str:
        return f"{self.name}: {self.observed} ({self.rule})"

    def data(self) -> dict[str, object]:
        """The check under the keys of the `--json` output; `ok` is null where it is unknown."""
        return {
            "name": self.name,
            "ok": _OK.get(self.status),
            "saw": self.observed,
            "rule": self.rule,
        }


def _check(name: str, passed: bool, observed: str, rule: str) -> LevelCheck:
    return LevelCheck(name, "ok" if passed else "fail", observed, rule=rule)


def _unknown(name: str, observed: str, rule: str) -> LevelCheck:
    return LevelCheck(name, "unknown", observed, rule=rule)


@dataclass(frozen=True)
class CheckResults:
    checks: tuple[LevelCheck, ...]

    @property
    def passed(self) -> bool:
        return not failed(self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(check.text for check in failed(self.checks))


def observation_seconds(plan: Plan, health_retries: int) -> float:
    """Length of the observation window: long enough for any failing health check to report."""
    if plan.health_interval_seconds is None:
        return HEARTBEAT_SECONDS
    return max(MIN_OBSERVATION_SECONDS, float(plan.health_interval_seconds * health_retries))


def settle_seconds(plan: Plan, start_period: float) -> float:
    """The time in which agents that have just started must become healthy."""
    interval = plan.health_interval_seconds
    return start_period + (interval or HEARTBEAT_SECONDS) + SETTLE_EXTRA_SECONDS


def needed(agents: int, limits: Limits) -> int:
    """Healthy agents that a level of `agents` needs."""
    return math.ceil(agents * limits.healthy / 100)


def has_settled(agents: int, now: Readings, limits: Limits) -> bool:
    """Whether the agents have become healthy, so that the observation window can start."""
    return now.healthy >= needed(agents, limits) and all(now.services.values())


def _below(name: str, values: Sequence[float | None], limit: float, how: str) -> LevelCheck:
    rule = f"below {limit:g} %"
    known = [v for v in values if v is not None]
    if not known:
        return _unknown(name, "not visible from this host", rule)
    value = fmean(known) if how == "on average" else max(known)
    return _check(name, value < limit, f"{value:.0f} % {how}", rule)


def _restarts(now: Readings, limits: Limits) -> LevelCheck:
    looping = sorted(name for name, times in now.deaths.items() if times >= limits.deaths)
    observed = f"{len(now.deaths)} containers exited by themselves"
    if looping:
        names = ", ".join(looping[:3]) + (" and others" if len(looping) > 3 else "")
        observed = f"{names} exited {limits.deaths} times or more"
    return _check("restarts", not looping, observed, f"fewer than {limits.deaths} per container")


def _container_memory(seen: Sequence[Readings], limits: Limits) -> LevelCheck:
    name, rule = "container memory", f"below {limits.container_memory:g} %"
    used = {item for now in seen for item in now.container_memory.items()}
    if not used:
        return _unknown(name, "not visible from this host", rule)
    container, percent = max(used, key=lambda item: item[1])
    observed = f"at most {percent:.0f} % of its limit, in {container}"
    return _check(name, percent < limits.container_memory, observed, rule)


def safety_checks(seen: Sequence[Readings], limits: Limits) -> CheckResults:
    """The checks that must pass at all times, also while agents start. `seen` is not empty."""
    return CheckResults(
        (
            _restarts(seen[-1], limits),
            _below("memory", [r.memory_percent for r in seen], limits.memory, "at maximum"),
            _below("disk", [r.disk_percent for r in seen], limits.disk, "at maximum"),
            _container_memory(seen, limits),
        )
    )


def steady_state_checks(agents: int, seen: Sequence[Readings], limits: Limits) -> CheckResults:
    """The checks that must pass at every moment of the observation window, safety checks too.

    `seen` is not empty.
    """
    fewest = min(r.healthy for r in seen)
    need = needed(agents, limits)
    names = sorted({name for r in seen for name in r.services})
    down = [name for name in names if not all(r.services.get(name, False) for r in seen)]
    return CheckResults(
        (
            _check(
                "agents",
                fewest >= need,
                f"{fewest} of {agents} healthy at minimum",
                f"at least {limits.healthy:g} %, which is {need}",
            ),
            _check(
                "services",
                not down,
                f"{' and '.join(down)} down" if down else f"{' and '.join(names)} up",
                "all up",
            ),
            *safety_checks(seen, limits).checks,
        )
    )


def _rate(
    name: str, now: float | None, before: float | None, samples: float, limits: Limits
) -> LevelCheck:
    points = 100 * limits.max_rate_increase
    rule = f"at most {points:g} percentage points above the previous level"
    if now is None or samples < limits.min_samples:
        return _unknown(name, f"{samples:.0f} samples, fewer than {limits.min_samples}", rule)
    previous = before or 0.0
    observed = f"{100 * now:.1f} % of {samples:.0f}, previously {100 * previous:.1f} %"
    return _check(name, now <= previous + limits.max_rate_increase, observed, rule)


def observation_checks(
    agents: int, seen: Sequence[Readings], before: Counters | None, limits: Limits
) -> CheckResults:
    """The checks of a whole observation window.

    `before`: the counters' increase in the window of the previous level, if known.
    """
    done = seen[-1].counters.since(seen[0].counters)
    previous = before or Counters()
    sessions = done.success + done.failure
    return CheckResults(
        (
            *steady_state_checks(agents, seen, limits).checks,
            _below("cpu", [r.cpu_percent for r in seen], limits.cpu, "on average"),
            _rate("errors", done.error_rate, previous.error_rate, done.requests, limits),
            _rate("failed sessions", done.failure_rate, previous.failure_rate, sessions, limits),
        )
    )
