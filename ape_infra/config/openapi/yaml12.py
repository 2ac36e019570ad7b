"""YAML 1.2 with the core schema, as OpenAPI requires it.

libyaml parses; PyYAML's own constructor would read YAML 1.1, in which `NO` is false and 12:30 is
a number of minutes. A key is the text as written. A number keeps its text, for a schema that wants
a text there: 01234, 1.10. Nothing recurses, and an alias is the same object again, so that neither
depth nor aliases cost anything.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ape_infra.config.openapi.errors import OpenApiError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_MAX_DIGITS = 300
_FIRST_OF_NUMBER = frozenset("+-.0123456789")


class WrittenInteger(int):
    """An integer, with the text that stands in the document."""

    text: str


class WrittenFloat(float):
    """A number, with the text that stands in the document."""

    text: str


def plain_scalar(text: str) -> Any:
    """Return the value of a scalar without quotes, by the core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in _FIRST_OF_NUMBER or len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        number = WrittenInteger(int(text, base))
        number.text = text
        return number
    if _FLOAT.fullmatch(text) and (value := float(text)) - value == 0:
        real = WrittenFloat(value)
        real.text = text
        return real
    return text


def load(text: str) -> tuple[Any, list[str]]:
    """Return (the document, the keys that a mapping has twice). Raises OpenApiError."""
    composer = _Composer()
    loader = None
    try:
        loader = _LOADER(text)
        while loader.check_event():
            composer.take(loader.get_event())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # At the end of the text the mark is one line below it.
        where = f"line {min(mark.line, text.count(chr(10))) + 1}: " if mark else ""
        why = getattr(error, "problem", None)
        why = f" ({why})" if why else ""
        raise OpenApiError(
            f"{where}is neither JSON nor YAML{why}. Correct the file there."
        ) from None
    finally:
        if loader is not None:
            loader.dispose()
    return composer.root, composer.duplicates


class _Composer:
    """Makes data of events. The innermost open collection is the last of `_open`."""

    def __init__(self) -> None:
        self.root: Any = None
        self.duplicates: list[str] = []
        self._documents = 0
        self._anchors: dict[str, Any] = {}
        # (collection, key that waits for its value); None: no key waits.
        self._open: list[list[Any]] = []

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._start(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._start(event, [])
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise OpenApiError(
                    f"{_line(event)}has no anchor &{event.anchor}. Correct it there."
                )
            self._add(self._anchors[event.anchor], event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise OpenApiError(
                    f"{_line(event)}has a second YAML document (---). Keep one in the file."
                )

    def _scalar(self, event: Any) -> None:
        collection = self._open[-1] if self._open else None
        if collection and isinstance(collection[0], dict) and collection[1] is None:
            if event.anchor:
                self._anchors[event.anchor] = event.value
            self._key(event)
            return
        tag = event.tag
        is_plain = event.implicit[0] and tag is None
        if is_plain or tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            value = plain_scalar(event.value)
        else:
            # Whatever a tag makes of it, such as !!binary: JSON has its text.
            value = event.value
        if event.anchor:
            self._anchors[event.anchor] = value
        self._add(value, event)

    def _key(self, event: Any) -> None:
        collection = self._open[-1]
        if event.value in collection[0] and event.value != "<<":
            self.duplicates.append(f"{_line(event)}{event.value}")
        collection[1] = event.value

    def _start(self, event: Any, collection: Any) -> None:
        if self._open and isinstance(self._open[-1][0], dict) and self._open[-1][1] is None:
            raise OpenApiError(f"{_line(event)}has a key that is not a text. Correct it there.")
        self._add(collection, event)
        if event.anchor:
            self._anchors[event.anchor] = collection
        self._open.append([collection, None])

    def _end(self, event: Any) -> None:
        collection, _ = self._open.pop()
        if isinstance(collection, dict) and "<<" in collection:
            _merge(collection)

    def _add(self, value: Any, event: Any) -> None:
        if not self._open:
            self.root = value
            return
        collection = self._open[-1]
        if isinstance(collection[0], list):
            collection[0].append(value)
        elif collection[1] is None:
            if not isinstance(value, str):
                raise OpenApiError(f"{_line(event)}has a key that is not a text. Correct it there.")
            collection[1] = value
        else:
            collection[0][collection[1]] = value
            collection[1] = None


def _merge(mapping: dict[str, Any]) -> None:
    """Merge keys are of YAML 1.1; documents have them anyway."""
    given = mapping["<<"]
    merged: dict[str, Any] = {}
    for other in given if isinstance(given, list) else [given]:
        if not isinstance(other, dict):
            return
        merged = {**other, **merged}
    own = {k: v for k, v in mapping.items() if k != "<<"}
    mapping.clear()
    mapping.update({**merged, **own})


def _line(event: Any) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}: " if mark else ""
