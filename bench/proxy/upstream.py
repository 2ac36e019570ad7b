"""A provider that only streams, so that it adds little to the measurement.

Each request asks for its own stream in `bench`: {"tokens": how many, "gap": seconds between two,
"first": seconds before the first}. Token i is the text "i ", so that lost tokens are visible.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from typing import Any

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
END = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def event(number: int) -> bytes:
    return (
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"bench",'
        b'"choices":[{"index":0,"delta":{"content":"%d "},"finish_reason":null}]}\n\n' % number
    )


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Stream(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        if len(body) >= length:
            self._received = b""
            self._asked = json.loads(body[:length])["bench"]
            self._sent = 0
            self._at = self._loop.time() + self._asked["first"]
            self._transport.write(HEAD)
            self._timer = self._loop.call_at(self._at, self._token)

    def _token(self) -> None:
        self._transport.write(chunked(event(self._sent)))
        self._sent += 1
        if self._sent == self._asked["tokens"]:
            self._transport.write(chunked(END) + b"0\r\n\r\n")
            self._transport.close()
            return
        self._at += self._asked["gap"]
        self._timer = self._loop.call_at(self._at, self._token)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    gc.disable()
    asyncio.run(main(int(sys.argv[1])))
