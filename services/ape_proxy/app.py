"""The proxy's HTTP interface: OpenAI's, in front of one model."""

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
from ape_proxy.upstream import retry_after
from ape_service import logs, prom
from ape_service.pacing import backoff
from ape_service.web import Handler, application

MAX_REQUEST_BYTES = 4 << 20
MAX_ANSWER_BYTES = 8 << 20
# Requests and whole answers held at the same time. As Python objects they take some times more.
MAX_HELD_BYTES = 96 << 20
FLUSH_SECONDS = 5.0
_OPEN = ("/health", "/metrics")
# Statuses with which a provider says that it did nothing, and may be asked again.
_RETRIED = (408, 429, 500, 502, 503, 504)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """`token`: what callers must show; empty: nothing. `timeout`: seconds for a completion, its

    wait included, and for a stream's beginning. `retries`: further attempts after a first.
    `record`: keep answers for GET /recording.
    """

    token: str = ""
    timeout: float = 30.0
    retries: int = 2
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)
    record: bool = False


class _Held:
    """A bound on the memory of what is held at the same time."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def part(self) -> Iterator[_Part]:
        part = _Part(self)
        try:
            yield part
        finally:
            self.give(part.size)

    def give(self, size: int) -> None:
        self._free += size

    def take(self, size: int) -> None:
        if size > self._free:
            message = "Too much is under way at once for the proxy's memory. Come back later."
            raise overloaded("out_of_memory", message, 1)
        self._free -= size


class _Part:
    def __init__(self, held: _Held) -> None:
        self._held = held
        self.size = 0

    def grow(self, size: int) -> None:
        """Raises ProxyError (503) where there is no more."""
        self._held.take(size)
        self.size += size

    def shrink(self, size: int) -> None:
        self._held.give(size)
        self.size -= size


class _ClientGone(Exception):
    pass


class _Broken(Exception):
    """The stream broke after its beginning had been passed on."""


class Proxy:
    def __init__(self, model: Model, options: Options, metrics: Metrics) -> None:
        self._model, self._options, self._metrics = model, options, metrics
        self._held = _Held(MAX_HELD_BYTES)
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
        """Ask for the token; give every refusal OpenAI's form."""
        try:
            if request.path not in _OPEN and self._options.token:
                scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
                known = hmac.compare_digest(shown.strip().encode(), self._options.token.encode())
                if scheme.lower() != "bearer" or not known:
                    raise ProxyError(
                        401,
                        "invalid_request_error",
                        "invalid_api_key",
                        "The token of the stack's agents is missing or wrong. Send it as: "
                        "Authorization: Bearer TOKEN",
                    )
            return await handler(request)
        except ProxyError as refused:
            self._metrics.refusals.labels(refused.code).inc()
            return refused.response()
        except web.HTTPException as refused:
            if refused.status < 400:
                raise
            code = refused.reason.lower().replace(" ", "_")
            return bad_request(code, f"{refused.reason}.", refused.status).response()

    async def models(self, _: web.Request) -> web.StreamResponse:
        found = await self._model.models()
        if isinstance(found, Answer):
            with self._held.part() as part:
                return _response(found, await _whole(found, part))
        return web.json_response({"object": "list", "data": found})

    async def recording(self, _: web.Request) -> web.StreamResponse:
        """What was recorded so far, as a file for setting modelRecording."""
        if self._recorder is None:
            raise bad_request("not_recording", "Nothing is recorded. Set modelRecord.", 404)
        return web.Response(text=self._recorder.text(), content_type="application/jsonl")

    async def completions(self, request: web.Request) -> web.StreamResponse:
        measured = Measured(self._metrics)
        result, status = CANCELLED, 499
        try:
            with self._held.part() as part:
                answer = await self._complete(request, part, measured)
            status = answer.status
            result = INCOMPLETE if measured.broken else COMPLETE if status == 200 else FAILED
            return answer
        except ProxyError as refused:
            result, status = FAILED, refused.status
            raise
        except _Broken:
            result, status = INCOMPLETE, 200
            # The beginning is with the client: only a broken connection is honest now. What was
            # passed on so far still reaches it, if it reads.
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
        self, request: web.Request, part: _Part, measured: Measured
    ) -> web.StreamResponse:
        """Ask the model, again where that helps, and pass its answer on."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._options.timeout
        body, size = await _body(request, part)
        tokens = charge(body, size)
        agent = request.headers.get("X-APE-Agent", "")[:64]
        asked = body
        if body.get("stream"):
            # Without it a stream does not tell its tokens; the client sees it if it asked for it.
            given = body.get("stream_options")
            shown = given if isinstance(given, dict) else {}
            asked = body | {"stream_options": shown | {"include_usage": True}}
        for attempt in range(self._options.retries + 1):
            queue_end = min(end, clock() + self._options.limits.queue_seconds)
            problem: ProxyError | None = None
            async with self._limiter.turn(agent, tokens, queue_end, measured.queued) as turn:
                kept = part.size
                try:
                    async with self._model.ask(asked, max(0.001, end - clock())) as answer:
                        if answer.streams and answer.status == 200:
                            try:
                                return await self._stream(request, body, answer, measured)
                            finally:
                                turn.used = measured.tokens
                        content = await _whole(answer, part)
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
                    turn.used = measured.tokens or 0
                if wait is not None and cause == "429":
                    self._limiter.pause(wait)
            wait = max(wait or 0.0, backoff(attempt))
            if not again or attempt == self._options.retries or clock() + wait >= end:
                break
            part.shrink(part.size - kept)
            measured.retry(cause)
            await asyncio.sleep(wait)
        if problem is not None:
            raise problem
        response = _response(answer, content)
        if answer.status in _RETRIED:
            # Tried here as often as it makes sense: the official clients need not.
            response.headers[NO_RETRY] = "false"
        return response

    def _take(self, body: dict[str, Any], content: bytes, measured: Measured) -> None:
        """Learn from an answer of status 200. Raises ProxyError where it is no completion."""
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not is_completion(found):
            message = "The model's answer is no chat completion."
            raise ProxyError(502, "upstream_error", "bad_answer", message)
        measured.usage(found.get("usage"))
        if self._recorder is not None:
            self._recorder.add({"model": self._model.name} | body, found)

    async def _stream(
        self, request: web.Request, body: dict[str, Any], answer: Answer, measured: Measured
    ) -> web.StreamResponse:
        """Pass a stream as it comes. Raises _Broken, _ClientGone; ProxyError before its begin."""
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


async def _body(request: web.Request, part: _Part) -> tuple[dict[str, Any], int]:
    """The request's JSON object, and its size in bytes."""
    length = request.content_length
    if length is not None and length > MAX_REQUEST_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_REQUEST_BYTES, length)
    part.grow(MAX_REQUEST_BYTES if length is None else length)
    raw = await request.read()
    part.shrink(part.size - len(raw))
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad_request("not_json", "The body is not JSON.") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        message = "messages: missing, or no list. Send the conversation so far."
        raise bad_request("no_messages", message)
    return body, len(raw)


async def _whole(answer: Answer, part: _Part) -> bytes:
    content = bytearray()
    async for chunk in answer.chunks:
        part.grow(len(chunk))
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
