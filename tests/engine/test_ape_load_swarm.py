"""`ape-load` on a Swarm of three nodes, one of which dies."""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import docker
import pytest

from tests.support.ape_load import TIERS, Command
from tests.support.live import LiveStack, wait_until
from tests.support.nodes import Nodes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.seconds(370),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="starts dockerds"),
]


@pytest.fixture
def nodes(held_images: dict[str, str]) -> Iterator[Nodes]:
    with Nodes(3) as made:
        made.load(held_images.values())
        yield made


def tasks(client: docker.DockerClient, stack: str) -> Counter[str]:
    """Running agents by node."""
    found: Counter[str] = Counter()
    for service in client.services.list(filters={"name": f"ape-{stack}-agents"}):
        wanted = {"desired-state": "running"}
        for task in service.tasks(filters=wanted):  # type: ignore[no-untyped-call]
            if task["Status"]["State"] == "running":
                found[task["NodeID"]] += 1
    return found


def test_scale_of_a_spread_fleet_rolls_back_when_a_node_dies(
    nodes: Nodes, live: Callable[..., LiveStack], held_images: dict[str, str]
) -> None:
    first, *_, last = nodes.nodes
    client = first.client()
    stack = live("t-nodes")
    stack.run_on(first, held_images)
    stack.config(agents=3, runtime="swarm", observability="off", tiers=TIERS)
    command = Command(stack)
    command.run("up")
    wait_until(lambda: len(tasks(client, "t-nodes")) == 3, seconds=60)

    out, _ = command.run("logs", "--service", "llama_agent", "--tail", "50")
    shown = {line.split()[0] for line in out.splitlines()}
    assert shown == {f"agents-00.{i}" for i in (1, 2, 3)}, "of all nodes"

    plan = command.json("plan", "--agents", "6")
    assert plan["machine"]["nodes"] == 3

    # During the observation window, a node dies.
    going = command.start("scale", "--agents", "6", "--yes", "--json")
    wait_until(lambda: sum(tasks(client, "t-nodes").values()) == 6, seconds=120)
    killer = threading.Timer(10, last.kill)
    killer.start()
    _, err = going.communicate(timeout=400)
    killer.join()
    assert going.returncode == 4, err
    assert "rolling back to the last good level" in err
    assert command.configured() == 3
    wait_until(lambda: sum(tasks(client, "t-nodes").values()) == 3, seconds=120)
    assert len(tasks(client, "t-nodes")) == 2, "they came back on the other nodes"
    stack.assert_no_change()

    # The remaining nodes can run the level.
    done = command.json("scale", "--agents", "6", "--yes")
    assert done["held"] == 6
    assert sum(tasks(client, "t-nodes").values()) == 6
    command.run("down")
    time.sleep(5)
