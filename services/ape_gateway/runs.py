"""The controller of runs: which agent begins a session, when, and with what.

A state machine without I/O: agents ask (`ask`), time passes (`tick`), reports come (`reported`),
and the one who leads the run begins, watches and stops it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ape_contracts.load_shape import arrivals, most_from, next_above, stage_at, target_at
from ape_contracts.run_document import RunDocument
from ape_gateway.grants import Choice, Grants

# An agent that neither asks nor reports for longer is gone, and its session with it.
ALIVE_SECONDS = 30.0
# After the graceful stop, for agents to cancel their sessions and to report it.
ABORT_SECONDS = 15.0
LONGEST_TICK_SECONDS, SHORTEST_TICK_SECONDS = 1.0, 0.0005
# Arrivals that wait for an agent, at most.
MAX_PENDING = 100_000
# Of times that are sums of others.
_ROUNDING = 1e-9
FREE, WAIT, IDLE = {"free": True}, {"wait": True}, {"idle": True}
Answer = dict[str, Any]


class RunActive(Exception):
    """Another run is going on."""


class _Run:
    """One run. `state`: draining, running, stopping or ended."""

    def __init__(self, document: RunDocument, now: float) -> None:
        self.document, self.seconds = document, document.seconds
        self.grants = Grants(document)
        self.state, self.why_ended = "draining", ""
        self.begun = self.lease_at = now
        # When the stages began, and when no further session was to start; and the end of all.
        self.start_at: float | None = None
        self.stopped_at = self.ended_at = 0.0
        self.started = self.ended = self.dropped = 0
        self.late_max = 0.0
        self.next_session = document.next_session
        # Agents of a closed run whose rows are used up.
        self.spent: set[int] = set()
        # Number and time of arrivals: those that no agent was there for, and the next one.
        self.pending: deque[tuple[int, float]] = deque()
        self._arrivals = self._numbered() if document.is_open else iter(())
        self.next_arrival = next(self._arrivals, None)
        if document.elapsed_seconds:
            # The agents are this run's already.
            self.start(now)

    def _numbered(self) -> Iterator[tuple[int, float]]:
        given = self.document
        seed = given.id if given.seed is None else given.seed
        times = arrivals(given.stages, poisson=given.arrivals == "poisson", seed=seed)
        return ((n, at) for n, at in enumerate(times) if n >= given.next_session)

    def start(self, at: float) -> None:
        self.state, self.start_at = "running", at

    def stop(self, why: str, at: float) -> None:
        """No further session starts; those that wait for an agent count as dropped."""
        self.dropped += len(self.pending)
        self.pending.clear()
        self.next_arrival = None
        self.state, self.why_ended, self.stopped_at = "stopping", why, at

    def elapsed(self, now: float) -> float:
        """Seconds since the start of the stages."""
        if self.start_at is None:
            return self.document.elapsed_seconds
        end = self.ended_at if self.state == "ended" else now
        return self.document.elapsed_seconds + end - self.start_at

    def take_due(self, seconds: float) -> None:
        """Move the arrivals until then to those that wait, and drop those that waited too long."""
        while self.next_arrival is not None and self.next_arrival[1] <= seconds:
            self.pending.append(self.next_arrival)
            self.next_arrival = next(self._arrivals, None)
        oldest = seconds - self.document.max_late_seconds - _ROUNDING
        while self.pending and (self.pending[0][1] < oldest or len(self.pending) > MAX_PENDING):
            self.next_session = self.pending.popleft()[0] + 1
            self.dropped += 1

    def phase(self, seconds: float) -> str:
        given = self.document
        if seconds < given.warm_up_seconds:
            return "warm_up"
        return "ramp_down" if seconds >= self.seconds - given.ramp_down_seconds else "main"

    def aborts(self, now: float) -> bool:
        """Whether the sessions that are left are to be cancelled."""
        graceful = self.document.graceful_stop_seconds
        return self.state == "stopping" and now - self.stopped_at >= graceful


class Runs:
    """`idle`: agents hold no sessions outside of runs. `full`: the reasons of failure of which no

    further transcript is kept. At most one run goes on.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        idle: bool = False,
        full: Callable[[], list[str]] = list,
    ) -> None:
        self._clock, self._is_idle, self._full = clock, idle, full
        self._run: _Run | None = None
        # When each agent was last heard, and those of them that have asked.
        self._seen: dict[int, float] = {}
        self._asked: set[int] = set()
        # Those that wait for an order, the longest first; those that are known to hold no session;
        # the numbers of the sessions of the run.
        self._waiting: dict[int, None] = {}
        self._unoccupied: set[int] = set()
        self._sessions: dict[int, int] = {}
        self._ranks: dict[int, int] | None = None
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
        self._run = _Run(document, now)
        self._advance(now)

    def stop(self, why: str = "stopped") -> None:
        """End the run in order: no further sessions start, and those that go on may end."""
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
            return {"id": None, "state": "none", **counts}
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
        """Of the run that goes on, or else of the last one."""
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
        for slot in [s for s, at in self._seen.items() if now - at > ALIVE_SECONDS]:
            self._forget(slot)
        self._advance(now)
        answers, self._answers = self._answers, {}
        return answers

    def next_tick(self) -> float | None:
        """Seconds until something may be due; None: nothing without a further call."""
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
            if not document.is_open and (waiting := self._waiting.keys() - run.spent):
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

    def _begin_or_end(self, run: _Run, now: float) -> None:
        document = run.document
        if run.state == "draining":
            latest = run.begun + document.drain_seconds
            if now >= latest or self._seen.keys() <= self._unoccupied:
                run.start(min(now, latest))
        if now >= run.lease_at + document.lease_seconds:
            run.stop("lease", now)
        elif run.state == "running" and not document.is_open and run.elapsed(now) >= run.seconds:
            run.stop("planned", now - (run.elapsed(now) - run.seconds))

    def _serve_arrivals(self, run: _Run, now: float) -> None:
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

    def _serve_agents(self, run: _Run, now: float, slots: Iterable[int]) -> None:
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
        self, run: _Run, slot: int, number: int, choice: Choice, due: float, elapsed: float
    ) -> None:
        """`due`, `elapsed`: when it was to start, and when it does."""
        late = max(0.0, elapsed - due)
        run.started += 1
        run.next_session = number + 1
        run.late_max = max(run.late_max, late)
        del self._waiting[slot]
        self._unoccupied.discard(slot)
        self._sessions[slot] = number
        users = run.document.users
        self._answers[slot] = {
            "start": {
                "run": run.document.id,
                "session": number,
                "scenario": choice.scenario.plain,
                "phase": run.phase(due),
                "user": choice.user,
                "secret": [] if users is None else list(users.secret),
                "seed": choice.seed,
                "late_seconds": round(late, 6),
                "full": self._full(),
            }
        }

    def _finish(self, run: _Run, now: float) -> None:
        latest = run.stopped_at + run.document.graceful_stop_seconds + ABORT_SECONDS
        if self._sessions and now < latest:
            return
        for slot in list(self._sessions):
            self._over(slot)
        run.state, run.ended_at = "ended", now
