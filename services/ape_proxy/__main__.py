"""`python -m ape_proxy`: serve the model that APE_MODEL names."""

from __future__ import annotations

import gc
from pathlib import Path

from aiohttp import web

from ape_contracts.recording import RecordingError, load
from ape_proxy.app import Options, make_app
from ape_proxy.limiter import Limits
from ape_proxy.metrics import Prices
from ape_proxy.models import Model, Offline
from ape_proxy.recording import Recorded
from ape_proxy.upstream import Upstream
from ape_service import env
from ape_service.web import run

MODELS = ("offline", "cerebras", "recorded")


def from_env() -> web.Application:
    """Raises EnvError."""
    limits, options = Limits(), Options()
    return make_app(
        _model(),
        Options(
            token=_secret("APE_PROXY_TOKEN_FILE") if env.text("APE_PROXY_TOKEN_FILE", "") else "",
            timeout=_timeout(),
            retries=env.integer("APE_MODEL_RETRIES", options.retries),
            limits=Limits(
                requests_per_minute=env.integer("APE_MODEL_REQUESTS_PER_MINUTE", 0),
                tokens_per_minute=env.integer("APE_MODEL_TOKENS_PER_MINUTE", 0),
                in_flight=env.integer("APE_MODEL_IN_FLIGHT", limits.in_flight, 1),
                queue=env.integer("APE_QUEUE_LENGTH", limits.queue, 1),
                queue_seconds=env.number("APE_QUEUE_SECONDS", limits.queue_seconds, 0.001),
            ),
            prices=Prices(
                env.number("APE_MODEL_INPUT_PRICE", 0.0), env.number("APE_MODEL_OUTPUT_PRICE", 0.0)
            ),
            record=env.text("APE_MODEL_RECORD", "false") == "true",
        ),
    )


def _model() -> Model:
    kind = env.text("APE_MODEL", "offline")
    if kind == "offline":
        return Offline()
    name = env.text("APE_MODEL_NAME", "llama-3.3-70b")
    if kind == "recorded":
        try:
            return Recorded(name, load(_read("APE_MODEL_RECORDING")))
        except RecordingError as problem:
            raise env.EnvError(f"APE_MODEL_RECORDING: {problem}") from None
    if kind != "cerebras":
        raise env.EnvError(f"APE_MODEL: must be one of {', '.join(MODELS)}. Correct it.")
    url = env.text("APE_MODEL_BASE_URL", "https://api.cerebras.ai/v1")
    if not url.startswith(("http://", "https://")):
        raise env.EnvError("APE_MODEL_BASE_URL: has no http:// or https://. Write the whole URL.")
    key = _secret("APE_API_KEY_FILE", "/run/secrets/cerebras_api_key")
    return Upstream(name, url, key, _timeout())


def _timeout() -> float:
    return env.number("APE_REQUEST_TIMEOUT_SECONDS", Options().timeout, 0.001)


def _read(name: str, default: str | None = None) -> str:
    path = Path(env.text(name, default))
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "not UTF-8 text"
        raise env.EnvError(f"{name}: {path}: {why}. Name a file that can be read.") from None


def _secret(name: str, default: str | None = None) -> str:
    secret = _read(name, default).strip()
    if not secret or not secret.isascii() or any(c.isspace() for c in secret):
        raise env.EnvError(f"{name}: the file must hold one key and nothing else.")
    return secret


def make() -> web.Application:
    app = from_env()
    # A full collection visits every open stream, and all of them wait for it: 30 ms at 1000. What
    # is loaded by now stays and need not be visited; the young are collected often enough for
    # pauses of some 5 ms, the old seldom (bench/proxy).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    return app


if __name__ == "__main__":
    run(make, "proxy", cancel_on_disconnect=True)
