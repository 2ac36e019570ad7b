"""The agents' container: small, quick, many in one, and against an application that is not ours."""

import json
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from ape_infra.reporting.summary import measure
from tests.support import external_app
from tests.support.live import LiveStack, wait_until

pytestmark = pytest.mark.e2e
Make = Callable[..., LiveStack]
MB = 1024 * 1024
# Issue 4.
MAX_RESIDENT_MB, AT_SESSIONS, MAX_LAYERS_MB = 45, 100, 40


def sessions(stack: LiveStack) -> dict[str, int]:
    found: dict[str, int] = stack.get("gatewayPort", "/fleet").json()["sessions"]
    return found


def resident(stack: LiveStack) -> dict[str, float]:
    """Agent -> what its share of its container's memory is, in bytes."""
    lines = stack.get("gatewayPort", "/metrics").text.splitlines()
    name = "ape_agent_resident_memory_bytes{"
    return {x.split('"')[1]: float(x.split()[-1]) for x in lines if x.startswith(name)}


def test_dense_containers_hold_agents_that_are_counted_one_by_one(live: Make) -> None:
    stack = live("t-dense")
    stack.config(agents=45, agentsPerContainer=20, rampSeconds=5, observability="off")
    stack.up()
    assert stack.names("agent") == [f"ape-t-dense-agent-{n}" for n in ("0001", "0021", "0041")]
    wait_until(lambda: sessions(stack)["success"] >= 2 * AT_SESSIONS, seconds=120)
    assert sessions(stack)["failure"] == 0
    shares = resident(stack)
    assert sorted(shares) == [f"{slot:04d}" for slot in range(1, 46)]
    # The process of twenty agents, after more than a hundred sessions of them.
    assert shares["0001"] * 20 / MB <= MAX_RESIDENT_MB
    outputs = {k: v.value for k, v in stack.stack.outputs().items()}
    wait_until(lambda: measure(stack.client, "ape", stack.name, outputs).healthy == 45, seconds=60)
    summary = measure(stack.client, "ape", stack.name, outputs)
    assert (summary.declared, summary.running, summary.alive) == (45, 45, 45)

    # Five more fit into the last container, and nothing else changes.
    stack.config(agents=50)
    _, changes = stack.preview()
    assert {n: op for n, op in changes.items() if n.startswith("agent-")} == {
        "agent-0041": changes["agent-0041"]
    }
    stack.up()
    wait_until(lambda: stack.get("gatewayPort", "/fleet").json()["alive"] == 50, seconds=60)
    stack.destroy()
    assert stack.leftovers() == []


def test_the_container_is_small_and_begins_at_once(live: Make) -> None:
    stack = live("t-small")
    stack.config(agents=1, rampSeconds=0, thinkTimeSeconds=0, observability="off")
    stack.up()
    wait_until(lambda: sessions(stack)["success"] >= AT_SESSIONS, seconds=120)
    assert resident(stack)["0001"] / MB <= MAX_RESIDENT_MB
    agent = stack.containers("agent")[0]
    # What the whole container takes, its shared pages and its tmpfs with it.
    stats = stack.client.api.stats(agent["Id"], stream=False)["memory_stats"]
    assert (stats["usage"] - stats["stats"].get("total_inactive_file", 0)) / MB <= MAX_RESIDENT_MB
    images = stack.client.images
    base, image = images.get("python:3.11-slim"), images.get(agent["Image"])
    assert (image.attrs["Size"] - base.attrs["Size"]) / MB <= MAX_LAYERS_MB
    # SIGTERM: it ends its session and reports within the grace, and exits well.
    began = time.monotonic()
    stack.client.api.stop(agent["Id"], timeout=15)
    assert time.monotonic() - began < 15
    state = stack.client.api.inspect_container(agent["Id"])["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    counted, fleet = sessions(stack), stack.get("gatewayPort", "/fleet").json()
    orders = stack.get("targetPort", "/orders/stats").json()["orders"]
    assert fleet["by_state"] == {"stopping": 1}
    assert counted["success"] == orders
    # From the start of the container to its first word with the gateway about the target.
    stack.client.api.start(agent["Id"])
    wait_until(lambda: sessions(stack)["success"] > counted["success"], seconds=30)
    state = stack.client.api.inspect_container(agent["Id"])["State"]
    logs = stack.client.api.logs(stack.containers("gateway")[0]["Id"], tail=400).decode()
    started = stamp(state["StartedAt"])
    first = min(
        (at for at in map(request_at, logs.splitlines()) if at and at >= started), default=None
    )
    assert first is not None
    print(f"first request {first - started:.2f} s after the start of the container")
    stack.destroy()


def stamp(text: str) -> float:
    """Seconds of 2026-01-02T03:04:05.678…Z."""
    return datetime.fromisoformat(text[:23] + "+00:00").timestamp()


def request_at(line: str) -> float | None:
    """When the gateway logged a request to the target; None of other lines."""
    said = json.loads(line)
    return stamp(said["ts"]) if said["msg"] == "request" else None


def test_ten_agents_reach_a_goal_in_an_application_that_is_not_ours(live: Make) -> None:
    stack = live("t-external_app")
    bridge = stack.client.api.inspect_network("bridge")["IPAM"]["Config"][0]
    # The host's own address on Docker's default bridge, which the gateway reaches from its own.
    host = bridge.get("Gateway") or bridge["Subnet"].rpartition(".")[0] + ".1"
    with external_app.served(host) as target:
        stack.config(
            agents=10,
            agentsPerContainer=5,
            target=target,
            targetGoal=external_app.GOAL,
            targetEndpoints=external_app.ENDPOINTS,
            targetSuccess=external_app.SUCCESS,
            observability="off",
            rampSeconds=3,
        )
        stack.up()
        wait_until(lambda: sessions(stack)["success"] >= 20, seconds=90)
        assert sessions(stack)["failure"] == 0
        stack.destroy()
