"""Known loads: the monitor's figures compared with the kernel's counters and `docker stats`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import docker

from bench.monitor.containers import IMAGE, LABELS, make_image, remove
from bench.monitor.process import get

WITHIN = 0.05
LOADS = {
    "cpu": ["--cpu", "1", "--cpu-load", "60"],
    "memory": ["--vm", "1", "--vm-bytes", "96m", "--vm-keep", "--vm-method", "zero-one"],
    "io": [
        "--hdd",
        "1",
        "--hdd-bytes",
        "32m",
        "--hdd-opts",
        "direct,wr-seq,rd-seq",
        "--hdd-ops",
        "1000000",
    ],
}
_V1 = not Path("/sys/fs/cgroup/cgroup.controllers").exists()


@contextlib.contextmanager
def loads(
    client: docker.DockerClient, folder: Path, device: str | None
) -> Iterator[dict[str, str]]:
    """Run one container per load: name -> id. `device` is the disk of `folder`."""
    make_image(client, "stress-ng")
    api, found = client.api, {}
    # Linux counts I/O on cgroup v1 only with a limit (docs/facts.md); this one is never reached.
    rule: Mapping[str, str | int] = {"Path": device or "", "Rate": 10**12}
    throttle = [rule] if device else None
    try:
        for name, words in LOADS.items():
            made = api.create_container(
                IMAGE,
                ["/bin/stress-ng", *words, "--temp-path", "/data", "--timeout", "0"],
                name=f"ape-bench-{name}",
                labels={**LABELS, "ape.service": name},
                host_config=api.create_host_config(
                    mem_limit="256m",
                    nano_cpus=400_000_000,
                    binds={str(folder): {"bind": "/data"}},
                    device_read_bps=throttle,
                    device_write_bps=throttle,
                ),
            )
            api.start(made["Id"])
            found[name] = made["Id"]
        time.sleep(2)
        for name, key in found.items():
            if not api.inspect_container(key)["State"]["Running"]:
                raise SystemExit(f"bench: load {name} ended: {api.logs(key).decode()}")
        yield found
    finally:
        remove(client)


def device_of(folder: Path, dev: Path = Path("/sys/dev/block")) -> str | None:
    """Return the disk of `folder`, such as /dev/vda; of a partition, its disk.

    None where the folder is not on a disk: memory, an overlay, a network.
    """
    number = folder.stat().st_dev
    at = dev / f"{os.major(number)}:{os.minor(number)}"
    if not at.exists():
        return None
    at = at.resolve()
    return f"/dev/{at.parent.name if (at / 'partition').exists() else at.name}"


def _counters(key: str) -> dict[str, float]:
    """Read the kernel's files without the monitor's code: bytes and seconds."""
    if _V1:
        cpu = int(Path(f"/sys/fs/cgroup/cpuacct/docker/{key}/cpuacct.usage").read_text()) / 1e9
        memory = Path(f"/sys/fs/cgroup/memory/docker/{key}")
        stat = dict(line.split() for line in (memory / "memory.stat").read_text().splitlines())
        used = int((memory / "memory.usage_in_bytes").read_text())
        inactive = int(stat["total_inactive_file"])
        io = Path(f"/sys/fs/cgroup/blkio/docker/{key}/blkio.throttle.io_service_bytes_recursive")
        lines = [line.split() for line in io.read_text().splitlines()]
        read = sum(int(line[2]) for line in lines if line[1:2] == ["Read"])
        written = sum(int(line[2]) for line in lines if line[1:2] == ["Write"])
    else:
        [folder] = Path("/sys/fs/cgroup").rglob(f"*{key}*")
        stat = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        cpu = int(stat["usage_usec"]) / 1e6
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used, inactive = int((folder / "memory.current").read_text()), int(stat["inactive_file"])
        words = (folder / "io.stat").read_text().split()
        read = sum(int(w.partition("=")[2]) for w in words if w.startswith("rbytes="))
        written = sum(int(w.partition("=")[2]) for w in words if w.startswith("wbytes="))
    return {"cpu": cpu, "memory": used - inactive, "read": read, "written": written}


def run(seconds: int, containers: int | None) -> dict[str, Any]:
    """Return relative errors over the interval; the goal is at most 5 % for each."""
    client, port = docker.from_env(timeout=60), 19_179
    folder = Path("/var/tmp/ape-bench")  # noqa: S108 - a disk; /tmp may be memory
    folder.mkdir(exist_ok=True)
    device = device_of(folder)
    with loads(client, folder, device) as ids:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "monitoring", "--no-console", "--project", "ape-bench"),
                *("--interval", "5", "--port", str(port)),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            found = _compared(client, ids, f"http://127.0.0.1:{port}/sample", seconds)
            return {**found, "device": device}
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _sample(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(url))
    return found


def _next(url: str, count: int) -> tuple[dict[str, Any], float]:
    """Return the next sample, and its time on the monotonic clock."""
    last = _sample(url)["monitor"]["samples"]
    while True:
        found = _sample(url)
        if found["monitor"]["samples"] > last and len(found["containers"]) >= count:
            return found, time.monotonic()
        time.sleep(0.02)


def _rate(
    before: dict[str, Any], after: dict[str, Any], count: Callable[[dict[str, Any]], float]
) -> float:
    """Return a rate per second over the interval; `docker stats` itself covers one second."""
    times = [datetime.fromisoformat(stats["read"][:26] + "+00:00") for stats in (before, after)]
    return (count(after) - count(before)) / (times[1] - times[0]).total_seconds()


def _docker_memory(stats: dict[str, Any]) -> float:
    memory = stats["memory_stats"]
    inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))
    return float(memory["usage"] - inactive)


def _docker_io(kind: str) -> Callable[[dict[str, Any]], float]:
    def count(stats: dict[str, Any]) -> float:
        lines = stats["blkio_stats"]["io_service_bytes_recursive"] or ()
        return float(sum(line["value"] for line in lines if line["op"].lower() == kind))

    return count


def _compared(
    client: docker.DockerClient, ids: dict[str, str], url: str, seconds: int
) -> dict[str, Any]:
    time.sleep(10)
    _next(url, len(ids))
    before = {name: client.api.stats(key, stream=False) for name, key in ids.items()}
    _next(url, len(ids))
    start = {name: _counters(key) for name, key in ids.items()}
    began, samples = time.monotonic(), []
    while time.monotonic() - began < seconds:
        samples.append(_next(url, len(ids))[0])
    passed = time.monotonic() - began
    end = {name: _counters(key) for name, key in ids.items()}
    after = {name: client.api.stats(key, stream=False) for name, key in ids.items()}
    last = _sample(url)

    def mean(name: str, field: str) -> float:
        found = [c[field] for s in samples for c in s["containers"] if c["name"] == name]
        return float(sum(found) / len(found))

    def by_docker(name: str, count: Callable[[dict[str, Any]], float]) -> float:
        return _rate(before[name], after[name], count)

    cpu = {name: 100 * (end[name]["cpu"] - start[name]["cpu"]) / passed for name in ids}
    cpu_by_docker = 100 * by_docker(
        "cpu", lambda stats: stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    )
    memory = next(c for c in last["containers"] if c["name"] == "memory")["memory_bytes"]
    pairs = {
        "cpu": (mean("cpu", "cpu_percent"), cpu["cpu"]),
        "cpu_docker_stats": (mean("cpu", "cpu_percent"), cpu_by_docker),
        "memory": (memory, end["memory"]["memory"]),
        "memory_docker_stats": (memory, _docker_memory(after["memory"])),
    }
    io = {}
    for kind, op in (("read", "read"), ("written", "write")):
        io[kind] = (end["io"][kind] - start["io"][kind]) / passed
        monitor_rate = mean("io", f"disk_{kind}_rate")
        pairs[kind] = (monitor_rate, io[kind])
        pairs[f"{kind}_docker_stats"] = (monitor_rate, by_docker("io", _docker_io(op)))
    # Without a counter nothing was compared, which is a failure.
    errors = {name: ours / theirs - 1 if theirs else None for name, (ours, theirs) in pairs.items()}
    return {
        "part": "accuracy",
        "seconds": round(passed, 1),
        "cpu_percent": {name: round(value, 2) for name, value in cpu.items()},
        "io_bytes_a_second": {kind: round(value) for kind, value in io.items()},
        "memory_bytes": memory,
        "errors_percent": {n: None if e is None else round(100 * e, 2) for n, e in errors.items()},
        "not_compared": {
            name: "The kernel did not count: this disk does not accept a throttle rule."
            for name, error in errors.items()
            if error is None
        },
        "goals": {n: e is not None and abs(e) <= WITHIN for n, e in errors.items()},
    }
