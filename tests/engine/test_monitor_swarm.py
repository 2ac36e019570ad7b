"""The stack's monitor on a Swarm of two nodes: one on each, and nothing counted twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from ape_contracts import labels
from ape_infra.config.settings import Settings
from ape_infra.observability import dashboards
from ape_infra.reporting import panels
from monitoring.thresholds import BY_KEY
from tests.support.ape_load import TIERS
from tests.support.live import LiveStack, exec_in, wait_until
from tests.support.nodes import Node, Nodes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.seconds(250),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="starts dockerds"),
]
STACK = "t-mon-nodes"
AGENTS = 4
# Two nodes and all their containers share this machine, so alerts about it may be true.
OF_THE_MACHINE = {rule.alert for rule in BY_KEY.values() if rule.per in ("machine", "part")} - {
    BY_KEY["agentsMissing"].alert,
    BY_KEY["dataAgeSeconds"].alert,
}


@pytest.fixture
def nodes(held_images: dict[str, str]) -> Iterator[list[Node]]:
    with Nodes(2) as made:
        made.load([*held_images.values(), Settings().images.prometheus])
        yield made.nodes


def running(node: Node, service: str | None = None) -> dict[str, str]:
    """ID (short) -> service, of the stack's containers on a node."""
    wanted = [f"{labels.STACK}={STACK}", *([f"{labels.SERVICE}={service}"] if service else [])]
    found = node.client().api.containers(filters={"label": wanted})
    return {c["Id"][:12]: c["Labels"][labels.SERVICE] for c in found}


def output(node: Node, service: str, *command: str) -> str:
    """Of a command in the service's container on the node; empty where it fails."""
    for key in running(node, service):
        code, said = exec_in(node.client(), key, *command)
        return said if code == 0 else ""
    return ""


def sample(node: Node) -> dict[str, Any]:
    """Of the node's own monitor; Swarm publishes nothing on a loopback address."""
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/sample').read().decode())"
    found: dict[str, Any] = json.loads(output(node, "monitor", "python", "-c", code) or "{}")
    return found


def seen(node: Node) -> set[str]:
    return {c["id"] for c in sample(node).get("containers", ()) if c.get("memory_bytes")}


def agents(node: Node) -> set[str]:
    return {
        c["name"]
        for c in sample(node)["containers"]
        if c["service"] == "agent" and c["state"] == "running"
    }


class Prometheus:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def node(self) -> Node:
        return next(node for node in self.nodes if running(node, "prometheus"))

    def ask(self, query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:9090/api/v1/query?query={quote(query)}"
        found = output(self.node, "prometheus", "wget", "-q", "-O", "-", url)
        result: list[dict[str, Any]] = json.loads(found)["data"]["result"] if found else []
        return result

    def value(self, query: str) -> float | None:
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else None

    def shown(self, title: str, label: str) -> dict[str, float]:
        """What a panel shows, by a label of its series."""
        panel = next(p for d in dashboards.ALL for p in d.panels if p.title == title)
        return {
            one["metric"][label]: float(one["value"][1])
            for query in panel.queries
            for one in self.ask(panels.plain(query.expr))
        }

    def alerts(self) -> set[str]:
        """Pending alerts too, so that a false one is found before its hold time ends."""
        return {a["metric"]["alertname"] for a in self.ask("ALERTS")} - OF_THE_MACHINE


def test_each_node_has_its_monitor_and_all_is_counted_once(
    nodes: list[Node], live: Callable[..., LiveStack], held_images: dict[str, str]
) -> None:
    first = nodes[0]
    stack = live(STACK)
    stack.run_on(first, held_images)
    stack.config(agents=AGENTS, runtime="swarm", tiers=TIERS)
    stack.up()

    for node in nodes:
        wait_until(lambda at=node: seen(at) and seen(at) == set(running(at)), seconds=120)
    here, there = (agents(node) for node in nodes)
    assert all((here, there)), "some on each"
    assert not here & there
    assert here | there == {f"agent-{slot:04d}" for slot in range(1, AGENTS + 1)}

    prometheus = Prometheus(nodes)

    def counted(monitors: int) -> bool:
        """Prometheus finds the monitors, and every agent once."""
        each = "count by (agent) (ape_agent_memory_usage_bytes)"
        return [
            prometheus.value('sum(up{job="monitor"})'),
            prometheus.value("sum(ape_concurrent_agents_total)"),
            prometheus.value(f"count({each})"),
            prometheus.value(f"max({each})"),
        ] == [monitors, AGENTS, AGENTS, 1]

    wait_until(lambda: counted(2), seconds=60)
    expected = {"running": AGENTS, "healthy": AGENTS, "heartbeat": AGENTS, "missing": 0}
    # Agents that became healthy since the last scrape are not counted yet.
    wait_until(lambda: prometheus.shown("Declared and seen", "state") == expected, seconds=60)
    wait_until(lambda: prometheus.alerts() == {"Watchdog"}, seconds=60)

    # A node is emptied: what ran there runs elsewhere, and nothing of it is an alert.
    other = next(node for node in nodes if node is not prometheus.node)
    _available(first, other, "drain")
    wait_until(lambda: not running(other) and counted(1), seconds=120)
    wait_until(lambda: prometheus.alerts() == {"Watchdog"}, seconds=60)
    # Its monitor comes back, and lists what has ended there.
    _available(first, other, "active")
    wait_until(lambda: counted(2), seconds=120)
    assert {a["name"] for a in sample(other)["alerts"]} <= OF_THE_MACHINE
    assert set(prometheus.shown("Healthy containers", "service").values()) == {1}
    wait_until(lambda: prometheus.alerts() == {"Watchdog"}, seconds=60)
    stack.destroy()
    wait_until(lambda: stack.leftovers() == [], seconds=60)


def _available(manager: Node, node: Node, availability: str) -> None:
    here = node.client().info()["Swarm"]["NodeID"]
    found = manager.client().nodes.get(here)
    found.update({**found.attrs["Spec"], "Availability": availability})
