"""The agent's settings, from its environment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ape_common import env


@dataclass(frozen=True)
class Success:
    """The answer that ends a session well: `status` to `method` `path`, with `json_path` in it.

    `path` may be a template. `json_path`: names and list indices with dots, as in orders.0.id.
    """

    method: str
    path: str
    status: int
    json_path: str | None = None


@dataclass(frozen=True)
class Settings:
    """Times are seconds; `test_duration` 0: until stopped."""

    slot: int
    gateway_url: str
    proxy_url: str
    goal: str
    api: str
    endpoints: list[dict[str, Any]]
    success: Success
    proxy_token: str = field(default="", repr=False)
    stack: str = "dev"
    model_name: str = "ape-offline"
    test_duration: float = 0.0
    session_max_steps: int = 20
    session_max_seconds: float = 60.0
    think_time: float = 1.0
    start_delay_seed: float = 0.0
    start_delay_max: float = 10.0
    heartbeat: float = 10.0
    heartbeat_file: str = "/tmp/heartbeat"  # noqa: S108 - a tmpfs of the container's own
    stop_grace: float = 10.0
    request_timeout: float = 35.0

    @property
    def name(self) -> str:
        """agent-0001: stable over restarts."""
        return f"agent-{self.slot:04d}"

    @property
    def proxy_headers(self) -> dict[str, str]:
        """Who asks: the proxy serves agents in turn, and only those of its stack."""
        shown = {"Authorization": f"Bearer {self.proxy_token}"} if self.proxy_token else {}
        return {"X-APE-Agent": self.name} | shown


def _token() -> str:
    path = env.text("APE_PROXY_TOKEN_FILE", "")
    try:
        return Path(path).read_text("utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError):
        raise env.EnvError(f"APE_PROXY_TOKEN_FILE: {path}: cannot be read. Mount it.") from None


def _json(name: str) -> Any:
    try:
        return json.loads(env.text(name))
    except ValueError:
        raise env.EnvError(f"{name}: not JSON. Correct it.") from None


def _endpoints() -> list[dict[str, Any]]:
    raw = _json("APE_ENDPOINTS")
    if not isinstance(raw, list) or not all(
        isinstance(e, dict) and isinstance(e.get("method"), str) and isinstance(e.get("path"), str)
        for e in raw
    ):
        raise env.EnvError(
            "APE_ENDPOINTS: must be a JSON list of {method, path, description, body}. Correct it."
        )
    return raw


def _success() -> Success:
    raw = _json("APE_SUCCESS")
    try:
        made = Success(raw["method"].upper(), raw["path"], raw["status"], raw.get("json_path"))
    except (KeyError, TypeError, AttributeError):
        made = None
    if made is None or not isinstance(made.path, str) or not isinstance(made.status, int):
        raise env.EnvError(
            "APE_SUCCESS: must be JSON {method, path, status, json_path?}. Correct it."
        )
    return made


def _url(name: str) -> str:
    url = env.text(name).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise env.EnvError(f"{name}: has no http:// or https://. Write the whole URL.")
    return url


def from_env() -> Settings:
    """Raises EnvError."""
    return Settings(
        slot=env.integer("APE_SLOT_OFFSET", 0) + env.integer("APE_AGENT_SLOT", 1, 1),
        stack=env.text("APE_STACK", Settings.stack),
        gateway_url=_url("APE_GATEWAY_URL"),
        proxy_url=_url("APE_PROXY_URL"),
        proxy_token=_token(),
        model_name=env.text("APE_MODEL_NAME", Settings.model_name),
        goal=env.text("APE_GOAL"),
        api=env.text("APE_TARGET_API"),
        endpoints=_endpoints(),
        success=_success(),
        test_duration=env.number("APE_TEST_DURATION_SECONDS", Settings.test_duration),
        session_max_steps=env.integer("APE_SESSION_MAX_STEPS", Settings.session_max_steps, 1),
        session_max_seconds=env.number("APE_SESSION_MAX_SECONDS", Settings.session_max_seconds, 1),
        think_time=env.number("APE_THINK_TIME_SECONDS", Settings.think_time),
        start_delay_seed=env.number("APE_START_DELAY_SEED", Settings.start_delay_seed),
        start_delay_max=env.number("APE_START_DELAY_MAX_SECONDS", Settings.start_delay_max),
        heartbeat=env.number("APE_HEARTBEAT_SECONDS", Settings.heartbeat, 0.1),
        heartbeat_file=env.text("APE_HEARTBEAT_FILE", Settings.heartbeat_file),
        stop_grace=env.number("APE_STOP_GRACE_SECONDS", Settings.stop_grace),
    )
