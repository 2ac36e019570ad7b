"""The socket proxy as a process, with a log shipper that follows a thousand containers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import docker
import psutil
import pytest

from ape_contracts.limits import LIMITS, OTHER_CONNECTIONS, socket_proxy_memory_mb
from ape_contracts.service_settings import SocketProxySettings
from ape_socket_proxy.__main__ import check
from bench.fuzz.services import process

pytestmark = pytest.mark.e2e
STREAMS = 1100
LABELS = {"ape.project": "ape", "ape.stack": "dev", "ape.service": "agent", "ape.agents": "1"}
LINE = b"\1\0\0\0\0\0\0\7a line\n"
# What a daemon has ready for a shipper that does not read.
BACKLOG = LINE * 20_000


class Daemon:
    """Docker's API, as far as monitor and shipper use it; a log stays open until its caller goes.

    Its logs are endless with `flood`.
    """

    def __init__(self) -> None:
        self.logs, self.flood = 0, False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().partition("?")[0]
        parts = path.strip("/").split("/")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        if parts[-1] == "logs":
            self.logs += 1
            await self._log(reader, writer)
            self.logs -= 1
        elif parts[-1] == "json" and len(parts) > 2 and parts[-2] != "containers":
            found = {"Id": parts[-2], "Config": {"Labels": LABELS, "Env": []}}
            writer.write(json.dumps(found).encode())
        elif parts[-1] == "json":
            listed = [{"Id": f"{n:064x}", "Labels": LABELS} for n in range(STREAMS)]
            writer.write(json.dumps(listed).encode())
        elif parts[-1] == "_ping":
            writer.write(b"OK")
        writer.close()

    async def _log(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LINE)
        gone = asyncio.ensure_future(reader.read())
        try:
            while self.flood and not gone.done():
                writer.write(BACKLOG)
                await writer.drain()
            await gone
        except OSError:
            pass
        finally:
            gone.cancel()


class Service:
    def __init__(self, path: Path, made: psutil.Popen, daemon: Daemon) -> None:
        self.path, self.process, self.daemon = path, made, daemon

    async def log(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A log stream, as a shipper opens it."""
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=1024)
        target = f"/v1.44/containers/{number:064x}/logs?follow=1&stdout=1"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return reader, writer

    @property
    def memory_mb(self) -> float:
        return float(self.process.memory_full_info().uss) / 2**20


@asynccontextmanager
async def running(tmp_path: Path, log_streams: int) -> AsyncIterator[Service]:
    daemon, listen, up = Daemon(), tmp_path / "down", tmp_path / "up"
    settings = SocketProxySettings(
        project="ape",
        stack="dev",
        listen=str(listen),
        docker_socket=str(up),
        logs=True,
        log_streams=log_streams,
    )
    async with await asyncio.start_unix_server(daemon, str(up), backlog=4096):
        with process("socket_proxy", settings, tmp_path / "log") as made:
            for _ in range(200):
                if await asyncio.to_thread(check, str(listen)):
                    break
                await asyncio.sleep(0.05)
            yield Service(listen, made, daemon)


def listed(path: Path) -> int:
    """The containers that the monitor sees."""
    client = docker.APIClient(base_url=f"unix://{path}", version="1.44", timeout=20)
    try:
        client.inspect_container(f"{0:064x}")
        return len(client.containers(all=True))
    finally:
        client.close()


async def test_the_monitor_finds_its_containers_beside_1100_log_streams(tmp_path: Path) -> None:
    async with running(tmp_path, STREAMS) as service:
        opened = await asyncio.gather(*(service.log(n) for n in range(STREAMS)))
        heads = await asyncio.gather(*(reader.readuntil(b"a line\n") for reader, _ in opened))
        assert all(head.startswith(b"HTTP/1.1 200") for head in heads)
        assert service.daemon.logs == STREAMS
        assert await asyncio.to_thread(listed, service.path) == STREAMS
        # One more log stream is refused, and takes no place of the monitor.
        for _ in range(OTHER_CONNECTIONS + 1):
            reader, writer = await service.log(0)
            assert b"more than 1100 log streams" in await reader.read()
            writer.close()
        assert await asyncio.to_thread(listed, service.path) == STREAMS
        assert service.memory_mb < socket_proxy_memory_mb(STREAMS)
        for _, writer in opened:
            writer.close()
        for _ in range(200):
            if not service.daemon.logs:
                break
            await asyncio.sleep(0.05)
        assert not service.daemon.logs


async def test_a_shipper_that_stalls_does_not_fill_the_proxys_memory(tmp_path: Path) -> None:
    async with running(tmp_path, STREAMS) as service:
        service.daemon.flood = True
        opened = await asyncio.gather(*(service.log(n) for n in range(STREAMS)))
        for _ in range(200):
            if service.daemon.logs == STREAMS:
                break
            await asyncio.sleep(0.05)
        assert await asyncio.to_thread(listed, service.path) == STREAMS
        assert service.memory_mb < socket_proxy_memory_mb(STREAMS)
        for _, writer in opened:
            writer.close()


def test_the_limit_of_few_log_streams_is_the_services_own() -> None:
    assert socket_proxy_memory_mb(1) == LIMITS["socket_proxy"].memory_mb
