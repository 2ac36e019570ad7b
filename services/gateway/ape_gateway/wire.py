"""The wire of POST /mcp/request.

Asked in either form:

    {target_api_name, http_method, endpoint_path, session_headers?, request_payload?, trace_id?}
    {api_name, method, path, headers?, data?, trace_id?}

Answered, whether the target or the gateway speaks (then the HTTP status is not 200):

    {status_code, headers, body, body_encoding, truncated, execution_time, trace_id,
     error, error_message}

`headers`: names in lower case, values texts; `set-cookie` is always a list of texts.
`body`: JSON value, text, or base64 text, as `body_encoding` says (json, text, base64, none).
`truncated`: the body was larger than the gateway's limit; what is there is its beginning.
`execution_time`: seconds that the target took. `error`: a short code where the gateway speaks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ape_common import paths, trace
from ape_common.gateway_config import METHODS
from multidict import CIMultiDictProxy

# Hop-by-hop headers, and those that the gateway's own client must set.
_DROPPED = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "content-encoding",
        "expect",
        "accept-encoding",
        "traceparent",
        "tracestate",
        "x-trace-id",
    ]
)
_DROPPED_FROM_ANSWER = _DROPPED - {"x-trace-id"}
_FORMS = (
    ("target_api_name", "http_method", "endpoint_path", "session_headers", "request_payload"),
    ("api_name", "method", "path", "headers", "data"),
)


class WireError(Exception):
    """The request breaks the wire format; says where and how."""


@dataclass(frozen=True)
class Call:
    api: str
    method: str
    path: str
    headers: dict[str, str]
    payload: Any
    trace_id: str | None


def parse(raw: Any) -> Call:
    """A Call of either form. Raises WireError."""
    if not isinstance(raw, dict):
        raise WireError("The body must be a JSON object.")
    form = next((f for f in _FORMS if f[0] in raw), None)
    if form is None:
        raise WireError(
            "target_api_name: missing. Name a route of the gateway; GET /tools has them."
        )
    api, method, path, headers, payload = (raw.get(key) for key in form)
    if not isinstance(api, str):
        raise WireError(f"{form[0]}: must be a text.")
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise WireError(f"{form[1]}: must be one of {', '.join(METHODS)}.")
    if not isinstance(path, str):
        raise WireError(f"{form[2]}: must be a text such as /products.")
    if why := paths.problem(path):
        raise WireError(f"{form[2]}: {why}.")
    return Call(
        api,
        method.upper(),
        path,
        _headers(headers, form[3]),
        payload,
        trace.valid_trace_id(raw.get("trace_id")),
    )


def _headers(raw: Any, key: str) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise WireError(f"{key}: must be an object of texts.")
    for name, value in raw.items():
        if not isinstance(value, str) or not name.isascii() or not name.strip():
            raise WireError(f"{key}: must be an object of texts.")
        if any(c in "\r\n\0" for c in name + value) or " " in name or ":" in name:
            raise WireError(f"{key}: holds a name or a value that is no header.")
    return {name: value for name, value in raw.items() if name.lower() not in _DROPPED}


def query_of(payload: Any) -> dict[str, str]:
    """The payload of a request that has no body, as its query. Raises WireError."""
    if payload is None:
        return {}
    if not isinstance(payload, dict) or any(
        not isinstance(v, str | int | float) for v in payload.values()
    ):
        raise WireError(
            "The payload of a GET or HEAD is its query: an object of texts and numbers."
        )
    return {
        key: json.dumps(value) if isinstance(value, bool) else str(value)
        for key, value in payload.items()
    }


def headers_of(answer: CIMultiDictProxy[str]) -> dict[str, str | list[str]]:
    """The target's headers; see the module's words on set-cookie."""
    made: dict[str, str | list[str]] = {}
    for key in answer:
        name = key.lower()
        if name == "set-cookie":
            made[name] = answer.getall(key)
        elif name not in _DROPPED_FROM_ANSWER:
            made[name] = ", ".join(answer.getall(key))
    return made


def body_of(content: bytes, content_type: str, charset: str, truncated: bool) -> tuple[Any, str]:
    """(body, body_encoding) of the target's bytes."""
    if not content:
        return None, "none"
    if content_type.endswith(("/json", "+json")) and not truncated:
        try:
            return json.loads(content, parse_constant=_no_constant), "json"
        except (ValueError, RecursionError):
            pass
    if content_type.startswith("text/") or content_type.endswith(
        ("json", "xml", "javascript", "x-www-form-urlencoded")
    ):
        try:
            return content.decode(charset, "replace"), "text"
        except LookupError:
            pass
    return base64.b64encode(content).decode(), "base64"


def _no_constant(_: str) -> Any:
    raise ValueError("not JSON")


def answer(
    status_code: int,
    trace_id: str,
    *,
    headers: Mapping[str, str | list[str]] | None = None,
    body: Any = None,
    body_encoding: str = "none",
    truncated: bool = False,
    execution_time: float = 0.0,
    error: str | None = None,
    error_message: str | None = None,
) -> dict[str, Any]:
    return {
        "status_code": status_code,
        "headers": headers or {},
        "body": body,
        "body_encoding": body_encoding,
        "truncated": truncated,
        "execution_time": round(execution_time, 6),
        "trace_id": trace_id,
        "error": error,
        "error_message": error_message,
    }
