"""The proxy's HTTP interface: OpenAI's, in front of one model."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from ape_common import logs, prom
from ape_common.web import application

from ape_proxy.metrics import Measured, Metrics
from ape_proxy.models import IncompleteError, Model, openai_error

MAX_REQUEST_BYTES = 4 << 20
_log = logging.getLogger(__name__)


def make_app(model: Model) -> web.Application:
    """POST /v1/chat/completions and GET /v1/models for `model`."""
    registry = prom.registry()
    app = application("proxy", registry, MAX_REQUEST_BYTES)
    metrics = Metrics(registry)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        await model.open()
        yield
        await model.close()

    async def models(_: web.Request) -> web.StreamResponse:
        return await model.models()

    async def completions(request: web.Request) -> web.StreamResponse:
        measured = Measured(metrics, model.name)
        status: int | str = "incomplete"
        try:
            answer = await _complete(request, measured)
            status = answer.status
            return answer
        except web.HTTPException as refused:
            status = refused.status
            raise
        except IncompleteError:
            # The connection is gone; whatever is returned here goes nowhere.
            return web.Response(status=502)
        finally:
            measured.done(status)
            _log.info("completion", extra=logs.fields(model=model.name, status=status))

    async def _complete(request: web.Request, measured: Measured) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            return openai_error(400, "invalid_request_error", "The body is not JSON.")
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            message = "messages: missing, or no list. Send the conversation so far."
            return openai_error(400, "invalid_request_error", message)
        return await model.complete(request, body, measured)

    app.cleanup_ctx.append(lifetime)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", completions)
    return app
