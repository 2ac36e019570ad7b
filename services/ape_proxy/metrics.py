"""The measurements of each completion."""

from __future__ import annotations

import math
import time
from typing import Literal

from prometheus_client import CollectorRegistry

from ape_contracts import metrics
from ape_proxy.answers import Words
from ape_proxy.budget import Budget, Prices, Tokens
from ape_proxy.completion import BYTES_PER_TOKEN, MAX_TOKENS
from ape_proxy.results import Results
from ape_service import prom

COMPLETE, INCOMPLETE, CANCELLED, FAILED = metrics.PROXY_RESULTS
# What a request that reached the model came to. unknown: nobody waited for its end.
Outcome = Literal["answered", "failed", "unknown"]


class Metrics:
    def __init__(self, registry: CollectorRegistry, model: str, prices: Prices) -> None:
        self.model, self.prices = model, prices
        self.results = Results()
        self.requests = prom.counter(metrics.PROXY_REQUESTS, registry)
        self.finished = prom.counter(metrics.PROXY_FINISHED, registry)
        self.rejections = prom.counter(metrics.PROXY_REFUSALS, registry)
        self.retries = prom.counter(metrics.PROXY_RETRIES, registry)
        self.first_token = prom.histogram(metrics.PROXY_FIRST_TOKEN_SECONDS, registry).labels(model)
        self.gap = prom.histogram(metrics.PROXY_INTER_TOKEN_SECONDS, registry).labels(model)
        self.seconds = prom.histogram(metrics.PROXY_SECONDS, registry).labels(model)
        self.queue_seconds = prom.histogram(metrics.PROXY_QUEUE_SECONDS, registry).labels(model)
        self.speed = prom.histogram(metrics.PROXY_TOKENS_PER_SECOND, registry).labels(model)
        self.tokens_in = prom.counter(metrics.PROXY_TOKENS_IN, registry).labels(model)
        self.tokens_out = prom.counter(metrics.PROXY_TOKENS_OUT, registry).labels(model)
        self.cost = prom.counter(metrics.PROXY_COST, registry)
        self.in_flight = prom.gauge(metrics.PROXY_IN_FLIGHT, registry)
        self.queued = prom.gauge(metrics.PROXY_QUEUED, registry)
        self._registry = registry

    def show(self, budget: Budget) -> None:
        """Export the used part of the spend limits, where there are any."""
        if budget.is_limited:
            gauge = prom.gauge(metrics.PROXY_BUDGET_USED, self._registry)
            gauge.set_function(lambda: budget.share)


class Measured:
    """The measurements of one completion; call `done` at its end. Times are of time.monotonic."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started = time.monotonic()
        self._queued = 0.0
        # Of the attempts so far, and of the last one: as the model counts, and as it was forwarded.
        self.spent = Tokens(0, 0)
        self._usage: Tokens | None = None
        self._parts = self._characters = 0
        # Whether the model reported an error in its stream.
        self.broken = False
        self.error = Words("", "")
        self._begin()

    def _begin(self) -> None:
        """An attempt begins."""
        # When the first and the last part of a stream came, and how many there were.
        self._first = self._last = 0.0
        self._events = 0
        # The tokens of the answer, and those of them for reasoning, as the model counts.
        self._answered = self._reasoning = 0
        # Whether reasoning was part of the stream.
        self.reasoned = False
        # Whether the model said anything but its reasoning.
        self.usable = False
        # The label of the answer's finish reason; empty: it had none.
        self.finish = ""

    def queued(self, seconds: float) -> None:
        self._queued += seconds

    def retry(self, cause: str) -> None:
        self._begin()
        self._metrics.retries.labels(self._metrics.model, cause).inc()
        self._metrics.results.retries += 1

    def token(self, now: float, characters: int) -> None:
        """An event with a token of a stream."""
        self._parts += 1
        self._characters += characters
        self._events += 1
        if self._events == 1:
            self._first = now
        self._last = now

    def text(self, characters: int) -> None:
        """The message of an answer that is not a stream."""
        self._characters = characters

    def usage(self, usage: object) -> None:
        """OpenAI's `usage` object; anything else is ignored, and the last of a stream counts."""
        if isinstance(usage, dict):
            asked, answered = (_count(usage.get(f"{k}_tokens")) for k in ("prompt", "completion"))
            self._usage = Tokens(asked, answered) if asked or answered else None
            details = usage.get("completion_tokens_details")
            hidden = details.get("reasoning_tokens") if isinstance(details, dict) else 0
            self._answered, self._reasoning = answered, _count(hidden)

    @property
    def seconds_per_token(self) -> float | None:
        """Of a stream after its first part; None: it had no second one.

        Reasoning that was not part of the stream came before it.
        """
        if self._events < 2:
            return None
        tokens = self._answered - (0 if self.reasoned else self._reasoning)
        # A stream that was left may have a usage that is older than its last part.
        counted = tokens if self.finish and tokens > 1 else self._events
        return (self._last - self._first) / (counted - 1)

    def spend(self, asked: Tokens, outcome: Outcome) -> tuple[Tokens, bool]:
        """The tokens of an attempt, and whether they are known: by the model's usage, or a stream.

        `asked`: the prompt, and the limit of completion tokens. A stream that was left may have a
        usage that is older than its last part. Else, text is estimated, and all that was asked for
        counts where nobody waited for an answer.
        """
        usage, about = self._usage, math.ceil(self._characters / BYTES_PER_TOKEN)
        known = bool(usage or self._parts or outcome == "failed")
        used = usage or Tokens(0, 0)
        if self._parts and (usage is None or not self.finish):
            out = max(self._parts, about, used.completion)
            used = Tokens(used.prompt or asked.prompt, out)
        elif not known:
            used = Tokens(asked.prompt, about) if outcome == "answered" else asked
        if known:
            self.spent = Tokens(*map(sum, zip(self.spent, used, strict=True)))
        self._usage, self._parts, self._characters = None, 0, 0
        return used, known

    def done(self, result: str, status: int) -> None:
        metrics, results = self._metrics, self._metrics.results
        seconds = time.monotonic() - self._started
        metrics.requests.labels(metrics.model, result, status).inc()
        results.completion(result, status, self.finish, seconds, self._queued)
        if self.finish:
            metrics.finished.labels(metrics.model, self.finish).inc()
        metrics.seconds.observe(seconds)
        metrics.queue_seconds.observe(self._queued)
        if self._events:
            first = self._first - self._started
            metrics.first_token.observe(first)
            results.ttft.add(first)
        if (gap := self.seconds_per_token) is not None:
            metrics.gap.observe(gap)
            results.itl.add(gap)
        if self.spent.total:
            metrics.tokens_in.inc(self.spent.prompt)
            metrics.tokens_out.inc(self.spent.completion)
            dollars = metrics.prices.dollars(self.spent)
            if metrics.prices.known:
                metrics.cost.labels(metrics.model).inc(dollars)
            results.spend(self.spent, dollars)
        if result == COMPLETE and self.spent.completion and seconds > self._queued:
            speed = self.spent.completion / (seconds - self._queued)
            metrics.speed.observe(speed)
            results.tokens_per_second.add(speed)


def _count(value: object) -> int:
    """Tokens of a usage."""
    return min(int(value), MAX_TOKENS) if isinstance(value, int) and value > 0 else 0
