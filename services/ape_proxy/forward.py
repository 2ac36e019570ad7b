"""Forwards an answer of the model to the client, whole or as a stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from ape_proxy.answers import rejected_in_stream
from ape_proxy.completion import as_events
from ape_proxy.errors import ProxyError, bad_answer
from ape_proxy.events import Events
from ape_proxy.models import EVENTS, Answer
from ape_service.completion_stream import Assembly
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


async def gathered(
    answer: Answer, events: Events, assembly: Assembly, memory: MemoryReservation, end: float
) -> bytes:
    """The completion of a stream, which must end by `end`. Raises ProxyError, NotEvents."""
    held, booked = bytearray(), 0
    try:
        async with asyncio.timeout_at(end):
            async for chunk in answer.chunks:
                passed = events.feed(chunk)
                _check(answer, events)
                if not events.begun and len(held) < MAX_HELD_BYTES:
                    held += passed
                    memory.grow(len(passed))
                # Its text is kept in two bytes a character.
                memory.grow(2 * (assembly.size - booked))
                booked = assembly.size
    except TimeoutError:
        message = "The model's answer did not end in time (modelTimeoutSeconds)."
        raise ProxyError(504, "upstream_error", "upstream_timeout", message) from None
    held += events.end()
    _check(answer, events)
    if not events.begun:
        raise NotEvents(bytes(held))
    if not events.complete:
        raise bad_answer("its stream ended without a finish reason.")
    return json.dumps(assembly.completion()).encode()


async def stream(
    request: web.Request, answer: Answer, events: Events, memory: MemoryReservation
) -> web.StreamResponse:
    """Forward a stream. Raises Broken, ClientGone; before it begins, ProxyError and NotEvents.

    It begins with the first chunk of the completion: what fails before may be tried again.
    """
    out: web.StreamResponse | None = None
    transport, held = request.transport, bytearray()
    try:
        async for chunk in answer.chunks:
            passed = events.feed(chunk)
            if out is None:
                held += passed
                memory.grow(len(passed))
                if not events.begun:
                    _check(answer, events)
                    if len(held) < MAX_HELD_BYTES:
                        continue
                if not held:
                    continue
                out, passed = await _open(request, answer), bytes(held)
            if passed:
                await _write(transport, out, passed)
        if rest := events.end():
            if out is None and not events.begun:
                held += rest
            else:
                out = out or await _open(request, answer)
                await _write(transport, out, rest)
        if out is None:
            _check(answer, events)
            raise NotEvents(bytes(held))
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


def _check(answer: Answer, events: Events) -> None:
    """Raises ProxyError for an error in the stream, as for one before it."""
    if events.error is not None:
        raise rejected_in_stream(answer, events.error, events.secrets)


def as_stream(answer: Answer, completion: dict[str, Any]) -> web.Response:
    """A completion that is whole, to a client that asked for a stream."""
    headers = dict(answer.headers) | {"Content-Type": EVENTS, "Cache-Control": "no-cache"}
    return web.Response(body=b"".join(as_events(completion)), headers=headers)


async def _open(request: web.Request, answer: Answer) -> web.StreamResponse:
    made = web.StreamResponse(status=answer.status, headers=answer.headers)
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
