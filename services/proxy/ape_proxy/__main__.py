"""`python -m ape_proxy`: serve the model that APE_MODEL names."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from ape_common import env
from ape_common.web import run

from ape_proxy.app import make_app
from ape_proxy.models import Model, Offline, Upstream


def from_env() -> web.Application:
    kind = env.text("APE_MODEL", "offline")
    if kind not in ("offline", "cerebras"):
        raise env.EnvError("APE_MODEL: must be offline or cerebras. Correct it.")
    return make_app(Offline() if kind == "offline" else _upstream())


def _upstream() -> Model:
    path = Path(env.text("APE_API_KEY_FILE", "/run/secrets/cerebras_api_key"))
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "not UTF-8 text"
        raise env.EnvError(
            f"APE_API_KEY_FILE: {path}: {why}. Model cerebras needs its API key in this file."
        ) from None
    if not key or not key.isascii() or any(c.isspace() for c in key):
        raise env.EnvError(f"APE_API_KEY_FILE: {path}: must hold one key and nothing else.")
    url = env.text("APE_MODEL_BASE_URL", "https://api.cerebras.ai/v1")
    if not url.startswith(("http://", "https://")):
        raise env.EnvError("APE_MODEL_BASE_URL: has no http:// or https://. Write the whole URL.")
    return Upstream(
        env.text("APE_MODEL_NAME", "llama-3.3-70b"),
        url,
        key,
        env.number("APE_REQUEST_TIMEOUT_SECONDS", 30.0, 0.001),
    )


if __name__ == "__main__":
    run(from_env, "proxy")
