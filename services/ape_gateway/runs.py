"""The controller of runs: which agent begins a session, when, and with what.

A state machine without I/O: agents ask (`ask`), time passes (`tick`), reports come (`reported`),
and the one who leads the run begins, watches and stops it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ape_contracts.load_shape import most_from, next_above, stage_at, target_at
from ape_contracts.run_document import RunDocument
from ape_gateway.grants import Choice
from ape_gateway.run_state import RunState

# An agent that neither asks nor reports for longer is gone, and its session with it.
ALIVE_SECONDS = 30.0
# After the graceful stop, for agents to cancel their sessions and to report it.
ABORT_SECONDS = 15.0
LONGEST_TICK_SECONDS, SHORTEST_TICK_SECONDS = 1.0, 0.0005
FREE, WAIT, IDLE = {"free": True}, {"wait": True}, {"idle": True}
Answer = dict[str, Any]
_NO_RUN = {
    "id": None,
    "state": "none",
    "elapsed_seconds": 0.0,
    "stage": 0,
    "target": 0.0,
    **dict.fromkeys(("active", "idle", "agents", "started", "ended", "dropped"), 0),
    "late_seconds_max": 0.0,
    "phase": "main",
    "why_ended": "",
    "next_session": 0,
}


class RunActive(Exception):
    """Another run is going on."""


class Recorder(Protocol):
    """Gets the sessions that were granted; see ape_gateway.results.Results."""

    def begin(
        self,
        run_id: str,
        scenarios: Iterable[str],
        transcripts: int = 3,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """`elapsed`: the seconds since the start of the stages."""
        ...

    def granted(
        self, session: int, slot: int, scenario: str, phase: str, late_seconds: float = 0.0
    ) -> None: ...

    def full(self) -> list[str]:
        """The reasons of failure of which enough transcripts are kept."""
        ...


class _NoRecorder:
    def begin(self, *_: Any) -> None: ...

    def granted(self, *_: Any) -> None: ...

    def full(self) -> list[str]:
        return []


class Runs:
    """`idle`: agents hold no sessions outside of runs. At most one run is active."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        idle: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self._clock, self._is_idle = clock, idle
        self._recorder = recorder or _NoRecorder()
        self._run: RunState | None = None
        # When each agent was last heard, and those of them that have asked.
        self._seen: dict[int, float] = {}
        self._asked: set[int] = set()
        # Those that wait for an order, the longest first; those that are known to hold no session;
        # the numbers of the sessions of the run.
        self._waiting: dict[int, None] = {}
        self._unoccupied: set[int] = set()
        self._sessions: dict[int, int] = {}
        self._ranks: dict[int, int] | None = None
        # When agents that are gone were last looked for.
        self._looked_at = float("-inf")
        # Orders that were not given out.
        self._answers: dict[int, Answer] = {}

    # For the one who leads the run.

    def begin(self, document: RunDocument) -> None:
        """Raises RunActive."""
        now = self._clock()
        self._advance(now)
        if self._run is not None and self._run.state != "ended":
            raise RunActive
        self._sessions.clear()
        self._run = RunState(document, now)
        names = [scenario.name for scenario in document.scenarios]
        self._recorder.begin(document.id, names, document.transcripts, self.elapsed)
        self._advance(now)

    def stop(self, why: str = "stopped") -> None:
        """End the run in order: no further sessions start, and open ones may end."""
        now = self._clock()
        self._advance(now)
        if self._run is not None and self._run.state in ("draining", "running"):
            self._run.stop(why, now)
            self._advance(now)

    def renew(self, lease: str) -> None:
        """The one who leads the run `lease` is there."""
        now = self._clock()
        self._advance(now)
        if self._run is not None and self._run.document.id == lease:
            self._run.lease_at = now

    def status(self) -> dict[str, Any]:
        now = self._clock()
        self._advance(now)
        run = self._run
        counts = {
            "active": len(self._sessions),
            "idle": len(self._unoccupied),
            "agents": len(self._seen),
        }
        if run is None:
            return _NO_RUN | counts
        elapsed, stages = run.elapsed(now), run.document.stages
        return {
            "id": run.document.id,
            "state": run.state,
            "elapsed_seconds": round(elapsed, 3),
            "stage": stage_at(stages, elapsed)[0],
            "target": target_at(stages, elapsed) if run.state == "running" else 0.0,
            **counts,
            "started": run.started,
            "ended": run.ended,
            "dropped": run.dropped,
            "late_seconds_max": round(run.late_max, 6),
            "phase": run.phase(elapsed),
            "why_ended": run.why_ended,
            "next_session": run.next_session,
        }

    @property
    def document(self) -> RunDocument | None:
        """Of the active run, or else of the last one."""
        return None if self._run is None else self._run.document

    @property
    def abort_run(self) -> str | None:
        """The id of the run whose sessions are to be cancelled."""
        run = self._run
        return run.document.id if run is not None and run.aborts(self._clock()) else None

    def elapsed(self) -> float:
        """Seconds since the start of the stages."""
        return 0.0 if self._run is None else self._run.elapsed(self._clock())

    # For the agents.

    def ask(self, slot: int) -> Answer | None:
        """The order for an agent that holds no session; None: it has to wait for one."""
        now = self._clock()
        self._over(slot)
        if slot not in self._asked:
            self._asked.add(slot)
            self._ranks = None
        self._seen[slot] = now
        self._unoccupied.add(slot)
        # Whoever asks again comes last.
        self._waiting.pop(slot, None)
        self._waiting[slot] = None
        self._advance(now, slot)
        return self._answers.pop(slot, None)

    def withdraw(self, slot: int) -> Answer:
        """The order for an agent that waits no longer."""
        self._waiting.pop(slot, None)
        if self._is_active:
            return WAIT
        if self._is_idle:
            return IDLE
        self._unoccupied.discard(slot)
        return FREE

    def reported(
        self, agents: Iterable[tuple[int, str]], sessions: Iterable[tuple[int, Any, Any]]
    ) -> None:
        """`agents`: slot and state; `sessions`: slot, run and number of those that ended."""
        now = self._clock()
        for slot, state in agents:
            if state == "stopping":
                self._forget(slot)
            else:
                self._seen[slot] = now
        for slot, run, number in sessions:
            ours = self._run is not None and self._run.document.id == run
            if ours and type(number) is int and self._sessions.get(slot) == number:
                self._over(slot)

    def tick(self) -> dict[int, Answer]:
        """The orders for agents that waited; each is given out once."""
        now = self._clock()
        self._advance(now)
        return self.take()

    def take(self) -> dict[int, Answer]:
        """As `tick`, but only what follows from other calls."""
        answers, self._answers = self._answers, {}
        return answers

    def next_tick(self, slots: Iterable[int] | None = None) -> float | None:
        """Seconds until something may be due; None: nothing without a further call.

        `slots`: of the agents that wait, only these.
        """
        run, now = self._run, self._clock()
        if run is None or not self._is_active:
            return None
        times = [LONGEST_TICK_SECONDS]
        document = run.document
        if run.state == "draining":
            times.append(run.begun + document.drain_seconds - now)
        if run.state == "running":
            elapsed = run.elapsed(now)
            times += [run.lease_at + document.lease_seconds - now, run.seconds - elapsed]
            if run.next_arrival is not None:
                times.append(run.next_arrival[1] - elapsed)
            of = self._waiting.keys() if slots is None else self._waiting.keys() & slots
            if not document.is_open and (waiting := of - run.spent):
                lowest = min(map(self._rank, waiting))
                crossing = next_above(document.stages, lowest, elapsed)
                times += [] if crossing is None else [crossing - elapsed]
        return max(SHORTEST_TICK_SECONDS, min(times))

    # What follows from them.

    @property
    def _is_active(self) -> bool:
        return self._run is not None and self._run.state != "ended"

    def _over(self, slot: int) -> None:
        """The agent holds no session of the run any more."""
        if self._sessions.pop(slot, None) is not None and self._run is not None:
            self._run.ended += 1

    def _forget(self, slot: int) -> None:
        self._over(slot)
        self._seen.pop(slot, None)
        self._waiting.pop(slot, None)
        self._unoccupied.discard(slot)
        self._asked.discard(slot)
        self._ranks = None

    def _rank(self, slot: int) -> int:
        """How many agents with lower numbers there are, of those that ask."""
        if self._ranks is None:
            self._ranks = {each: rank for rank, each in enumerate(sorted(self._asked))}
        return self._ranks[slot]

    def _advance(self, now: float, slot: int | None = None) -> None:
        """Do what is due; of a closed run for one agent, or for all that wait."""
        if now - self._looked_at >= LONGEST_TICK_SECONDS:
            self._looked_at = now
            for each in [s for s, at in self._seen.items() if now - at > ALIVE_SECONDS]:
                self._forget(each)
        run = self._run
        if run is not None and run.state in ("draining", "running"):
            self._begin_or_end(run, now)
            if run.state == "running":
                if run.document.is_open:
                    self._serve_arrivals(run, now)
                else:
                    self._serve_agents(run, now, sorted(self._waiting) if slot is None else [slot])
        if run is not None and run.state == "stopping":
            self._finish(run, now)
        if not self._is_active and not self._is_idle:
            for each in self._waiting:
                self._answers[each] = FREE
                self._unoccupied.discard(each)
            self._waiting.clear()

    def _begin_or_end(self, run: RunState, now: float) -> None:
        document = run.document
        if run.state == "draining":
            latest = run.begun + document.drain_seconds
            if now >= latest or self._seen.keys() <= self._unoccupied:
                run.start(min(now, latest))
        if now >= run.lease_at + document.lease_seconds:
            run.stop("lease", now)
        elif run.state == "running" and not document.is_open and run.elapsed(now) >= run.seconds:
            run.stop("planned", now - (run.elapsed(now) - run.seconds))

    def _serve_arrivals(self, run: RunState, now: float) -> None:
        elapsed = run.elapsed(now)
        run.take_due(elapsed)
        while run.pending and self._waiting:
            number, at = run.pending.popleft()
            choice = run.grants.of_arrival(number)
            if choice is None:
                run.stop("users", now)
                return
            self._grant(run, next(iter(self._waiting)), number, choice, at, elapsed)
        if elapsed >= run.seconds and not run.pending:
            run.stop("planned", now)

    def _serve_agents(self, run: RunState, now: float, slots: Iterable[int]) -> None:
        elapsed = run.elapsed(now)
        target = target_at(run.document.stages, elapsed)
        for slot in slots:
            if self._rank(slot) >= target or slot in run.spent:
                continue
            choice = run.grants.of_agent(slot, self._seen.__contains__)
            if choice is not None:
                self._grant(run, slot, run.next_session, choice, elapsed, elapsed)
                continue
            run.spent.add(slot)
            most = math.ceil(most_from(run.document.stages, elapsed))
            if len(run.spent & self._asked) >= min(most, len(self._asked)):
                run.stop("users", now)
                return

    def _grant(
        self, run: RunState, slot: int, number: int, choice: Choice, due: float, elapsed: float
    ) -> None:
        """`due`, `elapsed`: when it was to start, and when it does."""
        late = max(0.0, elapsed - due)
        run.started += 1
        run.next_session = number + 1
        run.late_max = max(run.late_max, late)
        del self._waiting[slot]
        self._unoccupied.discard(slot)
        self._sessions[slot] = number
        phase, users = run.phase(due), run.document.users
        self._recorder.granted(number, slot, choice.scenario.name, phase, late)
        self._answers[slot] = {
            "start": {
                "run": run.document.id,
                "session": number,
                "scenario": choice.scenario.plain,
                "phase": phase,
                "user": choice.user,
                "secret": [] if users is None else list(users.secret),
                "seed": choice.seed,
                "late_seconds": round(late, 6),
                "full": self._recorder.full(),
                "pause": not run.document.is_open,
            }
        }

    def _finish(self, run: RunState, now: float) -> None:
        latest = run.stopped_at + run.document.graceful_stop_seconds + ABORT_SECONDS
        if self._sessions and now < latest:
            return
        for slot in list(self._sessions):
            self._over(slot)
        run.state, run.ended_at = "ended", now
