"""Requests to the daemon, and its answers in pieces of bounded size."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from ape_socket_proxy.rules import forwarded

CHUNK = 65536
# Of an inspected container, an element of a list, or an event; 4 kB are usual.
MAX_BYTES = 4 * 2**20
# Of a head or an event; a reader holds at most twice as much.
MAX_LINE_BYTES = 2**20
ANSWER_SECONDS = 60.0
# For which the daemon's oldest version of the API counts.
VERSION_SECONDS = 60.0


class DaemonError(Exception):
    """The daemon does not answer, or in a form that is not its own."""


class Answer(NamedTuple):
    status: int
    body: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def asked(socket: str, target: str) -> Answer:
    """The daemon's answer to a GET; the body ends with the stream. Raises DaemonError, OSError."""
    body, writer = await asyncio.open_unix_connection(socket, limit=MAX_LINE_BYTES)
    try:
        writer.write(forwarded(target, "1.0"))
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await body.readuntil(b"\r\n\r\n")
        return Answer(int(head.split(b" ", 2)[1]), body, writer)
    except (ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        writer.close()
        raise DaemonError("not an answer of Docker") from None
    except BaseException:
        writer.close()
        raise


class OldestVersion:
    """The oldest version of the API that the daemon takes; empty: unknown.

    Asked again once in a while, as a daemon may be updated below its containers.
    """

    def __init__(self, socket: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._socket, self._clock = socket, clock
        self._known, self._asked = "", -VERSION_SECONDS

    async def get(self) -> str:
        if self._clock() - self._asked < VERSION_SECONDS:
            return self._known
        self._asked = self._clock()
        try:
            answer = await asked(self._socket, "/version")
            with contextlib.closing(answer.writer):
                found = data(await document(answer))
            self._known = str(found.get("MinAPIVersion", "")) if isinstance(found, dict) else ""
        except (DaemonError, OSError, TimeoutError):
            self._asked = -VERSION_SECONDS
        return self._known


async def document(answer: Answer) -> bytes:
    """The whole body. Raises DaemonError where it is too large."""
    found = bytearray()
    async with asyncio.timeout(ANSWER_SECONDS):
        while data := await answer.body.read(CHUNK):
            found += data
            if len(found) > MAX_BYTES:
                raise DaemonError("an answer is too large")
    return bytes(found)


def data(text: bytes) -> Any:
    """The JSON data of a body. Raises DaemonError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DaemonError("an answer is not JSON") from None


async def events(answer: Answer) -> AsyncIterator[Any]:
    """Yield the events of a stream, one per line. Raises DaemonError."""
    try:
        while line := await answer.body.readline():
            yield data(line)
    except ValueError:
        raise DaemonError("an event is too large") from None


async def elements(answer: Answer) -> AsyncIterator[Any]:
    """Yield the elements of a list, without holding all of it. Raises DaemonError."""
    decode, space = json.JSONDecoder().raw_decode, " \t\r\n"
    text, ended, began = "", False, False
    incoming = _text(answer)
    while not ended:
        more = await anext(incoming, None)
        ended = more is None
        text = (text + (more or "")).lstrip(space)
        if not began:
            if text and not text.startswith("["):
                raise DaemonError("an answer is not a list")
            began, text = bool(text), text[1:]
        while (text := text.lstrip(space + ",")) and not text.startswith("]"):
            if not text.startswith("{"):
                raise DaemonError("a list has something else than objects")
            try:
                found, end = decode(text)
            except RecursionError:
                raise DaemonError("an answer is nested too deeply") from None
            except ValueError:
                break  # The rest of the element is still to come.
            yield found
            text = text[end:]
        if text.startswith("]"):
            return
        if len(text) > MAX_BYTES:
            raise DaemonError("an element of a list is too large")
    raise DaemonError("a list is not complete")


async def _text(answer: Answer) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        async with asyncio.timeout(ANSWER_SECONDS):
            read = await answer.body.read(CHUNK)
        if not read:
            return
        yield decoder.decode(read)
