"""The monitor: takes samples on time, and passes each one to all outputs."""

from __future__ import annotations

import contextlib
import gc
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable

import requests

from monitoring import aggregate, alerts, wire
from monitoring.alerts import Alert, Engine, Health
from monitoring.exporter import Exporter, State
from monitoring.inventory import Counts, Inventory, Watcher
from monitoring.model import Container, ContainerSample, MonitorSample, Sample
from monitoring.output import LineFile
from monitoring.sampler import Sampler
from monitoring.senders import Receiver, totals
from monitoring.system import System

GATEWAY_SECONDS = 3.0
# After this time without containers, a service counts as removed on purpose.
GONE_SECONDS = 3600.0
# The longest wait for a signal whose handler has to run.
SIGNAL_SECONDS = 1.0

_log = logging.getLogger("monitoring.alerts")
Show = Callable[[State], None]


class Heartbeats:
    """The number of agents that the gateway sees, requested in a thread of its own."""

    def __init__(self, find: Callable[[], str], interval: float) -> None:
        self._find, self._interval = find, interval
        self._stop = threading.Event()
        self.alive: int | None = None
        self.declared: int | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def ask(self) -> None:
        """Request the numbers once; without an answer they are None."""
        self.alive = self.declared = None
        if url := self._find():
            try:
                found = requests.get(f"{url.rstrip('/')}/fleet", timeout=GATEWAY_SECONDS).json()
                self.alive, self.declared = int(found["alive"]), int(found["declared"]) or None
            except (requests.RequestException, ValueError, KeyError, TypeError):
                pass

    def _run(self) -> None:
        while True:
            self.ask()
            if self._stop.wait(self._interval):
                return


class Monitor:
    """Takes samples: `sample()` one, `run()` one per interval until `stop()`."""

    def __init__(
        self,
        *,
        project: str,
        interval: float,
        inventory: Inventory,
        watcher: Watcher,
        sampler: Sampler,
        system: System,
        engine: Engine,
        declared: int | None = None,
        gateway: str = "",
        receivers: Iterable[Receiver] = (),
        output: LineFile | None = None,
        exporter: Exporter | None = None,
        show: Iterable[Show] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.project, self.interval = project, interval
        self.inventory, self.watcher, self.sampler = inventory, watcher, sampler
        self.system, self.engine, self.declared = system, engine, declared
        self.receivers, self.output, self.exporter = list(receivers), output, exporter
        self.show, self._clock, self._wall = list(show), clock, wall
        self._gateway = gateway
        self.heartbeats = Heartbeats(self._gateway_url, interval)
        # A signal handler calls stop(). An Event would deadlock where the signal interrupts its
        # wait(); a SimpleQueue is reentrant.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.stopped = False
        self._samples = 0
        self._sampled_at: float | None = None
        self._services: dict[str, float] = {}
        self._open: dict[tuple[str, str], Alert] = {}
        self._unseen = ""
        self.state: State | None = None

    def _gateway_url(self) -> str:
        """Return the given URL, else that of the project's gateway on this machine."""
        if self._gateway:
            return self._gateway
        found = (c.gateway_url for c in self.inventory.snapshot() if c.gateway_url and c.running)
        return next(found, "")

    def age(self) -> float:
        """Return the seconds by which the data is older than it should be.

        A sample is due every `interval`, and Docker's events arrive at once. The data also counts
        as old where the monitor itself is short of CPU.
        """
        sampled = self._sampled_at
        late = 0.0 if sampled is None else self._clock() - sampled - self.interval
        return max(0.0, late, self.watcher.age())

    def sample(self) -> State:
        """Take one sample and pass it to all outputs."""
        began = self._clock()
        containers = self.inventory.snapshot()
        counts = self.inventory.counts()
        samples = self.sampler.sample(containers, began)
        if counts:
            for one in samples:
                _count(one, counts.get(one.container.id))
        system = self.system.sample(containers)
        self._samples += 1
        monitor = MonitorSample(
            data_age=round(self.age(), 3),
            docker_up=self.watcher.up,
            streams_lost=self.watcher.streams_lost,
            samples=self._samples,
            open_files=self.sampler.cgroups.descriptors.open,
            problem=self.watcher.problem,
            unseen=self.sampler.unseen,
            unseen_reason=self.sampler.problem,
        )
        self._sampled_at = began
        fleet = aggregate.fleet(
            containers,
            declared=self.declared,
            heartbeat=self.heartbeats.alive,
            gateway_declared=self.heartbeats.declared,
        )
        gone = self._missing_services(containers, began)
        made = Sample(self._wall(), samples, system, fleet, monitor, gone)
        found = self.engine.update(began, alerts.readings(made), alerts.unknown(made))
        health = alerts.health(found, made)
        monitor.sample_seconds = round(self._clock() - began, 6)
        sent = dict(totals(self.receivers))
        self.state = State(made, found, health, self.project, began, sent)
        self._publish(self.state, health)
        return self.state

    def _missing_services(self, containers: list[Container], now: float) -> tuple[str, ...]:
        if not containers:
            # The whole project was removed.
            self._services.clear()
            return ()
        # Missing agents have an alert of their own; on Swarm a service may move to another node.
        self._services |= {c.service: now for c in containers if not c.agents and not c.swarm}
        here = {c.service for c in containers}
        recent = {s: at for s, at in self._services.items() if now - at < GONE_SECONDS}
        self._services = recent
        return tuple(sorted(recent.keys() - here))

    def _publish(self, state: State, health: Health) -> None:
        now = {alert.id: alert for alert in state.alerts}
        for key, alert in now.items():
            if key not in self._open:
                _log.warning("%s. %s", alert.text, alert.remedy)
        for key, alert in self._open.items():
            if key not in now:
                _log.info(
                    "resolved: %s%s", alert.name, f" ({alert.service})" if alert.service else ""
                )
        self._open = now
        self._report(state.sample.monitor.unseen_reason)
        for receiver in self.receivers:
            receiver.offer(state.alerts)
        if self.exporter:
            self.exporter.state = state
        if self.output:
            body = wire.sample(state.sample, health, state.alerts, self.project, state.now)
            self.output.append(wire.line(body))
        for show in self.show:
            show(state)

    def _report(self, unseen: str) -> None:
        """Log what the monitor cannot see, once for each reason."""
        if unseen and unseen != self._unseen:
            logging.getLogger(__name__).warning(unseen)
        self._unseen = unseen

    def start(self) -> None:
        """Start all threads, but take no sample yet."""
        self.watcher.start()
        self.heartbeats.start()
        for receiver in self.receivers:
            receiver.start()
        if self.exporter:
            self.exporter.start()

    def run(self) -> None:
        """Sample every `interval` seconds until `stop()`."""
        # Objects loaded so far stay: exclude them from garbage collection.
        gc.collect()
        gc.freeze()
        due = self._clock()
        while not self.stopped:
            try:
                self.sample()
            except BrokenPipeError:
                raise
            except Exception:
                # An unexpected error must not end the monitor; the age of its data reports it.
                logging.getLogger(__name__).exception("a sample failed")
            due += self.interval
            late = self._clock() - due
            if late > 0:
                # Too slow, or the machine slept: continue from now instead of catching up.
                due += late
            self._wait(max(0.0, due - self._clock()))

    def _wait(self, seconds: float) -> None:
        """Wait until `stop()`, at most `seconds`.

        In parts: a signal that arrives just before a wait does not end it, and Python calls the
        signal's handler only after it.
        """
        while seconds > 0 and not self.stopped:
            part = min(seconds, SIGNAL_SECONDS)
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=part)
            seconds -= part

    def stop(self) -> None:
        """End `run()`. Safe in a signal handler."""
        self.stopped = True
        self._wake.put(None)

    def close(self) -> None:
        """Stop all threads and close all files."""
        self.watcher.stop()
        self.heartbeats.stop()
        for receiver in self.receivers:
            receiver.stop(2.0)
        if self.exporter:
            self.exporter.stop()
        if self.output:
            self.output.close()
        self.sampler.close()


def _count(one: ContainerSample, counts: Counts | None) -> None:
    if counts:
        one.restarts, one.ooms = counts.restarts, counts.ooms
        one.restarts_hour, one.restarts_loop = counts.restarts_hour, counts.restarts_loop
        one.ooms_recent = counts.ooms_recent
