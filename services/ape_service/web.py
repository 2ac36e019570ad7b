"""The parts that all HTTP services have: /health, /metrics, trace ids, start and stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from ape_contracts.service_settings import HttpSettings, ServiceSettingsError
from ape_service import logs, settings, trace
from ape_service.answers import error
from ape_service.connections import Runner
from ape_service.open_files import raise_limit
from ape_service.prom import METRICS_TYPE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=HttpSettings)
STOP_SECONDS = 8.0
# For the body of a request.
BODY_SECONDS = 30.0

_log = logging.getLogger(__name__)


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the log's trace id; turn unhandled errors into a 500 without private data."""
    token = logs.trace_id.set(trace.from_headers(request.headers) or trace.new_trace_id())
    try:
        return await handler(request)
    except web.HTTPException as answer:
        if answer.status < 400:
            raise
        return error(answer.status, answer.reason.lower().replace(" ", "_"), answer.reason)
    except Exception:
        _log.exception("unhandled error")
        return error(500, "internal_error", "The service failed; see its log.")
    finally:
        logs.trace_id.reset(token)


async def read_body(
    request: web.Request, most: int, received: Callable[[int], None] = lambda _: None
) -> bytes:
    """The body, of at most `most` bytes. `received` gets the size of each part as it comes.

    Raises HTTPException: 415 for an encoded body, 413, and 408 for one that comes too slowly.
    """
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise web.HTTPUnsupportedMediaType(text="Send the body without Content-Encoding.")
    if (length := request.content_length or 0) > most:
        raise web.HTTPRequestEntityTooLarge(most, length)
    body = bytearray()
    # What is complete already needs no deadline.
    deadline = None if request.content.is_eof() else BODY_SECONDS
    try:
        async with asyncio.timeout(deadline):
            while part := await request.content.readany():
                received(len(part))
                body += part
                if len(body) > most:
                    raise web.HTTPRequestEntityTooLarge(most, len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (web.RequestPayloadError, ConnectionError):
        # Malformed, or the caller went away.
        raise web.HTTPBadRequest from None
    return bytes(body)


def application(
    service: str, registry: CollectorRegistry, max_body: int = 1 << 20
) -> web.Application:
    """An app with GET /health and GET /metrics; bodies above `max_body` bytes get 413."""
    app = web.Application(middlewares=[traced], client_max_size=max_body)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "service": service})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": METRICS_TYPE})

    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    return app


def run(
    make: Callable[[H], web.Application],
    kind: type[H],
    service: str,
    *,
    cancel_on_disconnect: bool = False,
) -> None:
    """Serve the app of the service's settings until SIGTERM or SIGINT.

    Then finish the requests in flight. Exit code 2: bad settings. `cancel_on_disconnect`: end a
    request's handler when its client disconnects.
    """
    logs.setup(service)
    raise_limit()
    try:
        found = settings.load(kind)
        app = make(found)
    except ServiceSettingsError as problem:
        _log.error("cannot start: %s", problem)
        sys.exit(2)
    _log.info("starting", extra=logs.fields(bind=found.bind, port=found.port))
    try:
        asyncio.run(_serve(app, found, cancel_on_disconnect))
    except OSError as problem:
        _log.error("cannot listen on %s:%d: %s", found.bind, found.port, problem.strerror)
        sys.exit(2)
    _log.info("stopped")


async def _serve(app: web.Application, found: HttpSettings, cancel_on_disconnect: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = Runner(app, shutdown_timeout=STOP_SECONDS, handler_cancellation=cancel_on_disconnect)
    await runner.setup()
    try:
        await web.TCPSite(runner, found.bind, found.port, backlog=1024).start()
        await stop.wait()
    finally:
        await runner.cleanup()
