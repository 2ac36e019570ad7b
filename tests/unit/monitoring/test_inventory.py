"""The inventory against a fake daemon: events, lost streams, odd names, restarts."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring import inventory as inventory_module
from monitoring.inventory import Inventory, Watcher
from monitoring.model import Container, from_inspect, in_project
from tests.support.fake_docker import FakeDocker
from tests.support.monitored_world import APE, wait_until

pytestmark = pytest.mark.unit


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDocker]:
    made = FakeDocker(tmp_path)
    yield made
    made.close()


@pytest.fixture
def watch(daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watcher]]:
    monkeypatch.setattr(inventory_module, "_BACKOFF_SECONDS", (0.05, 0.2))
    started: list[Watcher] = []

    def start(project: str = "ape-dev") -> Watcher:
        started.append(Watcher(Inventory(project), daemon.url))
        started[-1].start()
        return started[-1]

    yield start
    for watcher in started:
        watcher.stop()


def agent(slot: int) -> dict[str, Any]:
    return {
        "name": f"ape-dev-agent-{slot:04d}",
        "labels": {**APE, "ape.service": "agent", "ape.tier": "1-50"},
        "env": [f"APE_AGENT_SLOT=0+{slot}"],
    }


def names(watcher: Watcher) -> list[str]:
    return [c.name for c in watcher.inventory.snapshot()]


def test_the_inventory_follows_the_listing_and_then_events(
    daemon: FakeDocker, watch: Callable[..., Watcher]
) -> None:
    daemon.put("a", **agent(1), pid=7)
    daemon.put("x", "another")
    watcher = watch()
    wait_until(watcher.listed.is_set)
    [found] = watcher.inventory.snapshot()
    assert (found.name, found.service, found.slot, found.pid) == ("agent-0001", "agent", 1, 7)
    assert (found.tier, found.agents, round(found.started, 3)) == ("1-50", 1, 1767323045.679)

    daemon.put("b", **agent(2))
    daemon.emit("start", "b")
    wait_until(lambda: names(watcher) == ["agent-0001", "agent-0002"])
    daemon.emit("health_status: unhealthy", "b")
    wait_until(lambda: watcher.inventory.snapshot()[1].health == "unhealthy")
    daemon.emit("die", "b", exitCode="137")
    wait_until(lambda: watcher.inventory.snapshot()[1].exit_code == 137)
    assert watcher.inventory.snapshot()[1].failed
    daemon.emit("destroy", "b")
    wait_until(lambda: names(watcher) == ["agent-0001"])
    daemon.emit("start", "x")
    daemon.emit("exec_start: true", "a")
    daemon.emit("pause", "a")
    wait_until(lambda: watcher.inventory.snapshot()[0].state == "paused")
    assert daemon.listings == 1, "events are enough"


def test_a_lost_stream_is_followed_by_a_listing(
    daemon: FakeDocker, watch: Callable[..., Watcher]
) -> None:
    daemon.put("a", **agent(1))
    watcher = watch()
    wait_until(lambda: watcher.up)
    daemon.stop()
    wait_until(lambda: not watcher.up)
    assert names(watcher) == ["agent-0001"], "known containers stay"
    # One is removed and another created while no stream is open.
    daemon.forget("a")
    daemon.put("b", **agent(2), pid=9)
    assert watcher.age() > 0
    assert watcher.problem
    daemon.start()
    wait_until(lambda: watcher.up and names(watcher) == ["agent-0002"])
    assert watcher.age() == 0
    assert watcher.streams_lost == 1
    daemon.cut()
    wait_until(lambda: watcher.streams_lost == 2 and watcher.up)


def test_a_daemon_that_starts_later_is_listed_and_counts_as_no_lost_stream(
    daemon: FakeDocker, watch: Callable[..., Watcher]
) -> None:
    daemon.stop()
    watcher = watch()
    wait_until(lambda: "Docker does not answer" in watcher.problem)
    assert not watcher.listed.is_set()
    daemon.put("a", **agent(1))
    daemon.start()
    wait_until(lambda: names(watcher) == ["agent-0001"])
    assert watcher.streams_lost == 0, "no stream was open"


def test_500_started_and_removed_containers_leave_no_thread_and_no_history(
    daemon: FakeDocker, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    wait_until(watcher.listed.is_set)
    threads = threading.active_count()
    for i in range(1, 501):
        key = f"{i:064x}"
        daemon.put(key, **agent(i))
        daemon.emit("start", key)
        if i % 5:
            daemon.emit("die", key, exitCode="0")
            daemon.forget(key)
            daemon.emit("destroy", key)
    wait_until(lambda: len(names(watcher)) == 100, 30)
    wait_until(lambda: watcher.inventory.counts() == {}, 5)
    assert threading.active_count() == threads
    for key in list(daemon.containers):
        daemon.forget(key)
        daemon.emit("destroy", key)
    wait_until(lambda: names(watcher) == [])


def test_special_characters_in_names_are_kept(
    daemon: FakeDocker, watch: Callable[..., Watcher]
) -> None:
    odd = 'qu"ote\nand {line} [bold]'
    daemon.put("a", "plain", labels={**APE, "ape.service": odd})
    watcher = watch()
    wait_until(watcher.listed.is_set)
    assert [c.service for c in watcher.inventory.snapshot()] == [odd]


@pytest.mark.parametrize("project", ["ape", "ape-dev", ""])
def test_a_stack_belongs_to_its_project_its_stack_and_to_no_filter(project: str) -> None:
    assert in_project({**APE}, project)


def test_a_filter_matches_only_its_own_project() -> None:
    assert not in_project(APE, "ape-prod")
    assert not in_project({}, "ape")
    assert in_project({"com.docker.compose.project": "my-ape-load"}, "my-ape-load")
    assert in_project({"com.docker.stack.namespace": "s"}, "s")


def test_compose_and_swarm_containers_have_stable_names() -> None:
    compose = from_inspect(
        {
            "Id": "1",
            "Name": "/my-ape-load_llama_agent_12",
            "Config": {
                "Labels": {
                    "com.docker.compose.project": "my-ape-load",
                    "com.docker.compose.service": "llama_agent",
                }
            },
            "State": {"Status": "running"},
        }
    )
    assert (compose.name, compose.service, compose.slot) == ("agent-0012", "llama_agent", 12)
    swarm = from_inspect(
        {
            "Id": "2",
            "Name": "/ape-dev-gateway.1.abc",
            "Config": {
                "Labels": {**APE, "ape.service": "gateway", "com.docker.swarm.task.id": "abc"}
            },
            "State": {"Status": "exited", "ExitCode": 3},
        }
    )
    assert (swarm.name, swarm.exit_code, swarm.swarm) == ("gateway.1", 3, True)


def test_names_of_two_stacks_begin_with_their_stack(
    daemon: FakeDocker, watch: Callable[..., Watcher]
) -> None:
    for stack in ("dev", "prod"):
        labels = {"ape.project": "ape", "ape.stack": stack, "ape.service": "agent"}
        daemon.put(stack, f"ape-{stack}-agent-0001", labels=labels, env=["APE_AGENT_SLOT=1"])
    watcher = watch("ape")
    wait_until(watcher.listed.is_set)
    assert names(watcher) == ["ape-dev/agent-0001", "ape-prod/agent-0001"]


@pytest.mark.parametrize(
    "env", ["APE_AGENT_SLOT=250+3", 'APE_SETTINGS={"slot": "250+3", "goal": "g"}']
)
def test_a_container_of_many_agents_has_the_slot_of_its_first(env: str) -> None:
    found = from_inspect(
        {
            "Id": "1",
            "Name": "/ape-dev-agent-0301",
            "Config": {
                "Labels": {**APE, "ape.service": "agent", "ape.agents": "25"},
                "Env": [env],
            },
            "State": {"Status": "running"},
        }
    )
    assert (found.name, found.slot, found.agents) == ("agent-0301", 301, 25)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def container(key: str = "a", **changes: object) -> Container:
    return Container(id=key, name="gateway", service="gateway", started=100_000.0).but(**changes)


def test_restarts_count_for_an_hour() -> None:
    clock = Clock()
    inventory = Inventory("", clock, lambda: 100_000.0)
    inventory.put(container())
    assert inventory.counts() == {}
    for turn in range(1, 4):
        clock.now += 1
        inventory.died("a", 1)
        inventory.put(container(restarts=turn), started=True)
    counts = inventory.counts()["a"]
    assert (counts.restarts, counts.restarts_hour, counts.restarts_loop) == (3, 3, 3)
    clock.now += 700
    counts = inventory.counts()["a"]
    assert (counts.restarts, counts.restarts_hour, counts.restarts_loop) == (3, 3, 0)
    # Docker does not count a manual restart, but the container did start again.
    inventory.died("a", 0)
    inventory.put(container(restarts=3), started=True)
    assert inventory.counts()["a"].restarts == 4
    clock.now += 4000
    assert inventory.counts()["a"].restarts_hour == 0


def test_restarts_before_the_monitor_count_as_of_the_last_start() -> None:
    clock = Clock()
    inventory = Inventory("", clock, lambda: 100_060.0)
    inventory.put(container(restarts=5))
    assert inventory.counts()["a"].restarts_loop == 5
    clock.now += 3600
    assert inventory.counts()["a"].restarts_hour == 0


def test_on_swarm_the_successor_of_a_failed_task_is_a_restart_and_of_a_stopped_one_is_not() -> None:
    inventory = Inventory("", Clock(), lambda: 100_000.0)
    inventory.put(container("a", swarm=True))
    inventory.died("a", 143)
    inventory.put(container("b", swarm=True), started=True)
    assert inventory.counts() == {}
    inventory.died("b", 1)
    inventory.put(container("c", swarm=True), started=True)
    assert inventory.counts()["c"].restarts == 1
    assert [c.id for c in inventory.snapshot()] == ["c"], "the running one represents the name"


def test_oom_kills_are_counted() -> None:
    inventory = Inventory("", Clock(), lambda: 100_000.0)
    inventory.put(container())
    inventory.oom("a")
    inventory.oom("nobody")
    assert inventory.counts()["a"].ooms_recent == 1


def test_a_jump_of_the_wall_clock_changes_no_count() -> None:
    wall = [100_000.0]
    inventory = Inventory("", Clock(), lambda: wall[0])
    inventory.put(container(restarts=2))
    wall[0] += 86_400
    assert inventory.counts()["a"].restarts_hour == 2
