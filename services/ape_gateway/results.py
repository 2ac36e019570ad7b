"""The results of a run: its requests and sessions, exactly, in bounded memory.

Of the active run, or else the last one. A request belongs to it by its header X-APE-Run, a session
by what the gateway granted to its agent. `docs/explanation/measurements.md` has what counts where.

Who controls runs calls `begin` when a run begins, and `granted` with each session that it gives to
an agent: a session that was not granted counts as lost.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import islice
from typing import Any, NamedTuple

from ape_contracts import metrics
from ape_contracts.sketch import Sketch
from ape_gateway.endpoints import UNKNOWN, Templates
from ape_gateway.failures import Failures
from ape_gateway.reports import PHASES, Session, Transcript
from ape_gateway.wire import Call

VERSION = 1
HEADER = b"x-ape-run"
OTHER = "other"
# Endpoints (method and template) of a run; and in all scenarios and phases together.
MAX_ENDPOINTS, MAX_SERIES = 200, 1000
MAX_ROWS, MAX_ROWS_PER_ANSWER = 20_000, 2000
MAX_TRANSCRIPT_BYTES = 4 << 20
# Sessions of a slot that were granted and not yet reported; the oldest one counts as lost.
MAX_GRANTED = 256
# Failed sessions that may still send their transcripts.
_MAX_FAILED = 2000
_STATUSES = tuple(f"{n}xx" for n in range(10))


class _Requests:
    """Requests of one scenario, phase, method and endpoint."""

    __slots__ = ("errors", "received", "seconds", "sent", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.sent = self.received = 0
        self.seconds = Sketch()


class _Sessions:
    """Sessions of one scenario and phase."""

    __slots__ = ("aborted", "failed", "late", "reasons", "seconds", "steps", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.aborted = self.steps = 0
        self.reasons: Counter[str] = Counter()
        self.seconds, self.late = Sketch(), Sketch()

    def plain(self, scenario: str, phase: str) -> dict[str, Any]:
        return {
            "scenario": scenario,
            "phase": phase,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "aborted": self.aborted,
            "steps": self.steps,
            "reasons": dict(self.reasons),
            "seconds": self.seconds.plain(),
            "late": self.late.plain(),
        }


class Granted(NamedTuple):
    scenario: str
    phase: str
    late: float


class Label:
    """A scenario and phase of a run, which the header of a request names."""

    __slots__ = ("_literal", "_run", "_series", "phase", "scenario")

    def __init__(self, run: _Run, scenario: str, phase: str) -> None:
        self._run, self.scenario, self.phase = run, scenario, phase
        self._series: dict[tuple[str, str], _Requests] = {}
        # By route, method and path, of paths that are their own templates.
        self._literal: dict[tuple[str, str, str], _Requests] = {}

    def answered(
        self,
        place: tuple[str, str, str],
        status: int,
        seconds: float,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        """Count an answer of the target; `place`: route, method and path of its request."""
        series = self._literal.get(place) or self._of(place)
        name = _STATUSES[status // 100] if 0 <= status < 1000 else OTHER
        series.statuses[name] = series.statuses.get(name, 0) + 1
        series.sent += sent
        series.received += received
        series.seconds.add(seconds)

    def failed(
        self,
        place: tuple[str, str, str] | None,
        code: str,
        seconds: float | None = None,
        sent: int = 0,
    ) -> None:
        """Count an answer of the gateway itself; `seconds`: None: nothing was sent."""
        series = self._of(place)
        series.errors[code] = series.errors.get(code, 0) + 1
        if seconds is not None:
            series.sent += sent
            series.seconds.add(seconds)

    def _of(self, place: tuple[str, str, str] | None) -> _Requests:
        run = self._run
        if place is None:
            key = (UNKNOWN, UNKNOWN)
        else:
            api, method, path = place
            key = (method, run.templates.endpoint(api, method, path))
        series = self._series.get(key)
        if series is not None:
            return series
        if key not in run.endpoints:
            if len(run.endpoints) < MAX_ENDPOINTS:
                run.endpoints.add(key)
            else:
                key = (key[0], OTHER)
        if run.series >= MAX_SERIES:
            key = (key[0], OTHER)
        if key not in self._series:
            run.series += 1
            self._series[key] = _Requests()
        series = self._series[key]
        if place is not None and place[2] == key[1]:
            self._literal[place] = series
        return series

    def plain(self) -> Iterator[dict[str, Any]]:
        for (method, endpoint), series in list(self._series.items()):
            yield {
                "scenario": self.scenario,
                "phase": self.phase,
                "method": method,
                "endpoint": endpoint,
                "statuses": series.statuses,
                "errors": series.errors,
                "bytes_sent": series.sent,
                "bytes_received": series.received,
                "seconds": series.seconds.plain(),
            }


# Of the request that is being served; None: it belongs to no run.
current: ContextVar[Label | None] = ContextVar("run_label", default=None)


def answered(call: Call, status: int, seconds: float, received: int) -> None:
    """Count an answer of the target, if the request that is being served belongs to a run."""
    if (label := current.get()) is not None:
        sent = len(call.payload or b"")
        label.answered((call.api, call.method, call.path), status, seconds, sent, received)


def failed(call: Call | None, code: str, seconds: float | None = None) -> None:
    """Count an answer of the gateway itself; `seconds`: waited for the target, if it was asked."""
    if (label := current.get()) is not None:
        place = (call.api, call.method, call.path) if call else None
        label.failed(place, code, seconds, len(call.payload or b"") if call else 0)


class _Run:
    """All that is recorded of a run. `scenarios` are names, `elapsed`: seconds since its start."""

    def __init__(
        self,
        name: str,
        scenarios: Iterable[str],
        transcripts: int,
        elapsed: Callable[[], float],
        templates: Templates,
    ) -> None:
        self.id, self.elapsed, self.templates = name, elapsed, templates
        self.endpoints: set[tuple[str, str]] = set()
        self.series = 0
        self.labels = {
            f"{name}/{scenario}/{phase}": Label(self, scenario, phase)
            for scenario in scenarios
            for phase in PHASES
        }
        self.scenarios = frozenset(label.scenario for label in self.labels.values())
        self.sessions: dict[tuple[str, str], _Sessions] = {}
        self.failures = Failures()
        self.lost = 0
        self._granted: dict[int, OrderedDict[int, Granted]] = {}
        self.failed: OrderedDict[int, tuple[int, str]] = OrderedDict()
        self.rows: deque[bytes] = deque(maxlen=MAX_ROWS)
        self.last_row = 0
        self.most_transcripts = transcripts
        self.transcripts: dict[int, bytes] = {}
        self.transcript_bytes = 0
        self.kept: Counter[str] = Counter()

    def of_slot(self, slot: int) -> OrderedDict[int, Granted]:
        """The sessions that the slot was granted and did not report, the oldest first."""
        return self._granted.setdefault(slot, OrderedDict())


class Results:
    """`templates`: of the endpoints. `boot` names this process: its counts begin at zero."""

    def __init__(
        self,
        templates: Templates,
        clock: Callable[[], float] = time.monotonic,
        boot: str = "",
    ) -> None:
        self._templates, self._clock = templates, clock
        self.boot = boot or secrets.token_hex(8)
        self._run: _Run | None = None

    # What is recorded.

    def begin(
        self,
        run_id: str,
        scenarios: Iterable[str],
        transcripts: int = 3,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """Forget the last run. `elapsed`: seconds since the run's start; None: that is now."""
        begun = self._clock()
        of = elapsed or (lambda: self._clock() - begun)
        self._run = _Run(run_id, scenarios, transcripts, of, self._templates)

    def label(self, header: str | None) -> Label | None:
        """What the header X-APE-Run: RUN/SCENARIO/PHASE names of this run; else None."""
        if header is None or self._run is None:
            return None
        return self._run.labels.get(header)

    def granted(
        self, session: int, slot: int, scenario: str, phase: str, late_seconds: float = 0.0
    ) -> None:
        """A session was given to an agent: only it can report that session, and only once."""
        run = self._run
        if run is None:
            return
        of = run.of_slot(slot)
        of[session] = Granted(scenario, phase, late_seconds)
        if len(of) > MAX_GRANTED:
            of.popitem(last=False)
            run.lost += 1

    def session(self, session: Session) -> None:
        """Count a session that an agent reports, if it was granted to that agent."""
        run = self._run
        if run is None or session.run != run.id:
            return
        granted = run.of_slot(session.slot).pop(session.session, None)
        if granted is None:
            # Of an earlier process of the gateway, or reported twice.
            run.lost += 1
            return
        of = run.sessions.setdefault((granted.scenario, granted.phase), _Sessions())
        seconds = session.seconds + granted.late
        of.steps += session.steps
        of.late.add(granted.late)
        result = session.result
        if session.reason == metrics.ABORTED:
            result = metrics.ABORTED
            of.aborted += 1
        else:
            of.seconds.add(seconds)
            if result == metrics.SUCCESS:
                of.succeeded += 1
            else:
                of.failed += 1
                of.reasons[session.reason] += 1
                run.failures.add(session.reason, session.detail)
                run.failed[session.session] = session.slot, session.reason
                if len(run.failed) > _MAX_FAILED:
                    run.failed.popitem(last=False)
        run.last_row += 1
        row = {
            "n": run.last_row,
            "slot": session.slot,
            "session": session.session,
            "scenario": granted.scenario,
            "phase": granted.phase,
            "result": result,
            "reason": session.reason,
            "steps": session.steps,
            "seconds": round(seconds, 6),
            "late": round(granted.late, 6),
            "ended": round(run.elapsed(), 3),
            "detail": session.detail,
        }
        run.rows.append(_json(row))

    def lost(self, count: int) -> None:
        """Count results that agents dropped while the gateway was not available."""
        if self._run is not None:
            self._run.lost += count

    def transcript(self, transcript: Transcript) -> bool:
        """Keep it if its session was granted to its agent and few failed for that reason."""
        run = self._run
        if run is None or transcript.run != run.id or transcript.session in run.transcripts:
            return False
        if run.kept[transcript.reason] >= run.most_transcripts:
            return False
        failed = run.failed.get(transcript.session) == (transcript.slot, transcript.reason)
        # It may come before the report of its session.
        granted = run.of_slot(transcript.slot).get(transcript.session)
        if not failed and granted is None:
            return False
        size = len(transcript.text)
        if run.transcript_bytes + size > MAX_TRANSCRIPT_BYTES:
            return False
        run.transcript_bytes += size
        run.kept[transcript.reason] += 1
        run.transcripts[transcript.session] = transcript.text
        return True

    # What is read.

    def full(self) -> list[str]:
        """The reasons of which enough transcripts are kept."""
        run = self._run
        if run is None:
            return []
        if run.most_transcripts == 0:
            return list(metrics.FAILURE_REASONS)
        return [reason for reason, n in run.kept.items() if n >= run.most_transcripts]

    def plain(self) -> dict[str, Any]:
        """The answer of GET /results."""
        found: dict[str, Any] = json.loads(b"".join(self.pieces()))
        return found

    def pieces(self) -> Iterator[bytes]:
        """The answer of GET /results, a series of requests or sessions at a time.

        All at once would delay, and take the memory of, the requests that are being measured.
        """
        run = self._run
        name = None if run is None else run.id
        yield b'{"version":%d,"boot":%b,"run":%b' % (VERSION, _json(self.boot), _json(name))
        yield b',"requests":['
        labels = () if run is None else run.labels.values()
        yield from _listed(each for label in labels for each in label.plain())
        yield b'],"sessions":['
        sessions = [] if run is None else list(run.sessions.items())
        yield from _listed(of.plain(scenario, phase) for (scenario, phase), of in sessions)
        failures = [] if run is None else run.failures.most_frequent()
        lost, last = (0, 0) if run is None else (run.lost, run.last_row)
        yield b'],"failures":%b,"lost":%d,"last_session":%d}' % (_json(failures), lost, last)

    def sessions_json(self, after: int) -> bytes:
        """The answer of GET /results/sessions: the rows past number `after`, the oldest first."""
        run = self._run
        rows: deque[bytes] = run.rows if run is not None else deque()
        first = (run.last_row if run is not None else 0) - len(rows) + 1
        skip = max(0, after + 1 - first)
        shown = islice(rows, skip, skip + MAX_ROWS_PER_ANSWER)
        missed = max(0, first - after - 1)
        return b'{"boot":%b,"sessions":[%b],"missed":%d}' % (
            _json(self.boot),
            b",".join(shown),
            missed,
        )

    def transcripts_json(self) -> bytes:
        """The answer of GET /results/transcripts."""
        kept = self._run.transcripts.values() if self._run is not None else ()
        return b'{"transcripts":[%b]}' % b",".join(kept)


def _listed(items: Iterable[Any]) -> Iterator[bytes]:
    """The items of a JSON list."""
    for number, item in enumerate(items):
        yield (b"," if number else b"") + _json(item)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
