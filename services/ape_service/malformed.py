"""The log of requests that are not HTTP: at most one line per minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ape_service import logs

EVERY_SECONDS = 60.0
_log = logging.getLogger(__name__)


class MalformedRequests:
    """Counts them. A line has those since the line before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unlogged = 0
        self._next = 0.0

    def count(self) -> None:
        self._unlogged += 1
        now = self._clock()
        if now >= self._next:
            _log.warning("requests that are not HTTP", extra=logs.fields(requests=self._unlogged))
            self._unlogged, self._next = 0, now + EVERY_SECONDS


# Of this process.
malformed = MalformedRequests()
