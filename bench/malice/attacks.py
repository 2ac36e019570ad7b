"""What a container that was taken over can send to the gateway and the proxy.

A process of its own: `attacks.py GATEWAY_PORT PROXY_PORT --token T --seconds S`. Each attacker has
an address of its own (127.0.0.2 to 127.0.0.6) and repeats all attacks until the end. It rests
between two attacks: the container of an agent has a tenth of a core. Prints one JSON object: how
often each attack ended in which way.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

ATTACKERS = 5
# Together as many as the gateway once took at all.
SILENT_CONNECTIONS = 1640
PAUSE_SECONDS = 0.2
# A connection that the service does not close by then is closed here.
HELD_SECONDS = 15.0
ANSWER_SECONDS = 20.0
PIECE = 1 << 16


def _post(path: str, length: int, more: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\n{more}Content-Length: {length}\r\n\r\n"
    ).encode()


def _batch() -> bytes:
    call = {"name": "http_batch", "arguments": {"requests": ["ITEMS"]}}
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
    return text.encode().replace(b'["ITEMS"]', b"[" + b"1," * 1_300_000 + b"1]")


def _lists(count: int) -> bytes:
    return b'{"messages":[' + b"[]," * count + b"[]]}"


# The largest that gateway and proxy read; more of them are in a small encoded body.
LISTS = _lists(349_000)
DEEP = b'{"messages":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
BOMB = gzip.compress(_lists(1_300_000), 9)
BATCH = _batch()
HEADERS = b"".join(b"X-%d: y\r\n" % number for number in range(8000))


Attacks = Mapping[str, Callable[[], Awaitable[str]]]


@dataclass(frozen=True)
class Attacker:
    """`address`: from which it connects."""

    address: str
    token: str
    end: float
    ended: Counter[str]

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(self.address, 0))

    async def send(self, port: int, pieces: Iterator[bytes], pause: float = 0.0) -> str:
        """Send the pieces until the service answers or closes; how it ended."""
        reader, writer = await self.connect(port)
        answer = asyncio.ensure_future(reader.read(12))
        try:
            for piece in pieces:
                if answer.done() or time.monotonic() > self.end:
                    break
                writer.write(piece)
                await writer.drain()
                await asyncio.wait((answer,), timeout=pause)
            await asyncio.wait((answer,), timeout=ANSWER_SECONDS)
            if not answer.done():
                return "no answer"
            return answer.result()[9:12].decode("ascii", "replace") or "closed"
        finally:
            answer.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await answer
            writer.close()

    async def encoded(self, port: int) -> str:
        """Twelve small bodies that are large once decoded."""
        more = f"Authorization: Bearer {self.token}\r\nContent-Encoding: gzip\r\n"
        raw = _post("/v1/chat/completions", len(BOMB), more) + BOMB
        return (await asyncio.gather(*(self.send(port, iter([raw])) for _ in range(12))))[0]

    async def body(self, port: int, path: str, body: bytes) -> str:
        """A body that is large once parsed."""
        more = f"Authorization: Bearer {self.token}\r\n"
        return await self.send(port, iter([_post(path, len(body), more), body]))

    async def small_headers(self, port: int) -> str:
        """96 MB of small headers on one connection."""
        start = b"GET /health HTTP/1.1\r\nHost: x\r\n"
        return await self.send(port, iter([start, *[HEADERS] * (96_000_000 // len(HEADERS))]))

    async def long_header(self, port: int) -> str:
        """One header of 32 MB."""
        start = b"GET /health HTTP/1.1\r\nHost: x\r\nX: "
        return await self.send(port, iter([start, *[b"y" * PIECE] * 500]))

    async def slow(self, port: int, start: bytes) -> str:
        """A head or a body whose rest comes byte by byte, on thirty connections."""
        drip = [start, *[b"1"] * int(HELD_SECONDS * 2)]
        return (await asyncio.gather(*(self.send(port, iter(drip), 0.5) for _ in range(30))))[0]

    async def silent(self, port: int) -> str:
        """Connections that send nothing."""
        opened, refused = [], 0
        for _ in range(SILENT_CONNECTIONS):
            try:
                opened.append(await self.connect(port))
            except OSError:
                refused += 1
            if not len(opened) % 50:
                await asyncio.sleep(0.02)
        await asyncio.sleep(min(HELD_SECONDS, max(0.0, self.end - time.monotonic())))
        closed = sum(reader.at_eof() for reader, _ in opened)
        for _, writer in opened:
            writer.close()
        if not opened:
            return "refused"
        return "closed" if closed > len(opened) // 2 else "held"

    def all(self, gateway: int, proxy: int) -> Attacks:
        """Every attack by its name."""
        completions, upload = "/v1/chat/completions", b"[" + b" " * 70_000
        bearer = f"Authorization: Bearer {self.token}\r\n"
        return {
            "encoded bodies": partial(self.encoded, proxy),
            "many lists": partial(self.body, proxy, completions, LISTS),
            "deep lists": partial(self.body, proxy, completions, DEEP),
            "many lists to the gateway": partial(self.body, gateway, "/mcp/request", LISTS),
            "deep lists to the gateway": partial(self.body, gateway, "/mcp/request", DEEP),
            "deep report": partial(self.body, gateway, "/agents/report", DEEP),
            "batch": partial(self.body, gateway, "/mcp", BATCH),
            "small headers": partial(self.small_headers, gateway),
            "long header": partial(self.long_header, gateway),
            "small headers to the proxy": partial(self.small_headers, proxy),
            "long header to the proxy": partial(self.long_header, proxy),
        } | {
            f"slow {name}": partial(self.slow, port, start)
            for name, port, start in (
                ("uploads", gateway, _post("/mcp/request", 1_000_000) + upload),
                ("heads", gateway, b"GET /health HTTP/1.1\r\nX: "),
                ("uploads to the proxy", proxy, _post(completions, 1_000_000, bearer) + upload),
            )
        }

    async def once(self, name: str, attack: Callable[[], Awaitable[str]]) -> None:
        try:
            how = await attack()
        except OSError as error:
            how = type(error).__name__
        self.ended[f"{name}: {how}"] += 1

    async def repeat(self, attacks: Attacks) -> None:
        while time.monotonic() < self.end:
            order = list(attacks.items())
            random.shuffle(order)
            for name, attack in order:
                if time.monotonic() < self.end:
                    await self.once(name, attack)
                    await asyncio.sleep(PAUSE_SECONDS)


async def run(gateway: int, proxy: int, token: str, seconds: float) -> Counter[str]:
    """All attackers; slow and silent connections stay beside the other attacks."""
    ended, end = Counter[str](), time.monotonic() + seconds
    work = []
    for number in range(ATTACKERS):
        attacker = Attacker(f"127.0.0.{number + 2}", token, end, ended)
        attacks = attacker.all(gateway, proxy)
        slow = {name: attack for name, attack in attacks.items() if name.startswith("slow")}
        quick = {name: attack for name, attack in attacks.items() if name not in slow}
        silent = {
            "silent": partial(attacker.silent, gateway),
            "silent to the proxy": partial(attacker.silent, proxy),
        }
        work += [attacker.repeat(each) for each in (quick, slow, silent)]
    done, pending = await asyncio.wait(
        [asyncio.create_task(each) for each in work], timeout=seconds + 2
    )
    for task in pending:
        task.cancel()
    await asyncio.gather(*done, *pending, return_exceptions=True)
    return ended


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("gateway", type=int, help="its port")
    options.add_argument("proxy", type=int, help="its port")
    options.add_argument("--token", default="", help="of the agents")
    options.add_argument("--seconds", type=float, default=30)
    given = options.parse_args()
    print(json.dumps(asyncio.run(run(given.gateway, given.proxy, given.token, given.seconds))))


if __name__ == "__main__":
    main()
