"""The part of a target's answer that the model is shown: status, chosen headers, body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Of the body.
MAX_SHOWN_CHARS = 6000
_ALWAYS = ("location", "link", "etag", "retry-after")
_MAX_VALUE_CHARS, _MAX_HEADERS_CHARS = 400, 1200
_BASE64_CHARS, _BASE64_BYTES = 4, 3


def shown(
    status: int,
    body: Any,
    headers: Any = None,
    *,
    encoding: str = "json",
    truncated: bool = False,
    documented: Sequence[str] = (),
    hidden: Sequence[str] = (),
) -> dict[str, Any]:
    """What the model is shown of the gateway's answer; see ape_gateway.wire.

    `documented`: further headers that count; `hidden`: those that are never shown.
    """
    given = headers if isinstance(headers, dict) else {}
    chosen = chosen_headers(given, documented, hidden)
    made: dict[str, Any] = {"status": status, **({"headers": chosen} if chosen else {})}
    if encoding == "base64" and isinstance(body, str):
        return {**made, "body": _binary(body, given, truncated)}
    try:
        text = body if isinstance(body, str) else json.dumps(body)
    except RecursionError:
        return {**made, "error": "The body is nested too deeply to be shown."}
    if len(text) > MAX_SHOWN_CHARS:
        return {**made, "body": text[:MAX_SHOWN_CHARS], "truncated": True}
    return {**made, "body": body}


def chosen_headers(
    headers: Mapping[str, Any], documented: Sequence[str] = (), hidden: Sequence[str] = ()
) -> dict[str, str]:
    """The headers that the model is shown, within a bound. Set-Cookie is for the jar alone."""
    content_type = str(headers.get("content-type", ""))
    main = content_type.partition(";")[0].strip().lower()
    names = list(_ALWAYS)
    if not main.endswith(("/json", "+json")):
        names.append("content-type")
    names += [name.lower() for name in documented]
    left, made = _MAX_HEADERS_CHARS, dict[str, str]()
    for name in dict.fromkeys(names):
        value = headers.get(name)
        if not isinstance(value, str) or not value or name in (*hidden, "set-cookie"):
            continue
        cut = value[:_MAX_VALUE_CHARS]
        if (left := left - len(name) - len(cut)) < 0:
            break
        made[name] = cut
    return made


def _binary(body: str, headers: Mapping[str, Any], truncated: bool) -> dict[str, Any]:
    """The type and the size of a body in base64."""
    size = len(body) // _BASE64_CHARS * _BASE64_BYTES - body[-2:].count("=")
    kind = str(headers.get("content-type") or "unknown")[:100]
    return {"type": kind, ("at_least_bytes" if truncated else "bytes"): size}
