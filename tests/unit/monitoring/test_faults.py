"""The whole monitor under faults, over a fake daemon and a synthetic tree."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import psutil
import pytest

from monitoring.__main__ import build
from monitoring.exporter import State
from monitoring.monitor import Monitor
from monitoring.options import parse_arguments
from tests.support.monitored_world import APE, World, wait_until

pytestmark = pytest.mark.unit


def usable(state: State) -> set[int]:
    return {
        c.container.slot
        for c in state.sample.containers
        if c.usage is not None and c.container.slot is not None
    }


def test_a_daemon_that_restarts_is_reported_and_listed_again(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    world.birth(1, event=False)
    made = monitor()
    assert usable(made.sample()) == {1}
    world.daemon.stop()
    wait_until(lambda: not made.watcher.up)
    # Without Docker the containers are still measured.
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


def test_a_cut_event_stream_is_followed_by_a_listing(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    made = monitor()
    world.daemon.cut()
    world.birth(1, event=False)
    wait_until(lambda: made.watcher.streams_lost == 1 and made.watcher.up)
    assert usable(made.sample()) == {1}


def test_a_container_removed_between_listing_and_reading_has_no_usage(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    for slot in (1, 2):
        world.birth(slot, event=False)
    made = monitor()
    world.tree.remove(f"{2:064x}", 100_002)
    state = made.sample()
    assert usable(state) == {1}
    assert state.sample.fleet.running == 2, "Docker has not reported it yet"


def test_a_jump_of_the_wall_clock_changes_only_the_time_of_a_sample(
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


def test_churn_over_many_samples_leaks_no_descriptor_thread_or_memory(
    world: World, monitor: Callable[..., Monitor]
) -> None:
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
    for round_ in range(3, 13):
        turn(1 + 20 * round_)
    later = measured()
    assert later[0] <= files + 1
    assert later[1] == threads
    assert later[2] <= memory * 1.05 + (2 << 20)
    assert made.inventory.counts() == {}


def test_a_receiver_that_fails_does_not_delay_samples(
    world: World, monitor: Callable[..., Monitor]
) -> None:
    made = monitor("--threshold", "diskPercent=0.001:0.001:0", "--webhook", "http://127.0.0.1:9/")
    for _ in range(3):
        began = time.monotonic()
        state = made.sample()
        assert time.monotonic() - began < 1
    assert "HighDiskUsage" in {alert.name for alert in state.alerts}
    wait_until(lambda: made.receivers[0].failed > 0)


def test_a_removed_service_raises_an_alert_and_a_removed_project_does_not(
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


def test_a_failed_sample_is_logged_and_the_next_one_is_taken(
    monitor: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    made = monitor()
    made.interval = 0.05
    seen: list[State] = []

    def show(state: State) -> None:
        seen.append(state)
        if len(seen) == 1:
            raise RuntimeError("unexpected")
        made.stop()

    made.show.append(show)
    made.run()
    assert len(seen) == 2
    assert "a sample failed" in caplog.text


def test_a_stop_at_any_line_of_run_ends_it(world: World) -> None:
    """A signal handler may call `stop` between any two lines, also of the library's wait."""

    def run(stop_at: int) -> int:
        made = build(parse_arguments(world.arguments()))
        made.interval = 0.02
        made.sample = lambda: samples.append(1)  # type: ignore[assignment,method-assign,return-value]
        samples: list[int] = []
        lines = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal lines
            if event == "line" and samples:
                lines += 1
                if lines == stop_at:
                    made.stop()
            return trace

        def work() -> None:
            sys.settrace(trace)
            try:
                made.run()
            finally:
                sys.settrace(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), f"stopped at line {stop_at}"
        return lines

    # The lines of more than one turn of the loop.
    for stop_at in range(1, 31):
        assert run(stop_at) >= stop_at
