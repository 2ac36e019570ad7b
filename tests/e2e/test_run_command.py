"""`ape-load run` as a process of its own: signals, kill -9, tokens, and what it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ape_infra.runs import store
from ape_infra.runs.store import StoredRun
from tests.support.live import ROOT
from tests.support.run_services import TOKEN, HttpWorld, World

pytestmark = pytest.mark.e2e
SPEED = 10.0


@pytest.fixture
def world() -> Iterator[HttpWorld]:
    made = HttpWorld(World(), SPEED)
    yield made
    made.close()


class Command:
    def __init__(self, world: HttpWorld, results: Path) -> None:
        self.world, self.results = world, results

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.run_command"),
                *(*self.world.urls, TOKEN, "--results", str(self.results), *arguments),
            ],
            cwd=ROOT,
            env=os.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def only(self) -> StoredRun:
        runs, problems = store.load_all(self.results)
        assert problems == []
        assert len(runs) == 1
        return runs[0]


@pytest.fixture
def command(world: HttpWorld, tmp_path: Path) -> Command:
    return Command(world, tmp_path / "results")


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def measured(command: Command, requests: int) -> Callable[[], bool]:
    def is_written() -> bool:
        runs, _ = store.load_all(command.results)
        return bool(runs) and runs[0].summary.requests.count >= requests

    return is_written


def test_run_that_passes_writes_its_results_and_shows_no_token(
    world: HttpWorld, command: Command
) -> None:
    process = command.start("--duration", "40s", "--threshold", "session_success >= 0.75", "--json")
    code, out, err = ended(process)
    assert code == 0, err
    summary = json.loads(out)
    found = command.only()
    assert found.summary.model_dump(mode="json") == summary
    assert summary["requests"]["count"] == world.world.truth["requests"]
    assert [each["passed"] for each in summary["thresholds"]] == [True]
    assert summary["versions"]["images"] == {"gateway": "ape-gateway:1@abc"}
    assert summary["settings"]["agents"] == 2
    page = (found.path / "report.html").read_text()
    assert summary["run"] in page
    written = "".join(file.read_text() for file in found.path.rglob("*") if file.is_file())
    for secret in (TOKEN, "agents-token"):
        assert secret not in written + out + err
    tokens = {token for service, _, token in world.requests if service == "gateway"}
    assert tokens == {f"Bearer {TOKEN}"}


def test_threshold_that_is_not_met_is_exit_code_5(command: Command) -> None:
    code, out, err = ended(
        command.start("--duration", "20s", "--threshold", "session_success >= 0.95")
    )
    assert code == 5, err
    assert "FAILED" in out
    assert "NOT MET" in out
    assert max(len(line) for line in out.splitlines() if "Results:" not in line) <= 80
    assert 'failures="1"' in (command.only().path / "junit.xml").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_in_order(world: HttpWorld, command: Command, number: int) -> None:
    process = command.start("--duration", "10m")
    wait_for(measured(command, 20))
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 130, err
    assert world.world.why == "stopped"
    found = command.only()
    assert (found.summary.state, found.summary.exit_code) == ("stopped", 130)
    assert found.summary.requests.count == world.world.truth["requests"]


def test_killed_command_leaves_its_results_as_partial(command: Command) -> None:
    process = command.start("--duration", "10m")
    wait_for(measured(command, 20))
    assert command.only().is_running
    process.kill()
    ended(process)
    found = command.only()
    assert (found.summary.state, found.summary.exit_code, found.is_running) == (
        "partial",
        None,
        False,
    )
    assert found.summary.requests.count >= 20
    assert found.measurements()["intervals"]


def test_restart_of_the_gateway_is_survived(world: HttpWorld, command: Command) -> None:
    process = command.start("--duration", "60s")
    wait_for(measured(command, 20))
    with world._lock:
        world.world.boot_gateway()
    code, _, err = ended(process)
    assert code == 0, err
    found = command.only().summary
    assert found.lost.gateway_restarts == 1
    assert found.requests.count <= world.world.truth["requests"]
