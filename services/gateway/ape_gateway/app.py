"""The gateway's HTTP interface."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from ape_common import logs, names, prom
from ape_common.gateway_config import GatewayConfig
from ape_common.web import application, error
from prometheus_client import CollectorRegistry

from ape_gateway import wire
from ape_gateway.fleet import Fleet, ReportError
from ape_gateway.upstream import PoolSizes, TooSlow, Unreachable, Upstream

MAX_REQUEST_BYTES = 4 << 20
_UNKNOWN = "unknown"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """`in_flight` requests run at once, `queue` more wait; `timeout` seconds bound both."""

    in_flight: int = 256
    queue: int = 1024
    timeout: float = 30.0


class _Busy(Exception):
    pass


class _Refused(Exception):
    def __init__(
        self, status: int, code: str, message: str, retry_after: float | None = None
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after


class Gateway:
    def __init__(
        self, config: GatewayConfig, pool: PoolSizes, limits: Limits, registry: CollectorRegistry
    ) -> None:
        self._config = config
        self._limits = limits
        self._upstreams = {
            name: Upstream(route, pool, limits.timeout) for name, route in config.routes.items()
        }
        self._turns = asyncio.Semaphore(limits.in_flight)
        self._present = 0
        self._requests = prom.counter(names.GATEWAY_REQUESTS, registry)
        self._errors = prom.counter(names.GATEWAY_ERRORS, registry)
        self._retries = prom.counter(names.GATEWAY_RETRIES, registry)
        self._seconds = prom.histogram(names.GATEWAY_SECONDS, registry)
        self._queue_seconds = prom.histogram(names.GATEWAY_QUEUE_SECONDS, registry)
        self._in_flight = prom.gauge(names.GATEWAY_IN_FLIGHT, registry)

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        for upstream in self._upstreams.values():
            await upstream.open()
        yield
        for upstream in self._upstreams.values():
            await upstream.close()

    async def tools(self, _: web.Request) -> web.Response:
        """{"tools": [{api, description, endpoints: [{path, methods, description}]}]}."""
        listed = [
            {
                "api": name,
                "name": route.name or name,
                "description": route.description,
                "endpoints": [
                    {"path": e.path, "methods": e.methods, "description": e.description}
                    for e in route.endpoints
                ],
            }
            for name, route in self._config.routes.items()
        ]
        return web.json_response({"tools": listed})

    async def request(self, request: web.Request) -> web.Response:
        """POST /mcp/request; the wire is described in `wire`."""
        trace_id = logs.trace_id.get()
        call: wire.Call | None = None
        try:
            try:
                call = wire.parse(await _json(request))
                wire.query_of(call.payload) if call.method in ("GET", "HEAD") else None
            except wire.WireError as problem:
                raise _Refused(422, "bad_request", str(problem)) from None
            if call.trace_id:
                trace_id = call.trace_id
                logs.trace_id.set(trace_id)
            return await self._forward(call, trace_id)
        except _Refused as refused:
            route = call.api if call and call.api in self._upstreams else _UNKNOWN
            method = call.method if call else _UNKNOWN
            self._errors.labels(route, method, refused.status, refused.code).inc()
            _log.warning(
                "request refused",
                extra=logs.fields(
                    route=route, method=method, status=refused.status, error=refused.code
                ),
            )
            headers = (
                {"Retry-After": str(max(1, round(refused.retry_after)))}
                if refused.retry_after is not None
                else None
            )
            return web.json_response(
                wire.answer(
                    refused.status, trace_id, error=refused.code, error_message=refused.message
                ),
                status=refused.status,
                headers=headers,
            )

    async def _forward(self, call: wire.Call, trace_id: str) -> web.Response:
        upstream = self._upstreams.get(call.api)
        if upstream is None:
            known = ", ".join(self._upstreams)
            raise _Refused(404, "unknown_route", f"There is no such route. There is: {known}.")
        if upstream.route.endpoints:
            endpoint = upstream.route.endpoint(call.method, call.path)
            if endpoint is None:
                raise _Refused(
                    403,
                    "not_allowed",
                    f"Route {call.api} does not allow this method and path. GET /tools lists "
                    "what it allows; the gateway's config decides.",
                )
            if (wait := upstream.admit(endpoint)) > 0:
                message = f"The rate limit of {endpoint.path} is used up."
                raise _Refused(429, "rate_limited", message, retry_after=wait)

        def retried(cause: str) -> None:
            self._retries.labels(call.api, call.method, cause).inc()

        try:
            await self._take_turn()
        except _Busy:
            message = "The gateway has as much to do as it may hold. Try again."
            raise _Refused(503, "gateway_busy", message, retry_after=1) from None
        self._in_flight.inc()
        try:
            answer = await upstream.send(call, trace_id, retried)
        except Unreachable as problem:
            message = f"The target of route {call.api} cannot be reached ({problem})."
            raise _Refused(502, "target_unreachable", message) from None
        except TooSlow as problem:
            message = f"The target of route {call.api} is too slow: {problem}."
            raise _Refused(504, "target_timeout", message) from None
        finally:
            self._in_flight.dec()
            self._end_turn()
        self._requests.labels(call.api, call.method, answer.status).inc()
        self._seconds.labels(call.api, call.method).observe(answer.seconds)
        _log.info(
            "request",
            extra=logs.fields(
                route=call.api,
                method=call.method,
                path=call.path.partition("?")[0],
                status=answer.status,
                seconds=round(answer.seconds, 4),
            ),
        )
        return web.json_response(
            wire.answer(
                answer.status,
                trace_id,
                headers=answer.headers,
                body=answer.body,
                body_encoding=answer.body_encoding,
                truncated=answer.truncated,
                execution_time=answer.seconds,
            )
        )

    async def _take_turn(self) -> None:
        # Counted before anything is awaited: a burst that arrives at once must not pass the bound.
        if self._present >= self._limits.in_flight + self._limits.queue:
            raise _Busy
        self._present += 1
        started = time.monotonic()
        try:
            await asyncio.wait_for(self._turns.acquire(), self._limits.timeout)
        except BaseException as problem:
            self._present -= 1
            if isinstance(problem, TimeoutError):
                raise _Busy from None
            raise
        self._queue_seconds.observe(time.monotonic() - started)

    def _end_turn(self) -> None:
        self._turns.release()
        self._present -= 1


async def _json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise wire.WireError("The body is not JSON.") from None


def make_app(
    config: GatewayConfig,
    *,
    declared: int = 0,
    pool: PoolSizes | None = None,
    limits: Limits | None = None,
) -> web.Application:
    """The gateway for `config`; `declared`: the number of agents that the stack has."""
    registry = prom.registry()
    app = application("gateway", registry, MAX_REQUEST_BYTES)
    gateway = Gateway(config, pool or PoolSizes(), limits or Limits(), registry)
    fleet = Fleet(registry, declared)

    async def report(request: web.Request) -> web.Response:
        try:
            return web.json_response(fleet.report(await _json(request)))
        except (ReportError, wire.WireError) as problem:
            return error(422, "bad_request", str(problem))

    async def summary(_: web.Request) -> web.Response:
        return web.json_response(fleet.summary())

    app.cleanup_ctx.append(gateway.lifetime)
    app.router.add_post("/mcp/request", gateway.request)
    app.router.add_get("/tools", gateway.tools)
    app.router.add_post("/agents/report", report)
    app.router.add_get("/fleet", summary)
    return app
