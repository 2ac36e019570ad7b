"""The proxy's HTTP interface: OpenAI's, for one model."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ape_contracts.service_settings import ProxySettings
from ape_proxy import forward
from ape_proxy.answers import (
    Words,
    choice_of,
    finish_label,
    is_usable,
    loaded,
    rejection,
    without,
    words_of,
)
from ape_proxy.budget import Budget, Prices, Tokens
from ape_proxy.callers import Callers
from ape_proxy.completion import charge, prompt_tokens, size_of
from ape_proxy.errors import (
    QUOTA,
    ProxyError,
    Rejected,
    bad_answer,
    bad_request,
    overloaded,
    quota_exhausted,
    utc_after,
)
from ape_proxy.events import Events
from ape_proxy.limiter import Limiter, Limits
from ape_proxy.metrics import (
    CANCELLED,
    COMPLETE,
    FAILED,
    INCOMPLETE,
    Measured,
    Metrics,
    Outcome,
)
from ape_proxy.models import EVENTS, JSON, Answer, Model
from ape_proxy.recording import Recorder
from ape_proxy.requests import MAX_REQUEST_BYTES, body_of
from ape_service import logs, prom
from ape_service.completion_stream import Assembly
from ape_service.memory import MemoryBudget, MemoryExhausted, MemoryReservation
from ape_service.pacing import backoff
from ape_service.web import Handler, application

# Of requests, also as Python objects, and of complete answers, held at the same time.
MAX_HELD_BYTES = 384 << 20
_OPEN = ("/health", "/metrics")
AGENT_HEADER = "X-APE-Agent"
# Providers round the time of a reset.
RESET_MARGIN_SECONDS = 0.05
# Of the words of an error, in the log.
MAX_LOGGED = 300
# Types of streams of providers that do not name EVENTS.
_STREAMED = ("", "text/plain")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """`token`: callers must send it; empty: none is needed. `retries`: attempts after the first.

    `timeout`: seconds for a completion, the queue included, or until a stream begins.
    `most_tokens`, `most_dollars`: the spend limits; 0: none. `agents_per_address`: of a container;
    0: any number. `record`: keep answers for GET /recording.
    """

    token: str = ""
    timeout: float = ProxySettings.request_timeout_seconds
    retries: int = ProxySettings.retries
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)
    most_tokens: int = 0
    most_dollars: float = 0.0
    agents_per_address: int = 0
    record: bool = False


@dataclass
class _Completion:
    """A completion on its way; `end` is the loop's time."""

    request: web.Request
    body: dict[str, Any]
    asked: dict[str, Any]
    tokens: Tokens
    agent: str
    end: float
    memory: MemoryReservation
    measured: Measured


class Proxy:
    def __init__(self, model: Model, options: Options, metrics: Metrics) -> None:
        self._model, self._options, self._metrics = model, options, metrics
        self._memory = MemoryBudget(MAX_HELD_BYTES)
        self._recorder = Recorder() if options.record else None
        self._callers = Callers(options.agents_per_address)
        # When the last exhausted quota that was logged is reset.
        self._reset_at = float("-inf")

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        await self._model.open()
        options = self._options
        self._budget = Budget(options.most_tokens, options.most_dollars, options.prices)
        self._limiter = Limiter(options.limits, self._budget)
        self._metrics.show(self._budget)
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
                # Bytes that are not UTF-8 are a wrong token.
                shown = sent.strip().encode("utf-8", "surrogateescape")
                known = hmac.compare_digest(shown, self._options.token.encode())
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
            self._metrics.results.refused[rejection.code] += 1
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
            raise _out_of_memory() from None

    async def models(self, _: web.Request) -> web.StreamResponse:
        found = await self._model.models()
        if isinstance(found, Answer):
            with self._reservation() as memory:
                content = await forward.whole(found, memory)
            if found.status == 200 and isinstance(loaded(content), dict):
                return _response(found, content)
            problem = rejection(found, without(self._model.secrets, content))
            if isinstance(problem, Rejected):
                return problem.response()
            raise problem
        return web.json_response({"object": "list", "data": found})

    async def recording(self, _: web.Request) -> web.StreamResponse:
        """The recorded answers, as a file for the setting modelRecording."""
        if self._recorder is None:
            raise bad_request("not_recording", "Nothing is recorded. Set modelRecord.", 404)
        return web.Response(text=self._recorder.text(), content_type="application/jsonl")

    async def results(self, _: web.Request) -> web.StreamResponse:
        """What all completions since the start came to."""
        found = self._metrics.results.plain(self._options.prices, self._budget)
        return web.json_response(found)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        measured = Measured(self._metrics)
        result, status = CANCELLED, 499
        try:
            with self._reservation() as memory:
                answer = await self._complete(request, memory, measured)
            whole = measured.usable and not measured.broken
            result, status = COMPLETE if whole else INCOMPLETE, answer.status
            return answer
        except ProxyError as problem:
            result, status = FAILED, problem.status
            # Until when the quota is exhausted is logged once.
            words = "" if problem.code == QUOTA else str(problem)
            measured.error = Words(problem.code, words)
            if isinstance(problem, Rejected):
                return problem.response()
            raise
        except forward.Broken:
            result, status = INCOMPLETE, 200
            return forward.cut(request)
        except forward.ClientGone:
            return web.Response(status=499)
        finally:
            measured.done(result, status)
            code, words = measured.error
            words = without(self._model.secrets, words.encode()).decode()[:MAX_LOGGED]
            found = {"finish_reason": measured.finish, "code": code, "error": words}
            _log.info(
                "completion",
                extra=logs.fields(
                    model=self._model.name,
                    result=result,
                    status=status,
                    **{name: value for name, value in found.items() if value},
                ),
            )

    async def _complete(
        self, request: web.Request, memory: MemoryReservation, measured: Measured
    ) -> web.StreamResponse:
        """Ask the model, with retries if they help, and forward its answer."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._options.timeout
        body, size = await body_of(request, memory)
        asked = self._model.shape(body)
        name = request.headers.get(AGENT_HEADER, "")[:64]
        agent = self._callers.owner(request.remote or "", name, clock())
        prompt = prompt_tokens(size)
        tokens = Tokens(prompt, charge(asked, size) - prompt)
        this = _Completion(request, body, asked, tokens, agent, end, memory, measured)
        last: ProxyError | None = None
        for attempt in range(self._options.retries + 1):
            kept = memory.size
            try:
                return await self._attempt(this)
            except ProxyError as problem:
                if not problem.asked and last is not None and problem.code != QUOTA:
                    # The limits do not admit another attempt.
                    raise last from None
                pause = backoff(attempt)
                wait = max(problem.wait or 0.0, pause)
                done = attempt == self._options.retries or clock() + wait >= end
                if not problem.asked or not problem.transient or done:
                    raise
                # With its traceback it would keep this frame, which keeps it.
                last = problem.with_traceback(None)
            memory.shrink(memory.size - kept)
            measured.retry(last.cause)
            # After a 429 the limiter lets all requests wait.
            await asyncio.sleep(pause if last.status == 429 else wait)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, this: _Completion) -> web.StreamResponse:
        """Ask the model once. Raises ProxyError, with `asked` if the model was reached."""
        clock, measured = asyncio.get_running_loop().time, this.measured
        outcome: Outcome = "unknown"
        async with self._limiter.reserve(
            this.agent, this.tokens.total, this.end, measured.queued, this.tokens
        ) as reservation:
            try:
                timeout = max(0.001, this.end - clock())
                async with self._model.ask(this.asked, timeout) as answer:
                    streams = answer.status == 200 and _streams(this.asked, answer)
                    try:
                        if not streams:
                            content = await forward.whole(answer, this.memory)
                        elif AGENT_HEADER in this.request.headers:
                            content = await self._gathered(this, answer)
                        else:
                            made = await self._stream(this, answer)
                            outcome = "failed" if measured.broken else "answered"
                            return made
                    except forward.NotEvents as found:
                        content, streams = found.content, False
                if answer.status != 200:
                    raise rejection(answer, without(self._model.secrets, content))
                completion = self._take(this.body, content, measured)
                outcome = "answered"
                if streams:
                    return forward.as_stream(answer, completion)
                return _response(answer, content)
            except ProxyError as problem:
                problem.asked = True
                if problem.code != "upstream_timeout":
                    outcome = "failed"
                if problem.status == 429 and problem.wait is not None:
                    self._pause(problem.wait, str(problem), this.end)
                raise
            except forward.Broken:
                outcome = "failed"
                raise
            except MemoryExhausted:
                full = _out_of_memory()
                full.asked = True
                raise full from None
            finally:
                reservation.spent, known = measured.spend(this.tokens, outcome)
                reservation.used = reservation.spent.total if known else None

    def _pause(self, wait: float, words: str, end: float) -> None:
        """Let all requests wait for a limit of the provider.

        Raises ProxyError if it lasts longer than the completion may wait.
        """
        now = asyncio.get_running_loop().time()
        wait += RESET_MARGIN_SECONDS
        self._limiter.pause(wait, words)
        if now + wait < end:
            return
        if now >= self._reset_at:
            self._reset_at = now + wait
            _log.warning("quota exhausted", extra=logs.fields(until=utc_after(wait), error=words))
        problem = quota_exhausted(wait, words)
        problem.asked = True
        raise problem

    def _take(self, body: dict[str, Any], content: bytes, measured: Measured) -> dict[str, Any]:
        """Count and record an answer of status 200. Raises ProxyError if it has no message."""
        found = loaded(content)
        if isinstance(found, dict):
            measured.usage(found.get("usage"))
        choice = choice_of(found)
        if choice is None:
            code, words = words_of(without(self._model.secrets, content))
            raise bad_answer(f"{code}: {words}" if code else words)
        measured.usable = is_usable(choice["message"])
        measured.finish = finish_label(choice.get("finish_reason"))
        measured.text(size_of(choice["message"]))
        if self._recorder is not None:
            self._recorder.add(body | {"model": self._model.name}, found)
        completion: dict[str, Any] = found
        return completion

    async def _stream(self, this: _Completion, answer: Answer) -> web.StreamResponse:
        """Forward a stream. Raises Broken, ClientGone; before it begins, ProxyError, NotEvents."""
        options = this.body.get("stream_options")
        assembly = Assembly() if self._recorder is not None else None
        show_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        secrets = self._model.secrets
        events = Events(this.measured, show_usage=show_usage, assembly=assembly, secrets=secrets)
        out = await forward.stream(this.request, answer, events, this.memory)
        this.measured.broken = events.failed
        if self._recorder is not None and assembly is not None:
            if not events.failed and not events.unknown:
                self._recorder.add(this.body | {"model": self._model.name}, assembly.completion)
        return out

    async def _gathered(self, this: _Completion, answer: Answer) -> bytes:
        """The completion of a stream for an agent, which can do nothing with a part of it.

        So a stream that breaks is tried again, and costs the agent no more than a whole answer.
        """
        assembly = Assembly()
        secrets = self._model.secrets
        events = Events(this.measured, show_usage=True, assembly=assembly, secrets=secrets)
        return await forward.gathered(answer, events, assembly, this.memory, this.end)


def _streams(asked: dict[str, Any], answer: Answer) -> bool:
    """Whether the answer is a stream; some providers name no type, or text/plain.

    One that was not asked for is not an answer.
    """
    kind = answer.content_type.partition(";")[0].strip().lower()
    return bool(asked.get("stream")) and (kind == EVENTS or kind in _STREAMED)


def _out_of_memory() -> ProxyError:
    message = "The requests in flight take all of the proxy's memory. Try again later."
    return overloaded("out_of_memory", message, 1)


def _response(answer: Answer, content: bytes) -> web.Response:
    headers = dict(answer.headers) | {"Content-Type": answer.content_type or JSON}
    return web.Response(body=content, status=answer.status, headers=headers)


def make_app(model: Model, options: Options | None = None) -> web.Application:
    """POST /v1/chat/completions, GET /v1/models, /recording and /results for `model`."""
    options = options or Options()
    registry = prom.registry()
    app = application("proxy", registry, MAX_REQUEST_BYTES)
    proxy = Proxy(model, options, Metrics(registry, model.name, options.prices))
    app.middlewares.append(proxy.guard)
    app.cleanup_ctx.append(proxy.lifetime)
    app.router.add_get("/v1/models", proxy.models)
    app.router.add_get("/recording", proxy.recording)
    app.router.add_get("/results", proxy.results)
    app.router.add_post("/v1/chat/completions", proxy.completions)
    return app
