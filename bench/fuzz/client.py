"""Send one request, and compare the answer with the rules."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import NamedTuple

from bench.fuzz.requests import Request, Service

HANG_SECONDS = 1.0
# Answers by which a service states that it failed itself. The demo target fails at nothing.
_OURS = (500, 502, 504)
_WORDS = re.compile(
    rb'"error": ?"(?:internal_error|target_unreachable|target_timeout)|"code": ?-32603|'
    rb'"status_code": ?50[024]|Internal Server Error'
)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Answer(NamedTuple):
    """`status` 0: none came; `ended`: the service closed the connection."""

    status: int
    content: bytes
    seconds: float
    ended: bool


def _connected(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, str):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(HANG_SECONDS * 3)
        made.connect(address)
        return made
    return socket.create_connection(address, HANG_SECONDS * 3)


def send(address: tuple[str, int] | str, request: Request, idle: float) -> Answer:
    """The answer; of a request that is not whole, what comes within `idle` seconds."""
    started = time.monotonic()
    content, ended = b"", False
    with _connected(address) as connection:
        # A service may answer and close before it has read all.
        with contextlib.suppress(OSError):
            connection.sendall(request.raw)
        connection.settimeout(HANG_SECONDS * 3 if request.whole else idle)
        with contextlib.suppress(OSError):
            while piece := connection.recv(1 << 16):
                content += piece
                connection.settimeout(HANG_SECONDS * 3 if request.whole else idle)
            ended = True
    found = _STATUS.match(content)
    return Answer(int(found[1]) if found else 0, content, time.monotonic() - started, ended)


def problem(answer: Answer, request: Request) -> str:
    """The rule that the answer breaks; empty: none."""
    if answer.status in _OURS:
        return f"status {answer.status}"
    if words := _WORDS.search(answer.content):
        return f"answer with {words[0].decode('ascii', 'replace')}"
    if request.whole and answer.seconds > HANG_SECONDS:
        return f"no answer within {HANG_SECONDS:g} s"
    if request.whole and not answer.status:
        return "no answer"
    return ""


def health(service: Service) -> str:
    """The rule that GET /health breaks; empty: none."""
    raw = f"GET {service.health} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    try:
        answer = send(service.address, Request(raw.encode(), True), HANG_SECONDS)
    except OSError as error:
        return f"health: {error}"
    if answer.status != 200:
        return f"health: status {answer.status}"
    return "health: slow" if answer.seconds > HANG_SECONDS else ""


def tried(service: Service, request: Request, idle: float) -> tuple[str, int]:
    """The rule that the service breaks with this request (empty: none), and its status."""
    try:
        answer = send(service.address, request, idle)
    except OSError as error:
        return f"no connection: {error}", 0
    found = problem(answer, request)
    # A service that answered at once is not busy with the request.
    return found or ("" if answer.status else health(service)), answer.status
