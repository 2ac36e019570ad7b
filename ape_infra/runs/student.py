"""Student's t distribution with a whole number of degrees of freedom, by its finite sums.

Abramowitz and Stegun, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import functools
import math


def two_sided(t: float, freedom: int) -> float:
    """Return the probability of a value further from 0 than `t`."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    inside = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return min(1.0, max(0.0, 1 - inside))


@functools.cache
def width(level: float, freedom: int) -> float:
    """Return the t that `two_sided` has the probability `level` for."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if two_sided(middle, freedom) > level:
            low = middle
        else:
            high = middle
    return high
