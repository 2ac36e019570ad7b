"""Bodies of requests to a target that are not JSON: forms, multipart with files, texts.

A caller's few bytes may stand for many, so the size of a body is known before the body is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from ape_contracts.gateway_config import shown
from ape_contracts.operation_request import File, RequestError, encode_body, kind_of
from ape_contracts.operations import STYLES, Body
from ape_gateway.errors import WireError
from ape_gateway.uploads import FILE, UploadSource, is_file

# JSON that is parsed, into objects of many times its size; a single text is not.
MAX_SOURCE_BYTES = 256 << 10
# Of the bodies that one HTTP request to the gateway stands for.
MAX_ENCODED_BYTES = 2 << 20
# Encoding them takes some 20 ms, in which the gateway does nothing else.
MAX_VALUES = 4096
_MAX_ENCODING_BYTES, _MAX_DEPTH = 16 << 10, 32
_MAX_TYPE_CHARS = 256
# What a part of a multipart body takes beside its name and content, and a value its least.
_PART_BYTES, _VALUE_BYTES = 160, 16
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# No comma: some servers end the type there.
_TYPE = re.compile(
    rf'{_TOKEN}/{_TOKEN}(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"[^"\\\x00-\x1f\x7f-\U0010ffff]*"))*\s*;?'
)
_CHARSET = re.compile(r'(?i);\s*charset="?([^";]*)')
_any = msgspec.json.Decoder()
_fields = msgspec.json.Decoder(dict[str, dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a payload becomes a body. `kind`: see `operation_request.kind_of`; `key`: of errors."""

    content_type: str
    kind: str
    fields: dict[str, dict[str, Any]]
    key: str


@lru_cache(maxsize=256)
def checked_type(content_type: str) -> tuple[str, str]:
    """(type, kind of body). Raises WireError."""
    given = content_type.strip()
    if len(given) > _MAX_TYPE_CHARS or not _TYPE.fullmatch(given):
        raise WireError(
            "content_type: is not a content type. Send one such as application/json or text/csv."
        )
    charset = _CHARSET.search(given)
    if charset and charset[1].strip().lower() not in ("utf-8", "utf8"):
        raise WireError("content_type: has a charset that is not UTF-8. Leave it out.")
    kind = kind_of(given)
    if kind != "multipart" and given.lower().startswith("multipart/"):
        raise WireError("content_type: the only multipart type that is sent is form-data.")
    return ("application/json" if given.partition(";")[0].endswith("*") else given), kind


def encoding_of(
    content_type: str, raw: msgspec.Raw | bytes, payload: bytes, key: str
) -> Encoding | None:
    """How `payload` becomes a body of a checked type; None: it is sent as it is.

    `raw`: the wire's `encoding`. Raises WireError.
    """
    content_type, kind = checked_type(content_type)
    fields = _fields_of(raw) if raw else {}
    # A type that is not known has its text, or JSON.
    if kind == "json" or not (kind or payload.startswith(b'"')):
        return None
    most = MAX_ENCODED_BYTES if payload.startswith(b'"') else MAX_SOURCE_BYTES
    if len(payload) > most:
        raise WireError(f"{key}: is larger than {most >> 10} KiB, which {content_type} may have.")
    return Encoding(content_type, kind, fields, key)


def _fields_of(raw: msgspec.Raw | bytes) -> dict[str, dict[str, Any]]:
    if bytes(raw).strip() == b"null":
        return {}
    if len(raw) > _MAX_ENCODING_BYTES:
        raise WireError(f"encoding: is larger than {_MAX_ENCODING_BYTES >> 10} KiB. Send less.")
    try:
        fields = _fields.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WireError(
            "encoding: must be an object of objects, by the names of fields, with contentType, "
            "style and explode."
        ) from None
    for name, hint in fields.items():
        where = f"encoding.{shown(name)}"
        kind = hint.get("contentType")
        if kind is not None and not (
            isinstance(kind, str)
            and len(kind) <= _MAX_TYPE_CHARS
            and all(_TYPE.fullmatch(one.strip()) for one in kind.split(","))
        ):
            raise WireError(f"{where}.contentType: is not a content type. Correct it.")
        if hint.get("style") not in (None, *STYLES["query"]):
            raise WireError(f"{where}.style: must be one of {', '.join(STYLES['query'])}.")
        if not isinstance(hint.get("explode", True), bool):
            raise WireError(f"{where}.explode: must be true or false.")
    return {name: {k: v for k, v in hint.items() if v is not None} for name, hint in fields.items()}


def size_of(encoding: Encoding, payload: bytes, source: UploadSource) -> int:
    """About how many bytes the body will have. Raises WireError if it is too large."""
    value = _decoded(encoding, payload)
    total = 0
    for number, bytes_of_one in enumerate(_sizes(encoding, value, source)):
        total += bytes_of_one
        if number >= MAX_VALUES:
            raise WireError(f"{encoding.key}: has more than {MAX_VALUES} values. Send fewer.")
        if total > MAX_ENCODED_BYTES:
            raise WireError(
                f"{encoding.key}: makes a body of more than {MAX_ENCODED_BYTES >> 10} KiB as "
                f"{encoding.content_type}. Send less."
            )
    return total


def _sizes(encoding: Encoding, value: Any, source: UploadSource) -> Iterator[int]:
    key = encoding.key
    if encoding.kind not in ("form", "multipart") or not isinstance(value, dict):
        if encoding.kind in ("text", "binary") and is_file(value):
            yield source.size(value[FILE], key)
        else:
            yield from _leaves(value, 0, key)
        return
    for name, inner in value.items():
        hint = encoding.fields.get(name, {})
        overhead = _width(name) + len(hint.get("contentType", "")) + _VALUE_BYTES
        for each in inner if isinstance(inner, list) else (inner,):
            if is_file(each):
                yield overhead + _PART_BYTES + source.size(each[FILE], f"{key}.{shown(name)}")
            elif encoding.kind == "multipart":
                yield overhead + _PART_BYTES
                yield from _leaves(each, 0, f"{key}.{shown(name)}")
            else:
                # Each byte may take three.
                for leaf in _leaves(each, overhead, f"{key}.{shown(name)}"):
                    yield 3 * leaf


def _leaves(value: Any, prefix: int, key: str, depth: int = 0) -> Iterator[int]:
    """The size of each value in `value`, with the names that lead to it."""
    if depth > _MAX_DEPTH:
        raise WireError(f"{key}: is nested more than {_MAX_DEPTH} deep. Send less.")
    if isinstance(value, dict):
        yield prefix + 2
        for name, inner in value.items():
            yield from _leaves(inner, prefix + _width(name) + 3, key, depth + 1)
    elif isinstance(value, list):
        yield prefix + 2
        for inner in value:
            yield from _leaves(inner, prefix, key, depth + 1)
    elif isinstance(value, str):
        yield prefix + _width(value) + 3
    else:
        digits = value.bit_length() // 3 if isinstance(value, int) else 0
        yield prefix + _VALUE_BYTES + digits


def _width(text: str) -> int:
    """At most so many bytes of UTF-8."""
    return len(text) if text.isascii() else 4 * len(text)


def encoded(
    encoding: Encoding, payload: bytes, source: UploadSource, most: int = MAX_ENCODED_BYTES
) -> tuple[str, bytes]:
    """(content type, body), of at most `most` bytes. Raises WireError."""
    value = _decoded(encoding, payload)
    if encoding.kind in ("form", "multipart") and isinstance(value, dict):
        value = {
            name: [_resolved(name, each, encoding, source) for each in inner]
            if isinstance(inner, list)
            else _resolved(name, inner, encoding, source)
            for name, inner in value.items()
        }
    elif encoding.kind in ("text", "binary") and is_file(value):
        value = source.made(value[FILE], _plain(encoding.content_type)).content
    elif isinstance(value, str) and encoding.kind in ("form", ""):
        # Already encoded by the caller.
        value = value.encode("utf-8", "replace")
    try:
        content_type, body = encode_body(
            Body(content_type=encoding.content_type, encoding=encoding.fields), value
        )
    except RequestError as problem:
        raise WireError(f"{encoding.key}: {problem}") from None
    if len(body) > most:
        raise WireError(
            f"{encoding.key}: makes a body of more than {most >> 10} KiB as "
            f"{encoding.content_type}. Send less."
        )
    return content_type, body


def _plain(content_type: str) -> str:
    """The first type of a list, without parameters; empty for a range such as image/*."""
    first = content_type.partition(",")[0].partition(";")[0].strip().lower()
    return "" if "*" in first else first


def _resolved(name: str, value: Any, encoding: Encoding, source: UploadSource) -> Any:
    if not is_file(value):
        return value
    wanted = _plain(encoding.fields.get(name, {}).get("contentType", ""))
    file: File = source.made(value[FILE], wanted)
    # A form has no place for content: browsers send the name.
    return file if encoding.kind == "multipart" else file.name


def _decoded(encoding: Encoding, payload: bytes) -> Any:
    try:
        return _any.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WireError(f"{encoding.key}: holds a number or a text that cannot be sent.") from None
