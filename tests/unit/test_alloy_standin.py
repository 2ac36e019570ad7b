"""The stand-in for Alloy: it reads the real config, and ships each line of each container once."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ape_contracts import labels
from ape_infra.observability import alloy
from offline.alloy import standin

pytestmark = pytest.mark.unit
MARKS = {labels.PROJECT: "ape", labels.STACK: "dev", labels.SERVICE: "agent", labels.TIER: "1-50"}


def config(socket: str = "/run/ape/docker.sock", push_url: str = "http://store:1/push") -> str:
    return alloy.config(
        docker_url=f"unix://{socket}", project="ape", stack="dev", push_url=push_url
    )


def test_stand_in_reads_the_config_of_alloy() -> None:
    made = standin.parse(config())
    assert made.socket == "/run/ape/docker.sock"
    assert made.push_url == "http://store:1/push"
    assert list(made.filters) == labels.stack_filter("ape", "dev")["label"]
    assert made.metadata == alloy.METADATA
    assert made.container == alloy.CONTAINER
    assert dict(standin.stream_labels(made, MARKS | {"other": "x"})) == {
        name: MARKS[label] for name, label in alloy.LABELS.items()
    }
    with pytest.raises(ValueError, match="the config has nothing that matches"):
        standin.parse("logging {}")


def test_entry_has_the_time_of_the_writer_and_the_ids_as_metadata() -> None:
    made, docker = standin.parse(config()), "1970-01-01T00:00:02.000000007Z"
    line = json.dumps({"ts": "1970-01-01T00:00:01.500Z", "trace_id": "t", "session": "s", "n": 1})
    assert standin.entry(made, docker, line, "ape-dev-agent-0001") == [
        "1500000000",
        line,
        {"trace_id": "t", "session_id": "s", "container": "ape-dev-agent-0001"},
    ]
    for plain in ("{not json", "17", json.dumps({"ts": "later"})):
        at, text, metadata = standin.entry(made, docker, plain, "x")
        assert (at, text, metadata) == ("2000000007", plain, {"container": "x"})


def frame(source: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", source, len(data)) + data


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_lines_survive_any_cut_and_do_not_mix_with_errors(size: int) -> None:
    raw = frame(1, b"a1") + frame(2, b"E\n") + frame(1, b"\r\nb\nrest") + frame(2, b"F\n")

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(raw), size):
            yield raw[at : at + size]

    assert [line async for line in standin.lines(pieces(), tty=False)] == [b"E", b"a1", b"b", b"F"]


class Machine:
    """Docker's API, and a log store: `written` are lines of container c1, `pushed` what arrived."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.pushed: list[tuple[dict[str, str], list[Any]]] = []
        self.refuse = 0
        self.asked: list[str] = []

    async def docker(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        self.asked.append(target)
        path = urlsplit(target).path
        answers: dict[str, Any] = {
            "/containers/json": [{"Id": "c1", "Names": ["/ape-dev-agent-0001"], "Labels": MARKS}],
            "/containers/c1/json": {"Config": {"Tty": False}},
        }
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        if path in answers:
            body = json.dumps(answers[path]).encode()
            writer.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            # The connection breaks after the last line.
            lines = b"".join(frame(1, f"{line}\n".encode()) for line in self.written)
            writer.write(head + b"%x\r\n%b\r\n" % (len(lines), lines))
        await writer.drain()
        writer.close()

    async def store(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].split("\r\n")[0])
        body = json.loads(await reader.readexactly(size))
        status = b"503 Busy" if self.refuse else b"204 No Content"
        if self.refuse:
            self.refuse -= 1
        else:
            self.pushed += ((s["stream"], v) for s in body["streams"] for v in s["values"])
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def until(machine: Machine, count: int) -> None:
    async with asyncio.timeout(10):
        while len(machine.pushed) < count:
            await asyncio.sleep(0.01)


async def test_each_line_is_pushed_once_over_broken_streams_a_busy_store_and_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REFRESH_SECONDS", "PUSH_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(standin, name, 0.02)
    machine, socket = Machine(), str(tmp_path / "docker.sock")
    docker = await asyncio.start_unix_server(machine.docker, socket)
    store = await asyncio.start_server(machine.store, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{store.sockets[0].getsockname()[1]}/push"
    made = standin.parse(config(socket, url))

    async def shipped(count: int) -> standin.Shipper:
        shipper = standin.Shipper(made, tmp_path)
        tasks = [asyncio.create_task(shipper.discover()), asyncio.create_task(shipper.push())]
        await until(machine, count)
        # Time for what must not arrive again.
        await asyncio.sleep(0.15)
        for task in tasks:
            task.cancel()
        return shipper

    machine.refuse = 2
    machine.written = [f"2026-01-01T00:00:0{n}.000000000Z line {n}" for n in (1, 2)]
    first = await shipped(2)
    machine.written.append("2026-01-01T00:00:03.000000005Z line 3")
    await shipped(3)
    docker.close()
    store.close()
    assert [value[1] for _, value in machine.pushed] == ["line 1", "line 2", "line 3"]
    assert machine.pushed[0][0]["service"] == "agent"
    assert (first.sent, first.is_ready) == (2, True)
    asked = [parse_qs(urlsplit(target).query) for target in machine.asked]
    (filters,) = {query["filters"][0] for query in asked if "filters" in query}
    assert json.loads(filters) == labels.stack_filter("ape", "dev")
    # The restart asks for what is new only.
    assert {query["since"][0] for query in asked if "since" in query} >= {"0.000000000"}


async def test_ready_only_when_docker_answers(tmp_path: Path) -> None:
    shipper = standin.Shipper(standin.parse(config()), tmp_path)
    server = await asyncio.start_server(shipper.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def get(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        return text

    assert get_status(await get("/-/ready")) == 503
    shipper.is_ready, shipper.sent = True, 7
    assert get_status(await get("/-/ready")) == 200
    assert "loki_write_sent_entries_total 7\n" in await get("/metrics")
    server.close()


def get_status(text: str) -> int:
    return int(text.split(" ")[1])
