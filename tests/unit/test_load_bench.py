"""The arithmetic of bench/load: of pauses, and of chance."""

from itertools import islice

import pytest

from bench.load import compared, stall
from bench.load.target import Plan, endpoint_of
from bench.load.world import percentile

pytestmark = pytest.mark.unit
BASE = 0.03


def simulated(agents: int, periods: int) -> tuple[list[float], list[float], int]:
    """Lengths and lateness of the sessions, and how many were dropped, one arrival after another.

    A session waits for the agent that is free first, and has its answer when the plan says.
    """
    plan = Plan(period=stall.PERIOD, pause=stall.PAUSE)
    free, lengths, lateness, dropped = [0.0] * agents, [], [], 0
    for number in range(int(stall.RATE * stall.PERIOD * periods)):
        due = number / stall.RATE
        start = max(due, min(free))
        if start - due > stall.MAX_LATE:
            dropped += 1
            continue
        end = plan.released(start + BASE)
        free[free.index(min(free))] = end
        lengths.append(end - due)
        lateness.append(start - due)
    return lengths, lateness, dropped


@pytest.mark.parametrize("agents", [10, 14, 20, stall.ENOUGH])
def test_arithmetic_of_a_pause_is_that_of_a_simulation(agents: int) -> None:
    lengths, lateness, dropped = simulated(agents, 3)
    found = stall.expected_open(agents, BASE, 3)
    assert dropped == pytest.approx(found["dropped"], abs=3)
    assert len(lengths) == pytest.approx(found["sessions"], abs=3)
    assert percentile(lengths, 0.99) == pytest.approx(found["session_p99"], abs=0.06)
    assert percentile(lateness, 0.99) == pytest.approx(found["lateness_p99"], abs=0.06)
    assert sum(x > stall.LATE for x in lateness) == pytest.approx(found["late"], abs=3)


def test_answers_that_are_ready_in_a_pause_come_at_its_end() -> None:
    plan = Plan(period=20, pause=2)
    assert [plan.released(at) for at in (8.9, 9.0, 10.5, 11.0, 29.5)] == [8.9, 11, 11, 11, 31]
    assert Plan().released(10.0) == 10.0


def test_two_sequences_of_the_target_hardly_differ_when_stratified() -> None:
    found = [list(islice(Plan(seed=seed).times("GET /a"), 1000)) for seed in ("1", "1", "2")]
    assert found[0] == found[1] != found[2]
    for q in (0.5, 0.95):
        assert percentile(found[0], q) == pytest.approx(percentile(found[2], q), rel=0.01)


def test_an_endpoint_has_the_name_of_the_results() -> None:
    assert endpoint_of("GET", "/products/7?full=1") == "GET /products/{id}"


@pytest.mark.parametrize(("tries", "most"), [(1, 1), (5, 2), (20, 4)])
def test_few_differences_of_the_same_target_are_chance(tries: int, most: int) -> None:
    assert compared.most_by_chance(tries) == most
