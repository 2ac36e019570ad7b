"""A stand-in for Grafana Alloy, where its image cannot be pulled: `alloy run [FLAG]... CONFIG`.

It reads from this project's own config what that config changes (which containers, which labels,
where to), and ships their lines as Alloy does with it. It understands no other config. Python's
standard library only, so that the services' base image runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

REFRESH_SECONDS, PUSH_SECONDS, RETRY_SECONDS = 5.0, 1.0, 2.0
# Lines of one push, and that wait for one; a full queue holds up the containers' streams.
BATCH, QUEUED = 2000, 20_000
MAX_LINE_BYTES = 1 << 20
MAX_PROBLEMS = 1000


class Config(NamedTuple):
    """`labels`: label -> Docker's label as the config spells it, with `_` for other characters.

    `metadata`: name -> key of a JSON line.
    """

    socket: str
    filters: tuple[str, ...]
    labels: Mapping[str, str]
    container: str
    metadata: Mapping[str, str]
    push_url: str


class Line(NamedTuple):
    """`position`: container and Docker's stamp, from which its stream continues."""

    labels: tuple[tuple[str, str], ...]
    entry: list[Any]
    position: tuple[str, str]


def parse(text: str) -> Config:
    """Read the config. Raises ValueError where it is not this project's."""

    def one(pattern: str) -> str:
        found = re.search(pattern, text)
        if not found:
            raise ValueError(f"the config has nothing that matches {pattern}")
        return found[1]

    rules = re.findall(
        r'source_labels = \["__meta_docker_container_label_(\w+)"\]\s+target_label\s*= "(\w+)"',
        text,
    )
    keys = re.findall(r'(\w+) = "(\w+)"', one(r"expressions = {(.+)}"))
    return Config(
        socket=one(r'host\s*= "unix://([^"]+)"'),
        filters=tuple(json.loads(one(r"values = (\[.+\])"))),
        labels={target: source for source, target in rules},
        container=one(
            r'"__meta_docker_container_name"\]\s+regex\s*= ".+"\s+target_label\s*= "(\w+)"'
        ),
        metadata={name: key for name, key in keys if name != "ts"},
        push_url=one(r'url = "([^"]+)"'),
    )


def nanoseconds(stamp: str) -> int | None:
    """The time of an RFC 3339 stamp in UTC since 1970; None: it is not one."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", stamp)
    if not found:
        return None
    seconds = int(datetime.fromisoformat(f"{found[1]}+00:00").timestamp())
    return seconds * 10**9 + int((found[2] or "").ljust(9, "0"))


def entry(config: Config, stamp: str, line: str, container: str) -> list[Any]:
    """An entry of Loki's push protocol: time, line, structured metadata.

    The time is the line's own; without one, Docker's.
    """
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    fields = found if isinstance(found, dict) else {}
    metadata = {name: str(fields[key]) for name, key in config.metadata.items() if fields.get(key)}
    at = nanoseconds(str(fields.get("ts", ""))) or nanoseconds(stamp)
    return [str(at), line, metadata | {config.container: container}]


def stream_labels(config: Config, docker_labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    spelled = {re.sub(r"\W", "_", name): value for name, value in docker_labels.items()}
    return tuple((name, spelled[key]) for name, key in config.labels.items() if key in spelled)


async def get(socket: str, path: str) -> AsyncIterator[bytes]:
    """The pieces of the body of Docker's answer. Raises OSError where it is not 200."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise OSError(f"{path}: {head.split(b' ', 2)[1].decode()}")
        if b"transfer-encoding: chunked" not in head:
            while piece := await reader.read(65536):
                yield piece
            return
        # A connection that breaks ends the body, too.
        while size := int(await reader.readline() or b"0", 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    finally:
        writer.close()


async def lines(pieces: AsyncIterator[bytes], tty: bool) -> AsyncIterator[bytes]:
    """The lines of a container's log; without a terminal, it is a sequence of frames."""
    raw, texts = b"", {1: b"", 2: b""}
    async for piece in pieces:
        if tty:
            frames = [(1, piece)]
        else:
            raw, frames = raw + piece, []
            while len(raw) >= 8 and len(raw) >= 8 + (size := struct.unpack(">I", raw[4:8])[0]):
                frames.append((raw[0], raw[8 : 8 + size]))
                raw = raw[8 + size :]
        for source, data in frames:
            *whole, rest = (texts.get(source, b"") + data).split(b"\n")
            texts[source] = rest if len(rest) < MAX_LINE_BYTES else b""
            for line in whole:
                yield line.removesuffix(b"\r")


class Shipper:
    """Follows every container of the stack, and pushes what it logs: each line once."""

    def __init__(self, config: Config, storage: Path) -> None:
        self._config, self._file = config, storage / "positions.json"
        self._queue: asyncio.Queue[Line] = asyncio.Queue(QUEUED)
        self._following: dict[str, asyncio.Task[None]] = {}
        self.sent, self.is_ready = 0, False
        # Container -> stamp of its last line that was pushed, and that was read.
        self.positions: dict[str, str] = {}
        if self._file.exists():
            self.positions = json.loads(self._file.read_text())
        self._read = dict(self.positions)
        self._reported: set[str] = set()

    def _report(self, problem: str) -> None:
        """Print a problem once: these lines are logs, too, and would be shipped again and again."""
        if problem not in self._reported and len(self._reported) < MAX_PROBLEMS:
            self._reported.add(problem)
            print(problem, file=sys.stderr, flush=True)

    async def discover(self) -> None:
        """Follow new containers, until cancelled."""
        filters = quote(json.dumps({"label": list(self._config.filters)}))
        while True:
            try:
                path = f"/containers/json?filters={filters}"
                body = b"".join([piece async for piece in get(self._config.socket, path)])
                found = {each["Id"]: each for each in json.loads(body)}
                self._following = {i: t for i, t in self._following.items() if not t.done()}
                for identity in found.keys() - self._following.keys():
                    task = asyncio.create_task(self._follow(found[identity]))
                    self._following[identity] = task
                self.is_ready = True
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                self._report(f"cannot list the containers: {error}")
            await asyncio.sleep(REFRESH_SECONDS)

    async def _follow(self, found: Mapping[str, Any]) -> None:
        """Until the stream ends: with the container, or with the connection."""
        identity, name = found["Id"], found["Names"][0].removeprefix("/")
        labels = stream_labels(self._config, found["Labels"])
        last = self._read.get(identity, "")
        at = nanoseconds(last) or 0
        since = f"{at // 10**9}.{at % 10**9:09d}"
        query = f"follow=1&stdout=1&stderr=1&timestamps=1&since={since}"
        try:
            about = get(self._config.socket, f"/containers/{identity}/json")
            details = json.loads(b"".join([piece async for piece in about]))
            pieces = get(self._config.socket, f"/containers/{identity}/logs?{query}")
            async for line in lines(pieces, bool(details["Config"]["Tty"])):
                stamp, _, text = line.decode(errors="replace").partition(" ")
                if stamp > last and text:
                    made = entry(self._config, stamp, text, name)
                    await self._queue.put(Line(labels, made, (identity, stamp)))
                    self._read[identity] = stamp
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self._report(f"the log of {name} ended: {error}")

    async def push(self) -> None:
        """Push what the containers log, until cancelled."""
        while True:
            batch = [await self._queue.get()]
            if self._queue.qsize() < BATCH:
                await asyncio.sleep(PUSH_SECONDS)
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            streams: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
            for line in batch:
                streams.setdefault(line.labels, []).append(line.entry)
            body = {"streams": [{"stream": dict(k), "values": v} for k, v in streams.items()]}
            while not await asyncio.to_thread(self._post, json.dumps(body).encode()):
                await asyncio.sleep(RETRY_SECONDS)
            self.sent += len(batch)
            self.positions |= dict(line.position for line in batch)
            self._file.write_text(json.dumps(self.positions))

    def _post(self, body: bytes) -> bool:
        """Whether the store took the lines, or will never take them."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._config.push_url, body, headers)  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            self._report(f"the log store rejects {len(body)} bytes: {error}")
            return error.code // 100 == 4 and error.code != 429
        except OSError as error:
            self._report(f"the log store does not answer: {error}")
            return False
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer /-/ready and /metrics, as Alloy does."""
        first = (await reader.readline()).decode(errors="replace")
        status, body = "200 OK", "Alloy is ready.\n"
        if "/metrics" in first:
            name = "loki_write_sent_entries_total"
            body = f"# TYPE {name} counter\n{name} {self.sent}\n"
        elif not self.is_ready:
            status, body = "503 Service Unavailable", "Alloy is not ready.\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n"
        writer.write(
            f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()


async def run(config: Config, address: str, storage: Path) -> None:
    shipper = Shipper(config, storage)
    host, _, port = address.rpartition(":")
    await asyncio.start_server(shipper.serve, host, int(port))
    tasks = [asyncio.create_task(work()) for work in (shipper.discover, shipper.push)]
    stop = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.cancel)
    # The first that ends: a task that fails, or the signal.
    await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()


def main() -> None:
    parser = argparse.ArgumentParser(prog="alloy")
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--server.http.listen-addr", dest="address", default="127.0.0.1:12345")
    parser.add_argument("--storage.path", dest="storage", type=Path, default=Path("data-alloy"))
    parser.add_argument("--disable-reporting", action="store_true")
    parser.add_argument("config", type=Path)
    options = parser.parse_args()
    asyncio.run(run(parse(options.config.read_text()), options.address, options.storage))


if __name__ == "__main__":
    main()
