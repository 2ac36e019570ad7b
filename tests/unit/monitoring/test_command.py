"""The monitor as a command, over a fake daemon and a synthetic tree."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import monitoring.__main__ as module
from monitoring.__main__ import main
from tests.support.monitored_world import World

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]


def command(world: World, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "resource-monitor.py"), *world.arguments(*more)]


def test_once_with_json_prints_one_sample_and_exits_by_its_health(world: World) -> None:
    world.birth(1, event=False)
    world.birth(2, event=False)
    done = subprocess.run(command(world, "--once", "--json"), capture_output=True, text=True)
    found = json.loads(done.stdout)
    levels = {"healthy": 0, "degraded": 3, "critical": 4}
    assert done.returncode == levels[found["health"]["level"]]
    assert [c["name"] for c in found["containers"]] == ["agent-0001", "agent-0002"]
    assert found["containers"][0]["memory_bytes"] == 60 << 20
    assert found["fleet"]["running"] == 2


def test_a_pipe_gets_plain_lines_and_an_interrupt_ends_with_success(
    world: World, tmp_path: Path
) -> None:
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


def test_a_resized_terminal_is_redrawn_at_once_and_restored_after_an_interrupt(
    world: World,
) -> None:
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
    read_until(b"Ctrl-C ends")
    # It redraws the page immediately, before the next sample.
    termios.tcsetwinsize(ours, (10, 30))
    process.send_signal(signal.SIGWINCH)
    shown = b""
    read_until(b"alerts")
    process.send_signal(signal.SIGINT)
    read_until(b"\x1b[?1049l")
    assert process.wait(10) == 0
    assert b"Traceback" not in shown
    os.close(ours)


def test_once_without_a_daemon_fails_with_a_remedy(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.daemon.stop()
    monkeypatch.setattr(module, "LISTING_SECONDS", 0.2)
    assert main(world.arguments("--once")) == 1
    assert "--docker-host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--interval", "0"], "--interval: '0' is not a number from 1 to 3600"),
        (["--interval", "soon"], "--interval"),
        (["--port", "70000"], "--port"),
        (["--agents", "-1"], "--agents"),
        (["--webhook", "example.org"], "--webhook"),
        (["--threshold", "cpu=1"], "cpu: is not a threshold"),
        (["--threshold", "systemCpuPercent"], "KEY=RAISE"),
        (["--unknown"], "--unknown"),
    ],
)
def test_an_invalid_option_ends_with_a_message_and_exit_code_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_an_output_file_that_cannot_be_opened_fails_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--output", "/nowhere/at/all.json"]) == 1
    assert "/nowhere/at/all.json: No such file" in capsys.readouterr().err
