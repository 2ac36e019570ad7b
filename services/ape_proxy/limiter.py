"""The limiter of all agents: requests and tokens per minute, and a fair queue."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from ape_contracts.service_settings import ProxySettings
from ape_proxy.budget import Budget, Tokens
from ape_proxy.errors import (
    ProxyError,
    bad_request,
    budget_exhausted,
    overloaded,
    quota_exhausted,
)
from ape_service.token_bucket import TokenBucket

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Requests and tokens per minute (0: no limit); completions in flight; requests in the queue.

    `agent_tokens_per_minute`: of each agent. `queue_seconds`: how long a request may be queued,
    without the pauses of the provider.
    """

    requests_per_minute: int = ProxySettings.requests_per_minute
    tokens_per_minute: int = ProxySettings.tokens_per_minute
    agent_tokens_per_minute: int = ProxySettings.tokens_per_minute_per_agent
    in_flight: int = 2000
    queue: int = 2000
    queue_seconds: float = ProxySettings.queue_seconds


class RoundRobin(Generic[T]):
    """Items in round-robin order over their owners, in order of arrival for each owner; O(1)."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """(owner, item) of all items, in no order."""
        return ((owner, item) for owner, items in self._owners.items() for item in items)

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


class Pauses:
    """Times in which nothing is admitted. Times are of a clock that never goes back."""

    def __init__(self, now: float) -> None:
        self._begin = self.until = now
        self._before = 0.0

    def add(self, now: float, until: float) -> None:
        """Pause from now on; a pause that is longer already stays."""
        if now >= self.until:
            self._before += self.until - self._begin
            self._begin = self.until = now
        self.until = max(self.until, until)

    def seconds(self, now: float) -> float:
        """All seconds of pauses until now."""
        return self._before + min(now, self.until) - self._begin


class _Waiter:
    __slots__ = ("end", "granted", "parts", "tokens")

    def __init__(
        self, tokens: int, parts: Tokens, end: float, granted: asyncio.Future[None]
    ) -> None:
        self.tokens, self.parts, self.end, self.granted = tokens, parts, end, granted


class Reservation:
    """The right of a request to go to the model.

    `charged`, `used`: tokens; None: unknown. `spent`: those that count for the spend limits.
    """

    def __init__(self, tokens: int) -> None:
        self.charged = tokens
        self.used: int | None = None
        self.spent: Tokens | None = None


class Limiter:
    """Admits requests as the limits allow, in round-robin order over the agents."""

    def __init__(self, limits: Limits, budget: Budget | None = None) -> None:
        self.limits = limits
        self._budget = budget or Budget()
        self._agents: dict[str, TokenBucket] = {}
        self._unlimited = TokenBucket(0, 0.0)
        # For the limit of their own agent.
        self._waiting = 0
        now = asyncio.get_running_loop().time()
        self._requests = TokenBucket(limits.requests_per_minute, now)
        self._tokens = TokenBucket(limits.tokens_per_minute, now)
        self._queue: RoundRobin[_Waiter] = RoundRobin()
        self._queued_tokens = 0
        self._pauses = Pauses(now)
        self._pause_words = ""
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0

    @property
    def queued(self) -> int:
        """Also those that wait for the limit of their own agent."""
        return len(self._queue) + self._waiting

    def pause(self, seconds: float, words: str = "") -> None:
        """Admit no request for this long: a provider's limit applies to all its callers.

        Requests that cannot wait for its end are rejected, with the provider's words.
        """
        now = self._now()
        self._pauses.add(now, now + seconds)
        self._pause_words = words
        for agent, waiter in list(self._queue):
            if waiter.end <= self._pauses.until:
                self._queue.remove(agent, waiter)
                self._queued_tokens -= waiter.tokens
                if not waiter.granted.done():
                    waiter.granted.set_exception(self._quota_exhausted())

    def _quota_exhausted(self) -> ProxyError:
        return quota_exhausted(self._pauses.until - self._now(), self._pause_words)

    @asynccontextmanager
    async def reserve(
        self,
        agent: str,
        tokens: int,
        end: float,
        on_wait: Callable[[float], None] = lambda _: None,
        parts: Tokens | None = None,
    ) -> AsyncIterator[Reservation]:
        """Wait until a request of about `tokens` is admitted; settle with `used` at the end.

        `end` is the loop's time at which nobody waits for the answer anymore; `on_wait` gets the
        seconds in the queue, also after a rejection. Raises ProxyError: 400 if the tokens are more
        than those of a minute, 402 if they are more than the spend limit has left, 503 if the queue
        is full, 429 when it was queued for too long, or when the provider pauses past `end`.

        `parts`: of the tokens; None: all are of the prompt.
        """
        parts = parts or Tokens(tokens, 0)
        self._check_size(tokens)
        own = self._own_bucket(agent)
        since = self._now()
        try:
            await self._wait_for_own(own, tokens, end)
            try:
                await self._enter(agent, tokens, parts, end)
            except BaseException:
                own.take(-tokens, self._now())
                raise
        finally:
            on_wait(self._now() - since)
        reservation = Reservation(tokens)
        try:
            yield reservation
        finally:
            self.in_flight -= 1
            if reservation.used is not None:
                for bucket in (self._tokens, own):
                    bucket.take(reservation.used - reservation.charged, self._now())
            self._budget.settle(parts, parts if reservation.spent is None else reservation.spent)
            self._admit_queued()

    def _check_size(self, tokens: int) -> None:
        for limit, setting in (
            (self.limits.tokens_per_minute, "modelTokensPerMinute"),
            (self.limits.agent_tokens_per_minute, "modelTokensPerMinutePerAgent"),
        ):
            if 0 < limit < tokens:
                raise bad_request(
                    "request_too_large",
                    f"The request may take {tokens} tokens (its prompt and max_completion_tokens); "
                    f"the limit is {limit} per minute. Lower max_completion_tokens, or raise "
                    f"{setting}.",
                )

    def _own_bucket(self, agent: str) -> TokenBucket:
        if not (limit := self.limits.agent_tokens_per_minute):
            return self._unlimited
        return self._agents.setdefault(agent, TokenBucket(limit, self._now()))

    async def _wait_for_own(self, own: TokenBucket, tokens: int, end: float) -> None:
        """Take the tokens of the agent's own limit, and wait until it has them: in this order."""
        now = self._now()
        wait = own.wait(tokens, now)
        if wait and now + wait > min(end, now + self.limits.queue_seconds):
            raise _queue_deadline(wait)
        own.take(tokens, now)
        if not wait:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(wait)
        except BaseException:
            own.take(-tokens, self._now())
            raise
        finally:
            self._waiting -= 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _enter(self, agent: str, tokens: int, parts: Tokens, end: float) -> None:
        if end <= self._pauses.until and self._pauses.until > self._now():
            raise self._quota_exhausted()
        if len(self._queue) >= self.limits.queue:
            raise overloaded(
                "queue_full",
                f"{len(self._queue)} requests are queued for the model already. Try again later.",
                self._seconds_until_admitted(tokens),
            )
        waiter = _Waiter(tokens, parts, end, asyncio.get_running_loop().create_future())
        self._queue.push(agent, waiter)
        self._queued_tokens += tokens
        self._admit_queued()
        if waiter.granted.done():
            waiter.granted.result()
            return
        try:
            await self._granted(waiter)
        except BaseException as problem:
            if self._queue.remove(agent, waiter):
                self._queued_tokens -= tokens
            elif waiter.granted.done() and waiter.granted.exception() is None:
                # Admitted at this very moment, and no longer needed.
                self._take(-1, -tokens)
                self._budget.settle(parts, Tokens(0, 0))
            self._admit_queued()
            if not isinstance(problem, TimeoutError):
                raise
            raise _queue_deadline(self._seconds_until_admitted(tokens)) from None

    async def _granted(self, waiter: _Waiter) -> None:
        """Wait for the admission. Raises TimeoutError, or the ProxyError of a pause."""
        since = self._now()
        paused = self._pauses.seconds(since)
        while not waiter.granted.done():
            now = self._now()
            queued = now - since - (self._pauses.seconds(now) - paused)
            expires = max(now, self._pauses.until) + self.limits.queue_seconds - queued
            if (deadline := min(waiter.end, expires)) <= now:
                raise TimeoutError
            await asyncio.wait([waiter.granted], timeout=deadline - now)
        waiter.granted.result()

    def _wait(self, tokens: int) -> float:
        now = self._now()
        return max(
            self._pauses.until - now, self._requests.wait(1, now), self._tokens.wait(tokens, now)
        )

    def _seconds_until_admitted(self, tokens: int) -> float:
        """Seconds until another request would be admitted."""
        now = self._now()
        return max(
            self._pauses.until - now,
            self._requests.wait(len(self._queue) + 1, now),
            self._tokens.wait(self._queued_tokens + tokens, now),
        )

    def _admit_queued(self) -> None:
        """Admit the requests that the limits allow, and continue when they allow the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and self.in_flight < self.limits.in_flight:
            tokens, parts = self._queue.peek().tokens, self._queue.peek().parts
            if not self._budget.admits(parts):
                if self._budget.in_flight:
                    # Those in flight may use less than they could.
                    return
                waiter = self._queue.pop()
                self._queued_tokens -= tokens
                if not waiter.granted.done():
                    waiter.granted.set_exception(budget_exhausted(self._budget.words))
                continue
            # The first request is never overtaken, even if it needs more than the next ones.
            if (wait := self._wait(tokens)) > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._admit_queued)
                return
            waiter = self._queue.pop()
            self._queued_tokens -= tokens
            if not waiter.granted.done():
                self._take(1, tokens)
                self._budget.reserve(parts)
                waiter.granted.set_result(None)

    def _take(self, requests: int, tokens: int) -> None:
        now = self._now()
        self._requests.take(requests, now)
        self._tokens.take(tokens, now)
        self.in_flight += requests


def _queue_deadline(retry_after: float) -> ProxyError:
    return ProxyError(
        429,
        "rate_limit_error",
        "queue_deadline",
        "The limits of the model did not admit this request in time. Try again later.",
        retry_after=retry_after,
    )
