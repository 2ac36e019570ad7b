"""`python -m ape_gateway`: serve the config file that APE_GATEWAY_CONFIG names."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ape_contracts.gateway_config import GatewayConfigError, load
from ape_gateway.app import make_app
from ape_gateway.cork import CorkedProtocol
from ape_gateway.limits import Limits
from ape_gateway.upstream import PoolSizes
from ape_service import env, logs
from ape_service.web import STOP_SECONDS

# Agents keep their connections; what is past this gets 503. Below the container's nofile.
MAX_CONNECTIONS = 8192
# Longer than an agent thinks: a connection that is closed here while a POST comes in fails it.
KEEP_ALIVE_SECONDS = 75
_log = logging.getLogger(__name__)


def from_env() -> ASGIApp:
    path = Path(env.text("APE_GATEWAY_CONFIG", "/etc/ape/gateway.json"))
    try:
        config = load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "not UTF-8 text"
        raise env.EnvError(
            f"APE_GATEWAY_CONFIG: {path}: {why}. Mount a JSON config there, or set the variable."
        ) from None
    except GatewayConfigError as problem:
        raise env.EnvError(f"APE_GATEWAY_CONFIG: {path}: {problem}") from None
    logs.setup("gateway", config.logging.level, config.logging.format)
    # They tell how they go about each request, and start and stop as we do.
    for chatty in ("mcp", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    pool = PoolSizes()
    limits = Limits(
        env.integer("APE_MAX_IN_FLIGHT", Limits.in_flight, 1),
        env.integer("APE_MAX_QUEUE", Limits.queue),
        env.number("APE_REQUEST_TIMEOUT_SECONDS", Limits.timeout, 0.001),
    )
    cut = [
        f"routes.{name}.timeout: {route.timeout_seconds:g} s, but no request takes longer than "
        f"{limits.timeout:g} s here. Shorten it, or set APE_REQUEST_TIMEOUT_SECONDS."
        for name, route in config.routes.items()
        if route.timeout_seconds > limits.timeout
    ]
    for warning in [*config.warnings, *cut]:
        _log.warning(warning)
    return make_app(
        config,
        declared=env.integer("APE_AGENTS", 0),
        pool=PoolSizes(
            env.integer("APE_POOL_CONNECTIONS", pool.connections, 1),
            env.integer("APE_POOL_MAXSIZE", pool.maxsize, 1),
            env.integer("APE_KEEPALIVE_CONNECTIONS", pool.keepalive, 1),
            env.number("APE_KEEPALIVE_SECONDS", pool.keepalive_seconds),
        ),
        limits=limits,
    )


def config_of(app: ASGIApp) -> uvicorn.Config:
    """How the app is served; in tests too."""
    return uvicorn.Config(
        app,
        http=CorkedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(STOP_SECONDS),
    )


def main() -> int:
    """Serve until SIGTERM or SIGINT, then finish what is under way. 2: bad settings."""
    logs.setup("gateway")
    try:
        host, port = env.text("APE_BIND", "0.0.0.0"), env.integer("APE_PORT", 8080)
        app = from_env()
    except env.EnvError as problem:
        _log.error("cannot start: %s", problem)
        return 2
    try:
        listening = socket.create_server((host, port), backlog=2048)
    except OSError as problem:
        _log.error(
            "APE_BIND, APE_PORT: cannot listen on %s:%d: %s",
            host,
            port,
            os.strerror(problem.errno or 0),
        )
        return 2
    _log.info("starting", extra=logs.fields(bind=host, port=port))
    # uvicorn stops well on both, and then raises them again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    # The collector need not walk over all that was imported, again and again, while agents wait.
    gc.collect()
    gc.freeze()
    uvicorn.Server(config_of(app)).run(sockets=[listening])
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
