"""The waiting time that a server asks for in a rejection."""

from __future__ import annotations

import time
from collections.abc import Mapping

_UNITS = (("retry-after-ms", 0.001), ("retry-after", 1.0))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After-Ms, or of Retry-After as a number or a date; None without either.

    `headers`: names in lower case, or a case-insensitive mapping.
    """
    value = None
    for name, unit in _UNITS:
        if (value := headers.get(name)) is not None:
            try:
                seconds = float(value) * unit
            except ValueError:
                continue
            return seconds if 0 <= seconds < float("inf") else None
    return None if value is None else _until(value)


def _until(date: str) -> float | None:
    # Imported when needed: it takes 0.4 MB, and few servers send a date.
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
