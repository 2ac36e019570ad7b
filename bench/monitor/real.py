"""Real containers: CPU of the monitor and the daemon, compared with `docker stats --no-stream`.

Both read the same containers in the same run, once every five seconds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import docker

from bench.monitor.containers import idle_agents
from bench.monitor.process import cpu_seconds, get, named, parent, resident_mb

INTERVAL = 5
GOAL_RATIO = 50.0


def run(seconds: int, containers: int | None) -> dict[str, Any]:
    """Return CPU seconds per reading of all containers: reader, dockerd and containerd."""
    count = containers or 200
    client = docker.from_env(timeout=120)
    daemons = _of_this_host()
    with idle_agents(client, count):
        time.sleep(5)
        idle = _daemons(daemons, seconds / 2)
        ours = _monitor(daemons, seconds, count)
        theirs = _docker_stats(daemons, count)
    each = INTERVAL * idle
    ratio = theirs["cpu"] / ours["cpu"]
    net = theirs["cpu"] / max(1e-4, ours["cpu"] - each)
    return {
        "part": "real",
        "containers": count,
        "idle_daemons_percent": round(100 * idle, 2),
        "monitor": ours,
        "docker_stats": theirs,
        "ratio": round(ratio, 1),
        "ratio_without_idle_daemons": round(net, 1),
        "goals": {"ratio": ratio >= GOAL_RATIO},
    }


def _of_this_host() -> list[int]:
    """Return the processes of dockerd and its containerd; with several, those of DOCKER_HOST."""
    found = named("dockerd")
    if len(found) > 1 and (host := os.environ.get("DOCKER_HOST")):
        found = [p for p in found if host in Path(f"/proc/{p}/cmdline").read_text()]
    children = [p for p in named("containerd") if parent(p) in found]
    # Debian's containerd is a separate service.
    return found + (children or named("containerd"))


def _daemons(pids: list[int], seconds: float) -> float:
    """Return the cores that the daemons use when idle."""
    before, began = cpu_seconds(*pids), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(*pids) - before) / (time.monotonic() - began)


def _monitor(daemons: list[int], seconds: int, count: int) -> dict[str, float]:
    port = 19_178
    process = subprocess.Popen(
        [
            *(sys.executable, "-OO", "-m", "monitoring", "--no-console", "--project", "ape-bench"),
            *("--interval", str(INTERVAL), "--port", str(port)),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        while len(json.loads(get(f"http://127.0.0.1:{port}/sample"))["containers"]) < count:
            time.sleep(1)
        time.sleep(2 * INTERVAL)
        reader, daemon, began = cpu_seconds(process.pid), cpu_seconds(*daemons), time.monotonic()
        time.sleep(seconds)
        readings = (time.monotonic() - began) / INTERVAL
        reader = (cpu_seconds(process.pid) - reader) / readings
        daemon = (cpu_seconds(*daemons) - daemon) / readings
        took = json.loads(get(f"http://127.0.0.1:{port}/sample"))["monitor"]["sample_seconds"]
        start = time.monotonic()
        get(f"http://127.0.0.1:{port}/metrics")
        metrics = time.monotonic() - start
        return {
            "cpu": round(reader + daemon, 5),
            "reader": round(reader, 5),
            "daemons": round(daemon, 5),
            "wall_seconds": took,
            "metrics_seconds": round(metrics, 4),
            "resident_mb": round(resident_mb(process.pid), 1),
        }
    finally:
        process.terminate()
        process.wait()


def _docker_stats(daemons: list[int], count: int, times: int = 3) -> dict[str, float]:
    daemon, began = cpu_seconds(*daemons), time.monotonic()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(times):
        done = subprocess.run(
            ["docker", "stats", "--no-stream", "--format", "{{.Name}}"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.count("ape-bench-agent-") == count
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = (time.monotonic() - began) / times
    reader = (now.ru_utime + now.ru_stime - children.ru_utime - children.ru_stime) / times
    used = (cpu_seconds(*daemons) - daemon) / times
    return {
        "cpu": round(reader + used, 5),
        "reader": round(reader, 5),
        "daemons": round(used, 5),
        "wall_seconds": round(wall, 3),
    }
