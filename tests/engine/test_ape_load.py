"""`ape-load` as a user runs it: a process, the real engine, real Docker."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import docker
import pytest
import yaml

from ape_infra.observability import dashboards
from ape_infra.planning.plan import PROCESS_LIMIT
from tests.support.ape_load import TIERS, Command
from tests.support.live import LiveStack, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.seconds(150)]
Make = Callable[..., LiveStack]


@pytest.fixture
def ape_load(live: Make) -> Callable[..., Command]:
    def make(name: str, *, sources: bool = False, **config: Any) -> Command:
        stack = live(name, sources=sources)
        stack.config(observability="off", tiers=TIERS, **config)
        return Command(stack)

    return make


def process_limits(stack: LiveStack) -> set[int | None]:
    """The limits of what runs; containers that only carry files never start."""
    return {
        c["HostConfig"]["PidsLimit"]
        for c in stack.containers()
        if c["State"]["Status"] == "running"
    }


def test_a_test_from_up_to_down(ape_load: Callable[..., Command]) -> None:
    command = ape_load("t-load", agents=2)
    command.run("status", code=3)
    command.run("scale", "--agents", "3", "--yes", code=3)

    up = command.json("up")
    assert (up["declared"], up["healthy"]) == (2, 2)
    assert process_limits(command.stack) == {PROCESS_LIMIT}

    seen = command.json("status")
    assert (seen["configured"], seen["applied"], seen["running"], seen["healthy"]) == (2, 2, 2, 2)
    assert seen["drift"] == []
    assert seen["alerts"] is None, "nobody watches this stack"
    assert seen["rates"]["requests_per_second"] > 0
    assert seen["rates"]["request_seconds"]["p50"] > 0
    assert (
        0 < seen["resources"]["agent"]["memory_mb"] < seen["resources"]["agent"]["memory_limit_mb"]
    )
    assert seen["resources"]["agent"]["memory_limit_mb"] == 2 * TIERS[0]["memoryMb"]

    checks = command.json("validate")
    assert checks["passed"]
    assert {c["name"] for c in checks["checks"]} >= {"settings", "gateway", "target", "key"}

    plan = command.json("plan", "--agents", "60")
    assert [level["agents"] for level in plan["levels"]] == [12, 24, 48, 60]
    assert [level["crosses_tier"] for level in plan["levels"]] == [False, False, True, False]
    assert plan["estimate_seconds"] > 0
    assert next(c for c in plan["checks"] if c["name"] == "target")["state"] == "ok"

    before = command.stack.stack.history()
    dry = command.json("scale", "--agents", "4", "--dry-run")
    assert dry["preview"]["create"] == 2
    assert command.configured() == 2
    assert len(command.stack.stack.history()) == len(before)

    done = command.json("scale", "--agents", "4", "--yes")
    assert (done["from"], done["held"], done["well"]) == (2, 4, True)
    assert {c["name"] for c in done["levels"][0]["checks"]} >= {"agents", "services", "cpu"}
    command.assert_consistent(4)
    assert process_limits(command.stack) == {PROCESS_LIMIT}
    assert command.messages()[-1] == "ape-load: scale 2 -> 4, level 1 of 1"

    out, _ = command.run("logs", "--service", "llama_agent", "--tail", "50")
    assert {line.split()[0] for line in out.splitlines()} == {f"agent-{i:04d}" for i in range(1, 5)}
    out, _ = command.run("logs", "--agent", "3", "--grep", "session", "--json")
    sessions = [json.loads(line) for line in out.splitlines()]
    assert {s["container"] for s in sessions} == {"agent-0003"}
    sessions = [s for s in sessions if "session" in s]
    out, _ = command.run("logs", "--session", sessions[-1]["session"], "--tail", "1000", "--json")
    of_one = [json.loads(line) for line in out.splitlines()]
    assert {s["container"] for s in of_one} >= {"agent-0003", "gateway", "proxy"}
    assert {s["trace_id"] for s in of_one} == {sessions[-1]["trace_id"]}
    assert [s["ts"] for s in of_one] == sorted(s["ts"] for s in of_one)
    command.run("logs", "--service", "nobody", code=2)

    # Commands that run until Ctrl-C show new entries, and then exit with 0.
    for arguments in (
        ("logs", "--service", "gateway", "-f", "--tail", "3", "--json"),
        ("status", "--watch", "--seconds", "1", "--json"),
    ):
        going = command.start(*arguments)
        assert going.stdout is not None
        shown = [json.loads(going.stdout.readline()) for _ in range(4)]
        assert all(x.get("container") == "gateway" or x.get("healthy") == 4 for x in shown), shown
        going.send_signal(signal.SIGINT)
        going.communicate(timeout=30)
        assert going.returncode == 0

    done = command.json("scale", "--agents", "5", "--timeout", "1", "--yes", code=4)
    assert done["held"] == 4
    command.assert_consistent(4)

    done = command.json("scale", "--agents", "1", "--strategy", "immediate", "--yes")
    assert done["held"] == 1
    command.assert_consistent(1)

    command.stack.client.api.stop(command.stack.containers("agent")[0]["Id"], timeout=0)
    seen = command.json("status", code=3)
    assert any("1 agents are applied, 0 run" in line for line in seen["drift"])

    command.run("down")
    assert command.stack.leftovers() == []


def crash(client: docker.DockerClient, stack: str, above: int, done: threading.Event) -> None:
    """Kill the process of every agent above that number, as soon as it runs."""
    while not done.is_set():
        for c in client.api.containers(
            filters={"label": [f"ape.stack={stack}", "ape.service=agent"]}
        ):
            if int(c["Names"][0].rpartition("-")[2]) > above:
                try:
                    pid = client.api.inspect_container(c["Id"])["State"]["Pid"]
                    if pid:
                        os.kill(pid, signal.SIGKILL)
                except (docker.errors.APIError, ProcessLookupError):
                    continue
        time.sleep(0.2)


def stop_gateway(
    client: docker.DockerClient, stack: str, above: int, done: threading.Event
) -> None:
    """Stop the gateway as soon as an agent above that number runs."""
    while not done.is_set():
        names = [
            c["Names"][0] for c in client.api.containers(filters={"label": [f"ape.stack={stack}"]})
        ]
        if any(n.endswith(f"agent-{above + 1:04d}") for n in names):
            client.api.stop(f"ape-{stack}-gateway", timeout=5)
            return
        time.sleep(0.2)


FIRST, STEP, GOAL = (int(x) for x in os.environ.get("APE_TEST_SCALE", "2,2,6").split(","))


def too_full(above: int) -> dict[str, Any]:
    """A reading of memory over its limit, for levels of more than `above` agents."""
    return {"from_agents": above + 1, "set": {"memory_percent": 91.0}}


@pytest.mark.skipif(os.geteuid() != 0, reason="kills processes of containers")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [(None, "memory: 91 %"), (crash, "restarts"), (stop_gateway, "services")],
    ids=["memory", "crash", "gateway"],
)
def test_a_fault_at_the_second_level_returns_to_the_first(
    ape_load: Callable[..., Command],
    request: pytest.FixtureRequest,
    fault: Callable[..., None] | None,
    reason: str,
) -> None:
    command = ape_load(f"t-fault-{request.node.callspec.id}", agents=FIRST)
    command.run("up")
    levels = [
        x["agents"]
        for x in command.json("plan", "--agents", str(GOAL), "--step", str(STEP))["levels"]
    ]
    assert len(levels) >= 2
    arguments = ("scale", "--agents", str(GOAL), "--step", str(STEP), "--yes")
    done = threading.Event()
    if fault:
        given = (command.stack.client, command.stack.name, levels[0], done)
        thread = threading.Thread(target=fault, args=given)
        thread.start()
    else:
        command.inject(too_full(levels[0]))
    try:
        found = command.json(*arguments, code=4)
    finally:
        done.set()
        if fault:
            thread.join()
    assert found["held"] == levels[0], found
    assert any(r.startswith(reason) for r in found["reasons"]), found
    command.assert_consistent(levels[0])
    assert command.messages()[-1].endswith(f"level 2 of {len(levels)} failed: rollback")
    assert command.json("status")["healthy"] == levels[0]
    command.run("down")
    assert command.stack.leftovers() == []


MOMENTS = [float(x) for x in os.environ.get("APE_TEST_MOMENTS", "1.5,5,12").split(",")]


def test_kill_at_any_moment_leaves_a_stack_that_the_next_command_fixes(
    ape_load: Callable[..., Command],
) -> None:
    command = ape_load("t-cut", agents=2)
    command.run("up")
    for number, moment in enumerate(MOMENTS):
        # A session of its own, so that the whole of it can be killed as by a power cut; every
        # other time only the command is, and its engine lives on.
        process = command.start("scale", "--agents", "12", "--yes", start_new_session=True)
        time.sleep(moment)
        if number % 2 == 0:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        assert command.configured() == 2, "the last level that held"
        command.run("up")
        command.assert_consistent(2)
    command.run("down")
    assert command.stack.leftovers() == []


def test_two_at_once_and_a_stop(ape_load: Callable[..., Command]) -> None:
    command = ape_load("t-two", agents=1)
    command.run("up")
    # Seen as ill, the level is waited for until its time to settle is over: longer than this takes.
    command.inject({"set": {"healthy": 0}})
    first = command.start("scale", "--agents", "4", "--yes")
    wait_until(lambda: len(command.stack.names("agent")) == 4, seconds=60)
    _, err = command.run("scale", "--agents", "2", "--yes", code=2)
    assert f"process {first.pid}" in err
    assert "scale --stack t-two --agents 4" in err
    # Ctrl-C in the observation window: the command rolls back before it ends.
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert first.returncode == 130
    command.assert_consistent(1)
    command.run("down")


WAVES = {
    "updateParallelism": 2,
    "updateMonitorSeconds": 3,
    "tiers": [
        {"minAgents": 1, "maxAgents": 4, "memoryMb": 160, "cpus": 0.25},
        {"minAgents": 5, "maxAgents": 40, "memoryMb": 128, "cpus": 0.2},
        {"minAgents": 41, "maxAgents": 2000, "memoryMb": 64, "cpus": 0.2},
    ],
}


def test_crossing_a_tier_and_a_rollout_go_in_waves(ape_load: Callable[..., Command]) -> None:
    command = ape_load("t-waves", agents=4)
    command.stack.config(**WAVES)
    command.run("up")
    _, err = command.run("scale", "--agents", "5", "--yes")
    assert "4 → 5 crosses into tier 5-40: 4 agents change, 2 at a time" in err
    command.assert_consistent(5)
    text = "ape-load: scale 4 -> 5, level 1 of 1"
    assert command.messages()[-3:] == [f"{text}, wave 1 of 2", f"{text}, wave 2 of 2", text]
    limits = {c["HostConfig"]["Memory"] for c in command.stack.containers("agent")}
    assert limits == {128 * 2**20}

    done = command.json("rollout", "--set", "thinkTimeSeconds=2", "--yes")
    assert done["well"]
    command.assert_consistent(5)
    assert "wave 3 of 3" in command.messages()[-2]
    command.run("rollout", "--set", "thinkTimeSeconds=-1", "--yes", code=2)
    assert command.json("rollout", "--yes")["changes"].keys() == {"same"}
    command.run("down")


def test_a_rollout_of_agents_that_cannot_start_is_taken_back(
    ape_load: Callable[..., Command],
) -> None:
    command = ape_load("t-taken-back", sources=True, agents=5)
    command.stack.config(**WAVES)
    command.run("up")
    images = {c["Config"]["Image"] for c in command.stack.containers("agent")}
    main = command.stack.root / "services/ape_agent/__main__.py"
    main.write_text("if __name__ == '__main__':\n    raise SystemExit(1)\n")
    # The first wave is taken back, and the config names what runs.
    found = command.json("rollout", "--yes", code=4)
    assert any(r.startswith("restarts") for r in found["reasons"]), found
    command.assert_consistent(5)
    assert {c["Config"]["Image"] for c in command.stack.containers("agent")} == images
    written = yaml.safe_load(command.stack.file.read_text())
    assert written["config"]["ape:images"]["agent"] in images
    command.run("down")


def test_a_report_a_backup_and_its_restore(ape_load: Callable[..., Command]) -> None:
    command = ape_load("t-keep", agents=1)
    command.stack.config(observability="metrics")
    command.run("up")
    success = 'ape_sessions_total{result="success"}'

    def counted(at: float | None = None) -> float:
        query = f"/api/v1/query?query={success}" + (f"&time={at}" if at else "")
        found = command.stack.get("prometheusPort", query).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0

    wait_until(lambda: counted() >= 2, seconds=90)
    then, many = time.time(), counted()
    assert command.json("status")["alerts"] == []

    root = command.stack.root
    written = command.json("report", "--output", str(root / "report.html"))
    assert written["sessions"]["success"] >= many
    page = (root / "report.html").read_text()
    assert "No data in this time" not in page
    data = re.search(r"<script[^>]*application/json[^>]*>(.+?)</script>", page, re.DOTALL)
    assert data is not None
    drawn = {chart["title"] for chart in json.loads(data[1])["charts"]}
    assert drawn == {p.title for d in dashboards.ALL for p in d.panels if p.main}
    assert "up, 1 agents" in page

    kept = command.json("backup", "--output", str(root / "kept.tar.gz"))
    assert kept["parts"] == ["manifest.json", "stack.yaml", "state.json", "prometheus.tar"]
    assert (root / "kept.tar.gz").stat().st_mode & 0o077 == 0
    command.run("restore", str(root / "kept.tar.gz"), code=2)

    command.run("down")
    assert command.stack.leftovers() == []
    # An empty machine: no state, and no config.
    (root / f"Pulumi.{command.stack.name}.yaml").unlink()
    command.run("restore", str(root / "kept.tar.gz"))
    command.assert_consistent(1)
    assert counted(then) == many, "Prometheus remembers the test"
    command.run("down")
    assert command.stack.leftovers() == []
