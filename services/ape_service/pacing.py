"""Start delays and backoff: agents neither act at the same moment nor in a busy loop."""

from __future__ import annotations

import random

GOLDEN_RATIO_CONJUGATE = 0.6180339887498949


def startup_delay(slot: int, seed: float, max_seconds: float) -> float:
    """Seconds in [0, max_seconds) that the agent of `slot` waits before its first session.

    The same for the same slot and seed, different for any two slots, and evenly spread for any
    number of slots (a golden-ratio sequence).
    """
    return (seed + slot * GOLDEN_RATIO_CONJUGATE) % 1.0 * max_seconds


def backoff(attempt: int, base: float = 0.5, cap: float = 15.0) -> float:
    """Seconds to wait after failure number `attempt` (0-based): doubling to `cap`, jittered.

    Between half and the whole of the step, so it is never zero.
    """
    step: float = min(cap, base * 2 ** min(attempt, 16))
    return step * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
