"""A Docker daemon's API for tests, on a Unix socket: listing, inspecting and events."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

from aiohttp import web

PREFIX = r"/{version:v[0-9.]+}"


class FakeDocker:
    """Change it from any thread; `url` is what a client connects to.

    `oldest`: the oldest version of the API that it takes, as Docker 29 takes 1.44; empty: any.
    """

    def __init__(self, folder: Path, oldest: str = "") -> None:
        self.oldest = oldest
        self.path = folder / "docker.sock"
        self.url = f"unix://{self.path}"
        self.containers: dict[str, dict[str, Any]] = {}
        # Docker's events have the labels of containers that it has just removed, too.
        self._labels: dict[str, dict[str, str]] = {}
        self.listings = 0
        # Of the last event stream; none is obeyed.
        self.filters: dict[str, Any] = {}
        self._streams: set[asyncio.Queue[bytes | None]] = set()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def start(self) -> None:
        self._do(self._start())

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._refuse_old])
        for prefix in ("", PREFIX):
            app.router.add_get(prefix + "/version", self._version)
            app.router.add_get(prefix + "/containers/json", self._list)
            app.router.add_get(prefix + "/containers/{id}/json", self._inspect)
            app.router.add_get(prefix + "/containers/{id}/logs", self._logs)
            app.router.add_get(prefix + "/events", self._events)
            app.router.add_get(prefix + "/networks", self._networks)
            app.router.add_get(prefix + "/info", self._info)
            app.router.add_get(prefix + "/_ping", self._ping)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    def stop(self) -> None:
        """The daemon goes away; what it knows stays for `start`."""
        self.cut()
        if self._runner:
            self._do(self._runner.cleanup())
            self._runner = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @web.middleware
    async def _refuse_old(self, request: web.Request, handler: Any) -> web.StreamResponse:
        asked = request.match_info.get("version", "")
        if self.oldest and asked and float(asked[1:]) < float(self.oldest):
            message = f"client version {asked[1:]} is too old. Minimum supported API version is "
            return web.json_response({"message": message + self.oldest}, status=400)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _version(self, _: web.Request) -> web.Response:
        if self.oldest:
            known = {"Version": "29.1.3", "ApiVersion": "1.52", "MinAPIVersion": self.oldest}
            return web.json_response(known)
        return web.json_response({"Version": "20.10.24", "ApiVersion": "1.41"})

    async def _list(self, _: web.Request) -> web.Response:
        self.listings += 1
        with self._lock:
            found = [
                {
                    "Id": key,
                    "Names": [c["Name"]],
                    "Labels": c["Config"]["Labels"],
                    "State": c["State"]["Status"],
                }
                for key, c in self.containers.items()
            ]
        return web.json_response(found)

    async def _inspect(self, request: web.Request) -> web.Response:
        with self._lock:
            found = self.containers.get(request.match_info["id"])
        if found is None:
            return web.json_response({"message": "No such container"}, status=404)
        return web.json_response(found)

    async def _logs(self, _: web.Request) -> web.Response:
        line = b"a line\n"
        return web.Response(body=b"\1\0\0\0" + len(line).to_bytes(4, "big") + line)

    async def _networks(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {"Name": f"ape-{stack}-edge", "Labels": {"ape.project": "ape", "ape.stack": stack}}
                for stack in ("dev", "prod")
            ]
        )

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response({"ServerVersion": "20.10.24", "NCPU": 2, "Containers": 7})

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="OK")

    def wait_for_stream(self) -> None:
        """Until a caller follows the events."""
        for _ in range(200):
            if self._streams:
                return
            time.sleep(0.02)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.filters = json.loads(request.query.get("filters", "{}"))
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.add(queue)
        try:
            while (line := await queue.get()) is not None:
                await answer.write(line)
        finally:
            self._streams.discard(queue)
        return answer

    def cut(self) -> None:
        """End every event stream."""
        self._send(None)

    def _send(self, line: bytes | None) -> None:
        def put() -> None:
            for queue in list(self._streams):
                queue.put_nowait(line)

        self._loop.call_soon_threadsafe(put)

    def emit(self, action: str, key: str, **attributes: str) -> None:
        with self._lock:
            labels = self._labels.get(key, {})
        about = {**labels, **attributes}
        event = {"Type": "container", "Action": action, "Actor": {"ID": key, "Attributes": about}}
        self._send(json.dumps(event | {"timeNano": time.time_ns()}).encode() + b"\n")

    def put(
        self,
        key: str,
        name: str,
        *,
        pid: int = 1,
        status: str = "running",
        labels: dict[str, str] | None = None,
        env: list[str] | None = None,
        restarts: int = 0,
        health: str = "",
        exit_code: int = 0,
        network_mode: str = "net",
        started: str = "2026-01-02T03:04:05.678901234Z",
    ) -> None:
        """Make or replace a container, without an event."""
        state: dict[str, Any] = {"Status": status, "Pid": pid, "StartedAt": started}
        state["ExitCode"] = exit_code
        if health:
            state["Health"] = {"Status": health}
        with self._lock:
            self._labels[key] = labels or {}
            self.containers[key] = {
                "Id": key,
                "Name": f"/{name}",
                "RestartCount": restarts,
                "State": state,
                "Config": {"Labels": labels or {}, "Env": env or [], "Tty": False},
                "HostConfig": {"NetworkMode": network_mode},
                "NetworkSettings": {"Networks": {"net": {}}},
            }

    def forget(self, key: str) -> None:
        with self._lock:
            self.containers.pop(key, None)
