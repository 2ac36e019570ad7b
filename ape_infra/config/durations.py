"""Durations as settings have them: 500ms, 30s, 10m, 1h30m."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_NUMBER = r"(\d{1,9}(?:\.\d{1,3})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?")
_SECONDS = (3600.0, 60.0, 1.0, 0.001)
MAX_SECONDS = 30 * 24 * 3600.0
RULE = "a duration is a number with h, m, s or ms, or several of them; write it as in 30s or 1h30m"


class DurationError(Exception):
    """A text is not a duration; the message has the rule and the remedy."""


def seconds(text: str) -> float:
    """Return the seconds of a duration. Raises DurationError."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise DurationError(RULE)
    parts = zip(_SECONDS, found.groups(), strict=True)
    total = round(sum(unit * float(part) for unit, part in parts if part), 3)
    if total > MAX_SECONDS:
        raise DurationError("a duration is at most 720h; set a shorter one")
    return total


def words(total: float) -> str:
    """Return the duration of that many seconds, such as 1h30m."""
    milliseconds = round(total * 1000)
    made = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        made += f"{count}{unit}" if count else ""
    return made or "0s"


def _checked(value: Any) -> str:
    rule = RULE
    if isinstance(value, str):
        try:
            seconds(value)
        except DurationError as error:
            rule = str(error)
        else:
            return value
    raise PydanticCustomError("duration", "{rule}", {"rule": rule})


def _positive(value: Any) -> str:
    text = _checked(value)
    if seconds(text) > 0:
        return text
    raise PydanticCustomError("duration", "the time must be above zero; set one such as 30s")


def _optional(value: Any) -> str:
    return "" if value == "" else _positive(value)


Duration = Annotated[str, BeforeValidator(_checked)]
PositiveDuration = Annotated[str, BeforeValidator(_positive)]
OptionalDuration = Annotated[str, BeforeValidator(_optional)]
