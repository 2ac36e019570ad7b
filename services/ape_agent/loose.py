"""JSON as models write it: strict JSON, and near misses that leave nothing to guess.

All work is bounded: the text is somebody else's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# Longer texts are not read as calls.
MAX_CHARS = 64 << 10
MAX_DEPTH = 32
# Of attempts to read an object that begins at a brace; those in Python are slower.
_STARTS, _LOOSE_STARTS, _LOOSE_CHARS = 64, 8, 16 << 10
_BLANKS = re.compile(r"[\s,]*")
_WORD = re.compile(r"[A-Za-z_]\w{0,63}")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,29})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?")
_STRINGS = {q: re.compile(rf"{q}((?:[^{q}\\]|\\.)*){q}", re.DOTALL) for q in "'\""}
_PYTHON_ESCAPE = re.compile(r"\\.|\"", re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "null": None}
_CONSTANTS |= {"True": True, "False": False, "None": None}


class NotJson(Exception):
    """The message names the problem and its position."""


class Found(NamedTuple):
    """An object in a text, from `start` to `end`. `strict`: whether it is JSON as it stands."""

    value: dict[str, Any]
    start: int
    end: int
    strict: bool


def _reject(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(parse_constant=_reject)


def loads(text: str) -> Any:
    """The value of a strict JSON text. Raises NotJson."""
    try:
        return _decoder.decode(text)
    except ValueError as problem:
        raise NotJson(str(problem)) from None
    except RecursionError:
        raise NotJson("nested too deeply") from None


def dumps(value: Any) -> str:
    """The JSON text of a value. Raises NotJson if it is nested too deeply, or holds an infinity."""
    if not within(value, MAX_DEPTH):
        raise NotJson("nested too deeply")
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        raise NotJson("a number is too large") from None


def within(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested at most `depth` deep."""
    if isinstance(value, dict):
        return depth > 0 and all(within(inner, depth - 1) for inner in value.values())
    if isinstance(value, list):
        return depth > 0 and all(within(inner, depth - 1) for inner in value)
    return True


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which strict servers reject."""
    return text.encode("utf-8", "replace").decode()


def cleaned(value: Any) -> Any:
    """The value with each of its texts clean; its depth must be bounded."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): cleaned(item) for key, item in value.items()}
    return value


def objects(text: str) -> Iterator[Found]:
    """The objects in a text, in order; those in a broken one count too."""
    text = text[:MAX_CHARS]
    at, loose_starts = text.find("{"), 0
    for _ in range(_STARTS):
        if at < 0:
            return
        end, strict = at + 1, True
        try:
            value, end = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value, strict = None, False
            if len(text) - at <= _LOOSE_CHARS and loose_starts < _LOOSE_STARTS:
                loose_starts += 1
                reader = Reader(text, at)
                try:
                    value = reader.value()
                    end = reader.at
                except NotJson:
                    end = at + 1
        if isinstance(value, dict):
            yield Found(value, at, end, strict)
        at = text.find("{", end)


class Reader:
    """Reads values as Python or JavaScript would write them, from position `at`."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at

    def value(self, depth: int = MAX_DEPTH) -> Any:
        """Raises NotJson."""
        if depth <= 0:
            raise NotJson("nested too deeply")
        first = self.text[self.at : self.at + 1]
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._list(depth)
        if first in _STRINGS:
            return self._string(first)
        if number := self._take(_NUMBER):
            return json.loads(number)
        word = self._take(_WORD)
        if word not in _CONSTANTS:
            raise NotJson(f"a value is missing at character {self.at}")
        return _CONSTANTS[word]

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, up to its closing parenthesis. Raises NotJson."""
        given: list[Any] = []
        named: dict[str, Any] = {}
        for _ in range(16):
            self._take(_BLANKS)
            if self.text.startswith(")", self.at):
                return given, named
            before = self.at
            name = self._take(_WORD)
            self._take(_BLANKS)
            if name and self.text.startswith("=", self.at):
                self.at += 1
                self._take(_BLANKS)
                named[name] = self.value()
            else:
                self.at = before
                given.append(self.value())
        raise NotJson("the call has too many arguments")

    def _object(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        self.at += 1
        while True:
            self._take(_BLANKS)
            first = self.text[self.at : self.at + 1]
            if first == "}":
                self.at += 1
                return made
            key = self._string(first) if first in _STRINGS else self._take(_WORD)
            self._take(_BLANKS)
            if not key or not self.text.startswith(":", self.at):
                raise NotJson(f"a key is missing at character {self.at}")
            self.at += 1
            self._take(_BLANKS)
            made[key] = self.value(depth - 1)

    def _list(self, depth: int) -> list[Any]:
        made: list[Any] = []
        self.at += 1
        while True:
            self._take(_BLANKS)
            if self.text.startswith("]", self.at):
                self.at += 1
                return made
            made.append(self.value(depth - 1))

    def _string(self, quote: str) -> str:
        found = _STRINGS[quote].match(self.text, self.at)
        if found is None:
            raise NotJson(f"a text is not closed at character {self.at}")
        self.at = found.end()
        # As a JSON text: an escaped apostrophe becomes plain, a plain quotation mark escaped.
        escapes = {"\\'": "'", '"': '\\"'}
        inner = _PYTHON_ESCAPE.sub(lambda m: escapes.get(m[0], m[0]), found[1])
        try:
            made: str = json.loads(f'"{inner}"', strict=False)
        except ValueError:
            raise NotJson(f"a text has a wrong escape before character {self.at}") from None
        return made

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]
