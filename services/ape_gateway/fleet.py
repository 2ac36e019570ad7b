"""The counts of the whole fleet, from the reports of its containers."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from ape_contracts import metrics
from ape_contracts.report_token import Grant
from ape_gateway.failures import Failures
from ape_gateway.reports import Report, parse, parse_transcript
from ape_gateway.results import Results
from ape_service import prom

ALIVE_SECONDS = 30.0
# For this long after the first time, a batch may be sent again.
REMEMBER_SECONDS = 900.0
# Processes that are remembered of a container: its last ones.
MAX_SOURCES = 8
# At most, of all containers together; each container reports at most once per shortest interval.
REPORTS_PER_SECOND = 50.0
MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 1.0, 10.0


class ReportRefused(Exception):
    """Status, reason (one of metrics.REFUSAL_REASONS) and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class _Heartbeat:
    at: float
    state: str
    memory_bytes: float
    source: str


@dataclass(frozen=True)
class _Counted:
    """The last batch of a process, and when it came."""

    at: float
    number: int
    digest: int


# A container's first slot, and its process. Without tokens there is one container, 0.
_Source = tuple[int, str]


class Fleet:
    """Counts agents, steps and sessions; a Prometheus collector of the current state.

    `max_slot`: the highest slot that a report may name. `results`: of runs, which count too.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        declared: int,
        clock: Callable[[], float] = time.monotonic,
        max_slot: int = 10_000,
        results: Results | None = None,
    ) -> None:
        self._declared, self._max_slot = declared, max_slot
        self._of_run = results
        self._clock = clock
        self._seen: dict[int, _Heartbeat] = {}
        # The longest silent first.
        self._sources: OrderedDict[_Source, _Counted] = OrderedDict()
        self._sources_of: dict[int, list[str]] = {}
        self._results: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._failures = Failures()
        self._step_results: Counter[str] = Counter()
        self._sessions = prom.counter(metrics.SESSIONS, registry)
        self._session_seconds = prom.histogram(metrics.SESSION_SECONDS, registry)
        self._steps = prom.counter(metrics.STEPS, registry)
        self._step_seconds = prom.histogram(metrics.STEP_SECONDS, registry)
        self._between = prom.histogram(metrics.TIME_BETWEEN_ACTIONS, registry)
        self._repaired = prom.counter(metrics.REPAIRED_CALLS, registry)
        self._lost = prom.counter(metrics.AGENT_RESULTS_LOST, registry)
        registry.register(self)

    def report(self, raw: Any, grant: Grant | None = None) -> dict[str, Any]:
        """Count a report as a whole; returns its answer. Counts nothing where it raises.

        `grant`: of its token; None: this gateway has no key. Raises ReportError, ReportRefused.
        """
        report, now = parse(raw, self._max_slot), self._clock()
        container = 0 if grant is None else self._container(report, grant, now)
        new = self._is_new(report, container, now)
        share = report.memory_bytes / len(report.agents)
        for slot, state in report.agents:
            self._seen[slot] = _Heartbeat(now, state, share, report.source)
        if new:
            self._count(report)
        return {"counted": new, "report_after_seconds": self._interval()}

    def transcript(self, raw: Any, grant: Grant | None = None) -> bool:
        """Whether the transcript was kept. Raises ReportError, ReportRefused."""
        transcript = parse_transcript(raw, self._max_slot)
        if grant is not None and transcript.slot not in grant.slots:
            raise ReportRefused(403, "slots", "The token is not that of this agent's container.")
        return self._of_run is not None and self._of_run.transcript(transcript)

    def _container(self, report: Report, grant: Grant, now: float) -> int:
        """The first slot of the report's container. Raises ReportRefused."""
        slots = [slot for slot, _ in report.agents]
        if slots[0] not in grant.slots or set(slots) - set(
            container := grant.container_of(slots[0])
        ):
            raise ReportRefused(403, "slots", "The token is not that of these agents' container.")
        # Containers that share a token: a slot is its process's until that is silent or stops.
        held = (self._seen.get(slot) for slot in (slots if grant.is_shared else ()))
        if any(
            seen.source != report.source
            and seen.state != "stopping"
            and now - seen.at < ALIVE_SECONDS
            for seen in held
            if seen is not None
        ):
            raise ReportRefused(409, "claimed", "Another process reports about these agents.")
        return container.start

    def _is_new(self, report: Report, container: int, now: float) -> bool:
        """Whether the batch is to be counted; it is remembered. Raises ReportRefused."""
        source = container, report.source
        last = self._sources.get(source)
        digest = hash((report.steps, report.lost, repr(report.sessions)))
        if last and (report.number, digest) == (last.number, last.digest):
            new = False
        elif last and report.number <= last.number:
            raise ReportRefused(409, "replayed", "Another batch of this number was counted.")
        else:
            new = True
        self._sources[source] = _Counted(now, report.number, digest)
        self._sources.move_to_end(source)
        if last is None:
            self._remember(source)
        while now - next(iter(self._sources.values())).at > REMEMBER_SECONDS:
            self._forget(next(iter(self._sources)))
        return new

    def _remember(self, source: _Source) -> None:
        container, name = source
        of = self._sources_of.setdefault(container, [])
        of.append(name)
        # All containers are one where reports have no tokens.
        if len(of) > (MAX_SOURCES if container else self._max_slot):
            self._forget((container, of[0]))

    def _forget(self, source: _Source) -> None:
        del self._sources[source]
        self._sources_of[source[0]].remove(source[1])

    def _interval(self) -> float:
        wanted = len(self._sources) / REPORTS_PER_SECOND
        return min(MAX_INTERVAL_SECONDS, max(MIN_INTERVAL_SECONDS, wanted))

    def _count(self, report: Report) -> None:
        for step in report.steps:
            self._step_results[step.result] += 1
            self._steps.labels(step.result).inc()
            if step.seconds is not None:
                self._step_seconds.labels(step.result).observe(step.seconds)
            if step.since is not None:
                self._between.observe(step.since)
        for session in report.sessions:
            self._results[session.result] += 1
            if session.result == metrics.FAILURE:
                self._reasons[session.reason] += 1
                self._failures.add(session.reason, session.detail)
            for kind, count in session.repaired.items():
                self._repaired.labels(kind).inc(count)
            self._sessions.labels(session.result, session.reason).inc()
            self._session_seconds.labels(session.result).observe(session.seconds)
            if session.run and self._of_run is not None:
                self._of_run.session(session)
        self._lost.inc(report.lost)
        if report.lost and self._of_run is not None:
            self._of_run.lost(report.lost)

    def _alive(self) -> dict[int, _Heartbeat]:
        since = self._clock() - ALIVE_SECONDS
        return {slot: seen for slot, seen in self._seen.items() if seen.at > since}

    def summary(self) -> dict[str, Any]:
        """The answer of GET /fleet:

        {declared, alive, by_state, steps: {result: n},
         sessions: {success, failure, by_reason, failures: [{reason, detail, sessions}]}}

        by_reason and failures of failed sessions only; failures: the most frequent ones.
        """
        by_state = Counter(seen.state for seen in self._alive().values())
        return {
            "declared": self._declared,
            "alive": by_state.total(),
            "by_state": dict(by_state),
            "steps": dict(self._step_results),
            "sessions": {
                metrics.SUCCESS: self._results[metrics.SUCCESS],
                metrics.FAILURE: self._results[metrics.FAILURE],
                "by_reason": dict(self._reasons),
                "failures": self._failures.most_frequent(),
            },
        }

    def collect(self) -> Iterable[GaugeMetricFamily]:
        alive = self._alive()
        agents = GaugeMetricFamily(metrics.AGENTS.name, metrics.AGENTS.help, labels=["state"])
        by_state = Counter(seen.state for seen in alive.values())
        for state in metrics.AGENT_STATES:
            agents.add_metric([state], by_state[state])
        yield agents
        memory = GaugeMetricFamily(
            metrics.AGENT_RESIDENT_MEMORY.name,
            metrics.AGENT_RESIDENT_MEMORY.help,
            labels=metrics.AGENT_RESIDENT_MEMORY.labels,
        )
        for slot, seen in sorted(alive.items()):
            memory.add_metric([f"{slot:04d}"], seen.memory_bytes)
        yield memory
        yield GaugeMetricFamily(
            metrics.AGENTS_DECLARED.name, metrics.AGENTS_DECLARED.help, value=self._declared
        )
