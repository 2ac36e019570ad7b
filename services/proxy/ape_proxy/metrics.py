"""What the proxy measures of each completion."""

from __future__ import annotations

import time

from ape_common import names, prom
from prometheus_client import CollectorRegistry


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = prom.counter(names.PROXY_REQUESTS, registry)
        self.first_token = prom.histogram(names.PROXY_FIRST_TOKEN_SECONDS, registry)
        self.seconds = prom.histogram(names.PROXY_SECONDS, registry)
        self.tokens_in = prom.counter(names.PROXY_TOKENS_IN, registry)
        self.tokens_out = prom.counter(names.PROXY_TOKENS_OUT, registry)


class Measured:
    """One completion's measures; `done` once at its end."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self._model = metrics, model
        self._started = time.monotonic()
        self._first = False

    def first_token(self) -> None:
        """Call with each token; the first counts."""
        if not self._first:
            self._first = True
            self._metrics.first_token.labels(self._model).observe(self._elapsed())

    def usage(self, usage: object) -> None:
        """OpenAI's `usage` object; anything else is ignored."""
        if isinstance(usage, dict):
            for key, counter in (
                ("prompt_tokens", self._metrics.tokens_in),
                ("completion_tokens", self._metrics.tokens_out),
            ):
                if isinstance(usage.get(key), int) and usage[key] > 0:
                    counter.labels(self._model).inc(usage[key])

    def done(self, status: int | str) -> None:
        self._metrics.requests.labels(self._model, status).inc()
        self._metrics.seconds.labels(self._model).observe(self._elapsed())

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
