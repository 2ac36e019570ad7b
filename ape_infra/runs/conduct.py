"""Conducts a run: begins it, polls its services, writes its files, and ends it in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ape_contracts.text import plain
from ape_infra.runs import verdict
from ape_infra.runs.client import NO_ANSWER, RefusedError, Services, UnreachableError
from ape_infra.runs.collector import Collector
from ape_infra.runs.measured import Measured
from ape_infra.runs.session_files import SessionFiles
from ape_infra.runs.snapshots import ENDED, NONE, ProxyResults, SnapshotError, Status
from ape_infra.runs.store import RunFolder
from ape_infra.runs.summary import Lost, Summary, ThresholdResult
from ape_infra.runs.takeover import end_orphan

POLL_SECONDS = 2.0
# Without an answer of the gateway, in which it may restart.
GONE_SECONDS = 90.0
# After the graceful stop, until the gateway must have ended the run.
STOP_SECONDS = 15.0
# After the end, until the agents have reported all sessions.
REPORT_SECONDS = 10.0
STOP_POLL_SECONDS = 0.1


class RunRefusedError(Exception):
    """The run has not begun; the text states the reason and the remedy."""


class Judge(Protocol):
    """The thresholds of a run."""

    def results(self, measured: Measured) -> list[ThresholdResult]: ...
    def aborting(self, measured: Measured, elapsed: float) -> ThresholdResult | None: ...


class Stop:
    """Whether the run is to end: asked once, in order; twice, at once.

    A handler of signals may ask. So there is no lock in it, which the main thread could hold.
    """

    def __init__(self) -> None:
        self.times = 0

    def ask(self) -> None:
        self.times += 1

    def wait(self, seconds: float) -> None:
        """Wait, or until the next request to end."""
        before, end = self.times, time.monotonic() + seconds
        while self.times == before and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, STOP_POLL_SECONDS))


@dataclass(frozen=True)
class Progress:
    """The state of a run as it is shown."""

    collector: Collector
    measured: Measured
    thresholds: list[ThresholdResult]
    notes: list[str]
    ending: str


@dataclass
class Plan:
    """What is known before a run begins. `base`: its summary so far."""

    document: dict[str, Any]
    base: Summary
    warm_up: float = 0
    ramp_down: float = 0
    graceful_stop: float = 30

    @classmethod
    def of(cls, document: dict[str, Any], base: Summary) -> Plan:
        return cls(
            document,
            base,
            *(
                float(document[f"{key}_seconds"])
                for key in ("warm_up", "ramp_down", "graceful_stop")
            ),
        )


@dataclass
class Conductor:
    """Conducts one run. `page`: makes the report of (summary, measurements, transcripts)."""

    services: Services
    folder: RunFolder
    plan: Plan
    judge: Judge
    stop: Stop = field(default_factory=Stop)
    on_progress: Callable[[Progress], None] = lambda progress: None
    page: Callable[[Summary, dict[str, Any]], str] | None = None
    poll_seconds: float = POLL_SECONDS
    gone_seconds: float = GONE_SECONDS
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        base = self.plan.base
        self.collector = Collector(
            self.folder.name,
            base.planned_seconds,
            warm_up=self.plan.warm_up,
            ramp_down=self.plan.ramp_down,
        )
        self.notes: list[str] = []
        self._ending = ""  # why the run is to end; empty: it is not
        self._deadline = float("inf")
        self._asked, self._ended = False, 0.0
        self._seen = self.clock()  # when the gateway last gave a status
        self._last: Status | None = None
        self._sessions = SessionFiles(self.services, self.folder)
        self._failed = 0.0

    def begin(self) -> None:
        """Begin the run in the gateway. Raises RunRefusedError."""
        try:
            proxy = self.services.proxy()
            if proxy.exhausted:
                raise RunRefusedError(
                    f"{plain(proxy.exhausted)} Raise maxCostDollars or maxTokens, or restart the "
                    "proxy."
                )
            self.collector.baseline(proxy)
            self._last = self._begun()
        except RefusedError as error:
            remedy = ""
            if error.status == 401:
                remedy = (
                    " The stack was brought up with another passphrase or model key than this "
                    "command has. Use the same ones, or apply these: ape-load up"
                )
            if error.status == 409:
                remedy = (
                    " Only one run is possible at a time. Wait for it to end, or end it with "
                    "Ctrl-C; after a crash, it ends by itself within 2 minutes."
                )
            raise RunRefusedError(f"{error}{remedy}") from None
        except (UnreachableError, SnapshotError) as error:
            raise RunRefusedError(f"{error} Show what is wrong with: ape-load status") from None
        self._seen = self.clock()
        self.write()

    def _begun(self) -> Status:
        try:
            return self.services.begin(self.plan.document)
        except RefusedError as error:
            results = self.folder.path.parent
            if error.status != 409 or not end_orphan(
                self.services, results, self.stop.wait, self.clock
            ):
                raise
        return self.services.begin(self.plan.document)

    def conduct(self) -> Summary:
        """Measure the begun run until its end; returns its summary, which is written."""
        reason = ""
        while not reason:
            reason = self._poll()
            self.on_progress(self._progress())
            if not reason:
                self.stop.wait(self._pause())
        self._take_sessions(last=True)
        self.collector.finish()
        return self._finish(reason)

    def _pause(self) -> float:
        """Seconds until the next poll: one is at each change of the phase."""
        if self._ended:
            return min(self.poll_seconds, 0.5)
        return max(0.05, min(self.poll_seconds, self.collector.edge() or self.poll_seconds))

    def _poll(self) -> str:
        """Ask all services once. Returns why the run has ended; empty: it has not."""
        if self.stop.times > 1:
            return verdict.STOPPED
        if self.stop.times and not self._ending:
            self._end(verdict.STOPPED)
        if self._ending and not self._asked:
            self._ask_to_stop()
        if self.clock() > self._deadline:
            self._note("The gateway did not end the run in time.")
            return self._ending
        try:
            status = self.services.status(self.folder.name)
        except NO_ANSWER as error:
            return self._gone(error)
        if status.id != self.folder.name or status.state == NONE:
            return self._resume(status)
        self._seen, self._last = self.clock(), status
        proxy = self._proxy()
        try:
            gateway = self.services.gateway()
        except NO_ANSWER as error:
            self._note(f"{error} Its results are taken at the next poll.")
            gateway = None
        if gateway and gateway.run == self.folder.name:
            self._sessions.last = gateway.last_session
        if self.collector.take(status, gateway, proxy):
            self._take_sessions()
            self.write()
        if status.state == ENDED:
            # Agents report a little later than their sessions end.
            self._ended = self._ended or self.clock()
            waited = self.clock() - self._ended
            if self.collector.unreported and waited < REPORT_SECONDS:
                return ""
            return self._why(status)
        if not self._ending:
            self._decide(proxy)
        return ""

    def _why(self, status: Status) -> str:
        if self._ending:
            return self._ending
        return verdict.ELSEWHERE if status.why_ended == "stopped" else status.why_ended

    def _decide(self, proxy: ProxyResults | None) -> None:
        """End the run where the spend limit or a threshold asks for it."""
        if proxy and proxy.exhausted:
            self._note(f"Spend limit: {plain(proxy.exhausted)}")
            self._end(verdict.BUDGET)
            return
        broken = self.judge.aborting(self.collector.measured(), self.collector.elapsed)
        if broken:
            self._note(
                f"The threshold {broken.expression} ended the run at "
                f"{self.collector.elapsed:.0f} s, with the value {broken.value:.6g}."
            )
            self._end(verdict.ABORTED)

    def _end(self, reason: str) -> None:
        self._ending = reason
        self._deadline = self.clock() + self.plan.graceful_stop + STOP_SECONDS
        self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        try:
            self.services.stop()
            self._asked = True
        except NO_ANSWER:
            pass  # Asked again at the next poll.

    def _gone(self, error: Exception) -> str:
        if self.clock() - self._seen < self.gone_seconds:
            return ""
        self._note(plain(error))
        return self._ending or verdict.GONE

    def _resume(self, status: Status) -> str:
        """Begin the run again in a gateway that has lost it, where it would be by now."""
        if status.id and status.state != NONE:
            self._note(f"The gateway has another run now: {plain(status.id)}.")
            return verdict.REPLACED
        if self._ending:
            return self._ending
        before = self._last
        elapsed = (before.elapsed if before else 0) + self.clock() - self._seen
        following = (before.next_session if before else 0) + self._margin(before)
        if elapsed >= self.plan.base.planned_seconds:
            self._note("The gateway restarted at the end of the run.")
            return verdict.GONE
        document = {**self.plan.document, "elapsed_seconds": elapsed, "next_session": following}
        try:
            begun = self.services.begin(document)
        except UnreachableError as error:
            return self._gone(error)
        except (RefusedError, SnapshotError) as error:
            self._note(plain(error))
            return verdict.REPLACED
        self.collector.restarted()
        self._sessions.restarted()
        self._note(
            f"The gateway restarted at {elapsed:.0f} s. What it counted after "
            f"{before.elapsed if before else 0:.0f} s is lost, with the results of the sessions "
            "that were going on."
        )
        self._seen, self._last = self.clock(), begun
        return ""

    def _margin(self, before: Status | None) -> int:
        """Numbers of sessions that began after the last poll, which are not used again.

        With the open executor, each number has its time, and those of the gap count as dropped.
        """
        if before is None or before.elapsed <= 0 or self.plan.base.executor == "open":
            return 0
        return round(2 * before.started / before.elapsed * (self.clock() - self._seen)) + 1

    def _proxy(self) -> ProxyResults | None:
        try:
            return self.services.proxy()
        except NO_ANSWER as error:
            self._note(f"{plain(error)} The model's results may have gaps.")
            return None

    def _take_sessions(self, *, last: bool = False) -> None:
        """Take the rows and transcripts of sessions; transcripts, if further ones failed."""
        self._sessions.take()
        failed = self.collector.measured().failures.total(lambda key: True)
        if failed != self._failed or last:
            self._failed = failed
            self._sessions.take_transcripts()

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _progress(self) -> Progress:
        measured = self.collector.measured()
        return Progress(
            self.collector, measured, self.judge.results(measured), self.notes, self._ending
        )

    def summary(self) -> Summary:
        """The summary so far, of a run that is partial."""
        found, base = self.collector.measured(), self.plan.base
        is_open = base.executor == "open"
        return base.model_copy(
            update={
                "ended": max(base.started, time.time()),
                "measured_seconds": found.seconds,
                "thresholds": self.judge.results(found),
                "sessions": found.sessions(is_open=is_open),
                "scenarios": {name: found.sessions(name) for name in found.scenarios},
                "requests": found.requests(),
                "endpoints": found.endpoints(),
                "model_use": found.model_use(),
                "lost": Lost(
                    results=self.collector.lost,
                    gateway_restarts=self.collector.restarts,
                    missed_sessions=self._sessions.missed,
                ),
                "notes": [*base.notes, *self.notes],
            }
        )

    def write(self, summary: Summary | None = None) -> None:
        collector = self.collector
        try:
            self.folder.write(summary or self.summary(), collector.plain(), collector.intervals)
        except OSError as error:
            self._note(f"{self.folder.path} could not be written: {error.strerror}.")
            if summary:
                raise

    def _finish(self, reason: str) -> Summary:
        found = self.summary()
        notes: Sequence[str] = found.notes
        if sentence := verdict.NOTES.get(reason):
            notes = [sentence, *notes]
        if not found.sessions.succeeded + found.sessions.failed:
            notes = [*notes, "No session ended in the measured time."]
        if self._ended and (missing := self.collector.unreported):
            notes = [*notes, f"{missing} sessions that started have no result."]
        state, code = verdict.verdict(reason, found.thresholds)
        whole = found.model_copy(update={"notes": list(notes), "state": state, "exit_code": code})
        try:
            self.write(whole)
            if self.page:
                self.folder.write_report(self.page(whole, self.collector.plain()))
        except OSError:
            # What cannot be looked up later has not passed.
            return whole.model_copy(
                update={
                    "notes": [*notes, *self.notes[-1:]],
                    "exit_code": code or verdict.EXIT_INCOMPLETE,
                }
            )
        return whole
