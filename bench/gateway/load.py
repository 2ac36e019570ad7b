"""One load run in a process of its own: `load.py URL [--body FILE] [--rate N] [--header LINE]`.

With a rate, requests begin when they are due, whether earlier ones have been answered or not;
without one, each caller sends its next request when the last one is answered. Prints one JSON
object: requests, failed, seconds, and latencies p50 and p99 in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """A kept connection; one request at a time."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._whole = 0
        self._answer: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> asyncio.Future[bool]:
        """Done when the answer is whole: whether it was a 200."""
        self._answer = asyncio.get_running_loop().create_future()
        self._got.clear()
        self._whole = 0
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._whole and (end := self._got.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._got, 0, end)
            self._whole = end + 4 + (int(length[1]) if length else 0)
        if self._whole and len(self._got) >= self._whole and self._answer is not None:
            self._answer.set_result(self._got.startswith(b"HTTP/1.1 200"))
            self._answer = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_result(False)
            self._answer = None


def request_of(url: str, body: bytes | None, header: str = "") -> bytes:
    parts = urlsplit(url)
    line = f"{'GET' if body is None else 'POST'} {parts.path or '/'} HTTP/1.1\r\n"
    head = f"{line}Host: {parts.netloc}\r\n" + (f"{header}\r\n" if header else "")
    if body is None:
        return f"{head}\r\n".encode()
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{head}{content}".encode() + body


async def run(
    url: str, body: bytes | None, callers: int, rate: float, seconds: float, header: str
) -> None:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    request = request_of(url, body, header)
    idle: asyncio.Queue[Caller] = asyncio.Queue()
    for _ in range(callers):
        _, caller = await loop.create_connection(Caller, host, port)
        idle.put_nowait(caller)
    took: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        caller = await idle.get()
        failed += not await caller.send(request)
        took.append(time.perf_counter() - due)
        idle.put_nowait(caller)

    async def repeat() -> None:
        while time.perf_counter() < begin + seconds:
            await one(time.perf_counter())

    await asyncio.gather(*(one(time.perf_counter()) for _ in range(callers * 4)))
    took.clear()
    begin = time.perf_counter()
    if rate:
        tasks = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(begin + number / rate - time.perf_counter())
            tasks.append(asyncio.create_task(one(time.perf_counter())))
        await asyncio.gather(*tasks)
    else:
        await asyncio.gather(*(repeat() for _ in range(callers)))
    spent = time.perf_counter() - begin
    cuts = statistics.quantiles(took, n=100)
    result = {
        "requests": len(took),
        "failed": failed,
        "seconds": spent,
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--body", type=Path)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--header", default="", help="Further line of the head.")
    args = parser.parse_args()
    given = args.body.read_bytes() if args.body else None
    uvloop.run(run(args.url, given, args.callers, args.rate, args.seconds, args.header))
