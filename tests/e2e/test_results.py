"""What the gateway records of a run, against the log of a target that counts for itself."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections import defaultdict
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ape_contracts.gateway_config import load
from ape_contracts.sketch import Sketch
from ape_gateway.app import RequestMiddleware, make_app
from tests.support.model_world import address
from tests.unit.services.conftest import AsgiServer

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]
REQUESTS, AT_ONCE, WITHIN = 600, 50, 0.02


class CountingTarget:
    """Answers after a while of its own choice; `log`: endpoint -> seconds of each request."""

    def __init__(self) -> None:
        self.log: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[tuple[str, str], int] = defaultdict(int)
        self.received = 0
        self._random = random.Random(3)  # noqa: S311 - no secret
        self.app = web.Application()
        self.app.router.add_get("/products/{id}", self._product)
        self.app.router.add_post("/orders", self._order)

    def forget(self) -> None:
        self.log.clear()
        self.statuses.clear()
        self.received = 0

    async def _product(self, request: web.Request) -> web.Response:
        status = 404 if request.match_info["id"].endswith("7") else 200
        return await self._answer("GET /products/{id}", status, self._random.uniform(0.4, 1.0))

    async def _order(self, request: web.Request) -> web.Response:
        self.received += len(await request.read())
        seconds = min(1.5, 0.4 + self._random.expovariate(5))
        return await self._answer("POST /orders", 201, seconds)

    async def _answer(self, endpoint: str, status: int, seconds: float) -> web.Response:
        began = time.monotonic()
        await asyncio.sleep(seconds)
        self.log[endpoint].append(time.monotonic() - began)
        self.statuses[endpoint, f"{status // 100}xx"] += 1
        return web.json_response({"done": True}, status=status)


async def test_counts_are_those_of_the_target_and_percentiles_within_two_percent() -> None:
    target = CountingTarget()
    async with TestServer(target.app) as served:
        routes = {"shop": {"base_url": address(served), "endpoints": ENDPOINTS}}
        app = make_app(load(json.dumps({"routes": routes})))
        assert isinstance(app, RequestMiddleware)
        gateway = AsgiServer(app)
        await gateway.start_server()
        app.results.begin("r1", ["buy", "look"])
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(client: aiohttp.ClientSession, number: int, phase: str) -> None:
            order: dict[str, Any] = {"method": "POST", "path": "/orders", "data": {"sku": number}}
            look = {"method": "GET", "path": f"/products/{number}?view=full"}
            scenario, asked = ("buy", order) if number % 3 == 0 else ("look", look)
            headers = {"X-APE-Run": f"r1/{scenario}/{phase}"}
            body = {"api_name": "shop"} | asked
            async with places, client.post("/mcp/request", json=body, headers=headers) as answer:
                assert answer.status == 200

        async with aiohttp.ClientSession(address(gateway)) as client:
            # First, connections are made.
            await asyncio.gather(*(ask(client, number, "warm_up") for number in range(AT_ONCE)))
            target.forget()
            await asyncio.gather(*(ask(client, number, "main") for number in range(REQUESTS)))
            async with client.get("/results") as answer:
                found = await answer.json()
        await gateway.close()
    main = [item for item in found["requests"] if item["phase"] == "main"]
    assert (len(found["requests"]), len(main)) == (4, 2)
    for item in main:
        endpoint = f"{item['method']} {item['endpoint']}"
        assert item["statuses"] == {
            status: n for (of, status), n in target.statuses.items() if of == endpoint
        }
        assert item["errors"] == {}
        measured, log = Sketch.of(item["seconds"]), sorted(target.log[endpoint])
        assert measured.count == len(log)
        for q in (0.5, 0.9, 0.95, 0.99):
            own = log[math.ceil(q * len(log)) - 1]
            print(f"{endpoint} p{q * 100:g}: {own:.4f} s, measured {measured.quantile(q):.4f} s")
            assert measured.quantile(q) == pytest.approx(own, rel=WITHIN), (endpoint, q)
    assert sum(item["bytes_sent"] for item in main) == target.received


ENDPOINTS = [
    {"path": "/products/{id}", "methods": ["GET"]},
    {"path": "/orders", "methods": ["POST"]},
]
