"""The request of an operation, built from values: path, query, headers, cookies and body.

Pure, and standard library only. Values are encoded by the style of their parameter, as OpenAPI 3
describes it (RFC 6570 for paths); whatever is neither text nor a list or an object is JSON text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from ape_contracts.operations import BODY, Body, Operation, Parameter, arguments

# RFC 3986, without those that a query or its parser gives a meaning.
_RESERVED = ":/?@!$'()*,;"
_DELIMITERS = {"spaceDelimited": "%20", "pipeDelimited": "%7C", "tabDelimited": "%09"}
_COOKIE_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"
# Some servers read a backslash as an escape, and so another name.
_NOT_IN_A_NAME = re.compile(r"[\\\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
Pair = tuple[str, str]


class RequestError(Exception):
    """Values from which no request can be built: which, and what to do."""


@dataclass(frozen=True)
class File:
    """Content for a part of a multipart body."""

    content: bytes
    name: str = "file.bin"
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Request:
    """A request below the target's URL: `path` has the query. Without a body, no content type."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


def build(operation: Operation, values: Mapping[str, Any]) -> Request:
    """Return the request with `values`, by argument (see `operations.arguments`).

    A value that is absent or None is not sent. Raises RequestError.
    """
    known = arguments(operation)
    given = {name: value for name, value in values.items() if value is not None and name in known}
    missing = [name for name, each in known.items() if each.required and name not in given]
    has_body = operation.body is not None and values.get(BODY) is not None
    if operation.body is not None and operation.body.required and not has_body:
        missing.append(BODY)
    if missing:
        raise RequestError(f"{operation.id} needs a value for {', '.join(missing)}. Give it.")
    parts: dict[str, list[Pair]] = {"path": [], "query": [], "header": [], "cookie": []}
    for name, value in given.items():
        parts[known[name].location] += _encoded(known[name], value)
    headers = dict(parts["header"])
    body = None
    if operation.body is not None and has_body:
        content_type, body = encode_body(operation.body, values[BODY])
        headers["Content-Type"] = content_type
    path = _path(operation, dict(parts["path"]))
    if query := "&".join(f"{k}={v}" for k, v in parts["query"]):
        path += ("&" if "?" in path else "?") + query
    return Request(operation.method, path, headers, dict(parts["cookie"]), body)


def _path(operation: Operation, values: Mapping[str, str]) -> str:
    """Fill the template; a value must not lead out of its segment."""
    for name, value in values.items():
        if value in ("", ".", ".."):
            raise RequestError(
                f"{operation.id}: path parameter {name} is empty or only dots. "
                "Give it another value."
            )

    def value_of(found: re.Match[str]) -> str:
        return values.get(found[1], found[0])

    path = re.sub(r"\{([^{}]*)\}", value_of, operation.path)
    return path.replace("{", "%7B").replace("}", "%7D")


def text_of(value: Any) -> str:
    """Return a value as text: a text as it is, everything else as JSON. Raises RequestError."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise RequestError(f"A {type(value).__name__} is not a JSON value. Give one.") from None


def _percent(value: Any, safe: str = "") -> str:
    return quote(text_of(value).encode("utf-8", "replace"), safe=safe)


def _encoded(parameter: Parameter, value: Any) -> list[Pair]:
    """The (name, value) pairs of a parameter, encoded for their place."""
    style, explode = parameter.encoding
    if parameter.content_type:
        value = text_of(value) if "json" in parameter.content_type.lower() else value
    if parameter.location == "header":
        return [(parameter.name, _header(parameter.name, value, explode))]
    if parameter.location == "cookie":
        text = value if isinstance(value, str) else ",".join(_flat(value, text_of))
        return [(parameter.name, quote(text.encode("utf-8", "replace"), safe=_COOKIE_SAFE))]
    if parameter.location == "path":
        return [(parameter.name, _segment(parameter.name, value, style, explode))]
    safe = _RESERVED if parameter.allow_reserved else ""

    def percent(part: Any) -> str:
        return _percent(part, safe)

    return query_pairs(parameter.name, value, style, explode, percent)


def _flat(value: Any, encode: Callable[[Any], str]) -> list[str]:
    """The parts of a value that is not exploded: items, or names and values in turn."""
    if isinstance(value, Mapping):
        return [encode(part) for pair in value.items() for part in pair]
    return [encode(part) for part in value] if _is_list(value) else [encode(value)]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _named(value: Mapping[str, Any], encode: Callable[[Any], str]) -> list[str]:
    return [f"{encode(key)}={encode(inner)}" for key, inner in value.items()]


def _header(name: str, value: Any, explode: bool) -> str:
    if isinstance(value, Mapping) and explode:
        text = ",".join(_named(value, text_of))
    else:
        text = ",".join(_flat(value, text_of))
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise RequestError(f"Header {name} has a control character. Remove it.")
    return text


def _segment(name: str, value: Any, style: str, explode: bool) -> str:
    """A value in a path: simple, label or matrix."""
    is_object = isinstance(value, Mapping)
    parts = _named(value, _percent) if is_object and explode else _flat(value, _percent)
    if style == "label":
        return "." + ("." if explode else ",").join(parts)
    if style == "matrix":
        key = _percent(name)
        if explode and is_object:
            return ";" + ";".join(parts)
        if explode and _is_list(value):
            return ";" + ";".join(f"{key}={part}" for part in parts)
        return f";{key}={','.join(parts)}"
    return ",".join(parts)


def query_pairs(
    name: str, value: Any, style: str, explode: bool, percent: Callable[[Any], str] = _percent
) -> list[Pair]:
    """The encoded pairs of a query or a form. A list or object that is exploded has many."""
    key = percent(name) if percent is not _percent else _percent(name)
    if style == "deepObject" and isinstance(value, Mapping):
        return list(_deep(name, value, percent))
    if explode and isinstance(value, Mapping):
        return [(_percent(k), percent(v)) for k, v in value.items()]
    if explode and _is_list(value):
        return [(key, percent(each)) for each in value]
    return [(key, _DELIMITERS.get(style, ",").join(_flat(value, percent)))]


def _deep(prefix: str, value: Any, percent: Callable[[Any], str]) -> Iterable[Pair]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _deep(f"{prefix}[{text_of(key)}]", inner, percent)
    elif _is_list(value):
        for inner in value:
            yield _percent(prefix), percent(inner)
    else:
        yield _percent(prefix), percent(value)


def kind_of(content_type: str) -> str:
    """Return how a body of this type is encoded: json, lines, form, multipart, text or binary.

    Empty: it cannot be encoded. `*/*` takes JSON.
    """
    plain = content_type.partition(";")[0].strip().lower()
    main, _, sub = plain.partition("/")
    if sub in ("x-ndjson", "ndjson", "jsonl", "x-jsonlines", "jsonlines"):
        return "lines"
    if plain in ("*/*", "application/*") or sub == "json" or sub.endswith("+json"):
        return "json"
    if plain == FORM:
        return "form"
    if plain == MULTIPART:
        return "multipart"
    if main == "text" or sub == "xml" or sub.endswith("+xml") or "yaml" in sub:
        return "text"
    if main in ("image", "audio", "video") or sub in ("octet-stream", "pdf", "zip", "gzip"):
        return "binary"
    return ""


def encode_body(body: Body, value: Any) -> tuple[str, bytes]:
    """Return (content type, content) of a body. Raises RequestError."""
    kind = kind_of(body.content_type)
    declared = "application/json" if "*" in body.content_type else body.content_type.strip()
    if isinstance(value, bytes):
        return declared, value
    if kind == "json":
        return declared, _json(value)
    if kind == "lines":
        lines = value if _is_list(value) else [value]
        return declared, b"".join(_json(line) + b"\n" for line in lines)
    if kind in ("text", "binary") and not isinstance(value, dict | list | tuple):
        return declared, text_of(value).encode("utf-8", "replace")
    if kind == "form" and isinstance(value, Mapping):
        return declared, _form(body, value).encode("ascii")
    if kind == "multipart" and isinstance(value, Mapping):
        return _multipart(body, value)
    raise RequestError(
        f"A body of type {declared} cannot be made of a {type(value).__name__}. Give an object "
        "for a form, a text for text, or the bytes."
    )


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError):
        raise RequestError(f"A {type(value).__name__} is not a JSON value. Give one.") from None


def _form(body: Body, value: Mapping[str, Any]) -> str:
    def percent(part: Any) -> str:
        return quote_plus(text_of(part).encode("utf-8", "replace"))

    pairs: list[Pair] = []
    for name, inner in value.items():
        if inner is None:
            continue
        hint = body.encoding.get(name, {})
        style = hint.get("style") or "form"
        explode = bool(hint.get("explode", style == "form"))
        if isinstance(inner, Mapping) and not {"style", "explode"} & hint.keys():
            pairs.append((percent(name), percent(inner)))
        else:
            pairs += query_pairs(name, inner, style, explode, percent)
    return "&".join(f"{k}={v}" for k, v in pairs)


def _quoted(text: str) -> str:
    """A name in a header of a part, as browsers write it."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _multipart(body: Body, value: Mapping[str, Any]) -> tuple[str, bytes]:
    parts = []
    for name, inner in value.items():
        if _NOT_IN_A_NAME.search(name):
            raise RequestError(
                f"A part of {MULTIPART} has a backslash or a control character in its name. "
                "Remove it."
            )
        for each in inner if _is_list(inner) else [inner]:
            if each is not None:
                parts.append(
                    _part(name, each, str(body.encoding.get(name, {}).get("contentType", "")))
                )
    # Of the content, so that the content cannot hold it and the same values give the same bytes.
    boundary = "ape-" + hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
    line = f"--{boundary}".encode()
    content = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"
    return f"{MULTIPART}; boundary={boundary}", content


def _part(name: str, value: Any, content_type: str) -> bytes:
    given = content_type.partition(",")[0].strip()
    file = File(value) if isinstance(value, bytes) else value
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if isinstance(file, File):
        kind = file.content_type if "*" in given or not given else given
        content = file.content
        if _NOT_IN_A_NAME.search(file.name):
            raise RequestError(
                f"The file of part {name} has a backslash or a control character in its name. "
                "Remove it."
            )
        head += f'; filename="{_quoted(file.name)}"'
    else:
        kind = given or ("application/json" if isinstance(file, dict) else "")
        content = text_of(file).encode("utf-8", "replace")
    if re.search(r"[\r\n]", kind):
        raise RequestError(f"The content type of part {name} has a line break. Correct it.")
    head += f"\r\nContent-Type: {kind}" if kind else ""
    return head.encode("utf-8", "replace") + b"\r\n\r\n" + content
