"""Forwards an answer of the model to the client, whole or as a stream."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ape_proxy.errors import ProxyError, bad_answer
from ape_proxy.events import Events
from ape_proxy.models import EVENTS, Answer
from ape_service.memory import MemoryReservation

MAX_ANSWER_BYTES = 8 << 20
FLUSH_SECONDS = 5.0
# For a client that does not read its stream.
STALLED_SECONDS = 60.0
_SMALL = 16 << 10


class ClientGone(Exception):
    pass


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


async def stream(request: web.Request, answer: Answer, events: Events) -> web.StreamResponse:
    """Forward a stream. Raises Broken, ClientGone; ProxyError before it begins."""
    out: web.StreamResponse | None = None
    transport = request.transport
    try:
        async for chunk in answer.chunks:
            if passed := events.feed(chunk):
                out = out or await _open(request, answer)
                await _write(transport, out, passed)
        if rest := events.end():
            out = out or await _open(request, answer)
            await _write(transport, out, rest)
    except ClientGone:
        raise
    except Exception as problem:
        if out is None:
            raise
        raise Broken from problem
    if out is None:
        raise bad_answer("its stream ended before it began.")
    if not events.complete and not events.failed:
        raise Broken
    await out.write_eof()
    return out


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
