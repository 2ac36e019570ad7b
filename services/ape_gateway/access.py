"""The access log: one line for each forwarded request, at little cost.

The lines have the form of `ape_service.logs`. msgspec makes them, and they are written together
a few times per second: at thousands of requests per second, the logging module would take a tenth
of the time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import msgspec

from ape_contracts.gateway_config import Logging

_EVERY_SECONDS = 0.2
_AT_MOST_LINES = 500


class Line(msgspec.Struct, frozen=True):
    """`path` is without its query."""

    ts: str
    level: str
    service: str
    msg: str
    trace_id: str
    route: str
    method: str
    path: str
    status: int
    seconds: float
    attempts: int


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class AccessLog:
    def __init__(self, config: Logging, write: Callable[[str], None] = _to_stdout) -> None:
        self._on = config.level in ("DEBUG", "INFO")
        self._json = config.format == "json"
        self._write = write
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._encoder = msgspec.json.Encoder()
        self._second = (0, "")

    def request(
        self,
        trace_id: str,
        route: str,
        method: str,
        path: str,
        status: int,
        seconds: float,
        attempts: int,
    ) -> None:
        if not self._on:
            return
        args = (trace_id, route, method, path, status, round(seconds, 4), attempts)
        line = Line(self._now(), "info", "gateway", "request", *args)
        if self._json:
            self._lines.append(self._encoder.encode(line).decode())
        else:
            fields = zip(Line.__struct_fields__[4:], args, strict=True)
            text = " ".join(f"{key}={value}" for key, value in fields)
            self._lines.append(f"{line.ts} INFO {line.msg} {text}")
        if len(self._lines) >= _AT_MOST_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._write("\n".join(self._lines) + "\n")
            self._lines.clear()

    def _now(self) -> str:
        now = time.time()
        second, text = self._second
        if int(now) != second:
            second, text = int(now), time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
            self._second = (second, text)
        return f"{text}.{int((now - second) * 1000):03d}Z"
