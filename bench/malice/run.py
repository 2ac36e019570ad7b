"""Load with malice: 100 agents hold sessions while 5 attack the gateway and the proxy.

All services are processes of this machine; needs no Docker. There are two runs, without and with
the attackers (attacks.py). A caller with 50 requests per second measures the gateway.

    .ape/run python -m bench.malice.run                     5 minutes each
    .ape/run python -m bench.malice.run --minutes 0.5       a trial

Exit code 1 means one of:

- With the attackers, a session failed, or no session ended.
- The gateway's p99 was above twice that without the attackers.
- A process ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from ape_contracts.report_token import sign
from ape_contracts.service_settings import (
    AgentSettings,
    DemoTargetSettings,
    GatewaySettings,
    ProxySettings,
)
from bench.cores import apart
from bench.fuzz.services import process
from bench.fuzz.ways import DEMO
from bench.proxy.run import free_port, listening

HERE = Path(__file__).resolve().parent
TOKEN = "malice"
MAX_RATIO = 2.0
# From the start of the agents until the first figures count.
SETTLE_SECONDS = 5.0
PROBE_RATE, PROBE_CALLERS = 50, 8
PROBE = {"target_api_name": "shop", "http_method": "GET", "endpoint_path": "/products"}
WATCHED = ("gateway", "proxy", "demo_target")


@contextmanager
def stack(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Start the services, and then the agents; yield processes by name, and the ports."""
    ports = {name: free_port() for name in WATCHED}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    (folder / "token").write_text(TOKEN)
    (folder / "report-key").write_text(TOKEN)
    (folder / "report-token").write_text(sign(TOKEN, 1, given.agents, given.agents))
    config = json.loads((DEMO / "gateway.json").read_text())
    config["routes"]["shop"]["base_url"] = urls["demo_target"]
    (folder / "gateway.json").write_text(json.dumps(config))
    scenario = json.loads((DEMO / "scenario.json").read_text())
    services = {
        "demo_target": DemoTargetSettings(bind="127.0.0.1", port=ports["demo_target"]),
        "gateway": GatewaySettings(
            bind="127.0.0.1",
            port=ports["gateway"],
            config_file=str(folder / "gateway.json"),
            report_key_file=str(folder / "report-key"),
            max_agents=given.agents,
        ),
        "proxy": ProxySettings(
            bind="127.0.0.1", port=ports["proxy"], token_file=str(folder / "token")
        ),
    }
    agents = AgentSettings(
        gateway_url=urls["gateway"],
        proxy_url=urls["proxy"],
        **scenario,
        token_file=str(folder / "token"),
        report_token_file=str(folder / "report-token"),
        agents_here=given.agents,
        think_time_seconds=given.think,
        ramp_seconds=SETTLE_SECONDS / 2,
        heartbeat_file=str(folder / "heartbeat"),
    )
    with ExitStack() as opened:
        started: dict[str, Any] = {}
        for name, settings in services.items():
            log = folder / f"{name}.log"
            started[name] = opened.enter_context(process(name, settings, log))
            asyncio.run(listening(ports[name]))
        started["agents"] = opened.enter_context(process("agent", agents, folder / "agents.log"))
        yield started | {"ports": ports}


def get(port: int, path: str) -> tuple[dict[str, Any], float]:
    """The JSON answer, and the seconds that it took."""
    begin = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer), time.monotonic() - begin


def probe(port: int, folder: Path, seconds: float) -> subprocess.Popen[str]:
    (folder / "asked.json").write_text(json.dumps(PROBE))
    command = [sys.executable, str(HERE.parent / "gateway/load.py")]
    command += [f"http://127.0.0.1:{port}/mcp/request", "--body", str(folder / "asked.json")]
    command += ["--callers", str(PROBE_CALLERS), "--rate", str(PROBE_RATE)]
    command += ["--seconds", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def attackers(ports: dict[str, int], seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "attacks.py")]
    command += [str(ports["gateway"]), str(ports["proxy"])]
    command += ["--token", TOKEN, "--seconds", str(seconds)]
    # Containers have a limit of CPU: the attackers take none that the others need.
    idle = partial(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=idle)


def measured(given: argparse.Namespace, malice: bool) -> dict[str, Any]:
    """One run of all, with the attackers or without."""
    seconds = given.minutes * 60
    with tempfile.TemporaryDirectory() as name, stack(given, Path(name)) as started:
        ports = started.pop("ports")
        apart(started["gateway"].pid, started["proxy"].pid)
        time.sleep(SETTLE_SECONDS)
        before, _ = get(ports["gateway"], "/fleet")
        caller = probe(ports["gateway"], Path(name), seconds)
        others = attackers(ports, seconds) if malice else None
        memory, slowest, ended = watched(started, ports, seconds)
        latency = json.loads(caller.communicate(timeout=60)[0] or "{}")
        sent = json.loads(others.communicate(timeout=60)[0] or "{}") if others else {}
        fleet = {} if ended else get(ports["gateway"], "/fleet")[0]
        if given.logs:
            for log in Path(name).glob("*.log"):
                (given.logs / log.name).write_bytes(log.read_bytes())
    sessions = {
        result: fleet.get("sessions", {}).get(result, 0) - before["sessions"][result]
        for result in ("success", "failure")
    }
    return {
        **sessions,
        "failures": fleet.get("sessions", {}).get("by_reason", {}),
        **{key: round(latency.get(key, 0.0), 2) for key in ("p50_ms", "p99_ms")},
        "probes_failed": latency.get("failed"),
        "slowest_health_seconds": slowest,
        "most_mib": memory,
        "ended": ended,
        "attacks": dict(sorted(sent.items())),
    }


def watched(
    started: dict[str, Any], ports: dict[str, int], seconds: float
) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Most memory in MiB and slowest /health of each service; the processes that ended."""
    memory, slowest = dict.fromkeys(WATCHED, 0.0), dict.fromkeys(WATCHED, 0.0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ended := [name for name, process in started.items() if not _alive(process)]:
            return memory, slowest, ended
        for name in WATCHED:
            used = started[name].memory_info().rss / 2**20
            memory[name] = max(memory[name], round(used, 1))
            try:
                took = get(ports[name], "/health")[1]
            except OSError:
                took = 30.0
            slowest[name] = max(slowest[name], round(took, 2))
        time.sleep(0.5)
    return memory, slowest, []


def _alive(process: psutil.Popen) -> bool:
    return process.poll() is None


def broken(without: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The rules that do not hold."""
    rules = {
        "a session failed": other["failure"] == 0,
        "no session ended": other["success"] > 0 and without["success"] > 0,
        f"p99 above {MAX_RATIO:g} x": 0 < other["p99_ms"] <= MAX_RATIO * without["p99_ms"],
        "a process ended": not other["ended"] and not without["ended"],
    }
    return [rule for rule, holds in rules.items() if not holds]


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=5, help="duration of each run")
    options.add_argument("--agents", type=int, default=100)
    options.add_argument("--think", type=float, default=1.0, help="seconds between two steps")
    options.add_argument("--logs", type=Path, help="folder for the services' logs")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    runs = {"without": measured(given, False), "with": measured(given, True)}
    missed = broken(runs["without"], runs["with"])
    if given.json:
        print(json.dumps(runs | {"broken_rules": missed}))
        return int(bool(missed))
    print(f"{'':24} {'without malice':>34} {'with malice':>34}")
    for key in runs["without"]:
        if key != "attacks":
            print(f"{key:24} {runs['without'][key]!s:>34} {runs['with'][key]!s:>34}")
    for attack, count in runs["with"]["attacks"].items():
        print(f"  {attack:44} {count}")
    print(f"broken rules: {', '.join(missed) or 'none'}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
