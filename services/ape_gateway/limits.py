"""How much the gateway takes on at once, in requests and in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ape_service.memory import MemoryBudget, MemoryExhausted, MemoryReservation

# A request may hold this much of its body, and each of its calls of its answer, without a permit.
SMALL_BYTES = 64 << 10
# The number of memory permits, and the most that the holder of one needs.
LARGE_REQUESTS = 24
LARGE_BYTES = 8 << 20
_PERMIT_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """`in_flight` calls run at once, `queue` more wait; `timeout` seconds bound both together."""

    in_flight: int = 256
    queue: int = 1024
    timeout: float = 30.0


class Overloaded(Exception):
    """The gateway holds as much as it may."""


class MemoryPermit(MemoryReservation):
    """The right of one HTTP request to hold a large body, acquired when the body is large.

    One permit per request, however many calls it carries: no request waits for a second permit
    while it holds a first.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__(budget)
        self._lock = asyncio.Lock()

    async def acquire_for(self, size: int) -> None:
        """Raises Overloaded if `size` bytes are large and no permit is free within 5 s."""
        if size <= SMALL_BYTES or self.size:
            return
        async with self._lock:
            if not self.size:
                try:
                    await self.grow_within(LARGE_BYTES, _PERMIT_SECONDS)
                except MemoryExhausted:
                    raise Overloaded from None


class AdmissionController:
    """Counts the calls that are queued and in flight, and rejects those beyond Limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._memory = MemoryBudget(LARGE_REQUESTS * LARGE_BYTES)
        self._admitted = 0
        self.in_flight = 0
        self.queued = 0

    def memory_permit(self) -> MemoryPermit:
        """The permit of one HTTP request: a context manager that releases it at the end."""
        return MemoryPermit(self._memory)

    @contextmanager
    def admit(self, calls: int) -> Iterator[None]:
        """Raises Overloaded if `calls` more are too many."""
        if self._admitted + calls > self.limits.in_flight + self.limits.queue:
            raise Overloaded
        self._admitted += calls
        try:
            yield
        finally:
            self._admitted -= calls

    async def acquire_slot(self, deadline: float) -> None:
        """Wait until fewer than `in_flight` calls run; release_slot() ends this one.

        `deadline`: of time.monotonic. Raises Overloaded.
        """
        if not self._slots.locked():
            await self._slots.acquire()
            self.in_flight += 1
            return
        self.queued += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded from None
        finally:
            self.queued -= 1
        self.in_flight += 1

    def release_slot(self) -> None:
        self.in_flight -= 1
        self._slots.release()
