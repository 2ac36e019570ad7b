"""`python -m ape_socket_proxy`: serve Docker's API on a socket. `… check`: exit with 0 if healthy.

A Unix socket in a volume, not a port: in each node's volume is the socket of that node's own proxy,
and the proxy needs no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys

from ape_contracts.service_settings import ServiceSettingsError, SocketProxySettings
from ape_service import logs
from ape_service.settings import load
from ape_socket_proxy.rules import Rejection, forwarded, refusal

HEAD_BYTES, HEAD_SECONDS = 16384, 10.0
MAX_CONNECTIONS = 64
_CHUNK = 65536

_log = logging.getLogger(__name__)


def _answer(why: Rejection) -> bytes:
    body = f'{{"message": "socket proxy: {why.reason}"}}\n'.encode()
    return (
        f"HTTP/1.1 {why.status} Rejection\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )


class Proxy:
    def __init__(self, upstream: str, *, with_logs: bool) -> None:
        self._upstream, self._logs = upstream, with_logs
        self._open = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                writer.write(_answer(Rejection(503, "too many connections")))
                await writer.drain()
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The caller or the daemon went away.
        except asyncio.CancelledError:
            pass  # The proxy ends; Python 3.11 would report a cancelled handler as an error.
        finally:
            self._open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        why = refusal(head, logs=self._logs)
        if why is not None:
            first = head.split(b"\r\n", 1)[0][:200].decode("ascii", "replace")
            _log.warning("refused", extra=logs.fields(request=first, reason=why.reason))
        else:
            try:
                source, sink = await asyncio.open_unix_connection(self._upstream)
            except OSError:
                why = Rejection(502, "the Docker daemon does not answer")
        if why is not None:
            writer.write(_answer(why))
            await writer.drain()
            return
        sink.write(forwarded(head))
        gone = asyncio.create_task(reader.read(1))
        try:
            await self._pipe(source, writer, gone)
        finally:
            gone.cancel()
            sink.close()

    async def _pipe(
        self, source: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: asyncio.Task[bytes]
    ) -> None:
        """Copy the answer until it ends, or the caller hangs up (an event stream may be silent)."""
        while True:
            chunk = asyncio.ensure_future(source.read(_CHUNK))
            done, _ = await asyncio.wait({chunk, gone}, return_when=asyncio.FIRST_COMPLETED)
            if chunk not in done:
                chunk.cancel()
                return
            data = chunk.result()
            if not data:
                return
            writer.write(data)
            await writer.drain()


async def serve(listen: str, upstream: str, *, with_logs: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError if `listen` is not available."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(listen)
    proxy = Proxy(upstream, with_logs=with_logs)
    server = await asyncio.start_unix_server(proxy.handle, listen, limit=HEAD_BYTES)
    # Whoever has the volume may read; the monitor is another user.
    os.chmod(listen, 0o666)  # noqa: S103
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server:
        await stop.wait()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(listen)


def check(listen: str) -> bool:
    """Whether the daemon answers through the proxy."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(3)
            made.connect(listen)
            made.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
            return made.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False


def main() -> int:
    logs.setup("socket-proxy")
    try:
        settings = load(SocketProxySettings)
    except ServiceSettingsError as error:
        _log.error("cannot start: %s", error)
        return 2
    listen = settings.listen
    if sys.argv[1:] == ["check"]:
        return not check(listen)
    try:
        _log.info("starting", extra=logs.fields(listen=listen, logs=settings.logs))
        asyncio.run(serve(listen, settings.docker_socket, with_logs=settings.logs))
    except OSError as error:
        _log.error("cannot listen on %s: %s", listen, error.strerror)
        return 2
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
