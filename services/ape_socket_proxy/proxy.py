"""One connection, one request: what passes is answered with what the stack may see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

from ape_contracts.limits import LOG_STREAMS, OTHER_CONNECTIONS
from ape_service import logs
from ape_socket_proxy import daemon, views
from ape_socket_proxy.daemon import Answer, DaemonError
from ape_socket_proxy.rules import Rejection, Request, forwarded, parsed, raised, refusal, scoped

HEAD_BYTES, HEAD_SECONDS = 16384, 10.0
# Of a log: what one stream holds in memory, here and in the kernel on its way to the caller.
PIECE = 8192
# Log streams that are being opened; the daemon inspects a container for each.
MAX_OPENING = 16
# Lists and streams with the stack's labels among their filters.
_FILTERED = ("events", "networks")

_log = logging.getLogger(__name__)


def _head(status: int, more: str, reason: str = "OK") -> bytes:
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n{more}"
        "Connection: close\r\n\r\n"
    ).encode()


def _whole(status: int, body: bytes, reason: str = "OK") -> bytes:
    return _head(status, f"Content-Length: {len(body)}\r\n", reason) + body


def _answer(why: Rejection) -> bytes:
    body = json.dumps({"message": f"socket proxy: {why.reason}"}).encode() + b"\n"
    return _whole(why.status, body, "Rejection")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Proxy:
    """`scope`: the stack that callers see. `log_streams`: how many may be open."""

    def __init__(
        self,
        upstream: str,
        scope: views.Scope,
        *,
        with_logs: bool,
        log_streams: int = LOG_STREAMS,
    ) -> None:
        self._upstream, self._scope, self._logs = upstream, scope, with_logs
        self._limits = {True: log_streams, False: OTHER_CONNECTIONS}
        # Connections without a head yet; then log streams (True) and all others.
        self._unread, self._open = 0, {True: 0, False: 0}
        self._opening = asyncio.Semaphore(MAX_OPENING)
        self._oldest = daemon.OldestVersion(upstream)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            if self._unread >= sum(self._limits.values()):
                await self._reject(writer, Rejection(503, "too many connections"))
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The caller or the daemon went away.
        except asyncio.CancelledError:
            pass  # The proxy ends; Python 3.11 would report a cancelled handler as an error.
        finally:
            writer.close()

    async def _reject(self, writer: asyncio.StreamWriter, why: Rejection) -> None:
        writer.write(_answer(why))
        await writer.drain()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        self._unread += 1
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                return (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        finally:
            self._unread -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self._head(reader)
        why = refusal(head, logs=self._logs)
        if why is not None:
            first = head.split(b"\r\n", 1)[0][:200].decode("ascii", "replace")
            _log.warning("refused", extra=logs.fields(request=first, reason=why.reason))
            await self._reject(writer, why)
            return
        request = parsed(head)
        log = request.kind == "logs"
        if self._open[log] >= self._limits[log]:
            kind = "log streams" if log else "connections"
            await self._reject(writer, Rejection(503, f"more than {self._limits[log]} {kind}"))
            return
        self._open[log] += 1
        try:
            await self._until_gone(request, reader, writer)
        finally:
            self._open[log] -= 1

    async def _until_gone(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the request, unless the caller hangs up before."""
        work = asyncio.ensure_future(self._passed(request, writer))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            # An event stream may be silent for hours after its caller hung up.
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _passed(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            if request.version:
                version = raised(request.version, await self._oldest.get())
                request = request._replace(version=version)
            if request.kind in ("version", "_ping"):
                await self._raw(request.target(), writer)
            elif request.kind == "logs":
                await self._log_stream(request, writer)
            elif request.kind in _FILTERED or not (request.container or request.kind == "info"):
                await self._list(request, writer)
            else:
                await self._document(request, writer)
        except DaemonError as error:
            self._fail(writer, 502, f"the Docker daemon does not answer as Docker does: {error}")
        except (ValueError, RecursionError) as error:
            self._fail(writer, 400, str(error))
        except (OSError, TimeoutError):
            self._fail(writer, 502, "the Docker daemon does not answer")
        await writer.drain()

    def _fail(self, writer: asyncio.StreamWriter, status: int, reason: str) -> None:
        writer.write(_answer(Rejection(status, reason)))

    async def _inspect(self, request: Request) -> dict[str, Any] | None:
        """The container of the request; None if the stack has none of this name."""
        target = Request(request.version, "json", request.container, "").target()
        answer = await daemon.asked(self._upstream, target)
        with contextlib.closing(answer.writer):
            if answer.status == 404:
                return None
            found = daemon.data(await daemon.document(answer))
            if answer.status != 200:
                raise DaemonError(f"status {answer.status}")
        return self._scope.container(found)

    async def _document(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.kind == "info":
            answer = await daemon.asked(self._upstream, request.target(query=""))
            with contextlib.closing(answer.writer):
                writer.write(_whole(200, _json(views.info(await self._data(answer)))))
            return
        found = await self._inspect(request)
        if found is None:
            writer.write(_missing(request))
        else:
            writer.write(_whole(200, _json(found)))

    async def _data(self, answer: Answer) -> Any:
        return daemon.data(await daemon.document(answer))

    async def _list(self, request: Request, writer: asyncio.StreamWriter) -> None:
        query = scoped(request.query, self._scope.filters)
        answer = await daemon.asked(self._upstream, request.target(query=query))
        with contextlib.closing(answer.writer):
            if answer.status != 200:
                writer.write(_whole(answer.status, await daemon.document(answer), "Error"))
                return
            writer.write(_head(200, "Transfer-Encoding: chunked\r\n"))
            await writer.drain()
            # docker-py takes only what is chunked for a stream. A broken one has no last chunk.
            try:
                async for piece in self._pieces(request, answer):
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
            except (DaemonError, OSError, TimeoutError) as error:
                _log.warning("broken", extra=logs.fields(request=request.kind, reason=str(error)))
                return
            writer.write(b"0\r\n\r\n")

    async def _pieces(self, request: Request, answer: Answer) -> AsyncIterator[bytes]:
        if request.kind == "events":
            async for event in daemon.events(answer):
                if self._scope.event(event):
                    yield _json(event) + b"\n"
            return
        yield b"["
        separator = b""
        async for element in daemon.elements(answer):
            if self._scope.holds(element.get("Labels")):
                yield separator + _json(element)
                separator = b","
        yield b"]\n"

    async def _log_stream(self, request: Request, writer: asyncio.StreamWriter) -> None:
        async with self._opening:
            found = await self._inspect(request)
        if found is None:
            writer.write(_missing(request))
            return
        # By its id: a name may become another's between the two requests.
        await self._raw(request.target(container=str(found["Id"])), writer)

    async def _raw(self, target: str, writer: asyncio.StreamWriter) -> None:
        """Copy the answer until it ends, one piece at a time.

        A StreamReader holds up to 384 kB when the caller is slower than the daemon, and the kernel
        208 kB more: with a thousand log streams that is more than the container's memory.
        """
        writer.transport.set_write_buffer_limits(high=0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as source:
            source.setblocking(False)
            await loop.sock_connect(source, self._upstream)
            await loop.sock_sendall(source, forwarded(target))
            while data := await loop.sock_recv(source, PIECE):
                writer.write(data)
                await writer.drain()
                # Neither of both waits where data is ready: others get their turn.
                await asyncio.sleep(0)


def _missing(request: Request) -> bytes:
    """As Docker answers for a container that does not exist."""
    return _whole(404, _json({"message": f"No such container: {request.container}"}), "Not Found")
