"""What one connection, and one address, may take of the gateway: bounds on uvicorn's protocol.

uvicorn with httptools bounds neither a request's head nor the time for it. The bounds cost next to
nothing for a request that comes in one piece: a comparison of its length, and its connection's
timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from importlib.metadata import version
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ape_gateway.cork import CorkedProtocol
from ape_service import logs
from ape_service.malformed import malformed

# The protocol's attributes that this module uses were checked with it (docs/facts.md).
CHECKED_VERSION = "0.54.0"
MAX_HEAD_BYTES, MAX_LINE_BYTES, MAX_HEADERS = 64 << 10, 8 << 10, 256
# For the whole head, from the connection or its first byte.
HEAD_SECONDS = 10.0
# For a caller to read something of an answer that fills the buffers.
READ_SECONDS = 30.0
# For the rest of a body that nobody reads: a caller that still sends would miss the answer.
LINGER_SECONDS, MAX_UNREAD_BYTES = 5.0, 8 << 20
_log = logging.getLogger(__name__)


def warn_of_another_version() -> None:
    """Log a warning unless uvicorn is the version that the bounds were checked with."""
    if (found := version("uvicorn")) != CHECKED_VERSION:
        _log.warning(
            "the limits of connections were checked with another uvicorn",
            extra=logs.fields(found=found, checked=CHECKED_VERSION),
        )


class BoundedProtocol(CorkedProtocol):
    """A connection whose head, time and number are bounded.

    Subclasses, one for each server, set `most` (connections of one address) and `all_most`, and
    have the counts of their own in `open`.
    """

    most: int
    all_most: int
    open: Counter[str]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Bytes since the head began, or of a body's pieces that held nothing of the body.
        self._counted = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._too_large = False
        self._address = self.client[0] if self.client else ""
        self.open[self._address] += 1
        if self.open[self._address] > self.most or len(self.connections) > self.all_most:
            # Without an answer, which would cost more than the connection.
            self.transport.abort()
        else:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._head_timer)
        _stop(self._read_timer)
        self.open[self._address] -= 1
        if not self.open[self._address]:
            del self.open[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        # A head that comes in one short piece fits, whatever it holds.
        if (
            not self._counted
            and len(data) <= MAX_LINE_BYTES
            and (cycle is None or not cycle.more_body)
        ):
            super().data_received(data)
            if self._head_timer is not None or self._in_head():
                self._counted = len(data)
                self._head_piece()
            return
        # In pieces, so that a head is bounded before it is parsed.
        for at in range(0, len(data), MAX_LINE_BYTES):
            if self.transport.is_closing():
                return
            self._piece(data[at : at + MAX_LINE_BYTES])

    def _piece(self, data: bytes) -> None:
        """A piece of a long head, or of a body."""
        cycle = self.cycle
        in_head, body = self._in_head(), 0 if cycle is None else len(cycle.body)
        self._counted += len(data)
        super().data_received(data)
        if self._in_head():
            # What came before the head, in the same piece, does not count.
            self._counted = self._counted if in_head else 1
            self._head_piece()
        elif in_head or self.cycle is not cycle or not cycle.more_body:
            self._head_piece()
        elif len(cycle.body) > body:
            self._counted = 0
        elif self._counted > (MAX_UNREAD_BYTES if cycle.response_complete else MAX_HEAD_BYTES):
            # A body without an end whose pieces hold no body: fields after the last chunk.
            self.transport.abort()

    def _in_head(self) -> bool:
        """Whether the head of a request is not complete."""
        scope = self.scope
        return scope is None or self.cycle is None or self.cycle.scope is not scope

    def _head_piece(self) -> None:
        """After a piece of a head: end the connection if it is too large, or watch its time."""
        if not self._in_head():
            self._counted = 0
            _stop(self._head_timer)
            self._head_timer = None
        elif self._counted > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS:
            self._too_large = True
            self.send_400_response("")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def on_headers_complete(self) -> None:
        if self._counted and not self._fits():
            self._too_large = True
            # Ends the parser's work; uvicorn calls send_400_response.
            raise ValueError("headers too large")
        super().on_headers_complete()

    def _fits(self) -> bool:
        sizes = [len(name) + len(value) + 4 for name, value in self.headers]
        longest = max([len(self.url), *sizes])
        return (
            len(sizes) <= MAX_HEADERS
            and longest <= MAX_LINE_BYTES
            and len(self.url) + sum(sizes) <= MAX_HEAD_BYTES
        )

    def send_400_response(self, msg: str) -> None:
        malformed.count()
        if self._too_large:
            self._reject(431, "At most 64 KB of headers are read, 8 KB a line, and 256 headers.")
        else:
            self._reject(400, msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a caller chooses its headers, and uvicorn would log each."""

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.scope is None:
            self.transport.abort()
        else:
            self._reject(408, "The request's headers were not complete in time.")

    def _reject(self, status: int, message: str) -> None:
        """Answer and close; only close where an answer to an earlier request is not complete."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                STATUS_LINE[status] + b"content-type: text/plain; charset=utf-8\r\n"
                b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
                % (len(message), message.encode("ascii", "replace"))
            )
        self.transport.close()

    def shutdown(self) -> None:
        """Stop after the request that is being served; one that waits for an order is answered."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete:
            # Wakes whatever waits for the caller to leave.
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:
            self.loop.call_later(LINGER_SECONDS, self._end_if_unread, self.cycle)

    def _end_if_unread(self, cycle: Any) -> None:
        if self.cycle is cycle and not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _stop(self._read_timer)
        self._read_timer = None


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _is_not_of_a_caller(record: logging.LogRecord) -> bool:
    """False for uvicorn's line of a malformed request, which is counted instead."""
    return record.msg != "Invalid HTTP request received."


def protocol(most: int, all_most: int) -> type[BoundedProtocol]:
    """The protocol of one server, with at most so many connections of an address, and of all."""
    logging.getLogger("uvicorn.error").addFilter(_is_not_of_a_caller)
    return type(
        "Protocol", (BoundedProtocol,), {"most": most, "all_most": all_most, "open": Counter()}
    )
