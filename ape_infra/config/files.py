"""The files that settings refer to: scenario, gateway config, OpenAPI file, recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError

from ape_contracts.gateway_config import GatewayConfigError
from ape_contracts.gateway_config import load as load_gateway_config
from ape_contracts.recording import RecordingError
from ape_contracts.recording import load as load_recording
from ape_infra.config import openapi
from ape_infra.config.errors import SettingsError, problems_of
from ape_infra.config.group import Strict
from ape_infra.config.project import SOURCE_ROOT
from ape_infra.config.settings import Settings
from ape_infra.config.target import Endpoint, SuccessCondition

DEMO_DIR = SOURCE_ROOT / "services" / "ape_demo_target"


class Scenario(Strict):
    """The goal of a session, the endpoints of route `api`, and the success condition.

    Without endpoints, the agents ask the gateway for those in its config.
    """

    goal: str
    api: str
    endpoints: list[Endpoint] = Field(default=[])
    success: SuccessCondition

    def plain(self) -> dict[str, Any]:
        """The scenario as JSON data, without what has its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @classmethod
    def of(cls, settings: Settings, root: Path, api: str) -> Self:
        """Return the scenario of the settings, completed by the demo target's."""
        given: dict[str, Any] = {"api": api}
        if settings.target.is_demo:
            given = json.loads((DEMO_DIR / "scenario.json").read_text()) | given
        if settings.target.goal:
            given["goal"] = settings.target.goal
        if settings.target.endpoints:
            given["endpoints"] = settings.target.endpoints
        elif settings.target.openapi:
            given["endpoints"] = _openapi_endpoints(root / settings.target.openapi)
        if settings.target.success:
            given["success"] = settings.target.success
        return cls.model_validate(given)


def _read(setting: str, path: Path, what: str) -> str:
    """Return the text of the file that a setting refers to. Raises SettingsError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        line = f"{path}: {reason}. Set the path of a readable {what}file, relative to the project."
        raise SettingsError.at(setting, line) from None


def _openapi_endpoints(path: Path) -> list[Endpoint]:
    text = _read("targetOpenapi", path, "JSON or YAML ")
    try:
        # JSON is YAML.
        found = openapi.endpoints(yaml.safe_load(text))
        return [Endpoint.model_validate(endpoint) for endpoint in found]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        line = f"{path}: {where}is neither JSON nor YAML. Correct the file there."
    except openapi.OpenApiError as error:
        line = f"{path}: {error}"
    except ValidationError as error:
        line = f"{path}: " + "; ".join(f"{at} {why}" for at, why in problems_of(error))
    raise SettingsError.at("targetOpenapi", line)


def gateway_config(settings: Settings, root: Path) -> tuple[str, str]:
    """Return (JSON text of the gateway's config, name of its first route).

    Raises SettingsError if the user's file cannot be read or is not a gateway config.
    """
    if settings.target.gateway_config:
        text = _read("gatewayConfig", root / settings.target.gateway_config, "JSON ")
    elif settings.target.is_demo:
        text = (DEMO_DIR / "gateway.json").read_text()
    else:
        route = {"name": "target", "base_url": settings.target.url}
        text = json.dumps({"routes": {"target": route}})
    try:
        config = load_gateway_config(text)
    except GatewayConfigError as error:
        name = settings.target.gateway_config or "the gateway's config"
        raise SettingsError.at("gatewayConfig", f"{name}: {error}") from None
    api, first = next(iter(config.routes.items()))
    known = settings.target.is_demo or settings.target.endpoints or settings.target.openapi
    if not known and not first.endpoints:
        line = (
            f"is required, because route {api} of gatewayConfig, which the agents use, has no "
            "endpoints. Add them there, or set targetEndpoints or targetOpenapi."
        )
        raise SettingsError.at("targetEndpoints", line)
    return text, api


def target_host(config: str, api: str) -> str:
    """Return host, port and base path of route `api`, as a model could write them into a path."""
    parts = urlsplit(load_gateway_config(config).routes[api].base_url)
    return (parts.netloc + parts.path).rstrip("/")


def model_recording(settings: Settings, root: Path) -> str | None:
    """Return the text of the recording, or None unless model is recorded.

    Raises SettingsError if the user's file cannot be read or is not a recording.
    """
    if settings.model.kind != "recorded":
        return None
    recording = settings.model.recording
    text = _read("modelRecording", root / recording, "")
    try:
        load_recording(text)
    except RecordingError as error:
        raise SettingsError.at("modelRecording", f"{recording}: {error}") from None
    return text
