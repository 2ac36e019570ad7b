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
from ape_service.open_files import raise_limit
from ape_service.settings import load, problem
from ape_socket_proxy.proxy import HEAD_BYTES, Proxy
from ape_socket_proxy.views import Scope

_log = logging.getLogger(__name__)


# Connections that wait for the proxy; Linux allows no more. A shipper opens all its streams at
# once, and Go's clients fail where the queue is full.
BACKLOG = 4096


async def serve(listen: str, proxy: Proxy) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError if `listen` is not available."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(listen)
    server = await asyncio.start_unix_server(
        proxy.handle, listen, limit=HEAD_BYTES, backlog=BACKLOG
    )
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
    if not (settings.project and settings.stack):
        _log.error("cannot start: %s", problem("stack", "is empty. Set project and stack."))
        return 2
    if sys.argv[1:] == ["check"]:
        return not check(listen)
    try:
        _log.info("starting", extra=logs.fields(listen=listen, logs=settings.logs))
        scope = Scope(settings.project, settings.stack)
        raise_limit()
        proxy = Proxy(
            settings.docker_socket,
            scope,
            with_logs=settings.logs,
            log_streams=settings.log_streams,
        )
        asyncio.run(serve(listen, proxy))
    except OSError as error:
        _log.error("cannot listen on %s: %s", listen, error.strerror)
        return 2
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
