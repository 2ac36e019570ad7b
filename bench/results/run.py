"""The cost of recording results: `python -m bench.results.run [--rounds N] [--old FOLDER]`.

The gateway's CPU per request with the header of an active run and without it, alternately, at full
load; with `--old`, also of the gateway in another checkout of this project. Then the memory of the
gateway after a run of 1,000 agents with 50 steps per second for ten minutes. Goals: recording takes
at most 5 % of the gateway's CPU, and the gateway stays below 100 MB. Exit code 1: a goal is missed.

Needs nginx: apt-get install nginx-light.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from ape_contracts.service_settings import VARIABLE, GatewaySettings, encode
from bench.cores import apart
from bench.gateway.run import ASKED, BODY, CALLERS, TARGET, free_port, nginx, running

HERE = Path(__file__).resolve().parent
LOAD = HERE.parent / "gateway" / "load.py"
HEADER = "X-APE-Run: bench/default/main"
MAX_COST, MAX_MB, SECONDS = 0.05, 100.0, 1.5


def cpu_of(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def load(url: str, body: Path, header: str) -> int:
    """The number of requests."""
    command = [sys.executable, str(LOAD), url, "--callers", str(CALLERS), "--body", str(body)]
    command += ["--seconds", str(SECONDS)] + (["--header", header] if header else [])
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    if result["failed"]:
        sys.exit(f"{url}: {result['failed']} of {result['requests']} requests failed")
    # With those before the measurement.
    return int(result["requests"]) + 4 * CALLERS


def measure(rounds: int, old: Path | None) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Way -> microseconds of CPU per request, of each round; and MB of its gateway after it."""
    target = free_port()
    ports = {name: free_port() for name in ("new", "old")}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        config, asked = folder / "gateway.json", folder / "asked.json"
        route = {"base_url": f"http://127.0.0.1:{target}"}
        config.write_text(json.dumps({"routes": {"shop": route}}))
        asked.write_text(json.dumps(ASKED))

        def gateway(name: str, *command: str, **env: str) -> psutil.Process:
            settings = GatewaySettings(config_file=str(config), bind="127.0.0.1", port=ports[name])
            given = {VARIABLE: encode(settings)} | env
            made = running(ports[name], sys.executable, "-OO", *command, env=given)
            return psutil.Process(stack.enter_context(made))

        stack.enter_context(nginx(folder / "target", target, TARGET, body=BODY))
        new = gateway("new", str(HERE / "gateway.py"), "serve")
        ways = {"recorded": (new, "new", HEADER), "not_recorded": (new, "new", "")}
        if old is not None:
            path = os.pathsep.join((str(old), str(old / "services")))
            before = gateway("old", "-m", "ape_gateway", PYTHONPATH=path)
            ways["old"] = (before, "old", "")
        apart(*{process.pid for process, *_ in ways.values()})
        found: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            # In turn first and last, so that nobody always runs after the same one.
            for way in list(ways) if number % 2 else reversed(list(ways)):
                process, port, header = ways[way]
                before_cpu = cpu_of(process)
                count = load(f"http://127.0.0.1:{ports[port]}/mcp/request", asked, header)
                found[way].append((cpu_of(process) - before_cpu) / count * 1e6)
        resident = {way: of.memory_info().rss / 1e6 for way, (of, *_) in ways.items()}
        return found, resident


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--old", type=Path, help="Checkout to compare with.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cpu, resident = measure(args.rounds, args.old)
    # Other load of the machine only adds to it.
    low = {way: statistics.quantiles(values, n=4)[0] for way, values in cpu.items()}
    cost = low["recorded"] / low.get("old", low["not_recorded"]) - 1
    command = [sys.executable, "-OO", str(HERE / "gateway.py"), "simulate"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    memory: dict[str, float] = json.loads(done.stdout)
    found: dict[str, Any] = {
        **{f"{way}_cpu_us": value for way, value in low.items()},
        "cost": cost,
        **{f"{way}_mb": values for way, values in resident.items()},
        **memory,
    }
    met = cost <= MAX_COST and memory["after_mb"] < MAX_MB
    if args.json:
        print(json.dumps(found | {"met": met}, indent=2))
    else:
        for key, value in found.items():
            print(f"{key:20} {value:.3f}" if isinstance(value, float) else f"{key:20} {value}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
