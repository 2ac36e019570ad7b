"""The services under fuzzing, as processes with logs of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from ape_contracts.service_settings import (
    VARIABLE,
    DemoTargetSettings,
    GatewaySettings,
    ProxySettings,
    ServiceSettings,
    SocketProxySettings,
    encode,
)
from bench.fuzz import ways
from bench.fuzz.requests import Service, Way
from bench.proxy.run import free_port, listening
from tests.support.fake_docker import FakeDocker

Address = tuple[str, int] | str


def gateway_config(target: str) -> str:
    """The demo's route with its endpoints, and one that allows all."""
    config = json.loads((ways.DEMO / "gateway.json").read_text())
    config["routes"]["shop"]["base_url"] = target
    config["routes"]["open"] = {"base_url": target}
    return json.dumps(config)


def fake_docker(folder: Path) -> FakeDocker:
    """A daemon with a container of the stack and one of another stack."""
    made = FakeDocker(folder)
    for key, stack in (("c1", "dev"), ("c2", "prod")):
        made.put(key, f"ape-{stack}-agent-0001", labels={"ape.project": "ape", "ape.stack": stack})
    return made


def _settings(folder: Path, port: int, target: int) -> dict[str, ServiceSettings]:
    (folder / "token").write_text(ways.TOKEN)
    (folder / "report-key").write_text(ways.REPORT_KEY)
    (folder / "gateway.json").write_text(gateway_config(f"http://127.0.0.1:{target}"))
    return {
        "demo_target": DemoTargetSettings(bind="127.0.0.1", port=port, faults=True),
        "gateway": GatewaySettings(
            bind="127.0.0.1",
            port=port,
            config_file=str(folder / "gateway.json"),
            report_key_file=str(folder / "report-key"),
            max_agents=2,
        ),
        "proxy": ProxySettings(
            bind="127.0.0.1", port=port, record=True, token_file=str(folder / "token")
        ),
        "socket_proxy": SocketProxySettings(
            project="ape",
            stack="dev",
            listen=str(folder / "proxy.sock"),
            docker_socket=str(folder / "docker.sock"),
            logs=True,
        ),
    }


WAYS: dict[str, tuple[Way, ...]] = {
    "gateway": ways.GATEWAY,
    "proxy": ways.PROXY,
    "demo_target": ways.DEMO_TARGET,
    "socket_proxy": ways.SOCKET_PROXY,
}


@contextmanager
def running(name: str, folder: Path) -> Iterator[Service]:
    """The service with what it needs, listening."""
    target, port = free_port(), free_port()
    settings = _settings(folder, port, target)
    address: Address = ("127.0.0.1", port)
    with ExitStack() as opened:
        if name == "gateway":
            demo = DemoTargetSettings(bind="127.0.0.1", port=target, faults=True)
            opened.enter_context(process("demo_target", demo, folder / "target.log"))
            asyncio.run(listening(target))
        if name == "socket_proxy":
            opened.callback(fake_docker(folder).close)
            address = str(folder / "proxy.sock")
        log = folder / f"{name}.log"
        made = opened.enter_context(process(name, settings[name], log))
        if isinstance(address, str):
            _wait_for(Path(address))
        else:
            asyncio.run(listening(port))
        yield service(name, address, made.pid, str(log))


@contextmanager
def process(name: str, settings: ServiceSettings, log: Path) -> Iterator[psutil.Popen]:
    """A service in a process of its own; all that it writes is in `log`."""
    with log.open("wb") as output:
        started = psutil.Popen(
            [sys.executable, "-m", f"ape_{name}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {VARIABLE: encode(settings), "PYTHONOPTIMIZE": "2"},
        )
        try:
            yield started
        finally:
            if started.is_running():
                started.terminate()
            started.wait(20)


def service(name: str, address: Address, pid: int = 0, log: str = "") -> Service:
    """What fuzzing knows of a service that listens at `address`."""
    health = "/_ping" if name == "socket_proxy" else "/health"
    return Service(name, address, WAYS[name], health, pid, log)


def _wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens at {path}")
