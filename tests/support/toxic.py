"""Targets that misbehave, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

GOOD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 209715200\r\n\r\n"
Writer = asyncio.StreamWriter
Behavior = Callable[[Writer], Awaitable[None]]


class Toxic:
    """A TCP server that reads a request's head and follows the next of `behaviors`, or answers."""

    def __init__(self) -> None:
        self.behaviors: list[Behavior] = []
        self.requests = 0
        self.written = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    def close(self) -> None:
        if hasattr(self, "_server"):
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                if self.behaviors:
                    await self.behaviors.pop(0)(writer)
                else:
                    writer.write(GOOD)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def huge(self, writer: Writer) -> None:
        """Write 200 MB as fast as they are read."""
        writer.write(ENDLESS)
        for _ in range(200):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
            self.written += 1 << 20


def writes(data: bytes, then: Callable[[Writer], None] | None = None, wait: float = 0) -> Behavior:
    """Write `data` and continue, or wait, or end the connection by `then`."""

    async def behave(writer: Writer) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(wait)
        if then is not None:
            then(writer)
            raise OSError

    return behave


def reset(writer: Writer) -> None:
    """End with RST in place of FIN."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def hang_up(writer: Writer) -> None:
    writer.close()
