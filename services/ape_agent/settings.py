"""The settings of a container of agents, from its environment."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ape_contracts import conditions
from ape_service import env


@dataclass(frozen=True)
class Settings:
    """Times are seconds; `test_duration` 0: until stopped. Without endpoints the gateway's count.

    `slots` are the numbers of the agents in this container. `pace`: between two reports, where the
    gateway does not say.
    """

    slots: range
    gateway_url: str
    proxy_url: str
    goal: str
    api: str
    endpoints: list[dict[str, Any]]
    success: tuple[conditions.Condition, ...]
    persona: str = ""
    model_name: str = "ape-offline"
    proxy_token: str = field(default="", repr=False)
    test_duration: float = 0.0
    session_max_steps: int = 20
    session_max_seconds: float = 300.0
    think_time: float = 1.0
    start_delay_seed: float = 0.0
    ramp: float = 10.0
    pace: float = 2.0
    heartbeat_file: str = "/tmp/heartbeat"  # noqa: S108 - a tmpfs of the container's own
    stop_grace: float = 10.0
    request_timeout: float = 35.0


def _json(name: str, default: str | None = None) -> Any:
    try:
        return json.loads(env.text(name, default))
    except ValueError:
        raise env.EnvError(f"{name}: not JSON. Correct it.") from None


def _endpoints() -> list[dict[str, Any]]:
    raw = _json("APE_ENDPOINTS", "[]")
    if not isinstance(raw, list) or not all(
        isinstance(e, dict) and isinstance(e.get("method"), str) and isinstance(e.get("path"), str)
        for e in raw
    ):
        raise env.EnvError(
            "APE_ENDPOINTS: must be a JSON list of {method, path, description, body}. Correct it."
        )
    return raw


def _success() -> tuple[conditions.Condition, ...]:
    try:
        return conditions.parse(_json("APE_SUCCESS"))
    except conditions.ConditionError as problem:
        raise env.EnvError(f"APE_SUCCESS: {problem} Correct it.") from None


def _token() -> str:
    """The content of the file that APE_PROXY_TOKEN_FILE names, if it names one."""
    path = env.text("APE_PROXY_TOKEN_FILE", "")
    if not path:
        return ""
    try:
        token = Path(path).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "not ASCII text"
        raise env.EnvError(f"APE_PROXY_TOKEN_FILE: {path}: {why}. Mount the token there.") from None
    if not token or not token.isprintable():
        raise env.EnvError(f"APE_PROXY_TOKEN_FILE: {path}: holds no token. Write one line.")
    return token


def _slots() -> range:
    """The numbers of the agents of this container.

    APE_AGENT_SLOT is "B+N": it is the N-th (from 1) of containers that hold APE_AGENTS_HERE each,
    with B agents in the containers before them. "N" is "0+N".
    """
    slot, each = env.text("APE_AGENT_SLOT", "1"), env.integer("APE_AGENTS_HERE", 1, 1)
    found = re.fullmatch(r"(?:(\d{1,9})\+)?([1-9]\d{0,8})", slot)
    if not found:
        raise env.EnvError(f"APE_AGENT_SLOT: {slot!r} is not two numbers, as in 250+3. Correct it.")
    first = int(found[1] or 0) + (int(found[2]) - 1) * each + 1
    return range(first, first + each)


def _url(name: str) -> str:
    url = env.text(name).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise env.EnvError(f"{name}: has no http:// or https://. Write the whole URL.")
    return url


def from_env() -> Settings:
    """APE_SETTINGS may hold variables that are not set themselves. Raises EnvError."""
    env.unpack("APE_SETTINGS")
    return Settings(
        slots=_slots(),
        gateway_url=_url("APE_GATEWAY_URL"),
        proxy_url=_url("APE_PROXY_URL"),
        goal=env.text("APE_GOAL"),
        api=env.text("APE_TARGET_API"),
        endpoints=_endpoints(),
        success=_success(),
        persona=env.text("APE_PERSONA", ""),
        model_name=env.text("APE_MODEL_NAME", Settings.model_name),
        proxy_token=_token(),
        test_duration=env.number("APE_TEST_DURATION_SECONDS", Settings.test_duration),
        session_max_steps=env.integer("APE_SESSION_MAX_STEPS", Settings.session_max_steps, 1),
        session_max_seconds=env.number("APE_SESSION_MAX_SECONDS", Settings.session_max_seconds, 1),
        think_time=env.number("APE_THINK_TIME_SECONDS", Settings.think_time),
        start_delay_seed=env.number("APE_START_DELAY_SEED", Settings.start_delay_seed),
        ramp=env.number("APE_RAMP_SECONDS", Settings.ramp),
        heartbeat_file=env.text("APE_HEARTBEAT_FILE", Settings.heartbeat_file),
        stop_grace=env.number("APE_STOP_GRACE_SECONDS", Settings.stop_grace),
    )
