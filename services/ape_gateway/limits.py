"""How much the gateway takes on at once, in requests and in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# What a request may hold of its question, and a call of its answer, without asking for room.
SMALL_BYTES = 64 << 10
# So many requests at a time may hold more.
LARGE_REQUESTS = 24
_ROOM_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """`in_flight` calls run at once, `queue` more wait; `timeout` seconds bound both together."""

    in_flight: int = 256
    queue: int = 1024
    timeout: float = 30.0


class Busy(Exception):
    """The gateway holds as much as it may."""


class MemoryPermit:
    """One HTTP request's share of the memory: a place among the large ones, once it needs it.

    One place a request, however many calls it carries: none waits for a second one while it
    holds a first.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._lock = asyncio.Lock()
        self._held = False

    async def need(self, size: int) -> None:
        """Raises Busy where `size` bytes are many and no place is free within 5 s."""
        if size <= SMALL_BYTES or self._held:
            return
        async with self._lock:
            if not self._held:
                try:
                    await asyncio.wait_for(self._places.acquire(), _ROOM_SECONDS)
                except TimeoutError:
                    raise Busy from None
                self._held = True

    def leave(self) -> None:
        if self._held:
            self._held = False
            self._places.release()


class AdmissionController:
    """Counts what is inside, `waiting` and `in_flight`; lets no more in than Limits allow."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._turns = asyncio.Semaphore(limits.in_flight)
        self._places = asyncio.Semaphore(LARGE_REQUESTS)
        self._present = 0
        self.in_flight = 0
        self.waiting = 0

    @contextmanager
    def room(self) -> Iterator[MemoryPermit]:
        room = MemoryPermit(self._places)
        try:
            yield room
        finally:
            room.leave()

    @contextmanager
    def enter(self, calls: int) -> Iterator[None]:
        """Raises Busy where `calls` more are too many."""
        if self._present + calls > self.limits.in_flight + self.limits.queue:
            raise Busy
        self._present += calls
        try:
            yield
        finally:
            self._present -= calls

    async def take_turn(self, deadline: float) -> None:
        """Wait for one of the `in_flight` turns; give it back with end_turn().

        `deadline`: of time.monotonic. Raises Busy.
        """
        if not self._turns.locked():
            await self._turns.acquire()
            self.in_flight += 1
            return
        self.waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._turns.acquire()
        except TimeoutError:
            raise Busy from None
        finally:
            self.waiting -= 1
        self.in_flight += 1

    def end_turn(self) -> None:
        self.in_flight -= 1
        self._turns.release()
