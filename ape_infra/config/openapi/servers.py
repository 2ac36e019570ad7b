"""The base path of an operation: of `servers` (3.x), or of `basePath` (2.0)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Server(NamedTuple):
    """`host` is empty if the document does not state it."""

    host: str
    path: str


def of_document(document: dict[str, Any]) -> Server:
    """The server of all operations that do not have one of their own."""
    if "swagger" in document:
        host, path = document.get("host"), document.get("basePath")
        return Server(
            host if isinstance(host, str) else "", _clean(path if isinstance(path, str) else "")
        )
    return first(document.get("servers")) or Server("", "")


def first(servers: Any) -> Server | None:
    """The first of `servers`, with the defaults of its variables; None: there is not one."""
    given = servers[0] if isinstance(servers, list) and servers else None
    if not isinstance(given, dict) or not isinstance(url := given.get("url"), str):
        return None
    variables = given.get("variables")
    url = re.sub(r"\{([^{}]+)\}", lambda found: _default(variables, found[1]), url)
    try:
        parts = urlsplit(url.strip())
        return Server(parts.netloc.rpartition("@")[2], _clean(parts.path))
    except ValueError:
        return None


def _default(variables: Any, name: str) -> str:
    variable = variables.get(name) if isinstance(variables, dict) else None
    if not isinstance(variable, dict):
        return ""
    values = [variable.get("default"), *_list(variable.get("enum"))]
    return next((str(v) for v in values if isinstance(v, str | int)), "")


def _clean(path: str) -> str:
    """A path without an end slash; "" for the root. Relative ones begin at the root."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return "".join(f"/{part}" for part in parts)


def nearest(servers: Iterable[Any], default: Server) -> Server:
    """The server of the first list that has one: of the operation, the path item, the document."""
    for given in servers:
        if (found := first(given)) is not None:
            return found
    return default


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
