"""Path templates: requests that differ only in an id are of one operation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ape_infra.config.imports.model import VARIABLE, Request, decoded

# An id whatever other requests have: a number, a UUID, an id of MongoDB, a ULID.
_ID = re.compile(
    r"[0-9]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{24}"
    r"|[0-9A-HJKMNP-TV-Z]{26}"
)
# An id where requests differ in it: it has a digit, and is not a version.
_MAYBE = re.compile(r"(?!v[0-9]+(\.[0-9]+)*$)(?=[^0-9]*[0-9])[\w.~:@%+-]+", re.ASCII)
_PLACE = "{}"


class Templated(NamedTuple):
    """`values`: of the parameters of the path; one without a value is missing."""

    path: str
    values: dict[str, str]


def templated(requests: Sequence[Request]) -> list[Templated]:
    """Return path template and values of each request."""
    shapes = [_shape(request.path.split("/")) for request in requests]
    varying = _varying(
        (shape, request.path.split("/")) for shape, request in zip(shapes, requests, strict=True)
    )
    templates: dict[tuple[str, ...], list[str]] = {}
    found = []
    for request, shape in zip(requests, shapes, strict=True):
        segments = request.path.split("/")
        key = tuple(
            _PLACE if part == _PLACE or at in varying.get(shape, ()) else segment
            for at, (part, segment) in enumerate(zip(_fixed(segments), segments, strict=True))
        )
        names = templates.setdefault(key, _names(key, segments))
        found.append(_filled(key, names, segments, request))
    return found


def _fixed(segments: list[str]) -> list[str]:
    """The segments, with {} for those that are ids or variables."""
    return [_PLACE if VARIABLE.search(each) or _ID.fullmatch(each) else each for each in segments]


def _shape(segments: list[str]) -> tuple[str, ...]:
    """The segments, with {} also for those that may be ids."""
    return tuple(
        _PLACE if each == _PLACE or _MAYBE.fullmatch(each) else each for each in _fixed(segments)
    )


def _varying(
    paths: Iterable[tuple[tuple[str, ...], list[str]]],
) -> dict[tuple[str, ...], set[int]]:
    """Shape -> the places in which its paths differ."""
    seen: dict[tuple[str, ...], list[set[str]]] = {}
    for shape, segments in paths:
        places = seen.setdefault(shape, [set() for _ in segments])
        for values, segment in zip(places, segments, strict=True):
            values.add(segment)
    found: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for shape, places in seen.items():
        found[shape] = {
            at for at, values in enumerate(places) if shape[at] == _PLACE and len(values) > 1
        }
    return found


def _names(key: tuple[str, ...], segments: list[str]) -> list[str]:
    """A name for each {} of a path: that of its variable, or of the segment before it."""
    made: list[str] = []
    for at, part in enumerate(key):
        if part != _PLACE:
            continue
        mark = VARIABLE.search(segments[at])
        before = next((x for x in reversed(key[:at]) if x != _PLACE), "")
        word = re.sub(r"\W+", "_", decoded(before), flags=re.ASCII).strip("_")
        name = mark[1] if mark else f"{_singular(word)}_id".lstrip("_")
        number = 2
        while name in made:
            name = f"{name.rstrip('0123456789')}{number}"
            number += 1
        made.append(name)
    return made


def _singular(word: str) -> str:
    if word.lower().endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.lower().endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    is_plural = word.lower().endswith("s") and not word.lower().endswith(("ss", "us", "is"))
    return word[:-1] if is_plural and len(word) > 2 else word


def _filled(
    key: tuple[str, ...], names: list[str], segments: list[str], request: Request
) -> Templated:
    given = iter(names)
    parts, values = [], {}
    for part, segment in zip(key, segments, strict=True):
        if part != _PLACE:
            parts.append(part)
            continue
        name = next(given)
        parts.append(f"{{{name}}}")
        marks = VARIABLE.findall(segment)
        # A segment of text and variables has a value if all of them have.
        if all(mark in request.values for mark in marks):
            values[name] = decoded(VARIABLE.sub(lambda m: request.values[m[1]], segment))
    return Templated("/".join(parts), {k: v for k, v in values.items() if v})
