"""The measurements of each completion."""

from __future__ import annotations

import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from ape_contracts import metrics
from ape_proxy.answers import Words
from ape_service import prom

COMPLETE, INCOMPLETE, CANCELLED, FAILED = metrics.PROXY_RESULTS


@dataclass(frozen=True)
class Prices:
    """In dollars per million tokens; both 0: unknown."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    @property
    def known(self) -> bool:
        return self.tokens_in > 0 or self.tokens_out > 0


class Metrics:
    def __init__(self, registry: CollectorRegistry, model: str, prices: Prices) -> None:
        self.model, self.prices = model, prices
        self.requests = prom.counter(metrics.PROXY_REQUESTS, registry)
        self.finished = prom.counter(metrics.PROXY_FINISHED, registry)
        self.rejections = prom.counter(metrics.PROXY_REFUSALS, registry)
        self.retries = prom.counter(metrics.PROXY_RETRIES, registry)
        # Looked up once, not for each token: their only label has one value.
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


class Measured:
    """The measurements of one completion; call `done` at its end. Times are of time.monotonic."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started = time.monotonic()
        self._last_token: float | None = None
        self._queued = 0.0
        self.tokens_in = self.tokens_out = 0
        # Whether the model reported an error in its stream.
        self.broken = False
        # Whether the model said anything but its reasoning.
        self.usable = False
        # The label of the answer's finish reason; empty: it had none.
        self.finish = ""
        self.error = Words("", "")

    def queued(self, seconds: float) -> None:
        self._queued += seconds

    def retry(self, cause: str) -> None:
        self._metrics.retries.labels(self._metrics.model, cause).inc()

    def token(self, now: float) -> None:
        """An event with a token of a stream."""
        if self._last_token is None:
            self._metrics.first_token.observe(now - self._started)
        else:
            self._metrics.gap.observe(now - self._last_token)
        self._last_token = now

    def usage(self, usage: object) -> None:
        """OpenAI's `usage` object; anything else is ignored, and the last of a stream counts."""
        if isinstance(usage, dict):
            asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
            self.tokens_in = asked if isinstance(asked, int) and asked > 0 else 0
            self.tokens_out = answered if isinstance(answered, int) and answered > 0 else 0

    @property
    def tokens(self) -> int | None:
        """Tokens used; None if the model did not report them."""
        return self.tokens_in + self.tokens_out or None

    def done(self, result: str, status: int) -> None:
        metrics = self._metrics
        seconds = time.monotonic() - self._started
        metrics.requests.labels(metrics.model, result, status).inc()
        if self.finish:
            metrics.finished.labels(metrics.model, self.finish).inc()
        metrics.seconds.observe(seconds)
        metrics.queue_seconds.observe(self._queued)
        if self.tokens is not None:
            metrics.tokens_in.inc(self.tokens_in)
            metrics.tokens_out.inc(self.tokens_out)
            if metrics.prices.known:
                cost = (
                    self.tokens_in * metrics.prices.tokens_in
                    + self.tokens_out * metrics.prices.tokens_out
                )
                metrics.cost.labels(metrics.model).inc(cost / 1e6)
        if result == COMPLETE and self.tokens_out and seconds > self._queued:
            metrics.speed.observe(self.tokens_out / (seconds - self._queued))
