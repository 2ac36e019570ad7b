"""The time that a provider asks callers to wait, from all the headers in which providers do."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from ape_service.retry_after import retry_after

_REMAINING, _RESET = "ratelimit-remaining", "ratelimit-reset"
# RateLimit: "default";r=0;t=30, a list of limits (draft of the IETF).
_LIMIT = re.compile(r";\s*([rt])\s*=\s*(\d{1,9})")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d{1,12}(?:\.\d{1,12})?)(ms|[dhms])"
_DURATION = re.compile(f"(?:{_PART})+")
# Numbers above it are a time since 1970, in seconds or milliseconds.
_SINCE_1970 = 1e9
# A longer wait is a mistake.
_MAX_SECONDS = 366 * 86400.0


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds until the last of the exhausted limits is reset, or of Retry-After; None: not given.

    A limit is exhausted if 0 remain. `headers`: names in lower case, or a case-insensitive mapping.
    """
    found = [retry_after(headers)]
    for name, remaining in headers.items():
        lower = name.lower()
        prefix = "x-" if lower.startswith("x-") else ""
        bare = lower.removeprefix("x-")
        if bare.startswith(_REMAINING) and _is_zero(remaining):
            found.append(seconds_of(headers.get(prefix + _RESET + bare[len(_REMAINING) :], "")))
        elif bare == "ratelimit":
            found += map(_seconds_in, remaining[:1000].split(","))
    return max((s for s in found if s is not None and s <= _MAX_SECONDS), default=None)


def _seconds_in(limit: str) -> float | None:
    """Seconds until the reset of a limit of the header RateLimit, if it is exhausted."""
    given = dict(_LIMIT.findall(limit))
    return float(given["t"]) if given.get("r") == "0" and "t" in given else None


def _is_zero(remaining: str) -> bool:
    try:
        return float(remaining) <= 0
    except ValueError:
        return False


def seconds_of(text: str) -> float | None:
    """Seconds of "33011.38", "2m59.56s", "6ms", "1h2m", or until a time in seconds since 1970."""
    text = text.strip().lower()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    try:
        value = float(text)
    except ValueError:
        return None
    if value >= _SINCE_1970:
        value = max(0.0, value / (1000 if value >= _SINCE_1970 * 1000 else 1) - time.time())
    # Neither NaN, nor negative, nor infinite.
    return value if 0 <= value < float("inf") else None
