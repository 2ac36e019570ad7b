"""A target whose times are known: seeded, spread, with pauses, and with a log of its own.

    python -m bench.load.target PORT

The k-th request of an endpoint takes the k-th time of the endpoint's sequence, which follows from
the seed alone: lognormal, with a tail. A plan (PUT /_plan) begins the sequences and the log again;
GET /_log has the seconds of each request by endpoint, from its last byte to its answer. Standard
library only, on one loop, so that it takes little time of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

# Of this many times in a row, each belongs to another part of the distribution.
STRATA = 200
_PRODUCTS = [{"id": number, "name": f"Lamp {number}", "price": 9.5} for number in range(1, 6)]
ANSWERS: dict[str, tuple[int, Any]] = {
    "GET /products": (200, {"products": _PRODUCTS}),
    "GET /products/{id}": (200, _PRODUCTS[0]),
    "POST /cart/items": (201, {"items": 1, "total": 9.5}),
    "POST /checkout": (201, {"order_id": 7, "total": 9.5}),
}
ENDPOINTS: list[dict[str, Any]] = [
    {"method": "GET", "path": "/products"},
    {"method": "GET", "path": "/products/{id}"},
    {
        "method": "POST",
        "path": "/cart/items",
        "body": {"product_id": "{product_id}", "quantity": 1},
    },
    {"method": "POST", "path": "/checkout"},
]


@dataclass(frozen=True)
class Plan:
    """How long answers take.

    `median`, `spread`: of the lognormal seconds (spread 0: all take the median), times `factor`.
    `stratified`: two sequences of the same length hardly differ. Every `period` seconds since the
    first request, at its middle, the target stands still for `pause` seconds: what would be
    answered then is answered when the pause ends.
    """

    seed: str = "1"
    median: float = 0.02
    spread: float = 0.6
    factor: float = 1.0
    stratified: bool = True
    period: float = 0.0
    pause: float = 0.0

    def times(self, endpoint: str) -> Iterator[float]:
        """The service times of an endpoint, without end."""
        draw = random.Random(f"{self.seed} {endpoint}")  # noqa: S311
        normal = NormalDist(math.log(self.median * self.factor), max(self.spread, 1e-9))
        while True:
            parts = [(part + draw.random()) / STRATA for part in range(STRATA)]
            draw.shuffle(parts)
            if not self.stratified:
                parts = [draw.random() for _ in parts]
            yield from (math.exp(normal.inv_cdf(min(max(at, 1e-6), 1 - 1e-6))) for at in parts)

    def released(self, at: float) -> float:
        """When an answer that is ready at `at`, in seconds since the first request, is sent."""
        begin = (self.period - self.pause) / 2
        inside = (at % self.period) - begin if self.pause else -1.0
        return at + self.pause - inside if 0 <= inside < self.pause else at


def endpoint_of(method: str, path: str) -> str:
    """The template, as the gateway's results have it."""
    return f"{method} {re.sub('/[0-9]+', '/{id}', path.partition('?')[0])}"


@dataclass
class Target:
    plan: Plan = field(default_factory=Plan)
    log: dict[str, list[float]] = field(default_factory=dict)
    first: float | None = None
    _times: dict[str, Iterator[float]] = field(default_factory=dict)

    def take(self, plan: dict[str, Any]) -> None:
        self.plan, self.log, self.first = Plan(**plan), {}, None
        self._times = {name: self.plan.times(name) for name in ANSWERS}

    async def answer(self, method: str, path: str, body: bytes, at: float) -> tuple[int, Any]:
        """`at`: when the request was there whole."""
        if path == "/_plan":
            self.take(json.loads(body))
            return 200, {}
        if path == "/_log":
            return 200, self.log
        endpoint = endpoint_of(method, path)
        if endpoint not in ANSWERS:
            return 404, {}
        self.first = at if self.first is None else self.first
        due = self.plan.released(at - self.first + next(self._times[endpoint])) + self.first
        await asyncio.sleep(due - time.monotonic())
        self.log.setdefault(endpoint, []).append(time.monotonic() - at)
        return ANSWERS[endpoint]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split(" ", 2)
                size = re.search(r"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(size[1]) if size else 0)
                status, found = await self.answer(method, path, body, time.monotonic())
                text = json.dumps(found).encode()
                start = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n"
                writer.write(f"{start}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def main(port: int) -> None:
    target = Target()
    target.take({})
    server = await asyncio.start_server(target.serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
