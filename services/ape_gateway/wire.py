"""The wire of POST /mcp/request.

A request has one of two forms. A list of requests (at most MAX_BATCH) is answered by a list in the
same order:

    {target_api_name, http_method, endpoint_path, session_headers?, request_payload?, trace_id?,
     query?, content_type?, encoding?}
    {api_name, method, path, headers?, data?, trace_id?, query?, content_type?, encoding?}

The path may lack its first slash.

`query`: an object of texts, numbers, booleans, null (absent) and lists of those (repeated names).
The payload of a GET or HEAD without `content_type` is more of it.
`content_type`: of the body; without one, that of the headers, or else application/json. The gateway
encodes the payload, a JSON value: an object as form (application/x-www-form-urlencoded) or
multipart/form-data, a text as any other type. A request without a body has no content type.
`encoding`: {field: {contentType, style, explode}} of a form, as OpenAPI has it.
`{"$file": {name?, type?, bytes?}}` as a field is a file; see `uploads`.

The answer of the target, or of the gateway itself:

    {status_code, headers, body, body_encoding, truncated, execution_time, attempts, trace_id,
     error, error_message}

`headers`: names in lower case, values texts; `set-cookie` is always a list of texts.
`body`: JSON value, text, or base64 text, by `body_encoding` (json, text, base64, none).
`truncated`: whether the body was larger than the gateway's limit; then `body` is its beginning.
`execution_time`: seconds that the target took to answer the last of `attempts` requests.
`error`: a short code if the gateway itself answered; null if the target did.

The HTTP status is 200 if the target answered, and the gateway's own `status_code` otherwise. With
`passTargetStatus` of the route it is the target's, and `x-should-retry: false` is sent unless it is
200; a target's status that allows no body (204, 205, 304) stays 200. A list always gets 200.

JSON bodies are forwarded byte by byte: they are checked, but not rebuilt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from ape_contracts import paths
from ape_contracts.gateway_config import METHODS
from ape_gateway.content import Encoding, checked_type, encoding_of
from ape_gateway.errors import WireError as WireError
from ape_gateway.query import Pairs, pairs_of
from ape_service import trace

MAX_BATCH = 32
_MAX_TRACE_ID = 128
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
DROPPED_FROM_ANSWER = _DROPPED - {"x-trace-id"}
_CONTENT_TYPE = "content-type"
# Not forwarded as they are.
_READ = _DROPPED | {_CONTENT_TYPE}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
# Neither control characters, nor surrogates, which have no bytes.
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# Servers that make variables of headers (CGI, WSGI) take X_Api_Key and X-Api-Key for one.
_SEPARATORS = str.maketrans(dict.fromkeys("!#$%&'*+.^_`|~", "-"))
MAX_HEADERS, MAX_HEADER_CHARS = 64, 8 << 10


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a target. `payload`: its body, or None.

    With an `encoding`, the payload is JSON from which the body is still to be made.
    """

    api: str
    method: str
    path: str
    headers: dict[str, str]
    payload: bytes | None = None
    trace_id: str | None = None
    query: Pairs = ()
    encoding: Encoding | None = None

    @property
    def bare_path(self) -> str:
        """The path without its query, which may hold secrets."""
        return self.path.partition("?")[0]


class Answer(msgspec.Struct, frozen=True):
    """The answer of POST /mcp/request; see the description of the module."""

    status_code: int
    trace_id: str
    headers: dict[str, str | list[str]] = {}
    body: msgspec.Raw | str | None = None
    body_encoding: str = "none"
    truncated: bool = False
    execution_time: float = 0.0
    attempts: int = 0
    error: str | None = None
    error_message: str | None = None


class _WireRequest(msgspec.Struct):
    """Both forms at once."""

    target_api_name: str | None = None
    http_method: str = ""
    endpoint_path: str = ""
    session_headers: dict[str, str] | None = None
    request_payload: msgspec.Raw = msgspec.Raw()
    api_name: str | None = None
    method: str = ""
    path: str = ""
    headers: dict[str, str] | None = None
    data: msgspec.Raw = msgspec.Raw()
    # Not decoded: it may be anything, and large.
    trace_id: msgspec.Raw = msgspec.Raw()
    query: msgspec.Raw = msgspec.Raw()
    content_type: str | None = None
    encoding: msgspec.Raw = msgspec.Raw()


_LONG_KEYS = ("http_method", "endpoint_path", "session_headers", "request_payload")
_SHORT_KEYS = ("method", "path", "headers", "data")
_request = msgspec.json.Decoder(_WireRequest)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
_NULL = msgspec.Raw(b"null")
_BODYLESS = ("GET", "HEAD")
_WHERE = re.compile(r" - at `\$\.?(.*)`$")


def encode(answer: Answer | list[Answer]) -> bytes:
    return _encoder.encode(answer)


def is_batch(body: bytes) -> bool:
    return body.lstrip()[:1] == b"["


def parse_batch(body: bytes) -> list[bytes]:
    """The items of a JSON list, 1 to MAX_BATCH. Raises WireError."""
    try:
        items = _list.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise WireError("The body is not JSON.") from None
    if not 0 < len(items) <= MAX_BATCH:
        raise WireError(f"A list must hold 1 to {MAX_BATCH} requests.")
    return [bytes(item) for item in items]


def parse(body: bytes) -> Call:
    """A Call of either form. Raises WireError."""
    try:
        # msgspec checks the content of a Raw for JSON, but not for UTF-8.
        body.decode()
        request = _request.decode(body)
    except msgspec.ValidationError as problem:
        raise WireError(_validation_message(problem)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WireError("The body is not JSON.") from None
    if request.target_api_name is not None:
        return make_call(
            request.target_api_name,
            request.http_method,
            request.endpoint_path,
            request.session_headers,
            request.request_payload,
            _trace_id(request.trace_id),
            _LONG_KEYS,
            request.query,
            request.content_type,
            request.encoding,
        )
    if request.api_name is None:
        raise WireError(
            "target_api_name: missing. Name a route of the gateway; GET /tools has them."
        )
    return make_call(
        request.api_name,
        request.method,
        request.path,
        request.headers,
        request.data,
        _trace_id(request.trace_id),
        _SHORT_KEYS,
        request.query,
        request.content_type,
        request.encoding,
    )


def _trace_id(raw: msgspec.Raw) -> str | None:
    """The text of a JSON text without escapes, which a trace id has; else None."""
    if not raw or len(raw) > _MAX_TRACE_ID:
        return None
    return bytes(raw).decode().strip('"')


def _validation_message(problem: msgspec.ValidationError) -> str:
    """msgspec's: Expected `str`, got `int` - at `$.http_method`. It quotes no value."""
    text = str(problem)
    if match := _WHERE.search(text):
        return f"{match[1]}: {text[: match.start()]}."
    return f"{text}."


def make_call(
    api: str,
    method: str,
    path: str,
    headers: dict[str, str] | None,
    payload: msgspec.Raw | bytes,
    trace_id: object = None,
    keys: tuple[str, ...] = _SHORT_KEYS,
    query: msgspec.Raw | bytes = b"",
    content_type: str | None = None,
    encoding: msgspec.Raw | bytes = b"",
) -> Call:
    """A Call of checked values; `keys` name them in errors. Raises WireError."""
    method = method.upper()
    if method not in METHODS:
        raise WireError(f"{keys[0]}: must be one of {', '.join(METHODS)}.")
    path = _rooted(path, keys[1])
    if why := paths.problem(path):
        raise WireError(f"{keys[1]}: {why}.")
    # A JSON null means: no payload.
    raw: bytes | None = bytes(payload).strip()
    if not raw or raw == b"null":
        raw = None
    passed, header = _passed(headers, keys[2]) if headers else ({}, None)
    pairs = pairs_of(query, "query") if query and query != _NULL else ()
    made = None
    if raw is not None:
        if not content_type and method in _BODYLESS:
            pairs += pairs_of(raw, keys[3])
            raw = None
        elif content_type := content_type or header:
            made = encoding_of(content_type, encoding, raw, keys[3])
            if made is None:
                passed["Content-Type"] = checked_type(content_type)[0]
    return Call(
        api, method, path, passed, raw, trace.valid_trace_id(trace_id), pairs, encoding=made
    )


def canonical(name: str) -> str:
    """The name of a header as a server may read it: X_Api_Key is x-api-key."""
    return name.lower().translate(_SEPARATORS)


def _passed(headers: dict[str, str], key: str) -> tuple[dict[str, str], str | None]:
    """The headers of an agent that are forwarded, and their content type. Raises WireError."""
    passed = {}
    content_type = None
    hop_by_hop: set[str] = set()
    size = 0
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or _NOT_IN_A_VALUE.search(value):
            raise WireError(f"{key}: holds a name or a value that is not a header.")
        size += len(value)
        read_as = canonical(name)
        if read_as not in _READ:
            passed[name] = value
        elif read_as == _CONTENT_TYPE:
            content_type = value
        elif read_as == "connection":
            hop_by_hop.update(canonical(part.strip()) for part in value.split(","))
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_CHARS:
        raise WireError(
            f"{key}: are more than {MAX_HEADERS} headers or {MAX_HEADER_CHARS} characters. "
            "Send fewer."
        )
    if hop_by_hop:
        passed = {name: v for name, v in passed.items() if canonical(name) not in hop_by_hop}
    return passed, content_type


def _rooted(path: str, key: str) -> str:
    """`path` with its first slash: models often omit it. Raises WireError."""
    if not path:
        raise WireError(f"{key}: missing. Give a path below the base URL, such as /products.")
    if path.startswith("/"):
        return path
    if "://" in path.partition("?")[0]:
        raise WireError(f"{key}: must be a path below the base URL such as /products, not a URL.")
    return f"/{path}"
