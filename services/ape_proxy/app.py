"""The proxy's HTTP interface: OpenAI's, for one model."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ape_proxy.completion import Assembly, charge, is_completion
from ape_proxy.errors import NO_RETRY, ProxyError, bad_request, overloaded
from ape_proxy.events import Events
from ape_proxy.limiter import Limiter, Limits
from ape_proxy.metrics import CANCELLED, COMPLETE, FAILED, INCOMPLETE, Measured, Metrics, Prices
from ape_proxy.models import EVENTS, Answer, Model
from ape_proxy.recording import Recorder
from ape_service import logs, prom
from ape_service.memory import MemoryBudget, MemoryExhausted, MemoryReservation
from ape_service.pacing import backoff
from ape_service.retry_after import retry_after
from ape_service.web import Handler, application

MAX_REQUEST_BYTES = 4 << 20
MAX_ANSWER_BYTES = 8 << 20
# Of requests and complete answers held at the same time. As Python objects they take more.
MAX_HELD_BYTES = 96 << 20
FLUSH_SECONDS = 5.0
_OPEN = ("/health", "/metrics")
# Statuses after which a provider did nothing, and may be asked again.
_RETRIED = (408, 429, 500, 502, 503, 504)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """`token`: callers must send it; empty: none is needed. `retries`: attempts after the first.

    `timeout`: seconds for a completion, the queue included, or until a stream begins.
    `record`: keep answers for GET /recording.
    """

    token: str = ""
    timeout: float = 30.0
    retries: int = 2
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)
    record: bool = False


class _ClientGone(Exception):
    pass


class _Broken(Exception):
    """The stream ended early, after its beginning had been forwarded."""


class Proxy:
    def __init__(self, model: Model, options: Options, metrics: Metrics) -> None:
        self._model, self._options, self._metrics = model, options, metrics
        self._memory = MemoryBudget(MAX_HELD_BYTES)
        self._recorder = Recorder() if options.record else None

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        await self._model.open()
        self._limiter = Limiter(self._options.limits)
        self._metrics.in_flight.set_function(lambda: self._limiter.in_flight)
        self._metrics.queued.set_function(lambda: self._limiter.queued)
        yield
        await self._model.close()

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Require the token; give every rejection OpenAI's form."""
        try:
            if request.path not in _OPEN and self._options.token:
                scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
                known = hmac.compare_digest(sent.strip().encode(), self._options.token.encode())
                if scheme.lower() != "bearer" or not known:
                    raise ProxyError(
                        401,
                        "invalid_request_error",
                        "invalid_api_key",
                        "The token of the stack's agents is missing or wrong. Send it as: "
                        "Authorization: Bearer TOKEN",
                    )
            return await handler(request)
        except ProxyError as rejection:
            self._metrics.rejections.labels(rejection.code).inc()
            return rejection.response()
        except web.HTTPException as problem:
            if problem.status < 400:
                raise
            code = problem.reason.lower().replace(" ", "_")
            return bad_request(code, f"{problem.reason}.", problem.status).response()

    @contextmanager
    def _reservation(self) -> Iterator[MemoryReservation]:
        """The memory of one request. Raises ProxyError (503) when all memory is reserved."""
        try:
            with MemoryReservation(self._memory) as memory:
                yield memory
        except MemoryExhausted:
            message = "The requests in flight take all of the proxy's memory. Try again later."
            raise overloaded("out_of_memory", message, 1) from None

    async def models(self, _: web.Request) -> web.StreamResponse:
        found = await self._model.models()
        if isinstance(found, Answer):
            with self._reservation() as memory:
                return _response(found, await _whole(found, memory))
        return web.json_response({"object": "list", "data": found})

    async def recording(self, _: web.Request) -> web.StreamResponse:
        """The recorded answers, as a file for the setting modelRecording."""
        if self._recorder is None:
            raise bad_request("not_recording", "Nothing is recorded. Set modelRecord.", 404)
        return web.Response(text=self._recorder.text(), content_type="application/jsonl")

    async def completions(self, request: web.Request) -> web.StreamResponse:
        measured = Measured(self._metrics)
        result, status = CANCELLED, 499
        try:
            with self._reservation() as memory:
                answer = await self._complete(request, memory, measured)
            status = answer.status
            result = INCOMPLETE if measured.broken else COMPLETE if status == 200 else FAILED
            return answer
        except ProxyError as problem:
            result, status = FAILED, problem.status
            raise
        except _Broken:
            result, status = INCOMPLETE, 200
            # The client has the beginning: only a closed connection shows that the rest is missing.
            # The forwarded part still reaches the client, if it reads.
            if (transport := request.transport) is not None:
                transport.close()
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, transport.abort)
            return web.Response(status=502)
        except _ClientGone:
            return web.Response(status=499)
        finally:
            measured.done(result, status)
            _log.info(
                "completion",
                extra=logs.fields(model=self._model.name, result=result, status=status),
            )

    async def _complete(
        self, request: web.Request, memory: MemoryReservation, measured: Measured
    ) -> web.StreamResponse:
        """Ask the model, with retries if they help, and forward its answer."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._options.timeout
        body, size = await _body(request, memory)
        tokens = charge(body, size)
        agent = request.headers.get("X-APE-Agent", "")[:64]
        asked = body
        if body.get("stream"):
            # Without it a stream has no usage; the client gets the usage only if it asked for it.
            given = body.get("stream_options")
            options = given if isinstance(given, dict) else {}
            asked = body | {"stream_options": options | {"include_usage": True}}
        for attempt in range(self._options.retries + 1):
            queue_end = min(end, clock() + self._options.limits.queue_seconds)
            problem: ProxyError | None = None
            async with self._limiter.reserve(
                agent, tokens, queue_end, measured.queued
            ) as reservation:
                kept = memory.size
                try:
                    async with self._model.ask(asked, max(0.001, end - clock())) as answer:
                        if answer.streams and answer.status == 200:
                            try:
                                return await self._stream(request, body, answer, measured)
                            finally:
                                reservation.used = measured.tokens
                        content = await _whole(answer, memory)
                except ProxyError as error:
                    problem, cause = error, error.code
                    again, wait = error.transient, None
                else:
                    cause, wait = str(answer.status), retry_after(answer.headers)
                    again = (
                        answer.status in _RETRIED
                        and answer.headers.get(NO_RETRY, "").lower() != "false"
                    )
                    if answer.status == 200:
                        self._take(body, content, measured)
                    reservation.used = measured.tokens or 0
                if wait is not None and cause == "429":
                    self._limiter.pause(wait)
            wait = max(wait or 0.0, backoff(attempt))
            if not again or attempt == self._options.retries or clock() + wait >= end:
                break
            memory.shrink(memory.size - kept)
            measured.retry(cause)
            await asyncio.sleep(wait)
        if problem is not None:
            raise problem
        response = _response(answer, content)
        if answer.status in _RETRIED:
            # The proxy has made all useful attempts; the official clients need not retry.
            response.headers[NO_RETRY] = "false"
        return response

    def _take(self, body: dict[str, Any], content: bytes, measured: Measured) -> None:
        """Count and record an answer of status 200. Raises ProxyError if it is not a completion."""
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not is_completion(found):
            message = "The model's answer is not a chat completion."
            raise ProxyError(502, "upstream_error", "bad_answer", message)
        measured.usage(found.get("usage"))
        if self._recorder is not None:
            self._recorder.add({"model": self._model.name} | body, found)

    async def _stream(
        self, request: web.Request, body: dict[str, Any], answer: Answer, measured: Measured
    ) -> web.StreamResponse:
        """Forward a stream. Raises _Broken, _ClientGone; ProxyError before it begins."""
        options = body.get("stream_options")
        assembly = Assembly() if self._recorder is not None else None
        events = Events(
            measured,
            show_usage=isinstance(options, dict) and bool(options.get("include_usage")),
            assembly=assembly,
        )
        out: web.StreamResponse | None = None
        try:
            async for chunk in answer.chunks:
                if passed := events.feed(chunk):
                    out = out or await _open(request, answer)
                    await _write(out, passed)
            if rest := events.end():
                out = out or await _open(request, answer)
                await _write(out, rest)
        except _ClientGone:
            raise
        except Exception as problem:
            if out is None:
                raise
            raise _Broken from problem
        if out is None:
            message = "The model's stream ended before it began."
            raise ProxyError(502, "upstream_error", "bad_answer", message, transient=True)
        if not events.complete and not events.failed:
            raise _Broken
        measured.broken = events.failed
        if self._recorder is not None and assembly is not None and not events.failed:
            self._recorder.add({"model": self._model.name} | body, assembly.completion())
        await out.write_eof()
        return out


async def _body(request: web.Request, memory: MemoryReservation) -> tuple[dict[str, Any], int]:
    """The request's JSON object, and its size in bytes."""
    length = request.content_length
    if length is not None and length > MAX_REQUEST_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_REQUEST_BYTES, length)
    memory.grow(MAX_REQUEST_BYTES if length is None else length)
    raw = await request.read()
    memory.shrink(memory.size - len(raw))
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad_request("not_json", "The body is not JSON.") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        message = "messages: missing, or not a list. Send the conversation so far."
        raise bad_request("no_messages", message)
    return body, len(raw)


async def _whole(answer: Answer, memory: MemoryReservation) -> bytes:
    content = bytearray()
    async for chunk in answer.chunks:
        memory.grow(len(chunk))
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            message = f"The model's answer is larger than {MAX_ANSWER_BYTES} bytes."
            raise ProxyError(502, "upstream_error", "answer_too_large", message)
    return bytes(content)


def _response(answer: Answer, content: bytes) -> web.Response:
    headers = dict(answer.headers) | {"Content-Type": answer.content_type}
    return web.Response(body=content, status=answer.status, headers=headers)


async def _open(request: web.Request, answer: Answer) -> web.StreamResponse:
    stream = web.StreamResponse(status=answer.status, headers=answer.headers)
    stream.headers["Content-Type"] = EVENTS
    stream.headers["Cache-Control"] = "no-cache"
    try:
        await stream.prepare(request)
    except OSError as gone:
        raise _ClientGone from gone
    return stream


async def _write(stream: web.StreamResponse, data: bytes) -> None:
    try:
        await stream.write(data)
    except OSError as gone:
        raise _ClientGone from gone


def make_app(model: Model, options: Options | None = None) -> web.Application:
    """POST /v1/chat/completions, GET /v1/models and GET /recording for `model`."""
    options = options or Options()
    registry = prom.registry()
    app = application("proxy", registry, MAX_REQUEST_BYTES)
    proxy = Proxy(model, options, Metrics(registry, model.name, options.prices))
    app.middlewares.append(proxy.guard)
    app.cleanup_ctx.append(proxy.lifetime)
    app.router.add_get("/v1/models", proxy.models)
    app.router.add_get("/recording", proxy.recording)
    app.router.add_post("/v1/chat/completions", proxy.completions)
    return app
