"""Where a run stands: its state, its times, and the arrivals of an open one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ape_contracts.load_shape import arrivals
from ape_contracts.run_document import RunDocument
from ape_gateway.grants import Grants

# Arrivals that wait for an agent, at most.
MAX_PENDING = 100_000
# Of times that are sums.
_ROUNDING = 1e-9


class RunState:
    """One run: its clock, and the arrivals that are due.

    `state`: draining, running, stopping or ended.
    """

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
        """No further session starts; arrivals that wait for an agent count as dropped."""
        # Without rows left for them, they are none.
        self.dropped += len(self.pending) if why != "users" else 0
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
