"""Sums over containers, and measurements of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring import aggregate
from monitoring.model import Container
from monitoring.system import own_traffic, predicted, pressure

pytestmark = pytest.mark.unit


def agent(slot: int, **changes: Any) -> Container:
    made = Container(id=str(slot), name=f"agent-{slot:04d}", service="agent", slot=slot, agents=1)
    return made.but(**changes)


@pytest.mark.parametrize(
    ("containers", "given", "expected"),
    [
        ([], {}, (None, 0, 0, 0)),
        ([agent(1), agent(2)], {}, (2, 2, 2, 0)),
        # One in the middle is missing, one is unhealthy.
        ([agent(1), agent(3, health="unhealthy")], {}, (3, 2, 1, 2)),
        ([agent(1), agent(2, state="exited", exit_code=1)], {}, (2, 1, 1, 1)),
        ([agent(1)], {"declared": 5}, (5, 1, 1, 4)),
        ([agent(1)], {"gateway_declared": 3}, (3, 1, 1, 2)),
        # Several agents per container.
        ([agent(1, agents=25), agent(26, agents=5)], {}, (30, 30, 30, 0)),
        # On Swarm a node lists only its own agents.
        ([agent(7, swarm=True)], {}, (None, 1, 1, 0)),
        ([agent(7, swarm=True)], {"declared": 9, "heartbeat": 8}, (9, 1, 1, 1)),
        ([agent(7, swarm=True)], {"gateway_declared": 9}, (9, 1, 1, 0)),
        ([agent(0, agents=0, swarm=True)], {"declared": 9, "heartbeat": 9}, (9, 0, 0, 0)),
    ],
)
def test_the_fleet_counts_agents_by_the_best_known_number(
    containers: list[Container], given: dict[str, int], expected: tuple[int | None, ...]
) -> None:
    found = aggregate.fleet(
        containers,
        declared=given.get("declared"),
        heartbeat=given.get("heartbeat"),
        gateway_declared=given.get("gateway_declared"),
    )
    assert (found.declared, found.running, found.healthy, found.missing) == expected


def test_pressure_and_traffic_are_those_of_the_machine() -> None:
    text = "some avg10=1.50 avg60=2 avg300=3 total=4\nfull avg10=0.25 avg60=0 avg300=0 total=0\n"
    assert pressure(text) == {"some": 1.5, "full": 0.25}
    assert pressure("") == {}
    lines = (
        b"h\nh\n  lo: 1 0 0 0 0 0 0 0 1 0\neth0: 5 0 0 0 0 0 0 0 6 0\nveth1: 9 0 0 0 0 0 0 0 9 0\n"
    )
    assert own_traffic(lines) == (5, 6)


def test_the_disk_forecast_continues_the_last_hour_and_needs_ten_points() -> None:
    points = [(60.0 * i, 50 + i / 6) for i in range(20)]
    assert predicted(points, 4) == pytest.approx(points[-1][1] + 40, abs=0.1)
    assert predicted(points[:5], 4) is None, "too few points"
    assert predicted([(0.0, 1.0)] * 20, 4) is None
