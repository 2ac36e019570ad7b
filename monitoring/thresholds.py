"""Thresholds of the monitor's alerts and of Prometheus's rules, in one place.

An alert is raised when its value is at least `raise_at` for `hold_seconds`. It ends when the value
is below `clear_at`, which is lower, so that the alert does not flap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Severity = Literal["warning", "critical"]
# Windows in which restarts, restart loops and OOM kills are counted.
RESTART_WINDOW_SECONDS = 3600
LOOP_WINDOW_SECONDS = 600
OOM_WINDOW_SECONDS = 600
DISK_HORIZON_HOURS = 4
# Docker's period for CPU limits is 100 ms.
CPU_PERIODS_PER_SECOND = 10


class ThresholdError(Exception):
    """Invalid thresholds: (path, message) each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{path}: {message}" for path, message in problems))


@dataclass(frozen=True)
class Rule:
    """One alert. `key` is its name in settings, `alert` its name elsewhere.

    `per` is the scope of one alert: the machine, a part of it (a file system or kernel limit), or
    all containers of a service.
    """

    key: str
    alert: str
    severity: Severity
    unit: str
    raise_at: float
    clear_at: float
    hold_seconds: float
    per: Literal["machine", "part", "service"]
    summary: str
    remedy: str


RULES: tuple[Rule, ...] = (
    Rule(
        *("systemMemoryPercent", "HighMemoryUsage", "warning", "%", 85, 80, 60, "machine"),
        "Memory of the machine is nearly used up.",
        "Run fewer agents (ape-load scale), or use a machine with more memory.",
    ),
    Rule(
        *("systemCpuPercent", "HighCpuUsage", "warning", "%", 80, 70, 60, "machine"),
        "The machine's CPU is busy; latencies measured now are partly its own.",
        "Run fewer agents, raise thinkTimeSeconds, or use a machine with more cores.",
    ),
    Rule(
        *("diskPercent", "HighDiskUsage", "warning", "%", 90, 88, 60, "part"),
        "A file system is nearly full.",
        "Free space (docker system df shows what Docker holds), or lower logMaxSize.",
    ),
    Rule(
        *("diskPredictedPercent", "DiskWillFill", "warning", "%", 100, 95, 300, "part"),
        f"A file system will be full within {DISK_HORIZON_HOURS} hours at the present rate.",
        "Find what grows (logs, metrics), and free space or lower its retention.",
    ),
    Rule(
        *("kernelLimitPercent", "KernelLimitNear", "warning", "%", 80, 75, 30, "part"),
        "A limit of the kernel or of Docker's networks is nearly reached.",
        "Raise it with sysctl before more agents start; docs/monitor.md says which.",
    ),
    Rule(
        *("containerMemoryPercent", "ResourceExhaustion", "warning", "%", 90, 85, 30, "service"),
        "Containers are near their memory limit.",
        "Raise memoryMb of the tier (ape:tiers), or look for a leak.",
    ),
    Rule(
        *("throttledPercent", "CpuThrottled", "warning", "%", 50, 40, 120, "service"),
        "Containers wait for their CPU limit most of the time.",
        "Raise cpus of the tier (ape:tiers), or run fewer agents.",
    ),
    Rule(
        *("agentRestarts", "AgentFailures", "warning", "restarts", 3, 1, 0, "service"),
        "Agents restart again and again (restarts in the last hour).",
        "Read their logs (ape-load logs --service agent); the exit code says whether by OOM.",
    ),
    Rule(
        *("containerRestarts", "ContainerRestarts", "warning", "restarts", 3, 1, 0, "service"),
        "Containers restart again and again (restarts in the last hour).",
        "Read their logs (ape-load logs --service NAME).",
    ),
    Rule(
        *("restartLoop", "RestartLoop", "critical", "restarts", 5, 1, 0, "service"),
        "Containers cannot stay up (restarts in the last ten minutes).",
        "Read their last log lines, mend the cause, and roll out again.",
    ),
    Rule(
        *("oomKills", "ContainerOomKilled", "warning", "kills", 1, 1, 0, "service"),
        "The kernel killed processes at their memory limit.",
        "Raise memoryMb of the tier (ape:tiers), or look for a leak.",
    ),
    Rule(
        *("serviceDown", "ServiceUnavailable", "critical", "down", 1, 1, 30, "service"),
        "A service is unhealthy or gone.",
        "Read its log (ape-load logs --service NAME); docker inspect shows its health checks.",
    ),
    Rule(
        *("agentsMissing", "AgentsMissing", "warning", "agents", 1, 1, 60, "machine"),
        "Agents that the stack declares do not run, or are unhealthy.",
        "Look at their logs, and apply the stack again (ape-load up).",
    ),
    Rule(
        *("dataAgeSeconds", "MonitorDataStale", "critical", "s", 30, 15, 0, "machine"),
        "The monitor cannot see: its data is old, and other alerts may be missing.",
        "Check that Docker answers (docker info) and that the monitor has CPU.",
    ),
)
BY_KEY: Mapping[str, Rule] = {rule.key: rule for rule in RULES}


class Thresholds:
    """All rules with their effective limits. `thresholds[key]` is a Rule."""

    def __init__(self, rules: Mapping[str, Rule] = BY_KEY) -> None:
        self._rules = dict(rules)

    def __getitem__(self, key: str) -> Rule:
        return self._rules[key]

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def at_once(self) -> Thresholds:
        """Return the same rules without hold times, for a single sample."""
        return Thresholds({key: replace(rule, hold_seconds=0) for key, rule in self._rules.items()})


_FIELDS = {"raiseAt": "raise_at", "clearAt": "clear_at", "holdSeconds": "hold_seconds"}


def parse(given: Mapping[str, Any]) -> Thresholds:
    """Return the defaults, changed by `given`: key -> number or {raiseAt, clearAt, holdSeconds}.

    A number alone sets `raiseAt` and moves `clearAt` in proportion. Raises ThresholdError with all
    problems.
    """
    rules, problems = dict(BY_KEY), []
    for key, value in given.items():
        rule = BY_KEY.get(key)
        if rule is None:
            problems.append((key, f"is not a threshold. Use one of: {', '.join(BY_KEY)}."))
            continue
        raw = value if isinstance(value, Mapping) else {"raiseAt": value}
        for name, number in raw.items():
            if name not in _FIELDS:
                problems.append((f"{key}.{name}", f"is unknown. Use {', '.join(_FIELDS)}."))
            elif (
                isinstance(number, bool)
                or not isinstance(number, int | float)
                or not 0 <= number < 1e9
            ):
                problems.append((f"{key}.{name}", "must be a number, 0 or more."))
        numbers = {
            _FIELDS[n]: v
            for n, v in raw.items()
            if n in _FIELDS and isinstance(v, int | float) and not isinstance(v, bool)
        }
        if "raise_at" in numbers and "clear_at" not in numbers:
            numbers["clear_at"] = numbers["raise_at"] * rule.clear_at / rule.raise_at
        changed = replace(
            rule,
            raise_at=numbers.get("raise_at", rule.raise_at),
            clear_at=numbers.get("clear_at", rule.clear_at),
            hold_seconds=numbers.get("hold_seconds", rule.hold_seconds),
        )
        if changed.raise_at <= 0:
            problems.append(
                (
                    f"{key}.raiseAt",
                    "must be more than 0, or the alert would always be raised.",
                )
            )
        elif not 0 < changed.clear_at <= changed.raise_at:
            problems.append(
                (
                    f"{key}.clearAt",
                    f"is {changed.clear_at:g}; it must be more than 0 and at most raiseAt "
                    f"({changed.raise_at:g}).",
                )
            )
        rules[key] = changed
    if problems:
        raise ThresholdError(problems)
    return Thresholds(rules)


def parse_words(words: list[str]) -> dict[str, Any]:
    """Parse options "KEY=RAISE[:CLEAR[:HOLD]]" into data for `parse`. Raises ThresholdError."""
    given: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        try:
            numbers = [float(part) for part in text.split(":")]
        except ValueError:
            numbers = []
        if not equals or not 1 <= len(numbers) <= 3:
            problem = "is not KEY=RAISE[:CLEAR[:HOLD]], e.g. systemMemoryPercent=85:80:60."
            raise ThresholdError([(word, problem)])
        given[key] = dict(zip(_FIELDS, numbers, strict=False))
    return given
