"""Queries of Prometheus: the steps of a range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.reporting.prometheus import MAX_POINTS, steps

pytestmark = pytest.mark.unit
NOW = 1_800_000_000.0


@given(st.floats(0, 1e7), st.floats(0, 1))
def test_range_ends_at_its_end_and_has_at_most_the_drawn_number_of_points(
    seconds: float, part: float
) -> None:
    start, end = NOW + part, NOW + part + seconds
    first, last, step = steps(start, end)
    assert last == round(1000 * end)
    assert (last - first) % step == 0
    assert 1000 * start - 1 <= first < 1000 * start + step
    assert 1 <= (last - first) // step + 1 <= MAX_POINTS + 1
    assert step >= 1000
