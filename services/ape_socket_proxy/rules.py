"""The requests that are forwarded: pure functions of the first line and the headers."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

# No % and no dot segments: the daemon sees exactly the path that is matched.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_VERSION = r"/v[0-9]{1,3}\.[0-9]{1,3}"
_PATHS = ("containers/json", f"containers/{_NAME}/json", "events", "info", "version", "_ping")
# For a log shipper; off by default.
_LOGS = (f"containers/{_NAME}/logs", "networks")
_QUERY = re.compile(r"[!-~]*")


class Rejection(NamedTuple):
    status: int
    reason: str


class Request(NamedTuple):
    """A request that passes: `kind` is the last part of its path, `container` a name or an id."""

    version: str
    kind: str
    container: str
    query: str

    def target(self, container: str = "", query: str | None = None) -> str:
        """The request target, for the container with this id and with this query."""
        own = container or self.container
        path = f"{self.version}/containers/{own}/{self.kind}" if own else self._path
        query = self.query if query is None else query
        return path + (f"?{query}" if query else "")

    @property
    def _path(self) -> str:
        return f"{self.version}/{'containers/json' if self.kind == 'json' else self.kind}"


def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"({_VERSION})?/({'|'.join(paths)})")


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


def parsed(head: bytes) -> Request:
    """The request of a head that is not refused."""
    path, _, query = head.split(b" ", 2)[1].decode("ascii").partition("?")
    version = re.match(_VERSION, path)
    parts = path.removeprefix(version[0] if version else "").strip("/").split("/")
    container = parts[1] if len(parts) == 3 else ""
    return Request(version[0] if version else "", parts[-1], container, query)


def raised(version: str, minimum: str) -> str:
    """The version of a request, such as /v1.43, or `minimum` where the daemon takes no older one.

    Clients with a fixed version fail with a newer Docker: 29 takes 1.44 or later, and Alloy asks
    for 1.43 at most (grafana/alloy#5610). What passes here is the same in both.
    """
    if not version or not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", minimum):
        return version
    return max(version, f"/v{minimum}", key=_numbers)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.removeprefix("/v").split(".")]


def scoped(query: str, labels: list[str]) -> str:
    """The query of a list or a stream, with `labels` among its filters.

    The daemon requires all of several labels. Raises ValueError for filters in another form.
    """
    given = parse_qsl(query, keep_blank_values=True)
    texts = [value for name, value in given if name == "filters"]
    if len(texts) > 1:
        raise ValueError("filters are given more than once")
    filters = _filters(json.loads(texts[0])) if texts and texts[0] else {}
    filters["label"] = [*filters.get("label", []), *labels]
    rest = [(name, value) for name, value in given if name != "filters"]
    return urlencode([*rest, ("filters", json.dumps(filters))])


def _filters(found: Any) -> dict[str, list[str]]:
    """Filters in either form that Docker accepts: lists, or objects whose keys count."""
    if not isinstance(found, dict):
        raise ValueError("filters are not an object")
    for values in found.values():
        if not isinstance(values, list | dict) or not all(isinstance(v, str) for v in values):
            raise ValueError("a filter is not a list of texts")
    return {name: list(values) for name, values in found.items()}


def forwarded(target: str, version: str = "1.1") -> bytes:
    """The request that the daemon gets; HTTP/1.0 answers without chunks."""
    return f"GET {target} HTTP/{version}\r\nHost: docker\r\nConnection: close\r\n\r\n".encode()
