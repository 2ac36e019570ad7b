"""Collects a run: intervals and totals from the snapshots of its services, over their restarts.

Pure: it does no I/O, and its only clock is the elapsed time of the run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from ape_contracts.sketch import Sketch
from ape_infra.runs.measured import Measured, is_counted, is_failed
from ape_infra.runs.snapshots import (
    MAIN,
    RUNNING,
    STOPPING,
    GatewayResults,
    ProxyResults,
    Status,
)
from ape_infra.runs.tally import Key, Tally, minus, plus

INTERVAL_SECONDS = 10.0
KINDS = ("requests", "sessions", "run", "model")
STARTED, DROPPED = Key("run", "started"), Key("run", "dropped")


@dataclass
class Source:
    """A service that counts from 0 at each boot."""

    latest: dict[str, Tally] = field(default_factory=dict)
    before: dict[str, Tally] = field(default_factory=dict)

    def take(self, boot: str, tally: Tally) -> None:
        self.latest[boot] = tally

    def since(self, kinds: Collection[str] = KINDS) -> Tally:
        """What was added since the last mark."""
        return plus(
            minus(tally.where(lambda key: key.kind in kinds), self.before.get(boot, Tally()))
            for boot, tally in self.latest.items()
        )

    def mark(self) -> None:
        self.before = dict(self.latest)

    def total(self) -> Tally:
        return plus(self.latest.values())


@dataclass(frozen=True)
class Interval:
    """A part of the timeline; times are in seconds since the start of the run."""

    start: float
    end: float
    status: Status
    tally: Tally

    @property
    def requests(self) -> int:
        return int(self.tally.total(is_counted))

    @property
    def requests_failed(self) -> int:
        return int(self.tally.total(is_failed))

    def sessions(self, what: str) -> int:
        return int(self.tally.total(lambda key: key.kind == "sessions" and key.what == what))

    def durations(self, kind: str, what: str) -> Sketch:
        return self.tally.durations(lambda key: key[:2] == (kind, what))

    def count(self, key: Key) -> float:
        return self.tally.counts.get(key, 0)

    def plain(self) -> dict[str, Any]:
        """As measurements.json has it."""
        by_endpoint: dict[str, list[Sketch]] = {}
        for key, sketch in self.tally.sketches.items():
            if key.kind == "requests":
                by_endpoint.setdefault(key.endpoint, []).append(sketch)
        return {
            "from": round(self.start, 3),
            "to": round(self.end, 3),
            "phase": self.status.phase,
            "stage": self.status.stage,
            "target": self.status.target,
            "active": self.status.active,
            "dropped": int(self.count(DROPPED)),
            "endpoints": {
                name: Sketch().merged(those).plain() for name, those in sorted(by_endpoint.items())
            },
            "sessions": {
                "succeeded": self.sessions("succeeded"),
                "failed": self.sessions("failed"),
                "seconds": self.durations("sessions", "seconds").plain(),
            },
            "requests_failed": self.requests_failed,
            "ttft": self.durations("model", "ttft").plain(),
            "tokens_in": int(self.count(Key("model", "tokens_in"))),
            "tokens_out": int(self.count(Key("model", "tokens_out"))),
            "cost_dollars": self.tally.counts.get(Key("model", "cost_dollars")),
        }


class Collector:
    """The measurements of the run `run`.

    `planned`: seconds of all stages. `warm_up`, `ramp_down`: those at its ends that do not count.
    """

    def __init__(
        self, run: str, planned: float, *, warm_up: float = 0, ramp_down: float = 0
    ) -> None:
        self.run, self.planned = run, planned
        self._main = (warm_up, max(warm_up, planned - ramp_down))
        self.intervals: list[Interval] = []
        self.status: Status | None = None
        self.restarts = 0
        self._gateway, self._proxy = Source(), Source()
        self._lost: dict[str, int] = {}
        self._failures: dict[str, Tally] = {}
        self._boot: str | None = None
        self._start = 0.0
        self._measured: Measured | None = None

    @property
    def elapsed(self) -> float:
        return self.status.elapsed if self.status else 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the main phase so far."""
        first, last = self._main
        return max(0.0, min(self.elapsed, last) - first)

    @property
    def lost(self) -> int:
        """Requests and reports that no gateway could count."""
        return sum(self._lost.values())

    def edge(self) -> float | None:
        """Seconds until the phase changes; None: it does not."""
        ahead = [at - self.elapsed for at in self._main if at > self.elapsed]
        return min(ahead, default=None)

    @property
    def unreported(self) -> int:
        """Sessions that started, in this boot of the gateway, and have no result yet."""
        tally = self._gateway.latest.get(self._boot or "", Tally())
        results = ("succeeded", "failed", "aborted")
        ended = tally.total(lambda key: key.kind == "sessions" and key.what in results)
        return max(0, int(tally.counts.get(STARTED, 0) - ended))

    def restarted(self) -> None:
        """The gateway has lost the run, which continues in a new one."""
        self.restarts += 1

    def take(
        self, status: Status, gateway: GatewayResults | None, proxy: ProxyResults | None
    ) -> bool:
        """Take in the answers of one moment; None: there was no answer. True: an interval ended."""
        self._measured = None
        if self._main[1] >= self.planned and status.phase != "warm_up":
            # Without a ramp-down, also what comes after the last stage is of the main phase.
            status = replace(status, phase=MAIN)
        if status.state not in (RUNNING, STOPPING) and self.status is None:
            # Sessions of before the run are still going on; what the model does then is theirs.
            self.baseline(proxy)
            return False
        if self.status is None:
            self._start = status.elapsed
        if not self._proxy.latest:
            self.baseline(proxy)
        ended = False
        if self.status and self.status.phase != status.phase:
            # What came until now is of the phase before.
            ended = self._close(self.status, max(status.elapsed, self.elapsed))
        self.status = status
        if gateway and gateway.run == self.run:
            self._boot = gateway.boot
            counts = {STARTED: float(status.started), DROPPED: float(status.dropped)}
            tally = plus([gateway.tally.where(lambda key: key.kind != "failures"), Tally(counts)])
            self._gateway.take(gateway.boot, tally)
            self._lost[gateway.boot] = gateway.lost
            self._failures[gateway.boot] = gateway.tally.where(lambda key: key.kind == "failures")
        if proxy:
            self._proxy.take(proxy.boot, proxy.tally)
        if status.elapsed - self._start >= INTERVAL_SECONDS:
            ended = self._close(status, status.elapsed) or ended
        return ended

    def finish(self) -> None:
        """Close the last interval."""
        self._measured = None
        if self.status:
            self._close(self.status, self.status.elapsed)

    def measured(self) -> Measured:
        """The main phase so far."""
        if self._measured is None:
            self._measured = self._measure()
        return self._measured

    def _measure(self) -> Measured:
        parts = [i.tally for i in self.intervals if i.status.phase == MAIN]
        if self.status and self.status.phase == MAIN:
            # The interval that has begun; the rest of it is in the gateway's total.
            parts += [self._gateway.since(("run",)), self._proxy.since()]
        gateway = self._gateway.total().where(
            lambda key: key.kind in ("requests", "sessions") and key.phase == MAIN
        )
        rest = plus(part.where(lambda key: key.kind in ("model", "run")) for part in parts)
        return Measured(
            plus([gateway, rest.where(lambda key: key.kind == "model")]),
            self.seconds,
            started=int(rest.counts.get(STARTED, 0)),
            dropped=int(rest.counts.get(DROPPED, 0)),
            failures=plus(self._failures.values()),
        )

    def plain(self) -> dict[str, Any]:
        """As measurements.json has it."""
        return {
            "version": 1,
            "interval_seconds": INTERVAL_SECONDS,
            "intervals": [interval.plain() for interval in self.intervals],
        }

    def baseline(self, proxy: ProxyResults | None) -> None:
        """What the proxy counted until now is not of this run."""
        if proxy:
            self._proxy = Source({proxy.boot: proxy.tally}, {proxy.boot: proxy.tally})

    def _close(self, status: Status, end: float) -> bool:
        tally = plus([self._gateway.since(), self._proxy.since()])
        if end <= self._start and not tally.counts and not tally.sketches:
            return False
        self.intervals.append(Interval(self._start, end, status, tally))
        self._gateway.mark()
        self._proxy.mark()
        self._start = end
        return True
