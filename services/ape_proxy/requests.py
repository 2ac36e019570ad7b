"""The requests of callers: bounded before they are parsed, and booked as the memory they take."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ape_proxy import bounded
from ape_proxy.errors import bad_request
from ape_service.memory import MemoryReservation
from ape_service.web import read_body

# About 260,000 tokens. An agent whose conversation is longer shortens it.
MAX_REQUEST_BYTES = 1 << 20


async def body_of(request: web.Request, memory: MemoryReservation) -> tuple[dict[str, Any], int]:
    """The request's JSON object, and its size in bytes. Raises ProxyError, MemoryExhausted."""
    # As it comes: who announces a large body and sends none takes no memory.
    raw = await read_body(request, MAX_REQUEST_BYTES, memory.grow)
    try:
        text = bounded.decoded(raw)
        values = bounded.values_in(text)
        # The objects, and what is sent to the model: in ASCII, up to three bytes for one.
        sent = len(raw) * (1 if text.isascii() else 3)
        memory.grow(bounded.parsed_bytes(text, values) + sent)
        body = bounded.loads(text)
    except bounded.NotJson as problem:
        raise bad_request("not_json", f"The body {problem}") from None
    except bounded.TooComplex as problem:
        raise bad_request("too_complex", f"The body {problem}") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        message = "messages: missing, or not a list. Send the conversation so far."
        raise bad_request("no_messages", message)
    return body, len(raw)
