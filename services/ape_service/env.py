"""Settings from environment variables, with errors that name variable, rule and remedy."""

from __future__ import annotations

import json
import os


class EnvError(Exception):
    """A variable is missing or breaks its rule."""


def unpack(name: str) -> None:
    """Set what is not set yet from the JSON object of texts in the variable, if it is set."""
    packed = os.environ.get(name)
    if not packed:
        return
    try:
        found = json.loads(packed)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise EnvError(f"{name}: must be a JSON object of texts. Correct it.")
    for each, value in found.items():
        os.environ.setdefault(each, value)


def text(name: str, default: str | None = None) -> str:
    """The variable; empty counts as not set. Raises EnvError where there is no default."""
    value = os.environ.get(name) or default
    if value is None:
        raise EnvError(f"{name}: not set. Set it in the container's environment.")
    return value


def number(name: str, default: float, minimum: float = 0.0) -> float:
    raw = text(name, str(default))
    try:
        value = float(raw)
    except ValueError:
        value = float("nan")
    if not minimum <= value < float("inf"):
        raise EnvError(f"{name}: {raw!r} is no number of at least {minimum:g}. Correct it.")
    return value


def integer(name: str, default: int, minimum: int = 0) -> int:
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        value = minimum - 1
    if value < minimum:
        raise EnvError(f"{name}: {raw!r} is no whole number of at least {minimum}. Correct it.")
    return value
