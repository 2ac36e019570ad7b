"""The number of series of a fleet: as computed, and as its services expose them."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from ape_contracts import metrics
from ape_gateway.fleet import Fleet
from ape_infra.observability import cardinality
from ape_infra.planning.tiers import MAX_AGENTS
from monitoring.alerts import Health
from monitoring.exporter import State, collected, container_text
from monitoring.model import (
    Container,
    ContainerSample,
    FleetSample,
    MonitorSample,
    Sample,
    SystemSample,
    Usage,
)
from tests.support.promql import metric_of

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]
AGENTS = 1000


@given(st.integers(min_value=1, max_value=MAX_AGENTS))
def test_number_of_series_grows_linearly_with_the_fleet(agents: int) -> None:
    each = cardinality.most(2) - cardinality.most(1)
    assert cardinality.most(agents) == cardinality.most(1) + each * (agents - 1)


def test_documented_number_of_series_is_the_computed_one() -> None:
    stated = re.search(
        r"about ([\d,]+) at most at 1000 agents, (\d+) per agent",
        (ROOT / "docs/facts.md").read_text(),
    )
    assert stated
    assert int(stated[1].replace(",", "")) == round(cardinality.most(AGENTS), -3)
    assert int(stated[2]) == cardinality.most(2) - cardinality.most(1)


def monitor_exposition(agents: int) -> str:
    """Return the exposition of a monitor of the agents and the other containers."""
    usage = Usage(12.5, 100, 10, 64 << 20, 1000, 500, 4096, 8192, 128 << 20, 0.1, 0, 3)
    found = [
        Container(
            str(i),
            metrics.agent(i),
            "agent",
            slot=i,
            agents=1,
            networks=(f"ape-agents-{i // 250:02d}",),
        )
        for i in range(1, agents + 1)
    ]
    found += [
        Container(f"s{i}", f"service-{i}", f"service-{i}") for i in range(cardinality.SERVICES)
    ]
    sample = Sample(
        1e9,
        [ContainerSample(c, usage, cpu_percent=5.0) for c in found],
        SystemSample(cpu_percent=40.0, iowait_percent=1.0, disks={"/": 42.0}),
        FleetSample(agents, agents, agents, agents, 0),
        MonitorSample(),
    )

    class Collector:
        def collect(self) -> object:
            return collected(State(sample, [], Health("healthy", ""), "ape-dev", 100.0), 0.0)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    return generate_latest(registry).decode() + container_text(sample)


def gateway_exposition(agents: int) -> str:
    """Return the exposition of a gateway to which each agent reported every result."""
    registry = CollectorRegistry()
    fleet = Fleet(registry, agents)
    for slot in range(1, agents + 1):
        sessions = [{"slot": slot, "result": metrics.SUCCESS, "seconds": 1}] + [
            {"slot": slot, "result": metrics.FAILURE, "reason": reason, "seconds": 1}
            for reason in metrics.FAILURE_REASONS
        ]
        fleet.report(
            {
                "source": str(slot),
                "number": 1,
                "agents": [[slot, "running"]],
                "memory_bytes": 1e7,
                "steps": [[result, 0.1, 1.0] for result in metrics.STEP_RESULTS],
                "sessions": sessions,
            }
        )
    return generate_latest(registry).decode()


def test_thousand_agents_expose_at_most_the_computed_number_of_series() -> None:
    text = monitor_exposition(AGENTS) + gateway_exposition(AGENTS)
    shown: Counter[str] = Counter()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            metric = metric_of(re.split(r"[{ ]", line)[0])
            assert metric is not None, line
            shown[metric.name] += 1
    for metric in metrics.ALL:
        assert shown[metric.name] <= cardinality.of_metric(metric, AGENTS), metric.name
    # For metrics of each container or agent, the number is exact.
    each = {m.name for m in metrics.ALL if {"name", "agent"} & set(m.labels)}
    assert each <= set(shown)
    assert sum(shown[name] for name in each) == sum(
        cardinality.of_metric(m, AGENTS) for m in metrics.ALL if m.name in each
    )
