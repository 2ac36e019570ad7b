"""Resident memory of the agent over many sessions, and of an SDK for comparison.

    .ape/run python -m bench.agent.memory [--sessions 1000] [--agents 1] [--json]

An agent process runs sessions with the demo shop through gateway and offline proxy, each a process
of its own. Its peer, in the same run: a process of the same interpreter and settings that only
imports the official openai client and makes one. Exit code 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from ape_contracts.service_settings import (
    VARIABLE,
    AgentSettings,
    DemoTargetSettings,
    GatewaySettings,
    ProxySettings,
    ServiceSettings,
    encode,
)

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
# At most 45 MB after 100 sessions, and no growth above 5 % over 1000.
MAX_MB, AT_SESSIONS, MAX_GROWTH = 45.0, 100, 0.05
# As in the image of the agent.
PYTHON_ENV = {"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2"}
PEER = (
    "import asyncio, openai; openai.AsyncOpenAI(api_key='none');"
    "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')))"
)


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def start(service: str, settings: ServiceSettings) -> asyncio.subprocess.Process:
    """`python -m ape_SERVICE` with the image's settings of Python."""
    env = {VARIABLE: encode(settings)}
    # -S: as in the image, without the hook that finds the packages of an editable install.
    path = f"{ROOT}:{SERVICES}:{sysconfig.get_path('purelib')}"
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-S", "-m", f"ape_{service}"),
        env={**PYTHON_ENV, "PATH": os.environ["PATH"], "PYTHONPATH": path, **env},
        stdout=subprocess.DEVNULL,
    )


async def measure(sessions: int, agents: int) -> dict[str, Any]:
    scenario = json.loads((SERVICES / "ape_demo_target" / "scenario.json").read_text())
    config = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
    ports = {service: free_port() for service in ("demo_target", "gateway", "proxy")}
    urls = {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}
    config["routes"]["shop"]["base_url"] = urls["demo_target"]
    running: list[asyncio.subprocess.Process] = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "gateway.json").write_text(json.dumps(config))
        try:
            config_file = f"{folder}/gateway.json"
            told: dict[str, ServiceSettings] = {
                "demo_target": DemoTargetSettings(port=ports["demo_target"]),
                "gateway": GatewaySettings(port=ports["gateway"], config_file=config_file),
                "proxy": ProxySettings(port=ports["proxy"]),
            }
            for service, settings in told.items():
                running.append(await start(service, settings))
            await ready(urls)
            started = time.monotonic()
            agent = await start(
                "agent",
                AgentSettings(
                    gateway_url=urls["gateway"],
                    proxy_url=urls["proxy"],
                    goal=scenario["goal"],
                    api=scenario["api"],
                    endpoints=scenario["endpoints"],
                    success=scenario["success"],
                    think_time_seconds=0,
                    ramp_seconds=0,
                    heartbeat_file=f"{folder}/heartbeat",
                    agents_here=agents,
                ),
            )
            running.insert(0, agent)
            marks = sorted({10, AT_SESSIONS, sessions})
            resident, first = await _sampled(urls["gateway"], agent.pid, marks, started)
        finally:
            for process in running:
                process.terminate()
                await process.wait()
    return {
        "agents": agents,
        "first_request_seconds": first,
        "resident_mb": {str(mark): round(mb, 1) for mark, mb in resident.items()},
    }


async def ready(urls: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as http:
        for url in urls.values():
            for _ in range(100):
                try:
                    async with http.get(f"{url}/health") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)


async def _sampled(
    gateway_url: str, pid: int, marks: list[int], started: float
) -> tuple[dict[int, float], float | None]:
    """Resident MB at each number of finished sessions; seconds to the first step."""
    resident: dict[int, float] = {}
    first: float | None = None
    async with aiohttp.ClientSession() as http:
        while len(resident) < len(marks):
            if first is None:
                async with http.get(f"{gateway_url}/metrics") as answer:
                    if "ape_gateway_requests_total{" in await answer.text():
                        first = round(time.monotonic() - started, 2)
            async with http.get(f"{gateway_url}/fleet") as answer:
                fleet = await answer.json()
            done = fleet["sessions"]["success"]
            assert not fleet["sessions"]["failure"], fleet
            for mark in marks:
                if done >= mark and mark not in resident:
                    resident[mark] = resident_mb(pid)
            await asyncio.sleep(0.05 if first is None else 0.5)
    return resident, first


def peer_mb() -> float:
    ran = subprocess.run(
        [sys.executable, "-c", PEER],
        env={**PYTHON_ENV, "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(ran.stdout) / 1024


def main() -> int:
    options = argparse.ArgumentParser(description="Memory of the agent over many sessions.")
    options.add_argument("--sessions", type=int, default=1000)
    options.add_argument("--agents", type=int, default=1, help="agents in the one process")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found = asyncio.run(measure(max(given.sessions, AT_SESSIONS + 1), given.agents))
    by_mark = {int(mark): mb for mark, mb in found["resident_mb"].items()}
    last = max(by_mark)
    found["growth"] = round(by_mark[last] / by_mark[AT_SESSIONS] - 1, 4)
    found["openai_import_mb"] = round(peer_mb(), 1)
    found["ratio_to_openai_import"] = round(by_mark[last] / found["openai_import_mb"], 2)
    missed = []
    if by_mark[AT_SESSIONS] > MAX_MB:
        missed.append(f"resident after {AT_SESSIONS} sessions: above {MAX_MB} MB")
    if found["growth"] > MAX_GROWTH:
        missed.append(f"growth from {AT_SESSIONS} to {last} sessions: above {MAX_GROWTH:.0%}")
    found["missed"] = missed
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24} {value}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
