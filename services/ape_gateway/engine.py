"""The steps of one call, on either wire: allowlist, limits, retries, metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from ape_contracts import metrics
from ape_contracts.gateway_config import GatewayConfig
from ape_gateway import content, results, wire
from ape_gateway.access import AccessLog
from ape_gateway.content import MAX_ENCODED_BYTES
from ape_gateway.limits import AdmissionController, Limits, MemoryPermit, Overloaded
from ape_gateway.masking import Mask
from ape_gateway.mcp_upstream import McpUpstream
from ape_gateway.overrides import overrides
from ape_gateway.uploads import UploadSource
from ape_gateway.upstream import (
    MAX_ANSWER_BYTES,
    USER_AGENT,
    Attempts,
    PoolSizes,
    TargetTimeout,
    TargetUnreachable,
    Upstream,
)
from ape_service import logs, prom

MAX_BATCH_ANSWER_BYTES = 4 << 20
UNKNOWN = "unknown"
# A body of this size is made in a moment.
_QUICK_BYTES = 2 << 10
_log = logging.getLogger(__name__)


# Statuses of answers without a body; the gateway's always has one.
_WITHOUT_BODY = (204, 205, 304)


class Reply(NamedTuple):
    """`retry_after`: seconds after which a rejected call may be sent again.

    `pass_status`: the route's passTargetStatus.
    """

    answer: wire.Answer
    retry_after: float | None = None
    pass_status: bool = False

    @property
    def status(self) -> int:
        """The HTTP status: 200 if the target answered, unless its own is passed on."""
        status = self.answer.status_code
        if self.answer.error:
            return status
        passed = self.pass_status and 200 <= status <= 599 and status not in _WITHOUT_BODY
        return status if passed else 200

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The HTTP headers for who sends calls again: a target's error is not the gateway's."""
        if self.retry_after is not None:
            return [(b"retry-after", str(max(1, round(self.retry_after))).encode())]
        passed = self.answer.error is None and self.status != 200
        return [(b"x-should-retry", b"false")] if passed else []


class _Rejected(Exception):
    """`seconds`: that the caller waited for the target, if it was asked."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after: float | None = None,
        seconds: float | None = None,
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.seconds = retry_after, seconds


class Engine:
    def __init__(
        self,
        config: GatewayConfig,
        pool: PoolSizes,
        limits: Limits,
        registry: CollectorRegistry,
        user_agent: str = USER_AGENT,
        uploads: UploadSource | None = None,
    ) -> None:
        self.config = config
        self._uploads = uploads or UploadSource(config.upload)
        # One body at a time, with room for other work between them.
        self._encoding = asyncio.Lock()
        self.admission = AdmissionController(limits)
        self.upstreams = {
            name: McpUpstream(name, route, pool, user_agent)
            if route.mcp
            else Upstream(route, pool, user_agent)
            for name, route in config.routes.items()
        }
        self._log = AccessLog(config.logging)
        self.mask = Mask()
        self._errors = prom.counter(metrics.GATEWAY_ERRORS, registry)
        self._retries = prom.counter(metrics.GATEWAY_RETRIES, registry)
        # Cached: labels() costs as much as counting does.
        self._requests = lru_cache(prom.counter(metrics.GATEWAY_REQUESTS, registry).labels)
        self._first = lru_cache(prom.counter(metrics.GATEWAY_FIRST, registry).labels)
        self._seconds = lru_cache(prom.histogram(metrics.GATEWAY_SECONDS, registry).labels)
        self._queue_seconds = prom.histogram(metrics.GATEWAY_QUEUE_SECONDS, registry)
        prom.gauge(metrics.GATEWAY_IN_FLIGHT, registry).set_function(
            lambda: self.admission.in_flight
        )
        prom.gauge(metrics.GATEWAY_QUEUED, registry).set_function(lambda: self.admission.queued)

    def has_tool(self, api: str, path: str) -> bool:
        return self.upstreams[api].has_tool(path)

    async def open(self) -> None:
        for upstream in self.upstreams.values():
            await upstream.open()

    async def close(self) -> None:
        self._log.flush()
        for upstream in self.upstreams.values():
            await upstream.close()

    async def call(
        self,
        make: Callable[[], wire.Call],
        permit: MemoryPermit,
        max_bytes: int = MAX_ANSWER_BYTES,
        max_body: int = MAX_ENCODED_BYTES,
    ) -> Reply:
        """Forward the call that `make` makes (it may raise wire.WireError); never raises.

        The caller has admitted the call (AdmissionController.admit).
        """
        call: wire.Call | None = None
        attempts = Attempts()
        try:
            try:
                call = make()
                if call.trace_id:
                    logs.trace_id.set(call.trace_id)
                if call.encoding is not None:
                    call = await self._encoded(call, permit, max_body)
            except wire.WireError as problem:
                raise _Rejected(422, "bad_request", str(problem)) from None
            return await self._forward(call, attempts, permit, max_bytes)
        except Overloaded:
            return self.reject(*_OVERLOADED, call=call, retry_after=1, attempts=attempts)
        except _Rejected as rejected:
            return self.reject(
                rejected.status,
                rejected.code,
                rejected.message,
                call=call,
                retry_after=rejected.retry_after,
                attempts=attempts,
                seconds=rejected.seconds,
            )

    async def batch(
        self, makes: list[Callable[[], wire.Call]], permit: MemoryPermit
    ) -> list[Reply]:
        """Forward all calls at once; the replies are in their order.

        A call has a trace id of its own if it names one.
        """
        most = min(MAX_ANSWER_BYTES, MAX_BATCH_ANSWER_BYTES // max(1, len(makes)))
        body = MAX_ENCODED_BYTES // max(1, len(makes))
        return await asyncio.gather(*(self.call(make, permit, most, body) for make in makes))

    def overloaded(self) -> Reply:
        return self.reject(*_OVERLOADED, retry_after=1)

    def reject(
        self,
        status: int,
        code: str,
        message: str,
        *,
        call: wire.Call | None = None,
        retry_after: float | None = None,
        attempts: Attempts | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """The gateway's own answer; it is counted and logged."""
        results.failed(call, code, seconds)
        route = call.api if call and call.api in self.upstreams else UNKNOWN
        method = call.method if call else UNKNOWN
        outcomes = attempts.outcomes if attempts else []
        if outcomes:
            self._first(route, method, outcomes[0]).inc()
        self._errors.labels(route, method, status, code).inc()
        _log.warning(
            "request rejected",
            extra=logs.fields(
                route=route, method=method, status=status, error=code, attempts=len(outcomes)
            ),
        )
        answer = wire.Answer(
            status, logs.trace_id.get(), attempts=len(outcomes), error=code, error_message=message
        )
        return Reply(answer, retry_after)

    async def _encoded(self, call: wire.Call, permit: MemoryPermit, most: int) -> wire.Call:
        """The call with its body made, when its memory is available. Raises wire.WireError."""
        encoding, payload = call.encoding, call.payload
        assert encoding is not None
        assert payload is not None
        async with self._encoding:
            # The calls of a batch would come one right after the other.
            if len(payload) > _QUICK_BYTES:
                await asyncio.sleep(0)
            size = content.size_of(encoding, payload, self._uploads)
        await permit.acquire_for_answer(size)
        async with self._encoding:
            if size > _QUICK_BYTES:
                await asyncio.sleep(0)
            content_type, body = content.encoded(encoding, payload, self._uploads, most)
        headers = call.headers | {"Content-Type": content_type}
        return replace(call, headers=headers, payload=body, encoding=None)

    async def _forward(
        self, call: wire.Call, attempts: Attempts, permit: MemoryPermit, max_bytes: int
    ) -> Reply:
        started = time.monotonic()
        upstream = self._allowed(call)
        timeout = self.admission.limits.timeout
        await self.admission.acquire_slot(started + timeout)
        try:
            self._queue_seconds.observe(time.monotonic() - started)
            attempts.on_retry = partial(self._count_retry, call)
            response = await upstream.send(
                call,
                logs.trace_id.get(),
                started + timeout,
                attempts,
                permit.acquire_for_answer,
                max_bytes,
            )
        except TargetUnreachable as problem:
            message = f"The target of route {call.api} cannot be reached: {problem}."
            waited = time.monotonic() - started
            raise _Rejected(502, "target_unreachable", message, seconds=waited) from None
        except TargetTimeout as problem:
            message = f"The target of route {call.api} is too slow: {problem}."
            waited = time.monotonic() - started
            raise _Rejected(504, "target_timeout", message, seconds=waited) from None
        finally:
            self.admission.release_slot()
        trace_id, count = logs.trace_id.get(), len(attempts.outcomes)
        self._first(call.api, call.method, attempts.outcomes[0]).inc()
        self._requests(call.api, call.method, response.status).inc()
        self._seconds(call.api, call.method).observe(response.seconds)
        results.answered(call, response.status, response.seconds, response.size)
        self._log.request(
            trace_id,
            call.api,
            call.method,
            self.mask(call.bare_path),
            response.status,
            response.seconds,
            count,
        )
        return Reply(
            wire.Answer(
                response.status,
                trace_id,
                response.headers,
                response.body,
                response.body_encoding,
                response.truncated,
                round(response.seconds, 6),
                count,
            ),
            pass_status=upstream.route.pass_target_status,
        )

    def _allowed(self, call: wire.Call) -> Upstream:
        """The upstream of a call that the config allows. Raises _Rejected."""
        upstream = self.upstreams.get(call.api)
        if upstream is None:
            known = ", ".join(self.upstreams)
            raise _Rejected(
                404, "unknown_route", f"There is no such route. The routes are: {known}."
            )
        if upstream.route.endpoints:
            endpoint = upstream.route.endpoint(call.method, call.path)
            if endpoint is None:
                raise _Rejected(
                    403,
                    "not_allowed",
                    f"Route {call.api} does not allow this method and path. GET /tools lists "
                    "what it allows; the gateway's config decides.",
                )
            if overrides(call):
                raise _Rejected(
                    403,
                    "not_allowed",
                    "A header or a key of this request asks for another method or path, as "
                    "X-HTTP-Method-Override or _method do. Leave it out.",
                )
            if (wait := upstream.admit(endpoint)) > 0:
                message = f"The rate limit of {endpoint.path} is used up."
                raise _Rejected(429, "rate_limited", message, retry_after=wait)
        return upstream

    def _count_retry(self, call: wire.Call, outcome: str) -> None:
        self._retries.labels(call.api, call.method, outcome).inc()


_OVERLOADED = (
    503,
    "gateway_busy",
    "The gateway is at its limits of requests or memory. Try again.",
)
