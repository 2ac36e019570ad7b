"""Numbers within the bounds of a schema."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random
from typing import Any

_CHOICES = 100


def number(chance: Random, schema: dict[str, Any], *, whole: bool) -> int | float | None:
    """Return a number that the schema accepts; None if none was found."""
    least, above = _bound(schema, "minimum", "exclusiveMinimum", max)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", min)
    given = _fraction(schema.get("multipleOf"))
    step = abs(given) if given else Fraction(1)
    if whole:
        step = Fraction(step.numerator)
    found = _multiple(chance, step, least, most, above, below)
    if found is None and not whole and not given and least is not None and most is not None:
        middle = (least + most) / 2
        if least < middle < most or (least == most and not above and not below):
            found = middle
    if found is None:
        return None
    return int(found) if found.denominator == 1 else float(found)


def _multiple(
    chance: Random,
    step: Fraction,
    least: Fraction | None,
    most: Fraction | None,
    above: bool,
    below: bool,
) -> Fraction | None:
    low = math.ceil(least / step) if least is not None else None
    high = math.floor(most / step) if most is not None else None
    if low is not None and above and low * step == least:
        low += 1
    if high is not None and below and high * step == most:
        high -= 1
    if low is None:
        low = 1 if high is None or high >= 1 else high - _CHOICES
    high = low + _CHOICES if high is None else min(high, low + _CHOICES)
    return chance.randint(low, high) * step if low <= high else None


def _bound(schema: dict[str, Any], key: str, strict_key: str, of: Any) -> tuple[Any, bool]:
    """(the bound, whether it is outside); OpenAPI 3.0 has true where 3.1 has a number."""
    bound, strict = _fraction(schema.get(key)), schema.get(strict_key)
    if strict is True:
        return bound, True
    other = _fraction(strict)
    if bound is None or other is None:
        return (bound, False) if other is None else (other, True)
    if other == bound:
        return bound, True
    nearest = of(bound, other)
    return nearest, nearest == other


def _fraction(value: Any) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Fraction(str(value)) if math.isfinite(value) else None


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a number is within the schema's bounds."""
    exact = _fraction(value)
    if exact is None:
        return False
    least, above = _bound(schema, "minimum", "exclusiveMinimum", max)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", min)
    if least is not None and (exact < least or (above and exact == least)):
        return False
    if most is not None and (exact > most or (below and exact == most)):
        return False
    step = _fraction(schema.get("multipleOf"))
    return not step or exact % step == 0
