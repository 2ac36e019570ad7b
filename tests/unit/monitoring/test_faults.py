"""The whole monitor over a fake daemon and a synthetic tree: as a command, and under faults."""

from __future__ import annotations

import gc
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from monitoring import aggregate
from monitoring.__main__ import build, main
from monitoring.exporter import State
from monitoring.model import Container
from monitoring.monitor import Monitor
from monitoring.options import parse_arguments
from monitoring.system import own_traffic, predicted, pressure
from tests.support.cgroup_tree import Tree
from tests.support.fake_docker import FakeDocker
from tests.unit.monitoring.test_inventory import APE, wait_until

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]


class World:
    """A daemon and a tree that agree."""

    def __init__(self, folder: Path) -> None:
        self.daemon, self.tree = FakeDocker(folder), Tree(folder / "tree")
        for name in ("stat", "meminfo", "vmstat", "loadavg", "diskstats", "sys", "pressure", "1"):
            (self.tree.proc / name).symlink_to(f"/proc/{name}")

    def birth(self, slot: int, *, event: bool = True, **counters: Any) -> None:
        key, pid = f"{slot:064x}", 100_000 + slot
        self.tree.put(key, pid, **counters)
        labels = {**APE, "ape.service": "agent"}
        self.daemon.put(
            *(key, f"ape-dev-agent-{slot:04d}"),
            pid=pid,
            labels=labels,
            env=[f"APE_AGENT_SLOT={slot}"],
        )
        if event:
            self.daemon.emit("start", key)

    def death(self, slot: int, *, event: bool = True) -> None:
        key = f"{slot:064x}"
        self.tree.remove(key, 100_000 + slot)
        self.daemon.forget(key)
        if event:
            self.daemon.emit("die", key, exitCode="0")
            self.daemon.emit("destroy", key)

    def arguments(self, *more: str) -> list[str]:
        return [
            *("--project", "ape-dev", "--docker-host", self.daemon.url, "--disk", "/"),
            *("--cgroup-root", str(self.tree.cgroup), "--proc-root", str(self.tree.proc)),
            *more,
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.daemon.close()
    psutil.PROCFS_PATH = "/proc"


@pytest.fixture
def monitor(world: World) -> Iterator[Callable[..., Monitor]]:
    started: list[Monitor] = []

    def start(*more: str) -> Monitor:
        made = build(parse_arguments(world.arguments(*more)))
        started.append(made)
        made.start()
        wait_until(made.watcher.listed.is_set)
        return made

    yield start
    for made in started:
        made.close()


def usable(state: State) -> set[int]:
    return {
        c.container.slot
        for c in state.sample.containers
        if c.usage is not None and c.container.slot is not None
    }


# The command


def command(world: World, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "resource-monitor.py"), *world.arguments(*more)]


def test_once_as_json(world: World) -> None:
    world.birth(1, event=False)
    world.birth(2, event=False)
    done = subprocess.run(command(world, "--once", "--json"), capture_output=True, text=True)
    found = json.loads(done.stdout)
    levels = {"healthy": 0, "degraded": 3, "critical": 4}
    assert done.returncode == levels[found["health"]["level"]]
    assert [c["name"] for c in found["containers"]] == ["agent-0001", "agent-0002"]
    assert found["containers"][0]["memory_bytes"] == 60 << 20
    assert found["fleet"]["running"] == 2


def test_a_pipe_gets_lines_and_an_interrupt_ends_it_well(world: World, tmp_path: Path) -> None:
    world.birth(1, event=False)
    output = tmp_path / "samples.json"
    process = subprocess.Popen(
        command(world, "--interval", "1", "--output", str(output)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    assert "containers 1 of 1 running" in line
    assert "\x1b" not in line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert json.loads(output.read_text().splitlines()[0])["schema"] == "ape.monitor/1"


def test_a_terminal_gets_the_page_in_any_size_and_is_left_as_it_was(world: World) -> None:
    world.birth(1, event=False)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 130))
    process = subprocess.Popen(
        command(world, "--interval", "20"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = b""

    def read_until(words: bytes, seconds: float = 15) -> None:
        nonlocal shown
        end = time.monotonic() + seconds
        while words not in shown:
            assert time.monotonic() < end, shown[-2000:]
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)

    read_until(b"agent-0001", 60)
    # Drawn anew at once, and not only with the next sample.
    termios.tcsetwinsize(ours, (10, 30))
    process.send_signal(signal.SIGWINCH)
    shown = b""
    read_until(b"alerts")
    process.send_signal(signal.SIGINT)
    read_until(b"\x1b[?1049l")
    assert process.wait(10) == 0
    assert b"Traceback" not in shown
    os.close(ours)


def test_no_daemon_is_told_with_a_remedy(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.daemon.stop()
    import monitoring.__main__ as module

    before, module.LISTING_SECONDS = module.LISTING_SECONDS, 0.5
    try:
        assert main(world.arguments("--once")) == 1
    finally:
        module.LISTING_SECONDS = before
    assert "--docker-host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--interval", "0"], "--interval: '0' is no number from 1 to 3600"),
        (["--interval", "soon"], "--interval"),
        (["--port", "70000"], "--port"),
        (["--agents", "-1"], "--agents"),
        (["--webhook", "example.org"], "--webhook"),
        (["--threshold", "cpu=1"], "cpu: is no threshold"),
        (["--threshold", "systemCpuPercent"], "KEY=RAISE"),
        (["--unknown"], "--unknown"),
    ],
)
def test_bad_options_are_a_sentence_and_exit_code_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert part in capsys.readouterr().err.splitlines()[-1]


def test_an_output_that_cannot_be_opened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "/nowhere/at/all.json"]) == 1
    assert "/nowhere/at/all.json: No such file" in capsys.readouterr().err


# Faults


def test_the_daemon_restarts(world: World, monitor: Callable[..., Monitor]) -> None:
    world.birth(1, event=False)
    made = monitor()
    assert usable(made.sample()) == {1}
    world.daemon.stop()
    wait_until(lambda: not made.watcher.up)
    # Nobody says so, but the containers go on, and are measured.
    world.tree.put(f"{1:064x}", 100_001, cpu=3)
    state = made.sample()
    assert usable(state) == {1}
    assert not state.sample.monitor.docker_up
    assert state.health.level == "degraded"
    world.birth(2, event=False)
    world.death(1, event=False)
    world.daemon.start()
    wait_until(lambda: made.watcher.up)
    assert usable(made.sample()) == {2}


def test_a_stream_is_cut(world: World, monitor: Callable[..., Monitor]) -> None:
    made = monitor()
    world.daemon.cut()
    world.birth(1, event=False)
    wait_until(lambda: made.watcher.streams_lost == 1 and made.watcher.up)
    assert usable(made.sample()) == {1}


def test_a_container_vanishes_between_listing_and_reading(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    for slot in (1, 2):
        world.birth(slot, event=False)
    made = monitor()
    world.tree.remove(f"{2:064x}", 100_002)
    state = made.sample()
    assert usable(state) == {1}
    assert state.sample.fleet.running == 2, "Docker has not said so yet"


def test_a_jump_of_the_clock_changes_nothing_but_the_date(
    world: World, monitor: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.birth(1, event=False, cpu=1)
    made = monitor()
    made.sample()
    time.sleep(0.05)
    made._wall = lambda: time.time() - 86_400
    world.birth(1, event=False, cpu=1.001)
    found = made.sample()
    [one] = found.sample.containers
    assert one.cpu_percent is not None
    assert 0 < one.cpu_percent < 100
    assert found.sample.monitor.data_age == 0


def test_an_hours_churn_leaks_nothing(world: World, monitor: Callable[..., Monitor]) -> None:
    """Containers come and go over many samples; descriptors, threads and memory stay."""
    process = psutil.Process()
    made = monitor("--port", "0")

    def turn(first: int) -> None:
        for slot in range(first, first + 20):
            world.birth(slot)
        wait_until(lambda: len(made.inventory.snapshot()) == 20)
        assert len(usable(made.sample())) == 20
        assert made.exporter
        made.exporter.metrics()
        for slot in range(first, first + 20):
            world.death(slot)
        wait_until(lambda: made.inventory.snapshot() == [])
        made.sample()

    def measured() -> tuple[int, int, int]:
        gc.collect()
        psutil.PROCFS_PATH = "/proc"
        return process.num_fds(), process.num_threads(), process.memory_info().rss

    for round_ in range(3):
        turn(1 + 20 * round_)
    files, threads, memory = measured()
    for round_ in range(3, 25):
        turn(1 + 20 * round_)
    later = measured()
    assert later[0] <= files + 1
    assert later[1] == threads
    assert later[2] <= memory * 1.05 + (2 << 20)
    assert made.inventory.counts() == {}


def test_a_slow_alertmanager_does_not_slow_the_samples(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    made = monitor("--threshold", "diskPercent=0.001:0.001:0", "--webhook", "http://127.0.0.1:9/")
    for _ in range(3):
        began = time.monotonic()
        state = made.sample()
        assert time.monotonic() - began < 1
    assert "HighDiskUsage" in {alert.name for alert in state.alerts}
    wait_until(lambda: made.receivers[0].failed > 0)


def test_a_service_that_is_gone_is_told_and_a_project_that_is_gone_is_not(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    labels = {**APE, "ape.service": "gateway"}
    world.birth(1, event=False)
    world.daemon.put("g" * 64, "ape-dev-gateway", labels=labels)
    made = monitor("--threshold", "serviceDown=1:1:0")
    made.sample()
    world.daemon.emit("destroy", "g" * 64)
    wait_until(lambda: len(made.inventory.snapshot()) == 1)
    state = made.sample()
    assert state.sample.gone == ("gateway",)
    [alert] = [a for a in state.alerts if a.key == "serviceDown"]
    assert (alert.service, alert.count) == ("gateway", 1)
    world.death(1)
    wait_until(lambda: made.inventory.snapshot() == [])
    assert not [a for a in made.sample().alerts if a.key == "serviceDown"]


def test_a_sample_that_fails_is_told_and_the_next_one_is_taken(
    world: World, monitor: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    made = monitor("--interval", "1")
    seen: list[State] = []

    def show(state: State) -> None:
        seen.append(state)
        if len(seen) == 1:
            raise RuntimeError("unforeseen")
        made.stop()

    made.show.append(show)
    made.run()
    assert len(seen) == 2
    assert "a sample failed" in caplog.text


# Sums


def agent(slot: int, **changes: Any) -> Container:
    made = Container(id=str(slot), name=f"agent-{slot:04d}", service="agent", slot=slot, agents=1)
    return made.but(**changes)


@pytest.mark.parametrize(
    ("containers", "given", "expected"),
    [
        ([], {}, (None, 0, 0, 0)),
        ([agent(1), agent(2)], {}, (2, 2, 2, 0)),
        # One in the middle is gone, one is unhealthy.
        ([agent(1), agent(3, health="unhealthy")], {}, (3, 2, 1, 2)),
        ([agent(1), agent(2, state="exited", exit_code=1)], {}, (2, 1, 1, 1)),
        ([agent(1)], {"declared": 5}, (5, 1, 1, 4)),
        ([agent(1)], {"gateway_declared": 3}, (3, 1, 1, 2)),
        # Many agents a container.
        ([agent(1, agents=25), agent(26, agents=5)], {}, (30, 30, 30, 0)),
        # On Swarm a node sees only its own.
        ([agent(7, swarm=True)], {}, (None, 1, 1, 0)),
        ([agent(7, swarm=True)], {"declared": 9, "heartbeat": 8}, (9, 1, 1, 1)),
        ([agent(7, swarm=True)], {"gateway_declared": 9}, (9, 1, 1, 0)),
        ([agent(0, agents=0, swarm=True)], {"declared": 9, "heartbeat": 9}, (9, 0, 0, 0)),
    ],
)
def test_the_fleet(
    containers: list[Container], given: dict[str, int], expected: tuple[int | None, ...]
) -> None:
    found = aggregate.fleet(
        containers,
        declared=given.get("declared"),
        heartbeat=given.get("heartbeat"),
        gateway_declared=given.get("gateway_declared"),
    )
    assert (found.declared, found.running, found.healthy, found.missing) == expected


def test_pressure_and_traffic_of_the_machine() -> None:
    text = "some avg10=1.50 avg60=2 avg300=3 total=4\nfull avg10=0.25 avg60=0 avg300=0 total=0\n"
    assert pressure(text) == {"some": 1.5, "full": 0.25}
    assert pressure("") == {}
    lines = (
        b"h\nh\n  lo: 1 0 0 0 0 0 0 0 1 0\neth0: 5 0 0 0 0 0 0 0 6 0\nveth1: 9 0 0 0 0 0 0 0 9 0\n"
    )
    assert own_traffic(lines) == (5, 6)


def test_a_disk_is_predicted_from_its_last_hour() -> None:
    points = [(60.0 * i, 50 + i / 6) for i in range(20)]
    assert predicted(points, 4) == pytest.approx(points[-1][1] + 40, abs=0.1)
    assert predicted(points[:5], 4) is None, "too little to tell"
    assert predicted([(0.0, 1.0)] * 20, 4) is None
