"""The data of a document: JSON or YAML 1.2. Pure: reads no file."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, NamedTuple

from ape_infra.config.openapi import yaml12
from ape_infra.config.openapi.errors import OpenApiError

MAX_BYTES = 64 * 1024 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Loaded(NamedTuple):
    """`duplicates`: keys that an object has twice; the last value counts."""

    content: Any
    duplicates: list[str]


def load(raw: bytes, *, is_json: bool = False) -> Loaded:
    """Return the data of a document; `is_json`: its name ends so. Raises OpenApiError."""
    if len(raw) > MAX_BYTES:
        raise OpenApiError(
            f"has {len(raw) >> 20} MiB, above the maximum of {MAX_BYTES >> 20} MiB. "
            "Cut it down to the operations under test."
        )
    text = _text(raw)
    start = text.lstrip()[:1]
    if not start:
        raise OpenApiError("is empty. Write an OpenAPI document, in JSON or YAML, into it.")
    if start == "<":
        raise OpenApiError(
            "is an HTML or XML page, not an OpenAPI document. Use the document that the page "
            "shows, such as applications serve at /openapi.json."
        )
    if start in "{[":
        try:
            return _json(text)
        except RecursionError:
            raise OpenApiError("is nested too deeply. Cut it down.") from None
        except json.JSONDecodeError as error:
            if is_json or re.match(r"\s*[{\[]\s*[\"{}\[\]]", text):
                raise OpenApiError(
                    f"line {error.lineno}: is neither JSON nor YAML ({error.msg}). "
                    "Correct the file there."
                ) from None
        except ValueError as error:
            raise OpenApiError(f"is not JSON ({error}). Correct it.") from None
    content, duplicates = yaml12.load(text)
    return Loaded(content, duplicates)


def _text(raw: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise OpenApiError(
            f"line {line}: is not UTF-8 text. Save the file in UTF-8, or correct it there."
        ) from None


def _json(text: str) -> Loaded:
    duplicates: list[str] = []

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            duplicates.extend(sorted({name for name in names if names.count(name) > 1}))
        return made

    # Not strict: control characters in a text do no harm.
    content = json.loads(
        text, object_pairs_hook=as_object, parse_constant=lambda _: None, strict=False
    )
    return Loaded(content, duplicates)
