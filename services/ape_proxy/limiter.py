"""The limiter of all agents: requests and tokens per minute, and a fair queue."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from ape_proxy.errors import ProxyError, bad_request, overloaded
from ape_service.token_bucket import TokenBucket

T = TypeVar("T")
# The longest pause that a provider can ask for; then it is asked again.
MAX_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """Requests and tokens per minute (0: no limit); completions in flight; requests in the queue.

    `queue_seconds`: how long a request may be queued.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    in_flight: int = 2000
    queue: int = 2000
    queue_seconds: float = 20.0


class RoundRobin(Generic[T]):
    """Items in round-robin order over their owners, in order of arrival for each owner; O(1)."""

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
        """Remove the item; whether it was queued."""
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


class Reservation:
    """The right of a request to go to the model. `charged`, `used`: tokens; None: unknown."""

    def __init__(self, tokens: int) -> None:
        self.charged = tokens
        self.used: int | None = None


class Limiter:
    """Admits requests as the limits allow, in round-robin order over the agents."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        now = asyncio.get_running_loop().time()
        self._requests = TokenBucket(limits.requests_per_minute, now)
        self._tokens = TokenBucket(limits.tokens_per_minute, now)
        self._queue: RoundRobin[_Waiter] = RoundRobin()
        self._queued_tokens = 0
        self._paused_until = now
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def pause(self, seconds: float) -> None:
        """Admit no request for this long: a provider's limit applies to all its callers."""
        until = asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_SECONDS)
        self._paused_until = max(self._paused_until, until)

    @asynccontextmanager
    async def reserve(
        self,
        agent: str,
        tokens: int,
        deadline: float,
        on_wait: Callable[[float], None] = lambda _: None,
    ) -> AsyncIterator[Reservation]:
        """Wait until a request of about `tokens` is admitted; settle with `used` at the end.

        `deadline` is the loop's time; `on_wait` gets the seconds in the queue, also after a
        rejection. Raises ProxyError: 400 if the tokens are more than those of a minute, 503 if the
        queue is full, 429 when the deadline passes.
        """
        if 0 < self.limits.tokens_per_minute < tokens:
            raise bad_request(
                "request_too_large",
                f"The request may take {tokens} tokens (its prompt and max_completion_tokens); "
                f"the limit is {self.limits.tokens_per_minute} per minute. Lower "
                "max_completion_tokens, or raise modelTokensPerMinute.",
            )
        since = self._now()
        try:
            await self._enter(agent, tokens, deadline)
        finally:
            on_wait(self._now() - since)
        reservation = Reservation(tokens)
        try:
            yield reservation
        finally:
            self.in_flight -= 1
            if reservation.used is not None:
                self._tokens.take(reservation.used - reservation.charged, self._now())
            self._admit_queued()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _enter(self, agent: str, tokens: int, deadline: float) -> None:
        if len(self._queue) >= self.limits.queue:
            raise overloaded(
                "queue_full",
                f"{len(self._queue)} requests are queued for the model already. Try again later.",
                self._seconds_until_admitted(tokens),
            )
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        self._queue.push(agent, waiter)
        self._queued_tokens += tokens
        self._admit_queued()
        if waiter.granted.done():
            return
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.granted
        except BaseException as problem:
            if self._queue.remove(agent, waiter):
                self._queued_tokens -= tokens
            elif not waiter.granted.cancelled():
                # Admitted at this very moment, and no longer needed.
                self._take(-1, -tokens)
            self._admit_queued()
            if not isinstance(problem, TimeoutError):
                raise
            raise ProxyError(
                429,
                "rate_limit_error",
                "queue_deadline",
                "The limits of the model did not admit this request in time. Try again later.",
                retry_after=self._seconds_until_admitted(tokens),
            ) from None

    def _wait(self, tokens: int) -> float:
        now = self._now()
        return max(
            self._paused_until - now, self._requests.wait(1, now), self._tokens.wait(tokens, now)
        )

    def _seconds_until_admitted(self, tokens: int) -> float:
        """Seconds until another request would be admitted."""
        now = self._now()
        return max(
            self._paused_until - now,
            self._requests.wait(len(self._queue) + 1, now),
            self._tokens.wait(self._queued_tokens + tokens, now),
        )

    def _admit_queued(self) -> None:
        """Admit the requests that the limits allow, and continue when they allow the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and self.in_flight < self.limits.in_flight:
            tokens = self._queue.peek().tokens
            # The first request is never overtaken, even if it needs more than the next ones.
            if (wait := self._wait(tokens)) > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._admit_queued)
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
