"""The one limiter of all agents: allowances a minute, and a fair queue in front of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from ape_proxy.errors import ProxyError, bad_request, overloaded

T = TypeVar("T")
# A provider that asks for a longer pause than this is asked again after it.
MAX_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """A minute's requests and tokens (0: no limit), completions at the same time, length of the

    queue, and seconds that a request may wait in it.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    in_flight: int = 2000
    queue: int = 2000
    queue_seconds: float = 20.0


class Allowance:
    """A token bucket: full at first, refilled evenly, a minute's worth at most; 0: no limit.

    In any t seconds at most `per_minute * (1 + t / 60)` is taken, as providers count.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level, self._at = float(per_minute), now

    def _refill(self, now: float) -> None:
        gained = (now - self._at) * self.per_minute / 60
        self._level = min(self.per_minute, self._level + gained)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; 0 when it is."""
        if not self.per_minute:
            return 0.0
        self._refill(now)
        # Not "amount - level > 0": at the very time that was waited for, rounding must not matter.
        missing = amount - self._level
        return missing * 60 / self.per_minute if missing > 1e-6 else 0.0

    def take(self, amount: float, now: float) -> None:
        """A negative amount is given back. The level may fall below 0: then it is owed."""
        if self.per_minute:
            self._refill(now)
            self._level = min(self.per_minute, self._level - amount)


class RoundRobin(Generic[T]):
    """Items in turns over their owners, in order of arrival for each owner; O(1) each."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, owner: str, item: T) -> None:
        self._owners.setdefault(owner, OrderedDict())[item] = None
        self._length += 1

    def peek(self) -> T:
        return next(iter(next(iter(self._owners.values()))))

    def pop(self) -> T:
        owner, items = self._owners.popitem(last=False)
        item, _ = items.popitem(last=False)
        if items:
            self._owners[owner] = items
        self._length -= 1
        return item

    def remove(self, owner: str, item: T) -> bool:
        """Whether it was there."""
        items = self._owners.get(owner)
        if items is None or item not in items:
            return False
        del items[item]
        self._length -= 1
        if not items:
            del self._owners[owner]
        return True


class _Waiter:
    __slots__ = ("granted", "tokens")

    def __init__(self, tokens: int, granted: asyncio.Future[None]) -> None:
        self.tokens, self.granted = tokens, granted


class Turn:
    """A request's leave to go to the model, with what it was charged."""

    def __init__(self, tokens: int) -> None:
        self.charged = tokens
        self.used: int | None = None


class Limiter:
    """Lets requests through as the limits allow, agent by agent."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        now = asyncio.get_running_loop().time()
        self._requests = Allowance(limits.requests_per_minute, now)
        self._tokens = Allowance(limits.tokens_per_minute, now)
        self._queue: RoundRobin[_Waiter] = RoundRobin()
        self._queued_tokens = 0
        self._paused_until = now
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def pause(self, seconds: float) -> None:
        """Let nobody through for so long: a provider's limit holds for all its callers."""
        until = asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_SECONDS)
        self._paused_until = max(self._paused_until, until)

    @asynccontextmanager
    async def turn(
        self,
        agent: str,
        tokens: int,
        deadline: float,
        waited: Callable[[float], None] = lambda _: None,
    ) -> AsyncIterator[Turn]:
        """Wait for leave for a request of about `tokens`; at the end settle with `Turn.used`.

        `deadline` is the loop's time; `waited` is told the seconds, also where they were in vain.
        Raises ProxyError: 400 where the tokens are more than a minute's, 503 where the queue is
        full, 429 where the deadline passes.
        """
        if 0 < self.limits.tokens_per_minute < tokens:
            raise bad_request(
                "request_too_large",
                f"The request may take {tokens} tokens (its prompt and max_completion_tokens); "
                f"the limit is {self.limits.tokens_per_minute} a minute. Lower "
                "max_completion_tokens, or raise modelTokensPerMinute.",
            )
        since = self._now()
        try:
            await self._enter(agent, tokens, deadline)
        finally:
            waited(self._now() - since)
        turn = Turn(tokens)
        try:
            yield turn
        finally:
            self.in_flight -= 1
            if turn.used is not None:
                self._tokens.take(turn.used - turn.charged, self._now())
            self._pump()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _enter(self, agent: str, tokens: int, deadline: float) -> None:
        if len(self._queue) >= self.limits.queue:
            raise overloaded(
                "queue_full",
                f"{len(self._queue)} requests wait for the model already. Come back later.",
                self._drained_in(tokens),
            )
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        self._queue.push(agent, waiter)
        self._queued_tokens += tokens
        self._pump()
        if waiter.granted.done():
            return
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.granted
        except BaseException as problem:
            if self._queue.remove(agent, waiter):
                self._queued_tokens -= tokens
            elif not waiter.granted.cancelled():
                # Let through at this very moment, and not needed any more.
                self._take(-1, -tokens)
            self._pump()
            if not isinstance(problem, TimeoutError):
                raise
            raise ProxyError(
                429,
                "rate_limit_error",
                "queue_deadline",
                "The limits of the model left no room for this request in time. Come back later.",
                retry_after=self._drained_in(tokens),
            ) from None

    def _wait(self, tokens: int) -> float:
        now = self._now()
        return max(
            self._paused_until - now, self._requests.wait(1, now), self._tokens.wait(tokens, now)
        )

    def _drained_in(self, tokens: int) -> float:
        """Seconds until the queue would let another request through."""
        now = self._now()
        return max(
            self._paused_until - now,
            self._requests.wait(len(self._queue) + 1, now),
            self._tokens.wait(self._queued_tokens + tokens, now),
        )

    def _pump(self) -> None:
        """Let through whom the limits allow; come back when they allow the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and self.in_flight < self.limits.in_flight:
            tokens = self._queue.peek().tokens
            # The next in turn is waited for: who needs more is not overtaken for ever.
            if (wait := self._wait(tokens)) > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._pump)
                return
            waiter = self._queue.pop()
            self._queued_tokens -= tokens
            if not waiter.granted.done():
                self._take(1, tokens)
                waiter.granted.set_result(None)

    def _take(self, requests: int, tokens: int) -> None:
        now = self._now()
        self._requests.take(requests, now)
        self._tokens.take(tokens, now)
        self.in_flight += requests
