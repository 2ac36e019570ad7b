"""A gateway and an inference proxy of a run, as far as `ape-load run` sees them.

Time is the test's: one session per second ends with two requests and a completion. Each fifth
fails.
`truth` is what a run must find, whatever happens to the services.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ape_contracts.sketch import Sketch
from ape_infra.runs.client import RefusedError, UnreachableError
from ape_infra.runs.conduct import Stop
from ape_infra.runs.snapshots import GatewayResults, ProxyResults, Status
from ape_infra.runs.summary import Summary, Versions

TOKEN = "control-token-of-this-test"
RUN = "20261127T174203Z-dev"


def document(seconds: float = 60, **more: Any) -> dict[str, Any]:
    return {
        "id": RUN,
        "executor": "closed",
        "stages": [{"seconds": seconds, "start": 2, "end": 2}],
        "warm_up_seconds": 0,
        "ramp_down_seconds": 0,
        "graceful_stop_seconds": 5,
        "scenarios": [{"name": "default", "weight": 1}],
        "elapsed_seconds": 0,
        "next_session": 0,
        **more,
    }


def base(seconds: float = 60, **more: Any) -> Summary:
    values: dict[str, Any] = {
        "run": RUN,
        "project": "ape",
        "stack": "dev",
        "started": time.time(),
        "ended": time.time(),
        "planned_seconds": seconds,
        "executor": "closed",
        "versions": Versions(ape="0.1.0"),
        **more,
    }
    return Summary(**values)


class World:
    """Gateway and proxy. `now`: seconds of the test; `events`: time -> what happens then."""

    def __init__(self) -> None:
        self.now, self.boots, self.proxy_boots = 0.0, 0, 0
        self.up = True
        self.events: list[tuple[float, Callable[[], None]]] = []
        self.truth: Counter[str] = Counter()
        self.documents: list[dict[str, Any]] = []
        self.exhausted = False
        self.request_seconds = 0.1
        # From the end of a run to the reports of its sessions.
        self.report_delay = 0.0
        self._due = 0.0
        self.boot_gateway()
        self.boot_proxy()

    def boot_gateway(self) -> None:
        self.boots += 1
        self.run: dict[str, Any] | None = None
        self.state, self.why = "none", ""
        self.rows: list[dict[str, Any]] = []
        self.statuses: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.seconds, self.sessions, self.late = Sketch(), Sketch(), Sketch()

    def boot_proxy(self) -> None:
        self.proxy_boots += 1
        self.completions = 0
        self.ttft = Sketch()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + 0.25)
            for event in [event for event in self.events if event[0] <= self.now]:
                self.events.remove(event)
                event[1]()
            self._work()

    def elapsed(self) -> float:
        if self.run is None:
            return 0.0
        return float(self.run["elapsed_seconds"]) + self.now - self.begun

    def _planned(self) -> float:
        assert self.run is not None
        return sum(float(stage["seconds"]) for stage in self.run["stages"])

    def _work(self) -> None:
        if self.state == "running" and self.elapsed() >= self._planned():
            self.state, self.why = "stopping", "planned"
        if self.state == "running":
            while self._due <= self.now:
                self._due += 1
                self._session()
        elif self.state == "stopping":
            self.state, self.ended_at = "ended", self.now

    def _session(self) -> None:
        self.truth["sessions"] += 1
        self.truth["requests"] += 2
        failed = self.truth["sessions"] % 5 == 0
        self.truth["failed"] += failed
        self.done["failed" if failed else "succeeded"] += 1
        self.statuses["2xx"] += 1
        self.statuses["5xx" if failed else "2xx"] += 1
        for seconds in (self.request_seconds, 3 * self.request_seconds):
            self.seconds.add(seconds)
        self.sessions.add(2.0)
        self.late.add(0.0)
        self.rows.append(
            {
                "n": len(self.rows) + 1,
                "slot": 1,
                "session": self.truth["sessions"] - 1,
                "scenario": "default",
                "phase": "main",
                "result": "failure" if failed else "success",
                "reason": "target_error" if failed else "",
                "steps": 2,
                "seconds": 2.0,
                "late": 0.0,
                "ended": self.elapsed(),
                "detail": "=HYPERLINK(1)" if failed else "",
            }
        )
        self.completions += 1
        self.ttft.add(0.5)

    # What the services answer: (status, JSON).

    def begin(self, given: dict[str, Any]) -> tuple[int, Any]:
        if self.state in ("running", "stopping", "draining"):
            return 409, {"error": {"code": "run_active", "message": "Another run is active."}}
        self.documents.append(copy.deepcopy(given))
        self.run, self.state, self.why = given, "running", ""
        self.begun = self._due = self.now
        return 201, self.status()

    def stop(self) -> tuple[int, Any]:
        if self.state == "running":
            self.state, self.why = "stopping", "stopped"
        return 200, self.status()

    def status(self) -> dict[str, Any]:
        if self.run is None:
            return {"id": None, "state": "none", "active": 0, "idle": 2, "agents": 2}
        return {
            "id": self.run["id"],
            "state": self.state,
            "elapsed_seconds": self.elapsed(),
            "stage": 0,
            "target": 2.0,
            "active": 2,
            "idle": 0,
            "agents": 2,
            "started": len(self.rows),
            "ended": len(self.rows),
            "dropped": 0,
            "late_seconds_max": 0.0,
            "phase": "main",
            "why_ended": self.why,
            "next_session": self.run["next_session"] + len(self.rows),
        }

    def gateway(self) -> dict[str, Any]:
        late = self.report_delay and (
            self.state != "ended" or self.now < self.ended_at + self.report_delay
        )
        seen = self.run is not None and bool(self.rows) and not late
        place = {"scenario": "default", "phase": "main"}
        request = {
            **place,
            "method": "GET",
            "endpoint": "/products/{id}",
            "statuses": dict(self.statuses),
            "errors": {},
            "bytes_sent": 10 * len(self.rows),
            "bytes_received": 100 * len(self.rows),
            "seconds": self.seconds.plain(),
        }
        session = {
            **place,
            **{key: self.done[key] for key in ("succeeded", "failed", "aborted")},
            "steps": 2 * len(self.rows),
            "reasons": {"target_error": self.done["failed"]},
            "seconds": self.sessions.plain(),
            "late": self.late.plain(),
        }
        failure = {"reason": "target_error", "detail": "500", "sessions": self.done["failed"]}
        return {
            "version": 1,
            "boot": f"boot{self.boots}",
            "run": self.run and self.run["id"],
            "requests": [request] if seen else [],
            "sessions": [session] if seen else [],
            "failures": [failure] if self.done["failed"] else [],
            "lost": 0,
            "last_session": len(self.rows),
        }

    def session_rows(self, after: int) -> dict[str, Any]:
        return {"boot": f"boot{self.boots}", "sessions": self.rows[after:], "missed": 0}

    def transcripts(self) -> dict[str, Any]:
        failed = [row for row in self.rows if row["result"] == "failure"][:3]
        return {"transcripts": [{**row, "messages": []} for row in failed]}

    def proxy(self) -> dict[str, Any]:
        return {
            "version": 1,
            "boot": f"proxy{self.proxy_boots}",
            "completions": {"success": self.completions},
            "statuses": {"200": self.completions},
            "finish": {"stop": self.completions},
            "retries": 0,
            "tokens_in": 100 * self.completions,
            "tokens_out": 10 * self.completions,
            "cost_dollars": 0.01 * self.completions,
            "refused": {},
            "budget": {"used_ratio": 1.0, "exhausted": True, "words": "5 of 5 dollars are used."}
            if self.exhausted
            else None,
            "ttft": self.ttft.plain(),
            **{key: Sketch().plain() for key in ("itl", "seconds", "queue", "tokens_per_second")},
        }


class InProcess:
    """The services without HTTP."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _checked(self, answer: tuple[int, Any]) -> Any:
        if answer[0] >= 400:
            raise RefusedError(answer[0], "code", "The gateway refuses it.")
        return json.loads(json.dumps(answer[1]))

    def _up(self) -> World:
        if not self.world.up:
            raise UnreachableError("The gateway does not answer: no connection.")
        return self.world

    def begin(self, document: dict[str, Any]) -> Status:
        return Status.of(self._checked(self._up().begin(document)))

    def stop(self) -> Status:
        return Status.of(self._checked(self._up().stop()))

    def status(self, run: str) -> Status:
        return Status.of(self._up().status())

    def gateway(self) -> GatewayResults:
        return GatewayResults.of(self._up().gateway())

    def proxy(self) -> ProxyResults:
        return ProxyResults.of(self.world.proxy())

    def sessions(self, after: int) -> dict[str, Any]:
        return self._up().session_rows(after)

    def transcripts(self) -> list[dict[str, Any]]:
        return list(self._up().transcripts()["transcripts"])


class Ticking(Stop):
    """Waits are steps of the world's time."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)


class HttpWorld:
    """Gateway and proxy on ports of this host, `speed` seconds of the world a second."""

    def __init__(self, world: World, speed: float) -> None:
        self.world, self._lock = world, threading.Lock()
        self.requests: list[tuple[str, str, str]] = []
        self._servers = [self._serve("gateway"), self._serve("proxy")]
        self.urls = [f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers]
        self._ends = threading.Event()
        self._clock = threading.Thread(target=self._tick, args=(speed,), daemon=True)
        self._clock.start()

    def _tick(self, speed: float) -> None:
        while not self._ends.wait(0.01):
            with self._lock:
                self.world.advance(0.01 * speed)

    def close(self) -> None:
        self._ends.set()
        self._clock.join()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, service: str) -> ThreadingHTTPServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                token = str(self.headers.get("Authorization") or "")
                with outer._lock:
                    outer.requests.append((service, f"{self.command} {self.path}", token))
                    if service == "gateway" and token != f"Bearer {TOKEN}":
                        status, found = 401, {"error": {"code": "unauthorized"}}
                    else:
                        status, found = outer.route(service, self.command, self.path, body)
                text = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def route(self, service: str, method: str, path: str, body: bytes) -> tuple[int, Any]:
        world, (place, _, query) = self.world, path.partition("?")
        if not world.up:
            return 503, {"error": {"code": "starting"}}
        if service == "proxy":
            return (200, world.proxy()) if place == "/results" else (404, {})
        if (method, place) == ("POST", "/run"):
            return world.begin(json.loads(body))
        if (method, place) == ("DELETE", "/run"):
            return world.stop()
        found: dict[str, Callable[[], Any]] = {
            "/run": world.status,
            "/results": world.gateway,
            "/results/sessions": lambda: world.session_rows(int(query.partition("=")[2])),
            "/results/transcripts": world.transcripts,
        }
        return (200, found[place]()) if place in found else (404, {})
