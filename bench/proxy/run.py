"""The time that the proxy adds to the first token, with 1000 streams open on one worker.

Streams are opened at an even rate, alternately through the proxy and straight to the provider, both
in the same run and under the same load; then, while all are open, more come and go. Added time to
first token = the quantile through the proxy less the same quantile without it.

    .ape/run python -m bench.proxy.run            prints a table
    .ape/run python -m bench.proxy.run --json     the same for programs

Exit code 1: a token was lost, or the goal (added p99 at most 10 ms) was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ape_contracts.service_settings import VARIABLE, ProxySettings, encode
from bench.cores import apart

ROOT = Path(__file__).resolve().parents[2]
GOAL_MS = 10.0
FIRST_SECONDS = 0.2
_TEXT = re.compile(rb'"content":"(\d+) "')


class Client(asyncio.Protocol):
    """One stream: when its first token came, and whether the tokens are those that were sent."""

    def __init__(self, request: bytes, tokens: int) -> None:
        self._request, self._tokens = request, tokens
        self._rest, self._next = b"", 0
        self.first: float | None = None
        self.lost = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if found := _TEXT.search(line):
                if self.first is None:
                    self.first = time.perf_counter()
                self.lost += int(found[1]) != self._next
                self._next = int(found[1]) + 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += self._tokens - self._next
        if not self.done.done():
            self.done.set_result(None)


async def stream(port: int, tokens: int, gap: float) -> tuple[float, int]:
    """(seconds to the first token less those of the provider, tokens lost)."""
    asked = {"tokens": tokens, "gap": gap, "first": FIRST_SECONDS}
    body = json.dumps(
        {
            "model": "bench",
            "stream": True,
            "messages": [{"role": "user", "content": "x" * 2000}],
            "max_completion_tokens": tokens,
            "bench": asked,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\nAuthorization: Bearer bench\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    begun = time.perf_counter()
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(head + body, tokens), "127.0.0.1", port
    )
    await client.done
    if client.first is None:
        return float("inf"), client.lost
    return client.first - begun - FIRST_SECONDS, client.lost


class Phase:
    """Streams that begin at an even rate, alternately at the proxy and at the provider."""

    def __init__(self, proxy: int, provider: int) -> None:
        self._ports = {"proxy": proxy, "direct": provider}
        self.running: dict[str, list[asyncio.Task[tuple[float, int]]]] = {"proxy": [], "direct": []}

    async def begin(self, count: int, rate: float, tokens: int, gap: float, direct: int) -> None:
        """`count` streams at the proxy; after each `direct`th of them, one at the provider."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        for number in range(count):
            for where in ("proxy", "direct"):
                if where == "direct" and number % direct:
                    continue
                at += 1 / rate / (1 + 1 / direct)
                await asyncio.sleep(max(0.0, at - loop.time()))
                task = asyncio.create_task(stream(self._ports[where], tokens, gap))
                self.running[where].append(task)

    async def result(self) -> dict[str, object]:
        found: dict[str, list[tuple[float, int]]] = {
            where: list(await asyncio.gather(*tasks)) for where, tasks in self.running.items()
        }
        times = {where: sorted(t for t, _ in each) for where, each in found.items()}
        made: dict[str, object] = {
            "streams": len(times["proxy"]),
            "lost_tokens": sum(lost for each in found.values() for _, lost in each),
        }
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            at = {where: each[int(part * (len(each) - 1))] * 1000 for where, each in times.items()}
            made |= {f"{where}_{name}_ms": round(ms, 2) for where, ms in at.items()}
            made[f"added_{name}_ms"] = round(at["proxy"] - at["direct"], 2)
        return made


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


async def listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise SystemExit(f"nothing listens on port {port}")


async def measure(options: argparse.Namespace) -> dict[str, object]:
    proxy_port, provider_port = free_port(), free_port()
    with tempfile.NamedTemporaryFile("w") as key:
        key.write("bench")
        key.flush()
        settings = ProxySettings(
            bind="127.0.0.1",
            port=proxy_port,
            kind="provider",
            api_key_file=key.name,
            token_file=key.name,
            base_url=f"http://127.0.0.1:{provider_port}/v1",
        )
        environment = os.environ | {"PYTHONOPTIMIZE": "2", VARIABLE: encode(settings)}
        here = str(Path(__file__).with_name("upstream.py"))
        provider = subprocess.Popen([sys.executable, here, str(provider_port)])
        proxy = subprocess.Popen(
            [sys.executable, "-m", "ape_proxy"], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            await asyncio.gather(listening(proxy_port), listening(provider_port))
            apart(proxy.pid)
            return await phases(options, proxy_port, provider_port, psutil.Process(proxy.pid))
        finally:
            for process in (proxy, provider):
                process.terminate()
                process.wait()


async def phases(
    options: argparse.Namespace, proxy_port: int, provider_port: int, worker: psutil.Process
) -> dict[str, object]:
    # What a first request loads is not measured.
    for _ in range(20):
        await asyncio.gather(*(stream(proxy_port, 2, 0.01) for _ in range(5)))
    opening = Phase(proxy_port, provider_port)
    ramp = options.streams / options.rate
    tokens = round((ramp + options.seconds + 5) / options.gap)
    await opening.begin(options.streams, options.rate, tokens, options.gap, direct=4)
    held = Phase(proxy_port, provider_port)
    worker.cpu_percent()
    begun = time.perf_counter()
    count = round(options.seconds * options.rate)
    await held.begin(count, options.rate, 2, 0.05, direct=1)
    seconds = time.perf_counter() - begun
    cpu, memory = worker.cpu_percent(), worker.memory_info().rss
    still_open = sum(not task.done() for task in opening.running["proxy"])
    while_open, all_streams = await held.result(), await opening.result()
    return {
        "streams_open": still_open,
        "tokens_per_second": round(options.streams / options.gap + 2 * count / seconds),
        "opening": all_streams,
        "while_open": while_open,
        "proxy_cpu_percent": round(cpu, 1),
        "proxy_rss_mb": round(memory / 2**20, 1),
        "load_average": os.getloadavg()[0],
        "cpus": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=1000, help="open at the same time")
    parser.add_argument(
        "--rate", type=float, default=50, help="new streams per second at the proxy"
    )
    parser.add_argument("--gap", type=float, default=0.5, help="seconds between two tokens")
    parser.add_argument("--seconds", type=float, default=20, help="with all streams open")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    # The pauses of who measures are not to be measured.
    gc.disable()
    found = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            if isinstance(value, dict):
                print(name)
                for inner, number in value.items():
                    print(f"  {inner:18} {number}")
            else:
                print(f"{name:20} {value}")
    parts = [part for part in found.values() if isinstance(part, dict)]
    lost = sum(part["lost_tokens"] for part in parts)
    missed = any(part["added_p99_ms"] > GOAL_MS for part in parts)
    return int(bool(lost) or missed or found["streams_open"] != options.streams)


if __name__ == "__main__":
    sys.exit(main())
