"""The requests that are forwarded: pure functions of the first line and the headers."""

from __future__ import annotations

import re
from typing import NamedTuple

# No % and no dot segments: the daemon sees exactly the path that is matched.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_PATHS = ("containers/json", f"containers/{_NAME}/json", "events", "info", "version", "_ping")
# For a log shipper; off by default.
_LOGS = (f"containers/{_NAME}/logs", "networks")
_QUERY = re.compile(r"[!-~]*")


class Rejection(NamedTuple):
    status: int
    reason: str


def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(/v[0-9]+\.[0-9]+)?/({'|'.join(paths)})")


_READERS, _WITH_LOGS = _pattern(_PATHS), _pattern((*_PATHS, *_LOGS))


def refusal(head: bytes, *, logs: bool = False) -> Rejection | None:
    """The rejection of a request with this head (up to the empty line), or None."""
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
    """The request that the daemon gets: of the caller's, only the request target."""
    target = head.split(b" ", 2)[1]
    return b"GET " + target + b" HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
