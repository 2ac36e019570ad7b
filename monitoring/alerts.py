"""Open alerts: readings compared with thresholds, with a hold time and hysteresis.

Times are of the monotonic clock, so a jump of the wall clock raises and ends no alert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ape_contracts.labels import AGENT_SERVICES
from monitoring.model import Sample
from monitoring.thresholds import RULES, Severity, Thresholds

EXAMPLES = 5


class Reading(NamedTuple):
    """A value to compare with the threshold `key`; `subject` is a container, a file system, …"""

    key: str
    service: str
    subject: str
    value: float


@dataclass(frozen=True)
class Alert:
    """One open alert of a rule and a service, for all subjects. `value` is the worst."""

    key: str
    name: str
    severity: Severity
    service: str
    since: float
    value: float
    threshold: float
    unit: str
    count: int
    examples: tuple[str, ...]
    summary: str
    remedy: str

    @property
    def id(self) -> tuple[str, str]:
        """The identity of the alert while it is open: name and service."""
        return self.name, self.service

    @property
    def subject(self) -> str:
        """The name, with the service in parentheses."""
        return f"{self.name} ({self.service})" if self.service else self.name

    @property
    def details(self) -> str:
        """The value, the threshold, and the worst subjects."""
        value = f"{self.value:.0f}" if self.value >= 10 else f"{self.value:.3g}"
        line = f"{value} {self.unit}, threshold {self.threshold:g}"
        if self.examples:
            total = f"{self.count} of them: " if self.count > 1 else ""
            more = ", …" if self.count > len(self.examples) else ""
            line += f"; {total}{', '.join(self.examples)}{more}"
        return line

    @property
    def text(self) -> str:
        """One line to show."""
        return f"{self.subject}: {self.summary} {self.details}"

    def json(self, now: float, wall: float) -> dict[str, Any]:
        """Return the alert's JSON; `now` and `wall` are one moment in monotonic and Unix time."""
        return {
            "name": self.name,
            "severity": self.severity,
            "service": self.service,
            "since": round(wall - (now - self.since), 3),
            "value": round(self.value, 3),
            "threshold": self.threshold,
            "unit": self.unit,
            "count": self.count,
            "examples": list(self.examples),
            "summary": self.summary,
            "remedy": self.remedy,
        }


class _State(NamedTuple):
    since: float
    firing: bool
    value: float


class Engine:
    """Keeps pending and open alerts between samples."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self._states: dict[tuple[str, str, str], _State] = {}

    def update(
        self, now: float, readings: Iterable[Reading], unknown: Collection[str] = ()
    ) -> list[Alert]:
        """Return the open alerts, the worst severity first.

        A subject without a reading is healthy. The alerts of keys in `unknown`, which could not be
        read, stay as they are.
        """
        states = {at: state for at, state in self._states.items() if at[0] in unknown}
        for key, service, subject, value in readings:
            rule = self.thresholds[key]
            at = key, service, subject
            old = self._states.get(at)
            if value < (rule.clear_at if old and old.firing else rule.raise_at):
                continue
            since = old.since if old else now
            firing = (old is not None and old.firing) or now - since >= rule.hold_seconds
            states[at] = _State(since, firing, value)
        self._states = states
        return self._grouped()

    @property
    def pending(self) -> int:
        """Number of subjects over a threshold, but not for its hold time yet."""
        return sum(not state.firing for state in self._states.values())

    def _grouped(self) -> list[Alert]:
        groups: dict[tuple[str, str], list[tuple[str, _State]]] = {}
        for (key, service, subject), state in self._states.items():
            if state.firing:
                groups.setdefault((key, service), []).append((subject, state))
        made = []
        for (key, service), found in groups.items():
            rule = self.thresholds[key]
            found.sort(key=lambda item: (-item[1].value, item[0]))
            made.append(
                Alert(
                    key=key,
                    name=rule.alert,
                    severity=rule.severity,
                    service=service,
                    since=min(state.since for _, state in found),
                    value=found[0][1].value,
                    threshold=rule.raise_at,
                    unit=rule.unit,
                    count=len(found),
                    examples=tuple(subject for subject, _ in found[:EXAMPLES] if subject),
                    summary=rule.summary,
                    remedy=rule.remedy,
                )
            )
        order = {rule.key: index for index, rule in enumerate(RULES)}
        made.sort(key=lambda a: (a.severity != "critical", order[a.key], a.service))
        return made


def readings(sample: Sample) -> Iterator[Reading]:
    """Yield the values of a sample that have a threshold."""
    if system := sample.system:
        yield Reading("systemMemoryPercent", "", "", system.memory_percent)
        if system.cpu_percent is not None:
            yield Reading("systemCpuPercent", "", "", system.cpu_percent)
        for mount, percent in system.disks.items():
            yield Reading("diskPercent", "", mount, percent)
        for mount, percent in system.disks_predicted.items():
            yield Reading("diskPredictedPercent", "", mount, percent)
        for limit in system.limits:
            yield Reading("kernelLimitPercent", "", limit.name, limit.percent)
    for one in sample.containers:
        container = one.container
        service, name = container.service, container.name
        agent = service in AGENT_SERVICES
        if one.memory_percent is not None:
            yield Reading("containerMemoryPercent", service, name, one.memory_percent)
        if one.throttled_percent:
            yield Reading("throttledPercent", service, name, one.throttled_percent)
        if one.restarts_hour:
            key = "agentRestarts" if agent else "containerRestarts"
            yield Reading(key, service, name, one.restarts_hour)
            yield Reading("restartLoop", service, name, one.restarts_loop)
        if one.ooms_recent:
            yield Reading("oomKills", service, name, one.ooms_recent)
        if container.failed and not agent:
            yield Reading("serviceDown", service, name, 1)
    for service in sample.gone:
        yield Reading("serviceDown", service, service, 1)
    if sample.fleet.missing:
        yield Reading("agentsMissing", "", "", sample.fleet.missing)
    yield Reading("dataAgeSeconds", "", "", sample.monitor.data_age)


# Thresholds whose values come from Docker: unknown while it does not answer.
BY_DOCKER = ("serviceDown", "agentsMissing")


def unknown(sample: Sample) -> tuple[str, ...]:
    """Return the thresholds for which the sample has no current values."""
    return () if sample.monitor.docker_up else BY_DOCKER


class Health(NamedTuple):
    """`level` is healthy, degraded or critical."""

    level: str
    reason: str


def health(alerts: list[Alert], sample: Sample) -> Health:
    """Return the health by the worst open alert, which is the first."""
    if alerts:
        level = "critical" if alerts[0].severity == "critical" else "degraded"
        return Health(level, alerts[0].text)
    if not sample.monitor.docker_up:
        return Health("degraded", sample.monitor.problem or "Docker does not answer.")
    if sample.monitor.unseen:
        return Health("degraded", sample.monitor.unseen_reason)
    return Health("healthy", "no open alerts")
