"""1000 containers in a synthetic tree: the monitor as deployed, with a stand-in for Docker."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.monitor.process import cpu_seconds, get, resident_mb
from tests.support.cgroup_tree import Tree
from tests.support.fake_docker import FakeDocker

INTERVAL = 5
GOALS = {"cpu_percent": 1.0, "sample_ms": 60.0, "resident_mb": 60.0, "metrics_ms": 150.0}


def run(seconds: int, containers: int | None) -> dict[str, Any]:
    """Return percent of one core, milliseconds and megabytes, as medians."""
    count = containers or 1000
    # In memory, like the kernel's files.
    shm = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        tree, daemon = Tree(Path(folder) / "tree"), FakeDocker(Path(folder))
        for slot in range(1, count + 1):
            key = f"{slot:064x}"
            tree.put(key, 100_000 + slot)
            labels = {"ape.project": "ape", "ape.stack": "bench", "ape.service": "agent"}
            env = [f"APE_AGENT_SLOT={slot}"]
            daemon.put(
                key, f"ape-bench-agent-{slot:04d}", pid=100_000 + slot, labels=labels, env=env
            )
        try:
            return measure(tree, daemon.url, seconds, count)
        finally:
            daemon.close()


def measure(tree: Tree, docker_host: str, seconds: int, count: int) -> dict[str, Any]:
    port = 19_177
    process = subprocess.Popen(
        [
            *(sys.executable, "-OO", "-m", "monitoring", "--no-console", "--project", "ape-bench"),
            *("--interval", str(INTERVAL), "--port", str(port), "--docker-host", docker_host),
            *("--cgroup-root", str(tree.cgroup), "--proc-root", _proc(tree)),
        ],
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        while len(json.loads(get(f"{base}/sample"))["containers"]) < count:
            time.sleep(1)
        time.sleep(INTERVAL)
        before, began, samples = cpu_seconds(process.pid), time.monotonic(), []
        while time.monotonic() - began < seconds:
            time.sleep(INTERVAL)
        used = cpu_seconds(process.pid) - before
        passed = time.monotonic() - began
        # Only after the measurement: a request of /sample costs more than a sample.
        for _ in range(6):
            samples.append(json.loads(get(f"{base}/sample"))["monitor"]["sample_seconds"] * 1000)
            time.sleep(INTERVAL)
        rendered = []
        for _ in range(5):
            start = time.monotonic()
            size = len(get(f"{base}/metrics"))
            rendered.append((time.monotonic() - start) * 1000)
        found = {
            "cpu_percent": round(100 * used / passed, 2),
            "sample_ms": round(statistics.median(samples), 1),
            "resident_mb": round(resident_mb(process.pid), 1),
            "metrics_ms": round(statistics.median(rendered), 1),
        }
        return {
            "part": "synthetic",
            "containers": count,
            **found,
            "metrics_bytes": size,
            "goals": {key: found[key] <= goal for key, goal in GOALS.items()},
        }
    finally:
        process.terminate()
        process.wait()


def _proc(tree: Tree) -> str:
    """Return the tree's /proc, with the machine's own files added."""
    for name in ("stat", "meminfo", "vmstat", "loadavg", "diskstats", "sys", "pressure", "1"):
        path = tree.proc / name
        if not path.exists():
            path.symlink_to(f"/proc/{name}")
    return str(tree.proc)
