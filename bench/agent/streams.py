"""What streams cost an agent: CPU per step and resident memory, with and without them.

    .ape/run python -m bench.agent.streams [--seconds 60] [--agents 10] [--tokens 100] [--json]

Two processes of agents run sessions with the demo shop at the same time, each through its own
gateway, and through one proxy to one model: one asks for streams, the other for whole answers. The
model takes the same time for both, and thinks aloud. Exit code 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from ape_contracts.service_settings import (
    AgentSettings,
    DemoTargetSettings,
    GatewaySettings,
    ProxySettings,
    ServiceSettings,
)
from ape_proxy.models import Offline
from bench.agent.memory import SERVICES, free_port, ready, resident_mb, start

# Of the agent with streams: resident MB, and its CPU per step against the one without.
MAX_MB, MAX_RATIO = 25.0, 1.2
WARM_UP_SECONDS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")
# Characters of a token.
_TOKEN = 4
KINDS = {"streams": True, "whole": False}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message by tokens."""
    yield {"role": "assistant", "content": None}
    for name in ("reasoning", "content"):
        text = message.get(name) or ""
        yield from ({name: text[at : at + _TOKEN]} for at in range(0, len(text), _TOKEN))
    for index, call in enumerate(message.get("tool_calls") or ()):
        text = call["function"]["arguments"]
        yield {"tool_calls": [{"index": index} | call | {"function": {"name": "call_api"}}]}
        for at in range(0, len(text), _TOKEN):
            piece = {"function": {"arguments": text[at : at + _TOKEN]}}
            yield {"tool_calls": [{"index": index} | piece]}


class Provider:
    """The offline model's decisions after `tokens` of reasoning, at `gap` seconds a token."""

    def __init__(self, tokens: int, gap: float) -> None:
        self._reasoning, self._gap = "hmm " * tokens, gap
        self._model = Offline()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/health", self._healthy)
        return app

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        completion = self._model.complete(body)
        [choice] = completion["choices"]
        choice["message"]["reasoning"] = self._reasoning
        parts = list(deltas(choice["message"]))
        completion["usage"]["completion_tokens"] = len(parts)
        if not body.get("stream"):
            await asyncio.sleep(len(parts) * self._gap)
            return web.json_response(completion)
        made = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await made.prepare(request)
        head = {k: completion[k] for k in ("id", "created", "model", "system_fingerprint")}
        head["object"] = "chat.completion.chunk"

        async def send(**more: Any) -> None:
            await made.write(b"data: " + json.dumps(head | more).encode() + b"\n\n")

        end = asyncio.get_running_loop().time()
        for delta in parts:
            await send(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
            end += self._gap
            await asyncio.sleep(max(0.0, end - asyncio.get_running_loop().time()))
        finish = choice["finish_reason"]
        await send(choices=[{"index": 0, "delta": {}, "finish_reason": finish}])
        await send(choices=[], usage=completion["usage"])
        await made.write(b"data: [DONE]\n\n")
        return made


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    scenario = json.loads((SERVICES / "ape_demo_target" / "scenario.json").read_text())
    config = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
    names = ("provider", "demo_target", "proxy", *KINDS)
    ports = {name: free_port() for name in names}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    config["routes"]["shop"]["base_url"] = urls["demo_target"]
    running: list[asyncio.subprocess.Process] = []
    agents: dict[str, asyncio.subprocess.Process] = {}
    runner = web.AppRunner(Provider(given.tokens, given.gap).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ports["provider"]).start()
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder, "gateway.json")
        config_file.write_text(json.dumps(config))
        proxy = ProxySettings(
            kind="provider", name="m", base_url=urls["provider"] + "/v1", port=ports["proxy"]
        )
        told: list[tuple[str, ServiceSettings]] = [
            ("demo_target", DemoTargetSettings(port=ports["demo_target"])),
            ("proxy", proxy),
            *(
                ("gateway", GatewaySettings(port=ports[kind], config_file=str(config_file)))
                for kind in KINDS
            ),
        ]
        try:
            for service, settings in told:
                running.append(await start(service, settings))
            await ready(urls)
            for kind, stream in KINDS.items():
                agents[kind] = await start(
                    "agent",
                    AgentSettings(
                        gateway_url=urls[kind],
                        proxy_url=urls["proxy"],
                        goal=scenario["goal"],
                        api=scenario["api"],
                        endpoints=scenario["endpoints"],
                        success=scenario["success"],
                        think_time_seconds=0,
                        ramp_seconds=1,
                        heartbeat_file=f"{folder}/{kind}",
                        agents_here=given.agents,
                        stream=stream,
                    ),
                )
            await asyncio.sleep(WARM_UP_SECONDS)
            pids = {kind: process.pid for kind, process in agents.items()}
            return await _compared(pids, urls, given.seconds)
        finally:
            for process in (*agents.values(), *running):
                process.terminate()
                await process.wait()
            await runner.cleanup()


async def _compared(pids: dict[str, int], urls: dict[str, str], seconds: float) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http:

        async def state(kind: str) -> tuple[float, int]:
            """CPU seconds, and steps."""
            async with http.get(f"{urls[kind]}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            counts = (x.split()[-1] for x in lines if x.startswith("ape_gateway_requests_total{"))
            return cpu_seconds(pids[kind]), int(sum(map(float, counts)))

        before = {kind: await state(kind) for kind in KINDS}
        await asyncio.sleep(seconds)
        found: dict[str, Any] = {}
        for kind in KINDS:
            cpu, steps = await state(kind)
            steps -= before[kind][1]
            found[f"{kind}_steps"] = steps
            found[f"{kind}_cpu_ms_per_step"] = round(1000 * (cpu - before[kind][0]) / steps, 3)
            found[f"{kind}_resident_mb"] = round(resident_mb(pids[kind]), 1)
            async with http.get(f"{urls[kind]}/fleet") as answer:
                assert not (await answer.json())["sessions"]["failure"]
        async with http.get(f"{urls['proxy']}/results") as answer:
            results = await answer.json()
        for name in ("ttft", "itl"):
            count = results[name]["count"]
            found[f"{name}_mean_ms"] = round(1000 * results[name]["sum"] / count, 2)
    return found


def main() -> int:
    options = argparse.ArgumentParser(description="CPU and memory of an agent with streams.")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--agents", type=int, default=10, help="in each of both processes")
    options.add_argument("--tokens", type=int, default=100, help="of reasoning, before a call")
    options.add_argument("--gap", type=float, default=0.005, help="seconds between two tokens")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found = asyncio.run(measure(given))
    ratio = found["streams_cpu_ms_per_step"] / found["whole_cpu_ms_per_step"]
    found["cpu_ratio"] = round(ratio, 3)
    found["missed"] = [
        *([f"CPU per step: above {MAX_RATIO} of that without"] if ratio > MAX_RATIO else []),
        *([f"memory: above {MAX_MB} MB"] if found["streams_resident_mb"] >= MAX_MB else []),
    ]
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24} {value}")
    return bool(found["missed"])


if __name__ == "__main__":
    sys.exit(main())
