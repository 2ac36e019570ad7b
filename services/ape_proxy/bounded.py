"""JSON of callers, whose depth and number of values are known before it is parsed."""

from __future__ import annotations

import itertools
import json
import re
import sys
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_VALUES = 50_000
# Of a value in an object of its own, which is the most for its size in the text.
_VALUE_BYTES = 200
_STRING = re.compile(r'"[^"]*"')
_OPENING, _CLOSING = "[{", "]}"
_STEP = dict.fromkeys(_OPENING, 1) | dict.fromkeys(_CLOSING, -1)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]+")


class NotJson(ValueError):
    """The message states what is wrong."""


class TooComplex(ValueError):
    """The message states the limit."""


def _refused(_: str) -> NoReturn:
    raise NotJson("has NaN or Infinity.")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotJson("has a number that is too large.")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refused, parse_float=_finite)


def values_in(text: str) -> int:
    """The number of values of JSON at most. Raises TooComplex.

    Strings count as structure while there are few brackets and commas in all.
    """
    opened = sum(map(text.count, _OPENING))
    values = opened + text.count(",")
    if opened > MAX_DEPTH or values > MAX_VALUES:
        # Escapes first, so that each quotation mark that is left begins or ends a string.
        bare = _STRING.sub("", text.replace("\\\\", "").replace('\\"', ""))
        opened = sum(map(bare.count, _OPENING))
        values = opened + bare.count(",")
        if values > MAX_VALUES:
            raise TooComplex(f"has more than {MAX_VALUES} values.")
        if opened > MAX_DEPTH:
            steps = map(_STEP.__getitem__, _NOT_BRACKETS.sub("", bare))
            if max(itertools.accumulate(steps)) > MAX_DEPTH:
                raise TooComplex(f"is nested deeper than {MAX_DEPTH} levels.")
    return values + 1


def parsed_bytes(text: str, values: int) -> int:
    """The memory of the text as objects, at most: strings with one wide character are wide."""
    width = sys.getsizeof(text) // max(1, len(text))
    if "\\u" in text:
        width = 4 if "\\ud" in text or "\\uD" in text else max(width, 2)
    return len(text) * max(1, width) + values * _VALUE_BYTES


def decoded(raw: bytes) -> str:
    """Raises NotJson."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotJson("is not UTF-8.") from None


def loads(text: str) -> Any:
    """The value of a text that `values_in` has accepted. Raises NotJson."""
    try:
        return _DECODER.decode(text)
    except NotJson:
        raise
    except (ValueError, RecursionError):
        raise NotJson("is not JSON.") from None
