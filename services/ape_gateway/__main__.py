"""`python -m ape_gateway`: serve the config file that the settings name."""

from __future__ import annotations

import base64
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ape_contracts.gateway_config import MAX_UPLOAD_BYTES, GatewayConfigError, Upload, load
from ape_contracts.operations import OperationsError
from ape_contracts.service_settings import GatewaySettings, ServiceSettingsError
from ape_gateway.app import first_route, make_app
from ape_gateway.connections import protocol, warn_of_another_version
from ape_gateway.limits import Limits
from ape_gateway.operations import Catalog
from ape_gateway.operations import load as load_operations
from ape_gateway.uploads import UploadSource
from ape_gateway.upstream import PoolSizes
from ape_service import logs
from ape_service.open_files import raise_limit
from ape_service.settings import load as load_settings
from ape_service.settings import problem, read_file, read_secret
from ape_service.web import STOP_SECONDS

# Agents keep their connections; what is past this gets 503, and is closed at once past a half more.
# Below the container's nofile.
MAX_CONNECTIONS = 8192
# Longer than an agent thinks: a connection that is closed here while a POST comes in fails it.
KEEP_ALIVE_SECONDS = 75
_log = logging.getLogger(__name__)


def _operations(settings: GatewaySettings, api: str) -> Catalog | None:
    """Raises ServiceSettingsError."""
    path = settings.operations_file
    if not path:
        return None
    try:
        return load_operations(api, read_file("operations_file", path))
    except OperationsError as error:
        raise problem("operations_file", f"{path}: {error}") from None


def app_of(settings: GatewaySettings) -> ASGIApp:
    """Raises ServiceSettingsError."""
    path = settings.config_file
    try:
        config = load(read_file("config_file", path))
    except GatewayConfigError as error:
        raise problem("config_file", f"{path}: {error}") from None
    logs.setup("gateway", config.logging.level, config.logging.format)
    # They log each request, and their start and stop, which the gateway logs itself.
    for chatty in ("mcp", "uvicorn", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # They log what a server has answered, and that a call failed, which is its answer.
    for chatty in ("mcp.client", "client"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    longest = settings.request_timeout_seconds
    cut = [
        f"routes.{name}.timeout: {route.timeout_seconds:g} s, but no request takes longer than "
        f"{longest:g} s here. Shorten it, or set request_timeout_seconds of the gateway."
        for name, route in config.routes.items()
        if route.timeout_seconds > longest
    ]
    for warning in [*config.warnings, *cut]:
        _log.warning(warning)
    return make_app(
        config,
        operations=_operations(settings, first_route(config)),
        pool=PoolSizes(
            settings.pool_connections,
            settings.pool_maxsize,
            settings.keepalive_connections,
            settings.keepalive_seconds,
        ),
        limits=Limits(in_flight=settings.max_in_flight, timeout=longest),
        user_agent=settings.user_agent,
        report_key=read_secret("report_key_file", settings.report_key_file),
        max_agents=settings.max_agents,
        uploads=uploads_of(config.upload, path, settings.upload_file),
        idle=settings.idle,
    )


def uploads_of(upload: Upload, config_file: str, content_file: str = "") -> UploadSource:
    """The source of the config's `upload`. Raises ServiceSettingsError.

    `content_file`: has the content in base64, in place of the file that the config names.
    """
    if not upload.file:
        return UploadSource(upload)
    if content_file:
        try:
            content = base64.b64decode(read_file("upload_file", content_file), validate=True)
        except ValueError:
            raise problem("upload_file", f"{content_file}: is not base64. Encode it.") from None
    else:
        content = _upload(Path(config_file).parent / upload.file)
    if len(content) > MAX_UPLOAD_BYTES:
        raise problem(
            "config_file",
            f"upload.file: {upload.file}: is larger than {MAX_UPLOAD_BYTES >> 10} KiB. Name "
            "another file.",
        )
    return UploadSource(upload, content)


def _upload(path: Path) -> bytes:
    """At most one byte more than is allowed. Raises ServiceSettingsError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_UPLOAD_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise problem(
            "config_file", f"upload.file: {path}: {reason}. Name a file that can be read."
        ) from None


def config_of(
    app: ASGIApp, connections_per_address: int = GatewaySettings.connections_per_address
) -> uvicorn.Config:
    """How the app is served; in tests too."""
    return uvicorn.Config(
        app,
        http=protocol(connections_per_address, MAX_CONNECTIONS * 3 // 2),
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
    """Serve until SIGTERM or SIGINT, then finish the requests in flight; 2 if it cannot start."""
    logs.setup("gateway")
    try:
        settings = load_settings(GatewaySettings)
        app = app_of(settings)
    except ServiceSettingsError as error:
        _log.error("cannot start: %s", error)
        return 2
    host, port = settings.bind, settings.port
    try:
        listening = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        _log.error("cannot listen on %s:%d: %s", host, port, os.strerror(error.errno or 0))
        return 2
    warn_of_another_version()
    raise_limit()
    _log.info("starting", extra=logs.fields(bind=host, port=port))
    # uvicorn stops well on both, and then raises them again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    # The collector need not walk over all that was imported, again and again, while agents wait.
    gc.collect()
    gc.freeze()
    uvicorn.Server(config_of(app, settings.connections_per_address)).run(sockets=[listening])
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
