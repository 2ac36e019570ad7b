"""The document of a run: all that `ape-load run` posts to the gateway, as JSON.

Strict and bounded: it comes through the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ape_contracts import conditions
from ape_contracts.load_shape import Stage, total_area, total_seconds

MAX_BYTES = 4 << 20
# Parsed, a value takes many times the byte that it may have in JSON.
_MAX_VALUES = 1_500_000
RUN_ID, SCENARIO_NAME, COLUMN = r"[A-Za-z0-9._-]{1,64}", r"[a-z0-9_-]{1,40}", r"[A-Za-z0-9_]{1,64}"
MAX_STAGES, MAX_SCENARIOS, MAX_OPERATIONS = 200, 50, 500
MAX_ARRIVALS = 5_000_000
MAX_ROWS, MAX_COLUMNS, MAX_VALUE_CHARS = 100_000, 100, 4000
_MAX_SECONDS, _MAX_TARGET, _MAX_TEXT = 30 * 86_400.0, 100_000.0, 20_000
EXECUTORS, ARRIVALS = ("closed", "open"), ("constant", "poisson")
MODES, USED_UP = ("unique", "shared", "random"), ("stop", "reuse")
_METHOD = r"[A-Z]{1,20}"


class RunDocumentError(Exception):
    """The message has the path of what is wrong, the rule and the remedy."""


@dataclass(frozen=True)
class Scenario:
    """`plain`: as an agent gets it."""

    name: str
    weight: float
    plain: Mapping[str, Any]


@dataclass(frozen=True)
class Users:
    """`secret`: the columns whose values nobody is shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    secret: tuple[str, ...]
    mode: str
    when_used_up: str

    def row(self, number: int) -> dict[str, str]:
        return dict(zip(self.columns, self.rows[number], strict=True))

    def secrets(self) -> frozenset[str]:
        """All values of the secret columns."""
        of = [at for at, column in enumerate(self.columns) if column in self.secret]
        return frozenset(row[at] for row in self.rows for at in of if row[at])


@dataclass(frozen=True)
class RunDocument:
    """`elapsed_seconds`, `next_session`: of a run that continues after a restart of the gateway."""

    id: str
    executor: str
    arrivals: str
    stages: tuple[Stage, ...]
    scenarios: tuple[Scenario, ...]
    users: Users | None
    seed: str | None
    max_late_seconds: float
    warm_up_seconds: float
    ramp_down_seconds: float
    graceful_stop_seconds: float
    drain_seconds: float
    lease_seconds: float
    transcripts: int
    elapsed_seconds: float
    next_session: int

    @property
    def is_open(self) -> bool:
        return self.executor == "open"

    @property
    def seconds(self) -> float:
        return total_seconds(self.stages)


def parse(text: bytes | str) -> RunDocument:
    """Raises RunDocumentError."""
    if len(text) > MAX_BYTES:
        raise RunDocumentError(f"The run has more than {MAX_BYTES >> 20} MiB. Shorten its users.")
    comma, bracket, brace = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if text.count(comma) + text.count(bracket) + text.count(brace) > _MAX_VALUES:  # type: ignore[arg-type]
        raise RunDocumentError(f"The run has more than {_MAX_VALUES} values. Shorten its users.")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise RunDocumentError("The run is not JSON.") from None
    return of(raw)


def of(raw: Any) -> RunDocument:
    """The document of JSON data. Raises RunDocumentError."""
    top = _Object(raw, "")
    executor = top.choice("executor", EXECUTORS)
    stages = tuple(_stages(top.items("stages", MAX_STAGES)))
    if executor == "open" and total_area(stages) > MAX_ARRIVALS:
        raise RunDocumentError(
            f"stages: start more than {MAX_ARRIVALS} sessions. Lower the rates, or shorten them."
        )
    if total_area(stages) <= 0:
        raise RunDocumentError("stages: are 0 all the time. Set a target above 0.")
    made = RunDocument(
        id=top.text("id", RUN_ID),
        executor=executor,
        arrivals=top.choice("arrivals", ARRIVALS, "constant"),
        stages=stages,
        scenarios=tuple(_scenarios(top.items("scenarios", MAX_SCENARIOS))),
        users=_users(top),
        seed=top.optional_text("seed", 200),
        max_late_seconds=top.number("max_late_seconds", 1.0),
        warm_up_seconds=top.number("warm_up_seconds", 0.0),
        ramp_down_seconds=top.number("ramp_down_seconds", 0.0),
        graceful_stop_seconds=top.number("graceful_stop_seconds", 30.0),
        drain_seconds=top.number("drain_seconds", 30.0),
        lease_seconds=top.number("lease_seconds", 60.0, least=1.0),
        transcripts=top.whole("transcripts", 3, 1000),
        elapsed_seconds=top.number("elapsed_seconds", 0.0),
        next_session=top.whole("next_session", 0, 10**9),
    )
    top.end()
    if made.warm_up_seconds + made.ramp_down_seconds >= made.seconds:
        raise RunDocumentError(
            "warm_up_seconds, ramp_down_seconds: leave nothing of the stages. Shorten them."
        )
    return made


def _stages(items: list[_Object]) -> Iterator[Stage]:
    for item in items:
        yield Stage(
            item.number("seconds", least=0.001),
            item.number("start", most=_MAX_TARGET),
            item.number("end", most=_MAX_TARGET),
        )
        item.end()


def _scenarios(items: list[_Object]) -> Iterator[Scenario]:
    names = set[str]()
    for item in items:
        name = item.text("name", SCENARIO_NAME)
        if name in names:
            raise item.wrong("name", "is the name of two scenarios. Rename one.")
        names.add(name)
        weight = item.number("weight", 1.0, least=1e-6, most=1e6)
        success = item.take("success")
        if success is not None:
            try:
                conditions.parse(success)
            except conditions.ConditionError as error:
                raise item.wrong("success", f"{error} Correct it.") from None
        plain = {
            "name": name,
            "weight": weight,
            "goal": item.optional_text("goal", _MAX_TEXT),
            "persona": item.optional_text("persona", _MAX_TEXT),
            "success": success,
            "operations": _operations(item),
            "think_time_seconds": item.optional_number("think_time_seconds", 0.0),
            "session_max_steps": item.optional_whole("session_max_steps", 1, 10_000),
            "session_max_seconds": item.optional_number("session_max_seconds", 1.0),
        }
        item.end()
        yield Scenario(name, weight, plain)


def _operations(item: _Object) -> list[list[str]] | None:
    given = item.take("operations")
    if given is None:
        return None
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_OPERATIONS:
        raise item.wrong("operations", f"must be a list of 1 to {MAX_OPERATIONS}.")
    for each in given:
        if (
            not isinstance(each, list)
            or len(each) != 2
            or not all(isinstance(part, str) and len(part) <= 2000 for part in each)
            or not re.fullmatch(_METHOD, each[0])
            or not each[1].startswith("/")
        ):
            raise item.wrong("operations", "each must be [METHOD, PATH]. Correct it.")
    return given


def _users(top: _Object) -> Users | None:
    raw = top.take("users")
    if raw is None:
        return None
    given = _Object(raw, "users")
    columns, rows, secret = (given.take(key, []) for key in ("columns", "rows", "secret"))
    if (
        not isinstance(columns, list)
        or not 1 <= len(columns) <= MAX_COLUMNS
        or not all(isinstance(each, str) and re.fullmatch(COLUMN, each) for each in columns)
        or len(set(columns)) < len(columns)
    ):
        raise given.wrong(
            "columns",
            f"must be 1 to {MAX_COLUMNS} different names of letters, digits and _. Correct them.",
        )
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        raise given.wrong("rows", f"must be a list of 1 to {MAX_ROWS} rows.")
    for at, row in enumerate(rows):
        if (
            not isinstance(row, list)
            or len(row) != len(columns)
            or not all(isinstance(value, str) and len(value) <= MAX_VALUE_CHARS for value in row)
        ):
            # Without a value of it.
            raise given.wrong(
                f"rows[{at}]",
                f"must be a text of at most {MAX_VALUE_CHARS} characters for each column.",
            )
    if not isinstance(secret, list) or not all(each in columns for each in secret):
        raise given.wrong("secret", "must be a list of columns. Correct it.")
    made = Users(
        tuple(columns),
        tuple(map(tuple, rows)),
        tuple(secret),
        given.choice("mode", MODES),
        given.choice("when_used_up", USED_UP, "stop"),
    )
    given.end()
    return made


class _Object:
    """A JSON object at `path` whose keys are taken one by one; `end`: none may be left."""

    def __init__(self, raw: Any, path: str) -> None:
        if not isinstance(raw, dict):
            raise RunDocumentError(f"{path or 'The run'}: must be a JSON object.")
        self._left, self._path = dict(raw), path

    def wrong(self, key: str, why: str) -> RunDocumentError:
        return RunDocumentError(f"{self._path}{'.' if self._path else ''}{key}: {why}")

    def take(self, key: str, default: Any = None) -> Any:
        found = self._left.pop(key, None)
        return default if found is None else found

    def end(self) -> None:
        for key in self._left:
            raise self.wrong(key[:64], "is not a key of this object. Remove or correct it.")

    def items(self, key: str, most: int) -> list[_Object]:
        given = self.take(key)
        if not isinstance(given, list) or not 1 <= len(given) <= most:
            raise self.wrong(key, f"must be a list of 1 to {most}.")
        at = f"{self._path}.{key}" if self._path else key
        return [_Object(each, f"{at}[{n}]") for n, each in enumerate(given)]

    def text(self, key: str, pattern: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.wrong(key, f"must be a text of the form {pattern}. Correct it.")
        return value

    def optional_text(self, key: str, most: int) -> str | None:
        value = self.take(key)
        if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= most):
            raise self.wrong(key, f"must be a text of 1 to {most} characters, or null.")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str = "") -> str:
        value = self.take(key, default)
        if value not in allowed:
            raise self.wrong(key, f"must be one of {', '.join(allowed)}. Correct it.")
        return str(value)

    def number(
        self,
        key: str,
        default: float | None = None,
        *,
        least: float = 0.0,
        most: float = _MAX_SECONDS,
    ) -> float:
        value = self.take(key, default)
        if type(value) not in (int, float) or not least <= value <= most:
            raise self.wrong(key, f"must be a number from {least:g} to {most:g}. Correct it.")
        return float(value)

    def optional_number(self, key: str, least: float) -> float | None:
        return None if self._left.get(key) is None else self.number(key, least=least)

    def whole(self, key: str, default: int | None, most: int, least: int = 0) -> int:
        value = self.take(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}. Correct it.")
        return int(value)

    def optional_whole(self, key: str, least: int, most: int) -> int | None:
        return None if self._left.get(key) is None else self.whole(key, None, most, least)
