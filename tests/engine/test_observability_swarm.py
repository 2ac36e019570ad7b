"""`observability: full` on a Swarm, but for the part that has no stand-in (Grafana)."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from ape_infra.automation.stacks import read_settings
from tests.support.images import observability_images
from tests.support.live import LiveStack, wait_until
from tests.support.nodes import Nodes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.seconds(170),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="starts a dockerd"),
]
PARTS = ["prometheus", "alertmanager", "victorialogs", "alloy"]


@pytest.fixture
def swarm() -> Iterator[Nodes]:
    with Nodes(1) as made:
        yield made


def test_full_watches_a_swarm(
    swarm: Nodes, live: Callable[..., LiveStack], held_images: dict[str, str]
) -> None:
    observability_images()
    (node,) = swarm.nodes
    stack = live("t-obs-swarm")
    stack.run_on(node, held_images)
    stack.config(
        agents=2,
        runtime="swarm",
        observability="full",
        observabilityParts=PARTS,
        logStore="victorialogs",
    )
    settings = read_settings(stack.stack)
    swarm.load([*held_images.values(), *settings.part_images.values()])
    # Proves that a preview shows no change afterwards.
    stack.up()

    def targets() -> dict[str, str]:
        """Job -> health, as Prometheus sees them."""
        found = stack.inside("gateway", "http://prometheus:9090/api/v1/targets")
        active = found["data"]["activeTargets"] if found else []
        return {target["labels"]["job"]: target["health"] for target in active}

    jobs = {"gateway", "proxy", "monitor", *PARTS}
    wait_until(lambda: targets() == dict.fromkeys(jobs, "up"), seconds=120)
    health = "http://victorialogs:9428/health"
    wait_until(lambda: stack.inside("gateway", health) == "OK", seconds=60)

    def asked(path: str) -> Any:
        return stack.inside("gateway", f"http://prometheus:9090/api/v1/{path}")["data"]

    # Prometheus has found Alertmanager, and its Watchdog has arrived there.
    assert len(asked("alertmanagers")["activeAlertmanagers"]) == 1

    def alerts() -> set[str]:
        found = stack.inside("gateway", "http://alertmanager:9093/api/v2/alerts")
        return {alert["labels"]["alertname"] for alert in found}

    wait_until(lambda: "Watchdog" in alerts(), seconds=60)
    # What agents do, and what the monitor sees of them, is there.
    wait_until(lambda: asked("query?query=ape:session_success:ratio_rate2m")["result"], seconds=120)
    wait_until(
        lambda: len(asked("query?query=ape_agent_memory_usage_bytes")["result"]) == 2, seconds=60
    )

    # The log of an agent's task has arrived.
    query = urlencode({"query": '{service="agent"}', "limit": 1})
    lines = f"http://victorialogs:9428/select/logsql/query?{query}"
    wait_until(lambda: stack.inside("gateway", lines), seconds=60)

    stack.destroy()
    wait_until(lambda: stack.leftovers() == [], seconds=60)
