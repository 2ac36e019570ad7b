"""W3C trace context: one trace id from agent to target."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_NONE = "0" * 32


def new_trace_id() -> str:
    """32 hex digits."""
    return secrets.token_hex(16)


def valid_trace_id(value: object) -> str | None:
    """`value` as 32 lower-case hex digits, without a UUID's dashes; None if it is not one."""
    if not isinstance(value, str):
        return None
    plain = value.replace("-", "").lower()
    return plain if _TRACE_ID.fullmatch(plain) and plain != _NONE else None


def headers(trace_id: str) -> dict[str, str]:
    """The headers that pass `trace_id` on, with a new span."""
    return {
        "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
        "X-Trace-ID": trace_id,
    }


def from_headers(incoming: Mapping[str, str]) -> str | None:
    """The caller's trace id: `traceparent` first, then `X-Trace-ID`."""
    if match := _TRACEPARENT.fullmatch(incoming.get("traceparent", "")):
        if match[1] != _NONE:
            return match[1]
    return valid_trace_id(incoming.get("X-Trace-ID"))
