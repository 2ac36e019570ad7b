"""Known loads: what the monitor says against the kernel's own counters, and `docker stats`."""

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
    """One container a load: name -> id. `device`: what `folder` is on."""
    make_image(client, "stress-ng")
    api, found = client.api, {}
    # Linux counts I/O on cgroup v1 only where a limit is set (docs/facts.md); it is never reached.
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
    """The disk that `folder` is on: /dev/vda, of a partition its disk; None where it is on none

    (memory, an overlay, a network).
    """
    number = folder.stat().st_dev
    at = dev / f"{os.major(number)}:{os.minor(number)}"
    if not at.exists():
        return None
    at = at.resolve()
    return f"/dev/{at.parent.name if (at / 'partition').exists() else at.name}"


def _counters(key: str) -> dict[str, float]:
    """Straight from the files, by other means than the monitor's: bytes and seconds."""
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
    """Relative errors over the interval; the goal is 5 % for each."""
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
    """The sample after the next one begins, and when it was seen."""
    ts = _sample(url)["monitor"]["samples"]
    while True:
        found = _sample(url)
        if found["monitor"]["samples"] > ts and len(found["containers"]) >= count:
            return found, time.monotonic()
        time.sleep(0.02)


def _compared(
    client: docker.DockerClient, ids: dict[str, str], url: str, seconds: int
) -> dict[str, Any]:
    time.sleep(10)
    _next(url, len(ids))
    before = {name: client.api.stats(key, stream=False) for name, key in ids.items()}
    _next(url, len(ids))
    start = {name: _counters(key) for name, key in ids.items()}
    began, told = time.monotonic(), []
    while time.monotonic() - began < seconds:
        told.append(_next(url, len(ids))[0])
    passed = time.monotonic() - began
    end = {name: _counters(key) for name, key in ids.items()}
    after = {name: client.api.stats(key, stream=False) for name, key in ids.items()}
    last = _sample(url)

    def mean(name: str, field: str) -> float:
        values: list[float] = [c[field] for s in told for c in s["containers"] if c["name"] == name]
        return sum(values) / len(values)

    def by_docker(name: str, count: Callable[[dict[str, Any]], float]) -> float:
        """A second, of the same interval: `docker stats` itself looks at one second of it."""
        first, second = before[name], after[name]
        times = [datetime.fromisoformat(of["read"][:26] + "+00:00") for of in (first, second)]
        return (count(second) - count(first)) / (times[1] - times[0]).total_seconds()

    def docker_memory(of: dict[str, Any]) -> float:
        memory = of["memory_stats"]
        inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))
        return float(memory["usage"] - inactive)

    def docker_io(kind: str) -> Callable[[dict[str, Any]], float]:
        def count(of: dict[str, Any]) -> float:
            lines = of["blkio_stats"]["io_service_bytes_recursive"] or ()
            return float(sum(line["value"] for line in lines if line["op"].lower() == kind))

        return count

    cpu = {name: 100 * (end[name]["cpu"] - start[name]["cpu"]) / passed for name in ids}
    cpu_by_docker = 100 * by_docker(
        "cpu", lambda of: of["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    )
    memory = next(c for c in last["containers"] if c["name"] == "memory")["memory_bytes"]
    pairs = {
        "cpu": (mean("cpu", "cpu_percent"), cpu["cpu"]),
        "cpu_docker_stats": (mean("cpu", "cpu_percent"), cpu_by_docker),
        "memory": (memory, end["memory"]["memory"]),
        "memory_docker_stats": (memory, docker_memory(after["memory"])),
    }
    io = {}
    for kind, op in (("read", "read"), ("written", "write")):
        io[kind] = (end["io"][kind] - start["io"][kind]) / passed
        told_rate = mean("io", f"disk_{kind}_rate")
        pairs[kind] = (told_rate, io[kind])
        pairs[f"{kind}_docker_stats"] = (told_rate, by_docker("io", docker_io(op)))
    # Where nothing was counted nothing was compared, and that is no success.
    errors = {name: ours / theirs - 1 if theirs else None for name, (ours, theirs) in pairs.items()}
    return {
        "part": "truth",
        "seconds": round(passed, 1),
        "cpu_percent": {name: round(value, 2) for name, value in cpu.items()},
        "io_bytes_a_second": {kind: round(value) for kind, value in io.items()},
        "memory_bytes": memory,
        "errors_percent": {n: None if e is None else round(100 * e, 2) for n, e in errors.items()},
        "not_compared": {
            name: "The kernel counted none: this disk takes no throttle rule."
            for name, error in errors.items()
            if error is None
        },
        "goals": {n: e is not None and abs(e) <= WITHIN for n, e in errors.items()},
    }
