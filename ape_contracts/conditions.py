"""When a session has reached its goal: conditions on what came back, as plain data.

    {"method": "POST", "path": "/orders", "status": 201, "json_path": "order.state",
     "equals": "paid"}

An answer to `method` `path` (a template) with `status` counts when every check of it holds. A
check is one of

    {"json_path": P}                 the body has a value, not null, at P
    {"json_path": P, "equals": V}    and it is V
    {"json_path": P, "matches": R}   and the regular expression R is found in it
    {"text": T}                      the body contains the text T

One stands beside method, path and status; more of them in the list `checks`. The list `also` names
further answers of the same form; all must have come, in any order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ape_contracts import paths

_PART = re.compile(r"\.?([^.\[\]'\"]+)|\[(\d+|\*)\]|\['([^']+)'\]")
_KEYS = ("json_path", "equals", "matches", "text")


class ConditionError(Exception):
    """A condition breaks a rule; says which, and where."""


@dataclass(frozen=True)
class Check:
    json_path: str | None = None
    equals: Any = None
    matches: str | None = None
    text: str | None = None

    def holds(self, body: Any) -> bool:
        if self.text is not None:
            return self.text in _text(body)
        assert self.json_path is not None
        found = [v for v in values(body, self.json_path) if v is not None]
        if self.equals is not None:
            return any(_same(value, self.equals) for value in found)
        if self.matches is not None:
            return any(re.search(self.matches, _text(value)) for value in found)
        return bool(found)


@dataclass(frozen=True)
class Condition:
    """An answer that must have come."""

    method: str
    path: str
    status: int
    checks: tuple[Check, ...] = ()

    def holds(self, method: str, path: str, status: int, body: Any) -> bool:
        return (
            method == self.method
            and status == self.status
            and paths.matches(self.path, path)
            and all(check.holds(body) for check in self.checks)
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _same(a: Any, b: Any) -> bool:
    # In Python True is 1; in JSON it is not.
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _parts(json_path: str) -> list[str] | None:
    """The names, indices and * of a path such as orders[0].id; None where it is none."""
    rest, parts = json_path.removeprefix("$"), []
    while rest:
        match = _PART.match(rest)
        if match is None:
            return None
        parts.append(match[1] or match[2] or match[3])
        rest = rest[match.end() :]
    return parts


def values(body: Any, json_path: str) -> list[Any]:
    """Every value at names and indices such as orders.0.id, orders[0].id or orders[*].id."""
    found = [body]
    for part in _parts(json_path) or []:
        found = [inner for value in found for inner in _step(value, part)]
    return found


def _step(value: Any, part: str) -> Iterator[Any]:
    if isinstance(value, dict):
        if part in value:
            yield value[part]
        elif part == "*":
            yield from value.values()
    elif isinstance(value, list):
        if part == "*":
            yield from value
        elif part.isdecimal() and int(part) < len(value):
            yield value[int(part)]


def problems(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """Broken rules of a success, its types taken for right, as (path, sentence)."""
    found = list(_check_problems(raw, "", needed=False))
    for i, check in enumerate(raw.get("checks") or []):
        found += _check_problems(check, f"checks[{i}]", needed=True)
    for i, answer in enumerate(raw.get("also") or []):
        found += [(f"also[{i}].{at}".rstrip("."), why) for at, why in problems(answer)]
    return found


def _check_problems(raw: dict[str, Any], at: str, *, needed: bool) -> Iterator[tuple[str, str]]:
    given = {key for key in _KEYS if raw.get(key) is not None}
    prefix = f"{at}." if at else ""
    if needed and not given & {"json_path", "text"}:
        yield at, "checks nothing. Give it a json_path or a text."
    if given >= {"json_path", "text"}:
        yield at, "has json_path and text. Make it two entries of checks."
    if given >= {"equals", "matches"}:
        yield at, "has equals and matches. Make it two entries of checks."
    for key in ("equals", "matches"):
        if key in given and "json_path" not in given:
            yield prefix + key, "has no json_path beside it. Say which value it is about."
    if "json_path" in given and not _parts(raw["json_path"]):
        yield (
            prefix + "json_path",
            f'is "{raw["json_path"]}", no path. Write names and indices such as orders[0].id.',
        )
    if "matches" in given:
        try:
            re.compile(raw["matches"])
        except re.error as error:
            yield prefix + "matches", f"is no regular expression ({error}). Correct it."


def parse(raw: Any) -> tuple[Condition, ...]:
    """The conditions of a success; all must hold. Raises ConditionError."""
    try:
        if broken := problems(raw):
            raise ConditionError("; ".join(f"{at or 'success'}: {why}" for at, why in broken))
        return tuple(_condition(part) for part in (raw, *(raw.get("also") or [])))
    except (KeyError, TypeError, AttributeError):
        raise ConditionError("must be {method, path, status, ...}.") from None


def _condition(raw: dict[str, Any]) -> Condition:
    method, path, status = raw["method"].upper(), raw["path"], raw["status"]
    if not isinstance(path, str) or not isinstance(status, int):
        raise TypeError
    checks = [raw, *(raw.get("checks") or [])]
    return Condition(
        method,
        path,
        status,
        tuple(
            Check(*(check.get(key) for key in _KEYS))
            for check in checks
            if check.get("json_path") is not None or check.get("text") is not None
        ),
    )
