"""The real engine against real Docker, as a Swarm of one node."""

import json
import os
from collections.abc import Callable, Iterator

import pytest

from ape_infra.config.settings import Settings
from ape_infra.reporting.summary import measure
from tests.support.ape_load import Command
from tests.support.live import LiveStack, wait_until
from tests.support.nodes import Node, Nodes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="starts a dockerd"),
    pytest.mark.xdist_group("swarm"),
    pytest.mark.seconds(600),
]
Make = Callable[..., LiveStack]


@pytest.fixture(scope="module")
def manager(held_images: dict[str, str]) -> Iterator[Node]:
    """The only node of a Swarm; it has our images and Prometheus's."""
    with Nodes(1) as made:
        made.load([*held_images.values(), Settings().images.prometheus])
        yield made.nodes[0]


@pytest.fixture
def swarm(live: Make, manager: Node, held_images: dict[str, str]) -> Make:
    """Makes stacks on it."""

    def make(name: str) -> LiveStack:
        stack = live(name)
        stack.run_on(manager, held_images)
        stack.config(runtime="swarm")
        return stack

    return make


def test_up_scale_and_destroy(swarm: Make) -> None:
    stack = swarm("t-swarm")
    stack.config(agents=2)
    stack.up()
    services = {s.name: s.attrs for s in stack.client.services.list()}
    ours = {n: s for n, s in services.items() if n.startswith("ape-t-swarm-")}
    assert len(ours) == 7
    for name, service in ours.items():
        spec = service["Spec"]["TaskTemplate"]
        container = spec["ContainerSpec"]
        users = ("0",) if name.endswith("-socket-proxy") else ("10001", "10002", "65534")
        assert container["User"].split(":")[0] in users, name
        assert container["ReadOnly"], name
        assert container["Init"], name
        assert container["CapabilityDrop"] == ["ALL"], name
        assert container["StopGracePeriod"] > 0, name
        assert container["Healthcheck"]["Test"], name
        assert spec["Resources"]["Limits"]["MemoryBytes"] > 0, name
        assert spec["Resources"]["Limits"]["NanoCPUs"] > 0, name
        assert spec["RestartPolicy"]["Condition"] == "any", name
        assert spec["RestartPolicy"]["MaxAttempts"] == 5, name
        assert spec["LogDriver"]["Options"]["compress"] == "true", name
        # Swarm cannot publish on loopback only, so nothing is published.
        assert not service["Endpoint"].get("Ports"), name
        policy = service["Spec"]["UpdateConfig"]
        assert (policy["Parallelism"], policy["Delay"], policy["Monitor"]) == (
            10,
            3 * 10**9,
            15 * 10**9,
        )
        assert policy["FailureAction"] == "rollback"
    for c in stack.containers():
        host, name = c["HostConfig"], c["Name"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["Memory"] > 0, name

    assert stack.inside("gateway", "http://proxy:8080/health"), "services find each other"

    wait_until(lambda: _seen_by_the_monitor(stack) == 2, seconds=60)

    stack.config(agents=4)
    _, changes = stack.preview()
    assert {n: op for n, op in changes.items() if n != "ape-t-swarm"} == {"agents-00": "update"}
    stack.up()
    slots = wait_until(lambda: _slots(stack) == {"1", "2", "3", "4"} and _slots(stack), seconds=60)
    assert slots == {"1", "2", "3", "4"}
    stack.stack.refresh()
    stack.assert_no_change()
    stack.destroy()
    wait_until(lambda: stack.leftovers() == [], seconds=60)


def test_dense_agents_are_full_replicas_and_a_rest(swarm: Make) -> None:
    stack = swarm("t-swarm-dense")
    stack.config(
        agents=5,
        agentsPerContainer=2,
        rampSeconds=0,
        observability="off",
    )
    stack.up()
    outputs = {k: v.value for k, v in stack.stack.outputs().items()}
    wait_until(lambda: measure(stack.client, "ape", stack.name, outputs).alive == 5, seconds=60)
    stack.config(agents=7)
    _, changes = stack.preview()
    # One replica more, and the rest is now agent 7, with the token of its slot.
    assert {n: op for n, op in changes.items() if n.startswith("agents-")} == {
        "agents-00": "update",
        "agents-00-rest": "update",
        "agents-00-rest-report_token": "create_replacement",
    }
    stack.up()
    wait_until(lambda: measure(stack.client, "ape", stack.name, outputs).alive == 7, seconds=90)
    wait_until(lambda: measure(stack.client, "ape", stack.name, outputs).running == 7, seconds=30)
    stack.destroy()
    wait_until(lambda: stack.leftovers() == [], seconds=60)


def test_ape_load_brings_a_first_fleet_in_steps(swarm: Make) -> None:
    stack = swarm("t-swarm-up")
    stack.config(
        agents=12,
        updateParallelism=5,
        observability="off",
    )
    command = Command(stack)
    up = command.json("up")
    assert (up["declared"], up["healthy"]) == (12, 12)
    assert [m for m in command.messages() if "up, 12" in m] == [
        "ape-load: up, 12 agents, first 5",
        "ape-load: up, 12 agents, first 10",
        "ape-load: up, 12 agents",
    ]
    stack.assert_no_change()
    # No agent was started twice: every level gave the first agents the stack config's settings.
    assert len(_tasks(stack)) == 12
    command.run("down")
    wait_until(lambda: stack.leftovers() == [], seconds=60)


def _tasks(stack: LiveStack) -> list[str]:
    """Every task of agents that there was."""
    found = stack.client.api.tasks(  # type: ignore[no-untyped-call]
        filters={"service": f"ape-{stack.name}-agents-00"}
    )
    return [task["ID"] for task in found]


def _seen_by_the_monitor(stack: LiveStack) -> int | None:
    """How many agents the monitor sees running; nothing is published, so it is asked inside."""
    found = stack.inside("monitor", "http://127.0.0.1:8080/sample")
    return found and int(found["fleet"]["running"])


def _slots(stack: LiveStack) -> set[str]:
    return {
        json.loads(env.partition("=")[2])["slot"].rpartition("+")[2]
        for c in stack.containers("agent")
        if c["State"]["Running"]
        for env in c["Config"]["Env"]
        if env.startswith("APE_SETTINGS=")
    }
