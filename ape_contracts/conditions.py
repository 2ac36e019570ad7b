"""Success conditions: the target's answers that make a session successful, as plain data.

    {"method": "POST", "path": "/orders", "status": 201, "value_path": "order.state",
     "equals": "paid"}

An answer to `method` `path` (a template) with `status` counts if its body meets each of its
conditions. A condition on the body is one of

    {"value_path": P}                the body has a value, not null, at P
    {"value_path": P, "equals": V}   and it is V
    {"value_path": P, "matches": R}  and the regular expression R is found in it
    {"text": T}                      the body contains the text T

One of them stands beside method, path and status; the list `checks` has more. The list `also` has
further answers of the same form; all must have come, in any order. `json_path`, the former name of
`value_path`, is accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ape_contracts import paths

_PART = re.compile(r"\.?([^.\[\]'\"]+)|\[(\d+|\*)\]|\['([^']+)'\]")
_PATH_KEYS = ("value_path", "json_path")


class ConditionError(Exception):
    """A condition breaks a rule; the message names the key and the rule."""


@dataclass(frozen=True)
class BodyCondition:
    """`value_path`: see `values`; `equals`, `matches`: for the values that it finds."""

    value_path: str | None = None
    equals: Any = None
    matches: str | None = None
    text: str | None = None

    def holds(self, body: Any) -> bool:
        if self.text is not None:
            return self.text in _text(body)
        assert self.value_path is not None
        found = [v for v in values(body, self.value_path) if v is not None]
        if self.equals is not None:
            return any(_same(value, self.equals) for value in found)
        if self.matches is not None:
            return any(re.search(self.matches, _text(value)) for value in found)
        return bool(found)


@dataclass(frozen=True)
class Condition:
    """An answer that must have come, and the conditions on its body."""

    method: str
    path: str
    status: int
    body: tuple[BodyCondition, ...] = ()

    def holds(self, method: str, path: str, status: int, body: Any) -> bool:
        return (
            method == self.method
            and status == self.status
            and paths.matches(self.path, path)
            and all(condition.holds(body) for condition in self.body)
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _same(a: Any, b: Any) -> bool:
    # In Python True is 1; in JSON it is not.
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _parts(value_path: str) -> list[str] | None:
    """The names, indices and * of a path such as orders[0].id; None if it is malformed."""
    rest, parts = value_path.removeprefix("$"), []
    while rest:
        match = _PART.match(rest)
        if match is None:
            return None
        parts.append(match[1] or match[2] or match[3])
        rest = rest[match.end() :]
    return parts


def values(body: Any, value_path: str) -> list[Any]:
    """Every value at names and indices such as orders.0.id, orders[0].id or orders[*].id."""
    found = [body]
    for part in _parts(value_path) or []:
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
    """Broken rules of a success condition with correct types, as (path, sentence)."""
    found = list(_body_problems(raw, "", required=False))
    for i, condition in enumerate(raw.get("checks") or []):
        found += _body_problems(condition, f"checks[{i}]", required=True)
    for i, answer in enumerate(raw.get("also") or []):
        found += [(f"also[{i}].{at}".rstrip("."), why) for at, why in problems(answer)]
    return found


def _body_problems(raw: dict[str, Any], at: str, *, required: bool) -> Iterator[tuple[str, str]]:
    given = {key for key in (*_PATH_KEYS, "equals", "matches", "text") if raw.get(key) is not None}
    paths_given = given & set(_PATH_KEYS)
    prefix = f"{at}." if at else ""
    if required and not paths_given and "text" not in given:
        yield at, "has no condition. Add `value_path` or `text`."
    if len(paths_given) > 1:
        yield at, "has `value_path` and its former name `json_path`. Remove `json_path`."
    if paths_given and "text" in given:
        yield at, "has `value_path` and `text`. Write them as two entries of `checks`."
    if given >= {"equals", "matches"}:
        yield at, "has `equals` and `matches`. Write them as two entries of `checks`."
    for key in ("equals", "matches"):
        if key in given and not paths_given:
            yield prefix + key, "has no `value_path`. Add the path of the value that it is for."
    for key in sorted(paths_given):
        if not _parts(raw[key]):
            rule = "is not a value path. Write names and indices such as orders[0].id."
            yield prefix + key, f'"{raw[key]}" {rule}'
    if "matches" in given:
        try:
            re.compile(raw["matches"])
        except re.error as error:
            yield prefix + "matches", f"is not a regular expression ({error}). Correct it."


def parse(raw: Any) -> tuple[Condition, ...]:
    """The conditions of a success condition; all must hold. Raises ConditionError."""
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
    return Condition(method, path, status, tuple(_body_conditions(raw)))


def _body_conditions(raw: dict[str, Any]) -> Iterator[BodyCondition]:
    for each in (raw, *(raw.get("checks") or [])):
        value_path = next((each[key] for key in _PATH_KEYS if each.get(key) is not None), None)
        texts = (value_path, each.get("matches"), each.get("text"))
        if not all(text is None or isinstance(text, str) for text in texts):
            raise TypeError
        if value_path is not None or each.get("text") is not None:
            yield BodyCondition(
                value_path, each.get("equals"), each.get("matches"), each.get("text")
            )
