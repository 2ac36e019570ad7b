"""`python -m ape_gateway`: serve the config file that APE_GATEWAY_CONFIG names."""

from __future__ import annotations

import logging
from pathlib import Path

from aiohttp import web
from ape_common import env, logs
from ape_common.gateway_config import GatewayConfigError, load
from ape_common.web import run

from ape_gateway.app import Limits, make_app
from ape_gateway.upstream import PoolSizes


def from_env() -> web.Application:
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
    for warning in config.warnings:
        logging.getLogger(__name__).warning(warning)
    default = PoolSizes()
    return make_app(
        config,
        declared=env.integer("APE_AGENTS", 0),
        pool=PoolSizes(
            env.integer("APE_POOL_CONNECTIONS", default.connections, 1),
            env.integer("APE_POOL_MAXSIZE", default.maxsize, 1),
            env.integer("APE_KEEPALIVE_CONNECTIONS", default.keepalive, 1),
            env.number("APE_KEEPALIVE_SECONDS", default.keepalive_seconds),
        ),
        limits=Limits(
            env.integer("APE_MAX_IN_FLIGHT", Limits.in_flight, 1),
            env.integer("APE_MAX_QUEUE", Limits.queue),
            env.number("APE_REQUEST_TIMEOUT_SECONDS", Limits.timeout, 0.001),
        ),
    )


if __name__ == "__main__":
    run(from_env, "gateway")
