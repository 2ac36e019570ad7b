"""The list of containers: from Docker's event stream, and a listing after each lost stream.

The stream is opened before the listing, so that no event is missed. Docker replays at most 256
events and drops those of a slow reader, so the containers are also listed every RELIST_SECONDS.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import docker
import requests
from docker.errors import DockerException, NotFound

from ape_contracts.docker_endpoint import EndpointError, client_options, resolve
from monitoring.model import Container, from_inspect, in_project
from monitoring.thresholds import (
    LOOP_WINDOW_SECONDS,
    OOM_WINDOW_SECONDS,
    RESTART_WINDOW_SECONDS,
)

RELIST_SECONDS = 300
REQUEST_SECONDS = 20
# At most 3 s, so that the numbers are correct again within two intervals.
_BACKOFF_SECONDS = (0.5, 3.0)
_EVENTS = [
    *("create", "start", "die", "destroy", "oom", "health_status"),
    *("rename", "update", "pause", "unpause"),
]
# A Swarm task that ends with another code failed; the task that replaces it is a restart.
_SUCCESS_CODES = (0, 143)
# Time limit from the end of a failed task to the start of the next one.
_SUCCESSOR_SECONDS = 300

_log = logging.getLogger(__name__)


_Key = tuple[str, str, str]


class _History:
    """Restarts and OOM kills of one stable name: the totals, and the times of the last ones."""

    __slots__ = ("kills", "ooms", "restarts", "starts")

    def __init__(self) -> None:
        self.restarts = self.ooms = 0
        self.starts: deque[float] = deque(maxlen=64)
        self.kills: deque[float] = deque(maxlen=64)

    def last(self) -> float:
        return max(self.starts[-1] if self.starts else 0, self.kills[-1] if self.kills else 0)


def _since(times: deque[float], moment: float) -> int:
    return sum(at >= moment for at in times)


class Counts(NamedTuple):
    """Restarts and OOM kills of one name: in total, and within the windows of `thresholds`."""

    restarts: int = 0
    ooms: int = 0
    restarts_hour: int = 0
    restarts_loop: int = 0
    ooms_recent: int = 0


class Inventory:
    """The containers of a project, updated by events. Safe for use by several threads."""

    def __init__(
        self,
        project: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.project = project
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._containers: dict[str, Container] = {}
        self._histories: dict[_Key, _History] = {}
        self._failed: dict[_Key, float] = {}

    def wants(self, labels: Mapping[str, str]) -> bool:
        """Whether a container with these labels belongs to the project."""
        return in_project(labels, self.project)

    def put(self, container: Container, *, started: bool = False) -> None:
        """Add or update a container; `started`: an event reported its start just now."""
        with self._lock:
            old = self._containers.get(container.id)
            history = self._histories.get(container.key) or _History()
            if old is None:
                # Earlier restarts count as of the last start, the only known time.
                known = container.restarts
                for _ in range(min(known, 64)):
                    history.starts.append(self._monotonic(container.started))
                history.restarts += known
                if container.swarm and started and self._succeeds(container.key):
                    self._restarted(history, 1)
            else:
                ended = old.state not in ("running", "created", "paused")
                more = container.restarts - old.restarts
                by_hand = ended and container.state == "running" and more <= 0
                self._restarted(history, more if more > 0 else int(by_hand))
            if history.restarts or history.ooms:
                self._histories[container.key] = history
            self._containers[container.id] = container

    def _restarted(self, history: _History, times: int) -> None:
        history.restarts += times
        history.starts.extend([self._clock()] * min(times, 64))

    def _succeeds(self, key: _Key) -> bool:
        failed = self._failed.pop(key, None)
        return failed is not None and self._clock() - failed < _SUCCESSOR_SECONDS

    def _monotonic(self, wall: float) -> float:
        return self._clock() - max(0.0, self._wall() - wall)

    def died(self, key: str, exit_code: int) -> None:
        """Record that a container ended."""
        with self._lock:
            if old := self._containers.get(key):
                self._containers[key] = old.but(state="exited", exit_code=exit_code, health="")
                if old.swarm and exit_code not in _SUCCESS_CODES:
                    self._failed[old.key] = self._clock()

    def changed(self, key: str, **changes: Any) -> None:
        """Change attributes of a container."""
        with self._lock:
            if old := self._containers.get(key):
                self._containers[key] = old.but(**changes)

    def oom(self, key: str) -> None:
        """Count an OOM kill."""
        with self._lock:
            if old := self._containers.get(key):
                history = self._histories.setdefault(old.key, _History())
                history.ooms += 1
                history.kills.append(self._clock())

    def remove(self, key: str) -> None:
        """Remove a container; its history stays for its successor."""
        with self._lock:
            self._containers.pop(key, None)

    def keep_only(self, ids: set[str]) -> None:
        """Remove all other containers, after a listing."""
        with self._lock:
            for key in self._containers.keys() - ids:
                del self._containers[key]

    def snapshot(self) -> list[Container]:
        """Return one container per name, the running or newest one.

        They are sorted by project, service and name. Containers that never started are left out,
        except agents, which should run. With several projects, names begin with the project's.
        """
        with self._lock:
            found = list(self._containers.values())
            self._prune({c.key for c in found})
        best: dict[_Key, Container] = {}
        for container in found:
            if container.state == "created" and not container.agents:
                continue
            old = best.get(container.key)
            if old is None or (container.running, container.started) > (old.running, old.started):
                best[container.key] = container
        many = len({project for project, _, _ in best}) > 1
        return [
            best[at].but(name=f"{best[at].project}/{best[at].name}") if many else best[at]
            for at in sorted(best)
        ]

    def _prune(self, keys: set[_Key]) -> None:
        before = self._clock() - RESTART_WINDOW_SECONDS
        for key in self._histories.keys() - keys:
            if self._histories[key].last() < before:
                del self._histories[key]
        for key, at in list(self._failed.items()):
            if self._clock() - at > _SUCCESSOR_SECONDS:
                del self._failed[key]

    def counts(self) -> dict[str, Counts]:
        """Map container ids to counts, without those that are all zero."""
        now = self._clock()
        with self._lock:
            return {
                c.id: Counts(
                    restarts=h.restarts,
                    ooms=h.ooms,
                    restarts_hour=_since(h.starts, now - RESTART_WINDOW_SECONDS),
                    restarts_loop=_since(h.starts, now - LOOP_WINDOW_SECONDS),
                    ooms_recent=_since(h.kills, now - OOM_WINDOW_SECONDS),
                )
                for c in self._containers.values()
                if (h := self._histories.get(c.key))
            }


def _connect(host: str) -> docker.APIClient:
    options = client_options(resolve(host))
    return docker.APIClient(**options, version="auto", timeout=REQUEST_SECONDS)


FAILURES = (EndpointError, DockerException, requests.RequestException, OSError, ValueError)


class Watcher:
    """Keeps an inventory up to date with the daemon at `host` ("": as the docker command)."""

    def __init__(
        self,
        inventory: Inventory,
        host: str,
        connect: Callable[[str], docker.APIClient] = _connect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inventory, self.host = inventory, host
        self._connect, self._clock = connect, clock
        self._stop = threading.Event()
        self._stream: Any = None
        self._lost_at: float | None = clock()
        self.listed = threading.Event()
        self.streams_lost = 0
        self.problem = "Docker has not answered yet."
        self._threads = [
            threading.Thread(target=self._follow, name="docker-events", daemon=True),
            threading.Thread(target=self._relist_often, name="docker-relist", daemon=True),
        ]

    @property
    def up(self) -> bool:
        """Whether the event stream is open."""
        return self._lost_at is None

    def age(self) -> float:
        """Return the seconds for which changes may be missing; 0 while the stream is open."""
        lost = self._lost_at
        return 0.0 if lost is None else self._clock() - lost

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        if stream := self._stream:
            with contextlib.suppress(Exception):
                stream.close()

    def _follow(self) -> None:
        wait, most = _BACKOFF_SECONDS
        while not self._stop.is_set():
            began = self._clock()
            try:
                self._once()
            except FAILURES as error:
                self.problem = f"Docker does not answer: {_reason(error)}."
            else:
                self.problem = "Docker ended the event stream."
            if self._lost_at is None:
                self._lost_at = self._clock()
                self.streams_lost += 1
            if self._stop.is_set():
                return
            if self._clock() - began > most:
                wait = _BACKOFF_SECONDS[0]
            _log.warning("%s Retrying in %.1f s.", self.problem, wait)
            self._stop.wait(wait)
            wait = min(most, wait * 2)

    def _once(self) -> None:
        client = self._connect(self.host)
        try:
            self._stream = client.events(
                decode=True, filters={"type": ["container"], "event": _EVENTS}
            )
            self.relist(client)
            self._lost_at, self.problem = None, ""
            self.listed.set()
            for event in self._stream:
                if self._stop.is_set():
                    return
                self.apply(client, event)
        finally:
            self._stream = None
            client.close()

    def relist(self, client: docker.APIClient) -> None:
        """Replace the inventory by the daemon's list."""
        found = [c for c in client.containers(all=True) if self.inventory.wants(c["Labels"] or {})]
        for item in found:
            self._inspect(client, item["Id"])
        self.inventory.keep_only({item["Id"] for item in found})

    def _relist_often(self) -> None:
        while not self._stop.wait(RELIST_SECONDS):
            if not self.up:
                continue
            try:
                client = self._connect(self.host)
                try:
                    self.relist(client)
                finally:
                    client.close()
            except FAILURES as error:
                _log.warning("Docker's listing failed: %s.", _reason(error))

    def _inspect(self, client: docker.APIClient, key: str, *, started: bool = False) -> None:
        try:
            container = from_inspect(client.inspect_container(key))
        except NotFound:
            self.inventory.remove(key)
        else:
            self.inventory.put(container, started=started)

    def apply(self, client: docker.APIClient, event: Mapping[str, Any]) -> None:
        """Apply one event of the stream."""
        actor = event.get("Actor") or {}
        key, about = str(actor.get("ID") or ""), actor.get("Attributes") or {}
        if event.get("Type") != "container" or not key or not self.inventory.wants(about):
            return
        action, _, detail = str(event.get("Action") or "").partition(":")
        if action in ("create", "start", "rename", "update"):
            self._inspect(client, key, started=action == "start")
        elif action == "die":
            code = str(about.get("exitCode") or "0")
            self.inventory.died(key, int(code) if code.lstrip("-").isdigit() else 0)
        elif action == "destroy":
            self.inventory.remove(key)
        elif action == "oom":
            self.inventory.oom(key)
        elif action == "health_status":
            self.inventory.changed(key, health=detail.strip())
        elif action in ("pause", "unpause"):
            self.inventory.changed(key, state="paused" if action == "pause" else "running")


def _reason(error: Exception) -> str:
    """Return the innermost reason of a chain of wrapped errors, on one line."""
    while error.__context__ is not None and isinstance(error.__context__, Exception):
        error = error.__context__
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].rstrip(".")
