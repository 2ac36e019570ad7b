"""A small HTTP/1.1 client on asyncio's streams, with h11 for the protocol.

aiohttp does more, and its import alone takes twice the memory of the whole agent (docs/facts.md).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from ape_agent.stream import Stream
from ape_service.completion_stream import TooLarge

MAX_ANSWER_BYTES = 4 << 20
# Servers close an idle connection after 5 s; the client closes it first.
IDLE_SECONDS = 4.0
_READ_BYTES = 1 << 16
_EVENTS = "text/event-stream"


class HttpError(Exception):
    """No answer: timeout, closed connection, answer too large, or not HTTP."""


class NotConnected(HttpError):
    """No connection was made, so the request had no effect."""


@dataclass(frozen=True)
class Answer:
    """Header names are in lower case; of a repeated header the last one counts."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    idle_since: float = 0.0

    @property
    def usable(self) -> bool:
        return not (
            self.writer.is_closing()
            or self.reader.at_eof()
            or self.reader.exception()
            or time.monotonic() - self.idle_since > IDLE_SECONDS
        )

    async def exchange(self, request: h11.Request, body: bytes, stream: Stream | None) -> Answer:
        """`stream` gets the body if it has events."""
        protocol = self.protocol
        data = protocol.send(request) or b""
        if body:
            data += protocol.send(h11.Data(data=body)) or b""
        self.writer.write(data + (protocol.send(h11.EndOfMessage()) or b""))
        await self.writer.drain()
        status, headers, content = 0, {}, bytearray()
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                protocol.receive_data(await self.reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in event.headers}
                if status != 200 or not headers.get("content-type", "").startswith(_EVENTS):
                    stream = None
                elif stream is not None:
                    stream.begin(headers)
            elif isinstance(event, h11.Data):
                if stream is not None:
                    stream.feed(bytes(event.data))
                    continue
                content += event.data
                if len(content) > MAX_ANSWER_BYTES:
                    raise HttpError("the answer is too large")
            elif isinstance(event, h11.EndOfMessage):
                if stream is not None:
                    stream.end()
                return Answer(status, headers, bytes(content))
            elif not isinstance(event, h11.InformationalResponse):
                raise HttpError("the connection was closed")

    def recycle(self) -> bool:
        """Prepare the next request; False if the server closes the connection."""
        if self.protocol.our_state is h11.DONE and self.protocol.their_state is h11.DONE:
            self.protocol.start_next_cycle()
            self.idle_since = time.monotonic()
            return True
        return False

    def close(self) -> None:
        self.writer.transport.abort()


class Client:
    """Requests to one origin; as many connections are kept as requests ran at once."""

    def __init__(self, url: str) -> None:
        """`url`: http or https; its path is prepended to the paths of requests."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._netloc, self._prefix = parts.netloc, parts.path.rstrip("/")
        self._ssl = ssl.create_default_context() if secure else None
        self._idle: list[_Connection] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        stream: Stream | None = None,
    ) -> Answer:
        """The answer, within `timeout` seconds. Raises HttpError; nothing is sent twice.

        `stream` gets the body of a 200 with events as it comes, and the answer has none.
        """
        request = h11.Request(
            method=method,
            target=self._prefix + path,
            headers=[
                ("Host", self._netloc),
                ("Content-Length", str(len(body))),
                *(headers or {}).items(),
            ],
        )
        connection: _Connection | None = None
        kept = False
        try:
            async with asyncio.timeout(timeout):
                connection = self._take() or await self._connect()
                answer = await connection.exchange(request, body, stream)
            kept = connection.recycle()
            return answer
        except (OSError, h11.RemoteProtocolError) as problem:
            # TimeoutError is an OSError. Without a connection, a request had no effect.
            kind = NotConnected if connection is None else HttpError
            raise kind(type(problem).__name__) from None
        except TooLarge as problem:
            raise HttpError(f"the answer is too large: {problem}") from None
        finally:
            if connection is not None:
                if kept:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _take(self) -> _Connection | None:
        """The connection used last that is still usable; unusable ones are closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._ssl))

    def close(self) -> None:
        while self._idle:
            with suppress(OSError):
                self._idle.pop().close()
