"""What all completions since the start of the proxy came to, for GET /results.

A reader subtracts an earlier answer with the same `boot` from a later one.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

from ape_contracts.sketch import Sketch
from ape_proxy.budget import Budget, Prices, Tokens
from ape_proxy.errors import BUDGET

VERSION = 1


class Results:
    """`refused`: the proxy's own rejections by code. The sketches have seconds, or tokens."""

    def __init__(self) -> None:
        self._boot = secrets.token_hex(8)
        self._completions: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._finish: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.retries = 0
        self._tokens, self._dollars = Tokens(0, 0), 0.0
        self.ttft, self.itl, self.tokens_per_second = Sketch(), Sketch(), Sketch()
        self._seconds, self._queue = Sketch(), Sketch()

    def completion(
        self, result: str, status: int, finish: str, seconds: float, queued: float
    ) -> None:
        """`finish`: the label of the finish reason; empty: the answer has no finish reason."""
        self._completions[result] += 1
        self._statuses[str(status)] += 1
        if finish:
            self._finish[finish] += 1
        self._seconds.add(seconds)
        self._queue.add(queued)

    def spend(self, used: Tokens, dollars: float) -> None:
        self._tokens = Tokens(*map(sum, zip(self._tokens, used, strict=True)))
        self._dollars += dollars

    def plain(self, prices: Prices, budget: Budget) -> dict[str, Any]:
        return {
            "version": VERSION,
            "boot": self._boot,
            "completions": dict(self._completions),
            "statuses": dict(self._statuses),
            "finish": dict(self._finish),
            "retries": self.retries,
            "tokens_in": self._tokens.prompt,
            "tokens_out": self._tokens.completion,
            "cost_dollars": self._dollars if prices.known else None,
            "refused": dict(self.refused),
            "budget": self._budget(budget),
            "ttft": self.ttft.plain(),
            "itl": self.itl.plain(),
            "seconds": self._seconds.plain(),
            "queue": self._queue.plain(),
            "tokens_per_second": self.tokens_per_second.plain(),
        }

    def _budget(self, budget: Budget) -> dict[str, Any] | None:
        """The spend limits; exhausted: a completion did not fit into what is left."""
        if not budget.is_limited:
            return None
        return {
            "used_ratio": budget.share,
            "exhausted": self.refused[BUDGET] > 0,
            "words": budget.words,
        }
