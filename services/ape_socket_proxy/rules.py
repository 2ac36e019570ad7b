"""What passes. Pure functions of a request's first line and headers."""

from __future__ import annotations

import re
from typing import NamedTuple

# No %, no dot segments: what is matched here is what the daemon sees.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_PATHS = ("containers/json", f"containers/{_NAME}/json", "events", "info", "version", "_ping")
# For a shipper of logs; off unless it is asked for.
_LOGS = (f"containers/{_NAME}/logs", "networks")
_QUERY = re.compile(r"[!-~]*")


class Rejection(NamedTuple):
    status: int
    reason: str


def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(/v[0-9]+\.[0-9]+)?/({'|'.join(paths)})")


_READERS, _WITH_LOGS = _pattern(_PATHS), _pattern((*_PATHS, *_LOGS))


def refusal(head: bytes, *, logs: bool = False) -> Rejection | None:
    """Why the request with this head (up to the empty line) is refused; None where it passes."""
    try:
        lines = head.decode("ascii").split("\r\n")
        method, target, version = lines[0].split(" ")
    except (UnicodeDecodeError, ValueError):
        return Rejection(400, "not an HTTP request")
    if not version.startswith("HTTP/1."):
        return Rejection(400, "not HTTP/1")
    if method != "GET":
        return Rejection(403, "only GET passes")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name == "transfer-encoding" or (name == "content-length" and value != "0"):
            return Rejection(400, "a GET has no body here")
    path, _, query = target.partition("?")
    if not (_WITH_LOGS if logs else _READERS).fullmatch(path) or not _QUERY.fullmatch(query):
        return Rejection(403, "only containers, events, info, version and _ping pass")
    return None


def forwarded(head: bytes) -> bytes:
    """The request as the daemon gets it: nothing of the caller's but the target."""
    target = head.split(b" ", 2)[1]
    return b"GET " + target + b" HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
