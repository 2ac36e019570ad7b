"""The monitor while the dockerd under it is killed and started again; a dockerd of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from ape_infra.config.settings import Settings
from tests.support.live import wait_until
from tests.support.nodes import Node, Nodes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="starts dockerds"),
]
IMAGE = Settings().images.base
PORT = 19_199
INTERVAL = 5
AGENTS = {"agent-0001", "agent-0002", "agent-0003"}


@pytest.fixture
def node() -> Iterator[Node]:
    with Nodes(1, swarm=False) as made:
        node = made.nodes[0]
        made.load([IMAGE])
        for slot in range(1, len(AGENTS) + 1):
            node.client().containers.run(
                IMAGE,
                ["python", "-c", "import time; time.sleep(3600)"],
                name=f"ape-t-dockerd-agent-{slot:04d}",
                environment={"APE_AGENT_SLOT": str(slot)},
                labels={"ape.project": "ape", "ape.stack": "t-dockerd", "ape.service": "agent"},
                restart_policy={"Name": "always"},
                mem_limit="64m",
                detach=True,
            )
        yield node


@pytest.fixture
def monitor(node: Node, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "monitoring", "--project", "ape-t-dockerd", "--no-console"),
            *("--docker-host", node.host, "--interval", str(INTERVAL), "--port", str(PORT)),
            *("--output", str(tmp_path / "samples.jsonl")),
        ]
    )
    yield process
    process.kill()
    process.wait()


def sample() -> dict[str, Any]:
    """The last sample; an empty one while the monitor does not answer."""
    try:
        answer = requests.get(f"http://127.0.0.1:{PORT}/sample", timeout=5)
        answer.raise_for_status()
    except requests.RequestException:
        return {"containers": [], "monitor": {"docker_up": None}}
    found: dict[str, Any] = answer.json()
    return found


def seen(since: float = 0.0) -> set[str]:
    """Agents that were started after `since` (Unix time), run, and are measured."""
    return {
        c["name"]
        for c in sample()["containers"]
        if c["state"] == "running" and c["started"] > since and c.get("memory_bytes")
    }


def open_files(process: subprocess.Popen[bytes]) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def test_a_dockerd_that_is_killed_and_started_again(
    node: Node, monitor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    wait_until(lambda: seen() == AGENTS, seconds=30)
    # What is opened on demand is open after a first answer.
    files = open_files(monitor)
    for _ in range(2):
        killed = time.time()
        node.crash()
        wait_until(lambda: sample()["monitor"]["docker_up"] is False, seconds=2 * INTERVAL)
        node.serve()
        answers = time.monotonic()
        wait_until(lambda since=killed: seen(since) == AGENTS, seconds=2 * INTERVAL)
        print(f"seen again {time.monotonic() - answers:.1f} s after dockerd answered")
        wait_until(lambda: open_files(monitor) <= files, seconds=2 * INTERVAL)
    assert sample()["monitor"]["streams_lost"] == 2

    monitor.send_signal(signal.SIGTERM)
    assert monitor.wait(10) == 0
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    times = [line["ts"] for line in lines]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert max(pauses) < 1.5 * INTERVAL, "it went on without Docker"
    assert not any(
        a["name"] in ("MonitorDataStale", "ServiceUnavailable") for a in lines[-1]["alerts"]
    )
