"""A rate limit per minute."""

from __future__ import annotations


class TokenBucket:
    """Full at first, refilled evenly, at most one minute's tokens; 0 per minute: no limit.

    In any t seconds at most `per_minute * (1 + t / 60)` is taken, as providers count. Times are
    seconds of any clock that never goes back.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level, self._at = float(per_minute), now

    def _refill(self, now: float) -> None:
        gained = (now - self._at) * self.per_minute / 60
        self._level = min(self.per_minute, self._level + gained)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken; 0 if it can be taken now."""
        if not self.per_minute:
            return 0.0
        self._refill(now)
        # Not "amount - level > 0": rounding must not matter at the time that was waited for.
        missing = amount - self._level
        return missing * 60 / self.per_minute if missing > 1e-6 else 0.0

    def take(self, amount: float, now: float) -> None:
        """A negative amount is given back. The level may fall below 0: then it is owed."""
        if self.per_minute:
            self._refill(now)
            self._level = min(self.per_minute, self._level - amount)
