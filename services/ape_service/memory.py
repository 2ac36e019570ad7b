"""A bound on the bytes that the requests of a service hold at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self


class MemoryExhausted(Exception):
    """The budget has too few bytes left."""


class MemoryBudget:
    """`free`: the bytes that are not reserved."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._freed = asyncio.Event()

    def give_back(self, size: int) -> None:
        self.free += size
        self._freed.set()
        self._freed.clear()

    async def wait_for(self, size: int, seconds: float) -> None:
        """Wait until `size` bytes are free. Raises MemoryExhausted after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait_until(lambda: size <= self.free)
        except TimeoutError:
            raise MemoryExhausted from None

    async def wait_until(self, enough: Callable[[], bool]) -> None:
        """Wait until `enough` bytes are free."""
        while not enough():
            await self._freed.wait()


class MemoryReservation:
    """The bytes of one request, `size`; a context manager that gives them back at its end."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.size:
            self.shrink(self.size)

    def grow(self, size: int) -> None:
        """Reserve `size` more bytes. Raises MemoryExhausted."""
        if size > self._budget.free:
            raise MemoryExhausted
        self._budget.free -= size
        self.size += size

    async def grow_within(self, size: int, seconds: float) -> None:
        """Reserve `size` more bytes, waiting for them. Raises MemoryExhausted after `seconds`."""
        await self._budget.wait_for(size, seconds)
        self.grow(size)

    def shrink(self, size: int) -> None:
        self._budget.give_back(size)
        self.size -= size
