"""The cost of the gateway: `python -m bench.gateway.run [--rounds N] [--json]`.

Three ways to the same nginx that answers a small JSON text: directly, through a second nginx that
is only a reverse proxy, and through one worker of the gateway (POST /mcp/request). Each has
one process, those that are compared a core apart from target and callers where there are two; the
ways alternate within a round, and the figure is the median of the rounds. Goals:
added p50 of at most 1 ms and p99 of at most 5 ms at 500 requests per second, and at least 2,500
requests per second with 32 callers. Exit code 1: a goal is missed.

Needs nginx: apt-get install nginx-light.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ape_contracts.service_settings import VARIABLE, GatewaySettings, encode
from bench.cores import apart

HERE = Path(__file__).resolve().parent
SERVICES = HERE.parents[1] / "services"
RATE, CALLERS = 500, 32
GOALS = {"added_p50_ms": 1.0, "added_p99_ms": 5.0, "requests_per_second": 2500.0}
BODY = json.dumps({"id": 1, "name": "Lamp", "price": 12.5, "about": "x" * 400})
ASKED = {
    "target_api_name": "shop",
    "http_method": "GET",
    "endpoint_path": "/products/1",
    "session_headers": {"Authorization": "Bearer of-an-agent", "Cookie": "session=1"},
}
NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  {rest}
}}
"""
TARGET = "server {{ listen 127.0.0.1:{port}; default_type application/json; return 200 '{body}'; }}"
PROXY = """
upstream target {{ server 127.0.0.1:{target}; keepalive 50; keepalive_requests 100000000; }}
server {{
  listen 127.0.0.1:{port};
  location / {{
    proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@contextmanager
def running(port: int, *command: str, env: dict[str, str] | None = None) -> Iterator[int]:
    """The process id, once it listens; the process is ended afterwards."""
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            if process.poll() is not None:
                sys.exit(f"{command[0]} ended with {process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def nginx(folder: Path, port: int, text: str, **values: Any) -> Iterator[int]:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(binary).exists():
        sys.exit("nginx is not installed. Install it with: apt-get install nginx-light")
    folder.mkdir()
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, rest=text.format(port=port, **values)))
    with running(port, binary, "-c", str(file)) as pid:
        yield pid


def load(url: str, body: Path | None, rate: float, seconds: float) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), url, "--callers", str(CALLERS)]
    command += ["--rate", str(rate), "--seconds", str(seconds)]
    if body is not None:
        command += ["--body", str(body)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    if result["failed"]:
        sys.exit(f"{url}: {result['failed']} of {result['requests']} requests failed")
    return result


def middle(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def measure(ways: dict[str, tuple[str, Path | None]], gateway: int, rounds: int) -> dict[str, Any]:
    paced: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    full: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    process = psutil.Process(gateway)
    cpu = requests = 0.0
    for _ in range(rounds):
        for name, (url, body) in ways.items():
            paced[name].append(load(url, body, RATE, 4))
        for name, (url, body) in ways.items():
            before = sum(process.cpu_times()[:2])
            run = load(url, body, 0, 4)
            full[name].append(run | {"rate": run["requests"] / run["seconds"]})
            if name == "gateway":
                cpu += sum(process.cpu_times()[:2]) - before
                requests += run["requests"]
    found: dict[str, Any] = {
        name: {
            "p50_ms": middle(paced[name], "p50_ms"),
            "p99_ms": middle(paced[name], "p99_ms"),
            "requests_per_second": middle(full[name], "rate"),
            "p50_ms_at_full_load": middle(full[name], "p50_ms"),
        }
        for name in ways
    }
    # Within a round, so that other load of the machine cancels out.
    found["added"] = {
        f"{name}_{q}_ms": statistics.median(
            run[f"{q}_ms"] - direct[f"{q}_ms"]
            for run, direct in zip(paced[name], paced["direct"], strict=True)
        )
        for name in ("nginx", "gateway")
        for q in ("p50", "p99")
    }
    found["gateway"]["cpu_us_per_request"] = cpu / requests * 1e6
    found["gateway"]["rss_mib"] = process.memory_info().rss / 2**20
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    target, proxy, gateway = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, asked = folder / "gateway.json", folder / "asked.json"
        config.write_text(
            json.dumps({"routes": {"shop": {"base_url": f"http://127.0.0.1:{target}"}}})
        )
        asked.write_text(json.dumps(ASKED))
        settings = GatewaySettings(config_file=str(config), bind="127.0.0.1", port=gateway)
        env = {VARIABLE: encode(settings)}
        ways: dict[str, tuple[str, Path | None]] = {
            "direct": (f"http://127.0.0.1:{target}/products/1", None),
            "nginx": (f"http://127.0.0.1:{proxy}/products/1", None),
            "gateway": (f"http://127.0.0.1:{gateway}/mcp/request", asked),
        }
        command = (sys.executable, "-OO", "-m", "ape_gateway")
        with (
            nginx(folder / "target", target, TARGET, body=BODY),
            nginx(folder / "proxy", proxy, PROXY, target=target) as bare,
            running(gateway, *command, env=env) as pid,
        ):
            apart(bare, pid)
            found = measure(ways, pid, args.rounds)
    reached = {
        "added_p50_ms": found["added"]["gateway_p50_ms"],
        "added_p99_ms": found["added"]["gateway_p99_ms"],
        "requests_per_second": found["gateway"]["requests_per_second"],
    }
    met = {
        key: reached[key] >= goal if key == "requests_per_second" else reached[key] <= goal
        for key, goal in GOALS.items()
    }
    found["goals"] = {k: {"goal": GOALS[k], "found": reached[k], "met": met[k]} for k in GOALS}
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for part, values in found.items():
            for key, value in values.items():
                text = f"{value:.2f}" if isinstance(value, float) else value
                print(f"{part:8} {key:22} {text}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
