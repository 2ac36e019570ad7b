"""The parts that all HTTP services have: /health, /metrics, trace ids, start and stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from ape_service import env, logs, trace
from ape_service.prom import METRICS_TYPE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
STOP_SECONDS = 8.0

_log = logging.getLogger(__name__)


def error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """{"error": code, "message": message} with that status."""
    return web.json_response({"error": code, "message": message}, status=status, headers=headers)


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
    make: Callable[[], web.Application], service: str, *, cancel_on_disconnect: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight. Exit code 2: bad settings.

    `cancel_on_disconnect`: end a request's handler when its client disconnects.
    """
    logs.setup(service)
    try:
        host, port = env.text("APE_BIND", "0.0.0.0"), env.integer("APE_PORT", 8080)
        app = make()
    except env.EnvError as problem:
        _log.error("cannot start: %s", problem)
        sys.exit(2)
    _log.info("starting", extra=logs.fields(bind=host, port=port))
    try:
        web.run_app(
            app,
            host=host,
            port=port,
            access_log=None,
            print=None,
            shutdown_timeout=STOP_SECONDS,
            handler_cancellation=cancel_on_disconnect,
        )
    except OSError as problem:
        _log.error("APE_BIND, APE_PORT: cannot listen on %s:%d: %s", host, port, problem.strerror)
        sys.exit(2)
    _log.info("stopped")
