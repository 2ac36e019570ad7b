"""A stack of processes, and runs on it that the project's own conductor leads."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from ape_contracts.report_token import control, sign
from ape_contracts.service_settings import AgentSettings, GatewaySettings, ProxySettings
from ape_infra.runs import collector
from ape_infra.runs.client import HttpServices
from ape_infra.runs.conduct import Conductor, Plan
from ape_infra.runs.judge import Thresholds
from ape_infra.runs.store import RunFolder
from ape_infra.runs.summary import Summary, Versions
from bench.fuzz.services import process
from bench.load.target import ANSWERS, ENDPOINTS
from bench.load.target import Plan as Times
from bench.proxy.run import free_port, listening

KEY = "load"
READY_SECONDS = 60.0
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Remote:
    """A target in another process."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def begin(self, times: Times) -> None:
        """Begin the sequences again, and a new log."""
        self._ask("/_plan", json.dumps(asdict(times)).encode())

    def log(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = self._ask("/_log")
        return found

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        method = "GET" if body is None else "PUT"
        answer = requests.request(method, self.url + path, data=body, timeout=30)
        return answer.json()


@dataclass(frozen=True)
class Run:
    """A run that has ended: its summary, its measurements, and the target's log of it."""

    summary: Summary
    measurements: dict[str, Any]
    log: dict[str, list[float]]
    folder: Path


@dataclass
class World:
    """`folder`: for the results."""

    folder: Path
    target: Remote
    gateway: str
    proxy: str

    def run(self, document: dict[str, Any], *, interval: float = 10.0) -> Run:
        """Conduct a run, whose intervals in the measurements last `interval` seconds."""
        # Short runs need short intervals to be compared.
        collector.INTERVAL_SECONDS = interval
        services = HttpServices(
            self.gateway, self.proxy, control_token=control(KEY), proxy_token=KEY
        )
        folder = RunFolder.create(self.folder, "bench", time.time())
        seconds = sum(stage["seconds"] for stage in document["stages"])
        base = Summary(
            run=folder.name,
            project="bench",
            stack="bench",
            started=time.time(),
            ended=time.time(),
            planned_seconds=seconds,
            executor=document["executor"],
            versions=Versions(ape="bench"),
        )
        warm_up = document.get("warm_up_seconds", 0.0)
        plan = Plan({**document, "id": folder.name}, base, warm_up=warm_up)
        conductor = Conductor(
            services, folder, plan, Thresholds([]), poll_seconds=min(2.0, interval / 2)
        )
        conductor.begin()
        summary = conductor.conduct()
        measurements = conductor.collector.plain()
        folder.close()
        return Run(summary, measurements, self.target.log(), folder.path)


def document(executor: str, seconds: float, target: float, **more: Any) -> dict[str, Any]:
    """A run of one stage of even load. `more`: other keys of the document."""
    stage = {"seconds": seconds, "start": target, "end": target}
    made = {"executor": executor, "stages": [stage], "scenarios": [{"name": "default"}]}
    return made | {"graceful_stop_seconds": 10.0} | more


def _scenario(endpoints: int) -> dict[str, Any]:
    """The first endpoints, in turn; a session succeeds with the last one."""
    chosen = ENDPOINTS[:endpoints]
    last = f"{chosen[-1]['method']} {chosen[-1]['path']}"
    success = {key: chosen[-1][key] for key in ("method", "path")}
    return {
        "goal": "Buy a lamp.",
        "api": "shop",
        "endpoints": chosen,
        "success": success | {"status": ANSWERS[last][0]},
    }


def _route(url: str) -> dict[str, Any]:
    allowed = [{"path": each["path"], "methods": [each["method"]]} for each in ENDPOINTS]
    return {"routes": {"shop": {"base_url": url, "timeout": 30, "endpoints": allowed}}}


@contextmanager
def world(folder: Path, agents: int, *, endpoints: int = 4, think: float = 0.0) -> Iterator[World]:
    """Start a target, a gateway, a proxy and the agents, which wait for runs."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = {name: free_port() for name in ("target", "gateway", "proxy")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    (folder / "token").write_text(KEY)
    (folder / "report-token").write_text(sign(KEY, 1, agents, agents))
    (folder / "gateway.json").write_text(json.dumps(_route(urls["target"])))
    services = {
        "gateway": GatewaySettings(
            bind="127.0.0.1",
            port=ports["gateway"],
            config_file=str(folder / "gateway.json"),
            report_key_file=str(folder / "token"),
            max_agents=agents,
            pool_maxsize=100,
            idle=True,
        ),
        "proxy": ProxySettings(
            bind="127.0.0.1", port=ports["proxy"], token_file=str(folder / "token")
        ),
    }
    own = AgentSettings(
        gateway_url=urls["gateway"],
        proxy_url=urls["proxy"],
        **_scenario(endpoints),
        token_file=str(folder / "token"),
        report_token_file=str(folder / "report-token"),
        agents_here=agents,
        think_time_seconds=think,
        ramp_seconds=0.0,
        report_seconds=0.5,
        heartbeat_file=str(folder / "heartbeat"),
    )
    with ExitStack() as opened:
        opened.enter_context(_target(ports["target"]))
        for name, settings in services.items():
            opened.enter_context(process(name, settings, folder / f"{name}.log"))
        for port in ports.values():
            asyncio.run(listening(port))
        opened.enter_context(process("agent", own, folder / "agents.log"))
        made = World(folder / "results", Remote(ports["target"]), urls["gateway"], urls["proxy"])
        _all_wait(made, agents)
        yield made


@contextmanager
def _target(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.load.target", str(port)]
    started = subprocess.Popen(command, env=os.environ)
    try:
        yield
    finally:
        started.terminate()
        started.wait(20)


def _all_wait(made: World, agents: int) -> None:
    services = HttpServices(made.gateway, made.proxy, control_token=control(KEY))
    end = time.monotonic() + READY_SECONDS
    while services.status("none").idle < agents:
        if time.monotonic() > end:
            raise SystemExit(f"Not all agents asked within {READY_SECONDS:g} s.")
        time.sleep(0.1)


def percentile(samples: Sequence[float], q: float) -> float:
    """The nearest rank, as in docs/explanation/measurements.md."""
    return sorted(samples)[max(1, math.ceil(q * len(samples))) - 1]


def together(log: dict[str, list[float]]) -> list[float]:
    return [seconds for those in log.values() for seconds in those]
