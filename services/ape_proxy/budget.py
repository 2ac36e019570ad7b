"""The spend limits of the stack: tokens and dollars, since the start of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Prices:
    """In dollars per million tokens; both 0: unknown."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    @property
    def known(self) -> bool:
        return self.tokens_in > 0 or self.tokens_out > 0

    def dollars(self, used: Tokens) -> float:
        return (used.prompt * self.tokens_in + used.completion * self.tokens_out) / 1e6


class Tokens(NamedTuple):
    """Of one request to the model: those that it used, or may use."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


class Budget:
    """Counts what was used, and what requests in flight may use; 0: no limit."""

    def __init__(self, tokens: int = 0, dollars: float = 0.0, prices: Prices | None = None) -> None:
        self._limits = (tokens, dollars)
        self._prices = prices or Prices()
        self._used, self._reserved = (0, 0.0), (0, 0.0)
        self._requests = 0

    @property
    def is_limited(self) -> bool:
        return any(self._limits)

    @property
    def in_flight(self) -> bool:
        """Whether a reservation may still give tokens back."""
        return self._requests > 0

    def _amounts(self, tokens: Tokens) -> tuple[int, float]:
        return tokens.total, self._prices.dollars(tokens)

    def admits(self, tokens: Tokens) -> bool:
        amounts = zip(self._limits, self._used, self._reserved, self._amounts(tokens), strict=True)
        # Rounding of dollars must not matter.
        return all(
            not limit or used + reserved + more <= limit * (1 + 1e-9)
            for limit, used, reserved, more in amounts
        )

    def reserve(self, tokens: Tokens) -> None:
        self._requests += 1
        self._reserve(tokens, 1)

    def settle(self, tokens: Tokens, used: Tokens) -> None:
        """End a reservation of `tokens`, of which `used` were used."""
        self._requests -= 1
        self._reserve(tokens, -1)
        count, dollars = self._amounts(used)
        self._used = (self._used[0] + count, self._used[1] + dollars)

    def _reserve(self, tokens: Tokens, sign: int) -> None:
        count, dollars = self._amounts(tokens)
        self._reserved = (self._reserved[0] + sign * count, self._reserved[1] + sign * dollars)
        if not self._requests:
            # Without what rounding left.
            self._reserved = (0, 0.0)

    @property
    def share(self) -> float:
        """The used part of the limit that is nearer; 0 without a limit."""
        parts = zip(self._used, self._limits, strict=True)
        return max((used / limit for used, limit in parts if limit), default=0.0)

    @property
    def words(self) -> str:
        """What was used, of which limits."""
        tokens, dollars = self._limits
        found = []
        if tokens:
            found.append(f"{self._used[0]} of {tokens} tokens (maxTokens)")
        if dollars:
            found.append(f"{self._used[1]:.2f} of {dollars:.2f} dollars (maxCostDollars)")
        return " and ".join(found)
