"""Soak test of agents with a model and provider that misbehave at random.

One process of agents, the real proxy, gateway and demo target, each a process of its own, and an
upstream that mixes all behaviors of tests/support/model_behaviors.py. Needs no Docker.

    .ape/run python -m bench.model.soak                    50 agents, 10 minutes
    .ape/run python -m bench.model.soak --minutes 0.5      a trial
    .ape/run python -m bench.model.soak --json             the same for programs

Exit code 1 means one of:

- A session ended with a reason that is not documented, or lasted longer than its limit.
- An agent ended no session in the last minute.
- The upstream got a completion more than 1 + RETRIES times, or what a strict server refuses.
- The memory of the agents or of the proxy grew by more than 10 % after a fifth of the time.
- A process ended, or the gateway counted other sessions than the agents logged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psutil

from ape_contracts import metrics
from ape_contracts.service_settings import (
    VARIABLE,
    AgentSettings,
    DemoTargetSettings,
    GatewaySettings,
    ProxySettings,
    ServiceSettings,
    encode,
)
from bench.proxy.run import free_port, listening

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "services/ape_demo_target"
RETRIES = 2
MAX_GROWTH = 0.10
SAMPLE_SECONDS = 1.0
SESSION_SECONDS, COMPLETION_SECONDS = 30.0, 8.0
# Past what a completion may wait: a limit such as a day's, of a short day.
QUOTA_SECONDS = 12.0
# Of the end of a session that is at its limit.
SLACK_SECONDS = 2.0
MEASURED = ("agents", "proxy")


@contextmanager
def process(*command: str, output: IO[bytes] | int, **environment: str) -> Iterator[psutil.Popen]:
    started = psutil.Popen(
        [sys.executable, *command],
        stdout=output,
        env=os.environ | {"PYTHONOPTIMIZE": "2"} | environment,
        cwd=ROOT,
    )
    try:
        yield started
    finally:
        if started.is_running():
            started.terminate()
        started.wait()


@contextmanager
def stack(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Start all processes; yield them by name, with the ports in `ports`."""
    names = ("target", "gateway", "upstream", "proxy")
    ports = dict(zip(names, (free_port() for _ in names), strict=True))
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    services = settings(given, folder, ports, urls)
    upstream = ("-m", "tests.support.model_upstream", str(ports["upstream"]))
    limits = ("--seed", str(given.seed), "--quota-seconds", str(QUOTA_SECONDS))
    with ExitStack() as opened:
        log = opened.enter_context((folder / "agents.log").open("wb"))
        started: dict[str, Any] = {"ports": ports}
        started["upstream"] = opened.enter_context(
            process(*upstream, *limits, "--target", urls["target"], output=subprocess.DEVNULL)
        )
        for name, (module, made) in services.items():
            if name == "agents":
                for port in ports.values():
                    asyncio.run(listening(port))
            output = log if name == "agents" else subprocess.DEVNULL
            environment = {VARIABLE: encode(made)}
            started[name] = opened.enter_context(
                process("-m", module, output=output, **environment)
            )
        yield started


def settings(
    given: argparse.Namespace, folder: Path, ports: Mapping[str, int], urls: Mapping[str, str]
) -> dict[str, tuple[str, ServiceSettings]]:
    """The module and the settings of each service."""
    (folder / "key").write_text("soak")
    config = json.loads((DEMO / "gateway.json").read_text())
    config["routes"]["shop"]["base_url"] = urls["target"]
    (folder / "gateway.json").write_text(json.dumps(config))
    scenario = json.loads((DEMO / "scenario.json").read_text())
    return {
        "target": (
            "ape_demo_target",
            DemoTargetSettings(bind="127.0.0.1", port=ports["target"]),
        ),
        "gateway": (
            "ape_gateway",
            GatewaySettings(
                bind="127.0.0.1",
                port=ports["gateway"],
                config_file=str(folder / "gateway.json"),
            ),
        ),
        "proxy": (
            "ape_proxy",
            ProxySettings(
                bind="127.0.0.1",
                port=ports["proxy"],
                kind="provider",
                name="m",
                base_url=f"{urls['upstream']}/v1",
                api_key_file=str(folder / "key"),
                echo=["extra_content", "reasoning_details"],
                retries=RETRIES,
                queue_seconds=COMPLETION_SECONDS,
                first_byte_seconds=2.0,
                request_timeout_seconds=COMPLETION_SECONDS,
            ),
        ),
        "agents": (
            "ape_agent",
            AgentSettings(
                gateway_url=urls["gateway"],
                proxy_url=urls["proxy"],
                model_name="m",
                target_host=urls["target"].removeprefix("http://"),
                **scenario,
                agents_here=given.agents,
                think_time_seconds=given.think,
                ramp_seconds=2.0,
                session_max_seconds=SESSION_SECONDS,
                model_timeout_seconds=COMPLETION_SECONDS + 5,
                heartbeat_file=str(folder / "heartbeat"),
            ),
        ),
    }


def get(port: int, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def watch(started: dict[str, Any], seconds: float) -> tuple[dict[str, list[float]], list[str]]:
    """Resident memory in MB over the time, and the processes that ended before its end."""
    memory: dict[str, list[float]] = {name: [] for name in MEASURED}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(SAMPLE_SECONDS)
        ended = [n for n, p in started.items() if n != "ports" and p.poll() is not None]
        if ended:
            return memory, ended
        for name, samples in memory.items():
            samples.append(started[name].memory_info().rss / 2**20)
    return memory, []


def compared(samples: list[float]) -> dict[str, Any]:
    """The mean of a tenth of the time, after its first fifth and at its end, and all tenths."""
    count = max(1, len(samples) // 10)
    fifth = len(samples) // 5
    early = statistics.fmean(samples[fifth : fifth + count])
    late = statistics.fmean(samples[-count:])
    return {
        "after_a_fifth_mb": round(early, 1),
        "at_the_end_mb": round(late, 1),
        "growth": round(late / early - 1, 4),
        "tenths_mb": [round(mb, 1) for mb in samples[count - 1 :: count]],
    }


def sessions(log: Path) -> list[dict[str, Any]]:
    """The log lines of the sessions."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["msg"] == "session"]


def silent(found: list[dict[str, Any]], agents: int, end: float) -> list[str]:
    """The agents that ended no session in the last minute, or in all the time."""
    last: dict[str, float] = {}
    for line in found:
        moment = datetime.fromisoformat(line["ts"]).timestamp()
        last[line["agent"]] = max(moment, last.get(line["agent"], 0.0))
    names = (metrics.agent(slot) for slot in range(1, agents + 1))
    return [name for name in names if last.get(name, 0.0) < end - 60]


def run(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, stack(given, folder := Path(name)) as started:
        memory, ended = watch(started, given.minutes * 60)
        stopped = time.time()
        ports = started["ports"]
        if "agents" not in ended:
            started["agents"].terminate()
            started["agents"].wait(30)
        counts = get(ports["upstream"], "/_counts") if "upstream" not in ended else {}
        fleet = get(ports["gateway"], "/fleet") if "gateway" not in ended else {}
        found = sessions(folder / "agents.log")
        quiet = silent(found, given.agents, stopped)
    counted = fleet.get("sessions", {})
    return {
        "agents": given.agents,
        "seconds": round(given.minutes * 60),
        "seed": given.seed,
        "sessions": len(found),
        "sessions_counted": counted.get("success", 0) + counted.get("failure", 0),
        "reasons": dict(Counter(line["reason"] for line in found).most_common()),
        "longest_session_seconds": max((line["seconds"] for line in found), default=0.0),
        "silent_agents": quiet,
        "repaired_calls": sum(
            count for line in found for count in (line.get("repaired") or {}).values()
        ),
        "upstream": counts,
        "memory": {name: compared(samples) for name, samples in memory.items() if samples},
        "ended": ended,
    }


def broken(found: dict[str, Any]) -> list[str]:
    """The rules that do not hold."""
    known = {metrics.GOAL_MET, *metrics.FAILURE_REASONS}
    rules = {
        "a session has an undocumented reason": set(found["reasons"]) <= known,
        "a session lasted longer than its limit": found["longest_session_seconds"]
        <= SESSION_SECONDS + SLACK_SECONDS,
        "an agent was silent for a minute": not found["silent_agents"],
        "no session ended": found["sessions"] > 0,
        "the gateway counted other sessions": found["sessions"] == found["sessions_counted"],
        "a completion was sent too often": 0
        < found["upstream"].get("most_attempts", 0)
        <= 1 + RETRIES,
        "a strict server would refuse a request": not found["upstream"].get("broken"),
        "memory grew": len(found["memory"]) == len(MEASURED)
        and all(each["growth"] <= MAX_GROWTH for each in found["memory"].values()),
        "a process ended": not found["ended"],
    }
    return [rule for rule, holds in rules.items() if not holds]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--agents", type=int, default=50)
    options.add_argument("--minutes", type=float, default=10, help="duration of the test")
    options.add_argument("--seed", type=int, default=1, help="of the upstream's choices")
    options.add_argument("--think", type=float, default=0.3, help="seconds between two steps")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found = run(given)
    found["broken_rules"] = broken(found)
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            if isinstance(value, dict):
                print(name)
                for inner, number in value.items():
                    print(f"  {inner:24} {number}")
            else:
                print(f"{name:26} {value}")
    return int(bool(found["broken_rules"]))


if __name__ == "__main__":
    sys.exit(main())
