"""How much the gateway takes on at once, in requests and in memory."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self
from weakref import WeakValueDictionary

from ape_contracts.service_settings import GatewaySettings
from ape_service.memory import MemoryBudget, MemoryExhausted, MemoryReservation

# A request may hold this much of its body, and each of its calls of its answer, without a permit.
SMALL_BYTES = 64 << 10
# The numbers of memory permits, and the most that the holder of one needs. Those of requests with a
# large body are separate: its sender sets the pace, and answers of targets must not wait for it.
LARGE_BODIES, LARGE_ANSWERS = 8, 16
LARGE_BYTES = 8 << 20
# Of those for bodies, an address that has one already gets no further one below this number, and
# one at a time while its body is not complete: addresses that send slowly leave the rest to others.
KEPT_FOR_OTHERS = 4
_PERMIT_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """`in_flight` calls run at once, `queue` more wait; `timeout` seconds bound both together."""

    in_flight: int = GatewaySettings.max_in_flight
    queue: int = 1024
    timeout: float = GatewaySettings.request_timeout_seconds


class Overloaded(Exception):
    """The gateway holds as much as it may."""


class MemoryPermit:
    """The right of one HTTP request to hold a large body, or large answers to its calls.

    It is acquired when one of them is large. One permit per request, however many calls it carries:
    no request waits for a second permit while it holds a first. A context manager.
    """

    def __init__(self, bodies: _Bodies, answers: MemoryBudget, address: str) -> None:
        self._bodies, self._answers, self._address = bodies, answers, address
        self._held: MemoryReservation | None = None
        self._lock = asyncio.Lock()
        self._turn: asyncio.Lock | None = None
        self._counts = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.body_complete()
        if self._counts:
            self._bodies.count(self._address, -1)
        if self._held is not None:
            self._held.shrink(self._held.size)

    async def acquire_for_body(self, size: int) -> None:
        """Raises Overloaded if `size` bytes are large and no permit is free within 5 s.

        body_complete() lets the address send its next large body.
        """
        if size <= SMALL_BYTES or self._held is not None:
            return
        bodies = self._bodies
        turn = bodies.turns.setdefault(self._address, asyncio.Lock())
        try:
            async with asyncio.timeout(_PERMIT_SECONDS):
                await turn.acquire()
                self._turn = turn
                await bodies.wait_until(lambda: bodies.has_one_for(self._address))
        except TimeoutError:
            raise Overloaded from None
        self._held = MemoryReservation(bodies)
        self._held.grow(LARGE_BYTES)
        self._counts = True
        bodies.count(self._address, 1)

    def body_complete(self) -> None:
        if self._turn is not None:
            self._turn.release()
            self._turn = None

    async def acquire_for_answer(self, size: int) -> None:
        """As acquire_for_body, for an answer; a permit for the body is one for answers too."""
        if size <= SMALL_BYTES or self._held is not None:
            return
        async with self._lock:
            if self._held is None:
                reservation = MemoryReservation(self._answers)
                try:
                    await reservation.grow_within(LARGE_BYTES, _PERMIT_SECONDS)
                except MemoryExhausted:
                    raise Overloaded from None
                self._held = reservation


class _Bodies(MemoryBudget):
    """The permits for bodies, and how many of them an address holds.

    `turns`: of each address, the right to send a large body.
    """

    def __init__(self) -> None:
        super().__init__(LARGE_BODIES * LARGE_BYTES)
        self.turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: Counter[str] = Counter()

    def has_one_for(self, address: str) -> bool:
        """Whether the address may take one."""
        kept = KEPT_FOR_OTHERS if self._held[address] else 0
        return self.free >= (kept + 1) * LARGE_BYTES

    def count(self, address: str, more: int) -> None:
        self._held[address] += more
        if not self._held[address]:
            del self._held[address]


class AdmissionController:
    """Counts the calls that are queued and in flight, and rejects those beyond Limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._bodies = _Bodies()
        self._answers = MemoryBudget(LARGE_ANSWERS * LARGE_BYTES)
        self._admitted = 0
        self.in_flight = 0
        self.queued = 0

    def memory_permit(self, address: str = "") -> MemoryPermit:
        """The permit of one HTTP request: a context manager that releases it at the end."""
        return MemoryPermit(self._bodies, self._answers, address)

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
