"""Forwards an answer of the model to the client, whole or as a stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from ape_proxy.answers import rejected_in_stream
from ape_proxy.errors import ProxyError, bad_answer
from ape_proxy.events import Events
from ape_proxy.models import EVENTS, Answer
from ape_service.completion_stream import RETRIES_LEFT
from ape_service.memory import MemoryReservation

MAX_ANSWER_BYTES = 8 << 20
FLUSH_SECONDS = 5.0
# For a client that does not read its stream.
STALLED_SECONDS = 60.0
_SMALL = 16 << 10
# Of a stream before its first chunk of a completion.
MAX_HELD_BYTES = 1 << 20


class ClientGone(Exception):
    pass


class NotEvents(Exception):
    """The answer had no event, but this content."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content


@dataclass(frozen=True)
class Gather:
    """An agent needs the whole answer: it gets a stream in few parts, which cost it less to read.

    `retries_left`: how many more times it may ask, if the stream breaks.
    """

    retries_left: int
    seconds: float = 0.5


class Broken(Exception):
    """The stream ended early, after its beginning had been forwarded."""


async def whole(answer: Answer, memory: MemoryReservation) -> bytes:
    content = bytearray()
    async for chunk in answer.chunks:
        memory.grow(len(chunk))
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            message = f"The model's answer is larger than {MAX_ANSWER_BYTES} bytes."
            raise ProxyError(502, "upstream_error", "answer_too_large", message)
    return bytes(content)


async def stream(
    request: web.Request,
    answer: Answer,
    events: Events,
    memory: MemoryReservation,
    gather: Gather | None = None,
) -> web.StreamResponse:
    """Forward a stream. Raises Broken, ClientGone; before it begins, ProxyError and NotEvents.

    It begins with the first chunk of the completion: what fails before may be tried again.
    """
    out: web.StreamResponse | None = None
    transport, clock = request.transport, asyncio.get_running_loop().time
    held, written = bytearray(), clock()
    try:
        async for chunk in answer.chunks:
            passed = events.feed(chunk)
            held += passed
            if out is None:
                memory.grow(len(passed))
                _check(answer, events, early=gather is not None or not events.begun)
            if not held or (out is None and not events.begun and len(held) < MAX_HELD_BYTES):
                continue
            if gather and clock() < written + gather.seconds and len(held) < _SMALL:
                continue
            out = out or await _open(request, answer, gather)
            await _write(transport, out, bytes(held))
            held.clear()
            written = clock()
        held += events.end()
        if out is None:
            _check(answer, events, early=gather is not None or not events.begun)
            if not events.begun:
                raise NotEvents(bytes(held))
            if gather and not events.complete:
                raise bad_answer("its stream ended without a finish reason.")
        out = out or await _open(request, answer, gather)
        if held:
            await _write(transport, out, bytes(held))
    except (ClientGone, NotEvents):
        raise
    except Exception as problem:
        if out is None:
            raise
        raise Broken from problem
    if not events.complete and not events.failed:
        raise Broken
    await out.write_eof()
    return out


def _check(answer: Answer, events: Events, *, early: bool) -> None:
    """Raises ProxyError for an error in the stream, as for one before it."""
    if early and events.error is not None:
        raise rejected_in_stream(answer, events.error, events.secrets)


async def _open(request: web.Request, answer: Answer, gather: Gather | None) -> web.StreamResponse:
    made = web.StreamResponse(status=answer.status, headers=answer.headers)
    if gather is not None:
        made.headers[RETRIES_LEFT] = str(gather.retries_left)
    made.headers["Content-Type"] = EVENTS
    made.headers["Cache-Control"] = "no-cache"
    try:
        await made.prepare(request)
    except OSError as gone:
        raise ClientGone from gone
    return made


async def _write(transport: asyncio.Transport | None, out: web.StreamResponse, data: bytes) -> None:
    try:
        # A small write into an empty buffer never waits.
        if transport is None or not (len(data) > _SMALL or transport.get_write_buffer_size()):
            await out.write(data)
            return
        async with asyncio.timeout(STALLED_SECONDS):
            await out.write(data)
    except OSError as gone:
        # TimeoutError is one as well.
        if transport is not None:
            transport.abort()
        raise ClientGone from gone


def cut(request: web.Request) -> web.Response:
    """End a broken stream.

    The client has its beginning: only a closed connection shows that the rest is missing. The
    forwarded part still reaches the client, if it reads.
    """
    if (transport := request.transport) is not None:
        transport.close()
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, transport.abort)
    return web.Response(status=502)
