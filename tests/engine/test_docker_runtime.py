"""The real engine against real Docker, one machine."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pulumi import automation as auto

from ape_infra.config.settings import Settings
from tests.support.live import LiveStack, sh, stand_in, wait_until
from tests.support.nodes import Node, Nodes

pytestmark = pytest.mark.engine
Make = Callable[..., LiveStack]
# Number of the dev stack's resources without the agents; the program tier lists them.
BESIDE_AGENTS = 35


def agents(first: int, last: int) -> set[str]:
    return {f"agent-{i:04d}" for i in range(first, last + 1)}


def test_scaling_touches_the_agents_in_question_and_nothing_else(live: Make) -> None:
    stack = live("t-scale")
    stack.config(agents=1)
    assert stack.up() == {"create": BESIDE_AGENTS + 1}
    stack.config(agents=5)
    assert stack.up() == {"create": 4, "same": BESIDE_AGENTS + 1}

    stack.config(agents=20)
    _, changes = stack.preview()
    assert {n: op for n, op in changes.items() if n.startswith("agent-")} == dict.fromkeys(
        agents(6, 20), "create"
    )
    # The stack itself may be listed, because its outputs change.
    assert {n for n in changes if not n.startswith("agent-")} <= {"ape-t-scale"}
    stack.up()
    assert len(stack.names("agent")) == 20
    # The engine writes all of the state at every step: what is of no use is not in it.
    state = stack.stack.export_stack().deployment or {}
    ours = [r for r in state["resources"] if r["type"].startswith("docker:")]
    assert not [r["urn"] for r in ours if "stackTrace" in r]

    stack.config(agents=5)
    _, changes = stack.preview()
    assert {n: op for n, op in changes.items() if n.startswith("agent-")} == dict.fromkeys(
        agents(6, 20), "delete"
    )
    stack.up()
    assert stack.names("agent") == [f"ape-t-scale-{n}" for n in sorted(agents(1, 5))]
    stack.stack.refresh()
    stack.assert_no_change()
    stack.destroy()
    assert stack.leftovers() == []


def test_crossing_a_tier_replaces_every_agent_within_the_update_parallelism(live: Make) -> None:
    stack = live("t-tier")
    tiers = [
        {"minAgents": 1, "maxAgents": 4, "memoryMb": 256, "cpus": 0.5},
        {"minAgents": 5, "maxAgents": 200, "memoryMb": 128, "cpus": 0.25},
        {"minAgents": 201, "maxAgents": 2000, "memoryMb": 64, "cpus": 0.1},
    ]
    stack.config(agents=4, updateParallelism=2, tiers=tiers)
    stack.up()
    stack.config(agents=5)
    _, changes = stack.preview()
    replaced = {n for n, op in changes.items() if "replace" in op}
    # The gateway's connection pools are sized by the tier too.
    assert replaced == agents(1, 4) | {"gateway"}

    fewest, done = [4], threading.Event()

    def watch() -> None:
        while not done.is_set():
            running = stack.client.api.containers(
                filters={"label": ["ape.stack=t-tier", "ape.service=agent"]}
            )
            fewest.append(len(running))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    stack.up()
    done.set()
    watcher.join()
    # Two chains: while two are replaced, two others run.
    assert min(fewest) >= 2
    limits = {c["HostConfig"]["Memory"] for c in stack.containers("agent")}
    assert limits == {128 * 2**20}
    stack.destroy()


def compiled_at_start(stack: LiveStack, container: dict[str, Any]) -> list[str]:
    """Code that one of our services must compile at each start, since its root is read-only."""
    python, *module = container["Config"]["Entrypoint"]
    if python != "python":
        return []
    code = f"import {module[-1]}.__main__"
    _, told = stack.exec(container["Id"], "python", "-v", "-c", code)
    found = [line for line in told.splitlines() if "code object from" in line]
    assert found
    return [line for line in found if ".pyc" not in line]


@pytest.mark.xdist_group("shared")
def test_every_running_container_is_hardened(shared_stack: LiveStack) -> None:
    stack = shared_stack
    plan = stack.plan()
    found = [c for c in stack.containers() if c["State"]["Status"] != "created"]
    assert len(found) == 6 + 2
    for c in found:
        host, name = c["HostConfig"], c["Name"]
        # Docker's socket belongs to root; its proxy has no capability and no network.
        proxy = name.endswith("-socket-proxy")
        user, network = c["Config"]["User"].split(":")[0], host["NetworkMode"]
        assert (user, network) == ("0", "none") if proxy else user in ("10001", "10002", "65534")
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert any(o.startswith("no-new-privileges") for o in host["SecurityOpt"]), name
        assert host["Memory"] == host["MemorySwap"] > 0, name
        assert host["NanoCpus"] > 0, name
        assert not host["Privileged"], name
        assert host["Init"], name
        assert "/tmp" in host["Tmpfs"], name
        assert c["Config"]["Healthcheck"]["Test"], name
        assert host["LogConfig"]["Type"] == "json-file", name
        assert host["LogConfig"]["Config"]["compress"] == "true", name
        assert {"max-size", "max-file"} <= set(host["LogConfig"]["Config"]), name
        assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}, name
        assert proxy == any("docker.sock" in bind for bind in host["Binds"] or []), name
        for bindings in (host["PortBindings"] or {}).values():
            assert {b["HostIp"] for b in bindings} == {"127.0.0.1"}, name
        assert compiled_at_start(stack, c) == [], name
    for c in stack.containers("agent"):
        assert c["HostConfig"]["Memory"] == plan.tier.memory_mb * 2**20
        assert c["HostConfig"]["NanoCpus"] == round(plan.tier.cpus * 10**9)


def test_the_key_is_nowhere_in_the_open(live: Make, tmp_path: Path) -> None:
    key, password = "csk-0123456789-of-a-test", "a-password-of-a-test"
    stack = live("t-secret", base="prod")
    stack.config(
        agents=1,
        allowOvercommit=True,
        cerebrasApiKey=key,
        grafanaPassword=password,
        observability="metrics",
    )
    stack.up()
    wait_until(lambda: stack.containers("agent")[0]["State"]["Running"], seconds=30)
    proxy = next(c for c in stack.containers("proxy"))
    found = stack.exec(proxy["Id"], "cat", "/etc/ape/cerebras_api_key")
    assert found == (0, key), "the proxy has its key"
    token = stack.stack.outputs()["agentToken"]
    assert token.secret
    url = f"{stack.url('proxyPort')}/v1/models"
    assert requests.get(url, timeout=10).status_code == 401
    shown = {"Authorization": f"Bearer {token.value}"}
    assert requests.get(url, headers=shown, timeout=40).status_code == 502, "nobody answers there"
    places = {
        "inspect": "".join(str(c) for c in stack.containers()),
        "logs": "".join(
            stack.client.api.logs(c["Id"]).decode(errors="replace")
            for c in stack.containers()
            if c["State"]["Status"] != "created"
        ),
        "state": "".join(
            p.read_text(errors="replace") for p in stack.state.rglob("*") if p.is_file()
        ),
        "processes": sh("ps", "axww"),
        "config": (stack.root / "Pulumi.t-secret.yaml").read_text(),
        "images": str(
            [stack.client.images.get(i).history() for i in {c["Image"] for c in stack.containers()}]
        ),
    }
    for place, text in places.items():
        assert key not in text, place
        assert password not in text, place
        assert token.value not in text, place
    stack.unprotect()
    stack.destroy()


@pytest.mark.skipif(not stand_in(), reason="the published plugin asks the daemon in a preview")
def test_a_preview_needs_no_daemon(live: Make) -> None:
    stack = live("t-blind", base="prod")
    stack.config(cerebrasApiKey="k-of-a-test", grafanaPassword="p-of-a-test")
    blind = stack.opened(DOCKER_HOST="unix:///nonexistent/docker.sock")
    changes = blind.preview().change_summary
    # Prod at 60 agents: as the program tier counts, with the stack itself.
    assert sum(changes.values()) == 1 + 114


@pytest.mark.parametrize(
    ("config", "env", "part"),
    [
        ({"agents": 0}, {}, "ape:agents: is 0"),
        ({"agents": 2001}, {}, "ape:agents: is 2001"),
        ({"target": "shop.example"}, {}, "ape:target: "),
        ({"model": "cerebras"}, {}, "ape:cerebrasApiKey: is not set"),
        ({"production": True}, {}, "ape:grafanaPassword: is not set"),
        ({"agentz": "5"}, {}, "ape:agentz: is not a setting"),
        ({}, {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}, "no Docker daemon answers"),
        ({"runtime": "swarm"}, {}, "is not a Swarm manager"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_input_is_refused_before_anything_changes(
    live: Make, config: dict[str, object], env: dict[str, str], part: str
) -> None:
    stack = live("t-bad")
    if config.get("runtime") == "swarm" and stack.client.info()["Swarm"]["ControlAvailable"]:
        pytest.skip("the daemon is a Swarm manager already")
    stack.config(**config)
    with pytest.raises(auto.CommandError, match=re.escape(part)):
        stack.opened(**env).up()
    assert stack.leftovers() == []


def test_a_taken_port_and_a_plan_too_large_are_refused(live: Make) -> None:
    stack = live("t-room", base="prod")
    stack.config(
        agents=2000,
        cerebrasApiKey="k-of-a-test",
        grafanaPassword="p-of-a-test",
        observability="metrics",
    )
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", stack.ports["gatewayPort"]))
        taken.listen()
        with pytest.raises(auto.CommandError) as caught:
            stack.stack.up()
    assert f"ape:gatewayPort: port {stack.ports['gatewayPort']} " in str(caught.value)
    assert "the machine has" in str(caught.value)
    assert stack.leftovers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a dockerd")
def test_a_full_disk_is_refused(live: Make) -> None:
    stack = live("t-disk")
    with Nodes(1, swarm=False, disk_mb=256) as made:
        stack.config(dockerHost=made.nodes[0].host)
        with pytest.raises(auto.CommandError, match=r"disk: \d+ MB are free at .* needs 2048 MB"):
            stack.stack.up()


def test_production_at_sixty_agents_is_up(live: Make) -> None:
    """The machine is too small for the limits of 60 agents, not for what they use."""
    stack = live("t-prod", base="prod")
    stack.config(cerebrasApiKey="k-of-a-test", grafanaPassword="p-of-a-test")
    stack.config(observability="metrics", allowOvercommit=True)
    # Nobody serves the model: this is about the stack, and sessions fail with model_error.
    assert stack.up() == {"create": BESIDE_AGENTS + 60}
    fleet = stack.containers("agent")
    assert len(fleet) == 60
    assert {c["HostConfig"]["Memory"] for c in fleet} == {384 * 2**20}
    assert {c["HostConfig"]["NanoCpus"] for c in fleet} == {350_000_000}
    wait_until(
        lambda: all(c["State"]["Health"]["Status"] == "healthy" for c in stack.containers("agent")),
        seconds=180,
    )
    seen = wait_until(lambda: _failed(stack), seconds=60)
    assert set(seen["by_reason"]) == {"model_error"}
    stack.unprotect()
    stack.destroy()
    assert stack.leftovers() == []


def _failed(stack: LiveStack) -> dict[str, Any]:
    found: dict[str, Any] = stack.get("gatewayPort", "/fleet").json()["sessions"]
    return found if found["failure"] else {}


@pytest.fixture
def node(held_images: dict[str, str]) -> Iterator[Node]:
    """A daemon of the test's own, which has our images and Prometheus's."""
    with Nodes(1, swarm=False) as made:
        made.load([*held_images.values(), Settings().images.prometheus])
        yield made.nodes[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a dockerd")
def test_a_daemon_killed_in_the_middle_of_an_up_is_healed_by_the_next(
    live: Make, node: Node, held_images: dict[str, str]
) -> None:
    stack = live("t-kill")
    stack.run_on(node, held_images)
    stack.config(agents=20)
    failed: list[Exception] = []

    def up() -> None:
        try:
            stack.stack.up()
        except auto.CommandError as error:
            failed.append(error)

    going = threading.Thread(target=up)
    going.start()
    try:
        wait_until(lambda: failed or len(stack.names("agent")) >= 5, seconds=180)
        assert not failed
        node.crash()
        going.join()
    finally:
        node.serve()
    assert failed, "the up was to be cut off"

    stack.stack.refresh()
    stack.up()
    names = [c["Name"] for c in stack.containers("agent")]
    assert len(names) == len(set(names)) == 20
    assert all(c["State"]["Running"] for c in stack.containers("agent"))
    stack.destroy()
    assert stack.leftovers() == []
