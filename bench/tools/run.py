"""Typed tools against one generic tool: the same shop, goal and model, with the same mistakes.

Sessions run in this process, with the real gateway before a small shop, once with a tool for each
operation and once with call_api and a list of the endpoints. Needs no Docker.

    .ape/run python -m bench.tools.run                          200 sessions each, mistakes.py
    .ape/run python -m bench.tools.run --rate 0.5               a mistake in every second call
    .ape/run python -m bench.tools.run --model http://host:11434/v1 --name qwen3:8b
    .ape/run python -m bench.tools.run --json

What it shows: how many mistakes of these kinds reach the target, are put right by the agent, or
cost a further step, with either form. A mistake that the target takes was put right, or is another
request than was meant, which nothing shows: such as GET /items for GET /items/{sku}. What it cannot
show without --model: whether models make fewer mistakes with typed tools. The model of mistakes.py
makes as many with both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer

from ape_agent.host import toolbox
from ape_agent.peers import Peer
from ape_agent.results import SessionResult, Step
from ape_agent.session import Session
from ape_contracts.operations import Operation
from ape_contracts.service_settings import AgentSettings
from bench.tools import mistakes
from bench.tools.mistakes import KINDS
from tests.support import flow_gateway
from tests.support.flow_target import OPERATIONS, FlowTarget
from tests.support.model_world import address
from tests.unit.services.conftest import AsgiServer

USED = ("items", "item", "order", "search")
GOAL = "Look at the items and at one of them, order it, and search for your paid orders."
SIGN_IN = {
    "kind": "json",
    "path": "/auth/login",
    "fields": {"username": "{agent}", "password": "secret"},
}
# As targetEndpoints would have them, with the header and the query that the shop needs.
ENDPOINTS: list[dict[str, Any]] = [
    {"method": "GET", "path": "/items", "description": "Items, a page"},
    {"method": "GET", "path": "/items/{sku}", "description": "One item"},
    {
        "method": "POST",
        "path": "/orders",
        "description": "Order, with the header idempotency-key",
        "headers": {"idempotency-key": "{session}"},
        "body": {"skus": ["{sku}"]},
    },
    {
        "method": "GET",
        "path": "/orders/search",
        "description": "Orders, by the query state (paid, open) and tags",
        "query": {"state": "paid", "tags": ["new"]},
    },
]
SUCCESS = {
    "method": "GET",
    "path": "/orders/search",
    "status": 200,
    "also": [{"method": "POST", "path": "/orders", "status": 201}],
}


def model(given: argparse.Namespace, sizes: list[int], made: list[str]) -> web.Application:
    """The model of mistakes.py, or the way to another.

    `sizes` gets the bytes of first requests, `made` the mistake of each call, or an empty text.
    """
    app = web.Application(client_max_size=1 << 24)

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        if len(body["messages"]) == 2:
            sizes.append(len(json.dumps(body)))
        if given.model:
            return await _forwarded(given, body)
        # The goal of a session has its number.
        message, kind = mistakes.answer(body, given.rate, body["messages"][1]["content"])
        if kind or message.get("tool_calls"):
            made.append(kind)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        return web.json_response({"choices": [{"message": message, "finish_reason": finish}]})

    app.router.add_post("/v1/chat/completions", complete)
    return app


async def _forwarded(given: argparse.Namespace, body: dict[str, Any]) -> web.Response:
    key = os.environ.get("MODEL_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{given.model.rstrip('/')}/chat/completions"
    async with (
        ClientSession(timeout=ClientTimeout(300)) as client,
        client.post(url, json=body | {"model": given.name}, headers=headers) as answer,
    ):
        return web.Response(
            body=await answer.read(), status=answer.status, content_type="application/json"
        )


@asynccontextmanager
async def gateway(url: str, known: Sequence[Operation]) -> AsyncIterator[str]:
    server = AsgiServer(flow_gateway.app_of(url, known))
    await server.start_server()
    try:
        yield address(server)
    finally:
        await server.close()


async def measured(given: argparse.Namespace, *, typed: bool) -> dict[str, Any]:
    known = [each for each in OPERATIONS if each.id in USED] if typed else []
    results: list[SessionResult] = []
    steps: list[Step] = []
    sizes: list[int] = []
    made: list[str] = []
    async with (
        TestServer(FlowTarget().app()) as target,
        gateway(address(target), known) as before,
        TestServer(model(given, sizes, made)) as upstream,
    ):
        for number in range(given.sessions):
            settings = AgentSettings(
                gateway_url=before,
                proxy_url=address(upstream),
                goal=f"{GOAL} You are user {number}.",
                api=flow_gateway.API,
                success=SUCCESS,
                endpoints=[] if typed else ENDPOINTS,
                sign_in=[SIGN_IN],
                think_time_seconds=0.0,
                session_max_steps=given.steps,
                session_max_seconds=300.0,
            )
            peers = Peer(settings.gateway_url, 30), Peer(settings.proxy_url, 310)
            tools = await toolbox(settings, peers[0])
            session = Session(1, settings, tools, *peers, steps.append)
            results.append(await session.run())
            for peer in peers:
                peer.close()
    # Each call of the model is one step.
    ends = Counter((kind, step.result) for kind, step in zip(made, steps, strict=False) if kind)
    return summary(results, steps, sizes) | {"ends": {kind: _ends(ends, kind) for kind in KINDS}}


def _ends(ends: Counter[tuple[str, str]], kind: str) -> list[int]:
    return [ends[kind, result] for result in ("ok", "bad_call", "target_error")]


def summary(results: list[SessionResult], steps: list[Step], sizes: list[int]) -> dict[str, Any]:
    sessions, kinds = len(results), Counter(step.result for step in steps)
    repaired: Counter[str] = sum((each.repaired for each in results), Counter())
    succeeded = [each for each in results if each.reason == "goal_met"]
    return {
        "sessions": sessions,
        "succeeded": len(succeeded),
        "reasons": dict(Counter(each.reason for each in results)),
        "steps_mean": round(statistics.fmean(each.steps for each in results), 2),
        "calls_repaired": round(repaired.total() / sessions, 2),
        "calls_reported_to_the_model": round(kinds["bad_call"] / sessions, 2),
        "calls_refused_by_the_target": round(kinds["target_error"] / sessions, 2),
        "repairs": dict(repaired.most_common()),
        "first_request_bytes": round(statistics.fmean(sizes)) if sizes else 0,
    }


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--sessions", type=int, default=200)
    options.add_argument("--rate", type=float, default=0.3, help="part of calls with a mistake")
    options.add_argument("--steps", type=int, default=12, help="maximum of a session")
    options.add_argument("--model", default="", help="base URL of an OpenAI-compatible API")
    options.add_argument("--name", default="", help="its model; the key is MODEL_API_KEY")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    # Each session is logged, and each failure of the shop.
    logging.disable(logging.CRITICAL)
    found = {
        form: asyncio.run(measured(given, typed=form == "typed")) for form in ("typed", "call_api")
    }
    if given.json:
        print(json.dumps(found))
        return 0
    print(f"{'':30} {'typed tools':>24} {'call_api':>24}")
    for key in found["typed"]:
        typed, generic = (found[form][key] for form in ("typed", "call_api"))
        if key == "ends":
            print("mistakes: taken by the target, reported to the model, refused by the target")
            for kind in KINDS:
                print(f"  {kind:28} {typed[kind]!s:>24} {generic[kind]!s:>24}")
        elif isinstance(typed, dict):
            print(f"{key}: typed {typed}, call_api {generic}")
        else:
            print(f"{key:30} {typed:>24} {generic:>24}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
