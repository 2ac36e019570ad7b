"""The gateway's HTTP interface, an ASGI app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ape_contracts import run_document
from ape_contracts.gateway_config import GatewayConfig
from ape_contracts.service_settings import GatewaySettings
from ape_gateway import result_routes, results, run_desk, wire
from ape_gateway.callers import SESSION_HEADER, is_own_host, is_own_origin, set_session
from ape_gateway.endpoints import Templates
from ape_gateway.engine import Engine
from ape_gateway.fleet import Fleet
from ape_gateway.health import RouteHealth
from ape_gateway.limits import SMALL_BYTES, Limits, MemoryPermit, Overloaded
from ape_gateway.mcp_server import MEMORY_PERMIT, make_manager, make_server
from ape_gateway.mcp_upstream import McpUpstream, NotListed
from ape_gateway.operations import Catalog
from ape_gateway.report_desk import ReportDesk
from ape_gateway.results import Results
from ape_gateway.run_desk import RunDesk
from ape_gateway.runs import Runs
from ape_gateway.uploads import UploadSource
from ape_gateway.upstream import USER_AGENT, PoolSizes
from ape_service import logs, prom, trace
from ape_service.prom import METRICS_TYPE

# Dense JSON of this size is checked in 3 ms, for which all others wait.
MAX_REQUEST_BYTES = 1 << 20
# Of paths whose bodies are parsed as a whole, into objects of many times their size.
_MAX_BYTES = {
    "/mcp": 256 << 10,
    "/agents/transcript": 80 << 10,
    "/agents/next": 4 << 10,
    "/run": run_document.MAX_BYTES,
}
# For a caller to send its body, and again to read the answer.
_TRANSFER_SECONDS = 30.0
_TRACE = {b"traceparent": "traceparent", b"x-trace-id": "X-Trace-ID"}
_READ = frozenset((b"origin", b"host", b"content-length", results.HEADER, SESSION_HEADER, *_TRACE))
# The requests that results count; a refusal of the middleware is one of the gateway's errors.
_COUNTED = frozenset(("/mcp", "/mcp/request"))
CatalogSource = Callable[[Request], Awaitable[Catalog]]
_log = logging.getLogger(__name__)


def error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """{"error": code, "message": message} with that status."""
    return JSONResponse({"error": code, "message": message}, status, headers)


async def _send_json(
    send: Send, status: int, body: bytes, further: Iterable[tuple[bytes, bytes]]
) -> None:
    """Send in pieces, each when the caller has read enough, with `further` headers."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *further,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if len(body) > SMALL_BYTES:
        async with asyncio.timeout(_TRANSFER_SECONDS):
            for at in range(0, len(body), SMALL_BYTES):
                piece = body[at : at + SMALL_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


class RequestMiddleware:
    """Around every request: its trace id, its body and memory permit, and errors nobody handled.

    Handlers get a body that is complete and at most MAX_REQUEST_BYTES long. `results`: of runs.
    """

    def __init__(self, app: ASGIApp, engine: Engine, of_run: Results) -> None:
        self._app = app
        self._engine = engine
        self.results = of_run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = {k: v.decode("latin-1") for k, v in scope["headers"] if k in _READ}
        trace_id = trace.from_headers({name: given.get(k, "") for k, name in _TRACE.items()})
        logs.trace_id.set(trace_id or trace.new_trace_id())
        label = self.results.label(given.get(results.HEADER))
        results.current.set(label)
        set_session(given.get(SESSION_HEADER))
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        address = (scope["client"] or ("",))[0]
        with self._engine.admission.memory_permit(address) as permit:
            scope[MEMORY_PERMIT] = permit
            try:
                _check_caller(given.get(b"origin"), given.get(b"host"))
                length = given.get(b"content-length", "")
                await self._serve(scope, receive, sent, permit, int(length or 0))
                return
            except _HttpRejection as problem:
                code, rejection = problem.args[1], error(*problem.args)
            except Overloaded:
                code = "gateway_busy"
                rejection = error(503, code, "Try again.", {"Retry-After": "1"})
            except Exception:
                _log.exception("unhandled error")
                code = "internal_error"
                rejection = error(500, code, "The service failed; see its log.")
            if label is not None and scope["path"] in _COUNTED and not started:
                results.failed(None, code)
            if not started:
                await rejection(scope, receive, send)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, permit: MemoryPermit, length: int
    ) -> None:
        """`length`: of the body, as the caller states it; 0: unknown."""
        if scope["method"] == "POST":
            most = _MAX_BYTES.get(scope["path"], MAX_REQUEST_BYTES)
            if length > most:
                raise _too_large(most)
            body = await _body(receive, permit, most)
            # Not through the router: thousands of requests per second come here.
            if scope["path"] == "/mcp/request":
                await _send_json(send, *await answer(self._engine, body, permit))
                return
            receive = _replayed(body, receive)
        await self._app(scope, receive, send)


class _HttpRejection(Exception):
    """Status, code and message of the answer to a request that no handler gets."""


def _too_large(most: int) -> _HttpRejection:
    return _HttpRejection(413, "too_large", f"The body is larger than {most >> 10} KiB. Send less.")


def _check_caller(origin: str | None, host: str | None) -> None:
    """Raises _HttpRejection for requests of pages in a browser; programs send no Origin."""
    if origin is not None and not is_own_origin(origin):
        raise _HttpRejection(
            403, "origin_refused", "Pages of other sites may not call the gateway."
        )
    if host is not None and not is_own_host(host):
        raise _HttpRejection(
            403,
            "host_refused",
            "The gateway is called by its address, by localhost, or by a name without a dot: "
            "any page can have other names lead here. Use its IP address.",
        )


async def _body(receive: Receive, permit: MemoryPermit, most: int) -> bytes:
    """The whole body. Raises _HttpRejection (400, 408, 413), Overloaded."""
    body = bytearray()
    try:
        async with asyncio.timeout(_TRANSFER_SECONDS):
            while True:
                part = await receive()
                if part["type"] == "http.disconnect":
                    raise _HttpRejection(
                        400, "incomplete", "The connection was closed before the body was complete."
                    )
                body += part.get("body", b"")
                if len(body) > most:
                    raise _too_large(most)
                if not part.get("more_body", False):
                    permit.body_complete()
                    return bytes(body)
                await permit.acquire_for_body(len(body))
    except TimeoutError:
        raise _HttpRejection(408, "too_slow", "The body was not complete in time.") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def answer(
    engine: Engine, body: bytes, permit: MemoryPermit
) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and further headers of POST /mcp/request; `wire` describes the wire."""
    try:
        if wire.is_batch(body):
            try:
                items = wire.parse_batch(body)
            except wire.WireError as problem:
                reply = engine.reject(422, "bad_request", str(problem))
            else:
                with engine.admission.admit(len(items)):
                    replies = await engine.batch([partial(wire.parse, i) for i in items], permit)
                return 200, wire.encode([reply.answer for reply in replies]), []
        else:
            with engine.admission.admit(1):
                reply = await engine.call(partial(wire.parse, body), permit)
    except Overloaded:
        reply = engine.overloaded()
    return reply.status, wire.encode(reply.answer), reply.headers


def listed(config: GatewayConfig) -> dict[str, Any]:
    """{"tools": [{api, name, description, endpoints: [{path, methods, description}]}]}."""
    return {
        "tools": [
            {
                "api": name,
                "name": route.name or name,
                "description": route.description,
                "endpoints": [
                    {"path": e.path, "methods": e.methods, "description": e.description}
                    for e in route.endpoints
                ],
            }
            for name, route in config.routes.items()
        ]
    }


def first_route(config: GatewayConfig) -> str:
    """The name of the route to the target of the agents, which the operations are of."""
    return next(iter(config.routes))


def _rejected(_: Request, problem: Exception) -> Response:
    """The answer to a request that the router rejects."""
    assert isinstance(problem, HTTPException)
    code = problem.detail.lower().replace(" ", "_")
    return error(problem.status_code, code, problem.detail, dict(problem.headers or {}))


def _routes(
    config: GatewayConfig, checks: RouteHealth, reports: ReportDesk, registry: CollectorRegistry
) -> list[Route]:
    """What agents and monitoring read and report."""

    async def tools(_: Request) -> Response:
        return JSONResponse(listed(config))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "service": "gateway", "routes": checks.summary()})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": METRICS_TYPE})

    async def report(request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        status, body = reports.receive(authorization, await request.body())
        return JSONResponse(body, status)

    async def transcript(request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        status, body = reports.receive_transcript(authorization, await request.body())
        return JSONResponse(body, status)

    async def summary(_: Request) -> Response:
        return JSONResponse(reports.fleet.summary())

    return [
        Route("/tools", tools),
        Route("/agents/report", report, methods=["POST"]),
        Route("/agents/transcript", transcript, methods=["POST"]),
        Route("/fleet", summary),
        Route("/health", health),
        Route("/metrics", metrics),
    ]


class _Operations:
    """An answer of the catalog, as an ASGI app: agents ask for the same at the same time, and a

    large answer is sent as each of them reads it.
    """

    def __init__(
        self,
        catalog: CatalogSource,
        answered: Callable[[Catalog, QueryParams], tuple[int, bytes]],
    ) -> None:
        self._catalog, self._answered = catalog, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            catalog = await self._catalog(request)
        except NotListed as problem:
            _log.warning("tools not listed", extra=logs.fields(error=str(problem)))
            message = f"The MCP server does not list its tools: {problem}"
            rejection = error(503, "target_unreachable", message, {"Retry-After": "5"})
            await rejection(scope, receive, send)
            return
        await _send_json(send, *self._answered(catalog, request.query_params), ())


def _catalog_of(engine: Engine, known: Catalog) -> CatalogSource:
    """The catalog of the first route: that of its file, or the tools of its MCP server.

    A request's credentials are passed on: some servers list their tools only with them.
    """
    upstream = engine.upstreams[first_route(engine.config)]

    async def catalog(request: Request) -> Catalog:
        if not isinstance(upstream, McpUpstream):
            return known
        authorization = request.headers.get("authorization")
        return await upstream.catalog({"Authorization": authorization} if authorization else {})

    return catalog


def make_app(
    config: GatewayConfig,
    *,
    operations: Catalog | None = None,
    declared: int = 0,
    pool: PoolSizes | None = None,
    limits: Limits | None = None,
    user_agent: str = "",
    report_key: str = "",
    max_agents: int = GatewaySettings.max_agents,
    uploads: UploadSource | None = None,
    idle: bool = False,
) -> ASGIApp:
    """The gateway for `config`; `declared`: the number of agents that the stack has.

    `operations`: None: none are known. `report_key`, `max_agents`, `idle`: see GatewaySettings.
    `uploads`: where the config's names a file.
    """
    catalog = operations or Catalog(first_route(config))
    registry = prom.registry()
    engine = Engine(
        config,
        pool or PoolSizes(),
        limits or Limits(),
        registry,
        user_agent or USER_AGENT,
        uploads,
    )
    source = _catalog_of(engine, catalog)
    checks = RouteHealth(engine.upstreams, registry)
    manager = make_manager(make_server(engine))
    of_run = Results(Templates(config, catalog.templates, engine.mask, engine.has_tool))
    fleet = Fleet(registry, declared, max_slot=max_agents, results=of_run)
    desk = RunDesk(Runs(idle=idle, recorder=of_run), engine.mask)
    reports = ReportDesk(fleet, report_key, registry, desk.reported)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.open()
        checking = asyncio.create_task(checks.run())
        async with manager.run():
            yield
        checking.cancel()
        desk.close()
        await engine.close()

    inner = Starlette(
        routes=[
            Route("/mcp", StreamableHTTPASGIApp(manager), methods=["POST"]),
            Route("/operations", _Operations(source, Catalog.listed), methods=["GET"]),
            Route("/operations/search", _Operations(source, Catalog.search), methods=["GET"]),
            *_routes(config, checks, reports, registry),
            *result_routes.routes(of_run, report_key),
            *run_desk.routes(desk, reports, report_key, max_agents),
        ],
        exception_handlers={HTTPException: _rejected},
        lifespan=lifespan,
    )
    return RequestMiddleware(inner, engine, of_run)
