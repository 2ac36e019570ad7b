"""The files that settings refer to: scenario, gateway config, OpenAPI file, recording."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field

from ape_contracts.gateway_config import GatewayConfigError, is_template
from ape_contracts.gateway_config import load as load_gateway_config
from ape_contracts.recording import RecordingError
from ape_contracts.recording import load as load_recording
from ape_contracts.service_settings import json_text, variable_bytes
from ape_contracts.text import plain
from ape_infra.config import document, upload
from ape_infra.config.addresses import host_of, is_loopback, on_docker_host, reachable_problem
from ape_infra.config.credentials import Credentials
from ape_infra.config.errors import SettingsError
from ape_infra.config.group import Strict
from ape_infra.config.openapi import security
from ape_infra.config.project import SOURCE_ROOT, config_key
from ape_infra.config.settings import Settings
from ape_infra.config.sign_in import plain as plain_sign_in
from ape_infra.config.target import Endpoint, SuccessCondition, TargetSettings
from ape_infra.config.users import MAX_BYTES as MAX_USERS_BYTES
from ape_infra.config.users import Users, UsersError
from ape_infra.config.users import parse as parse_users

# 128 KiB is the limit of Linux; the other settings of an agent need some of it.
MAX_SCENARIO_BYTES = 120 * 1024
# What agents get in a variable, and the setting that it is from.
_TOLD = {"goal": "targetGoal", "endpoints": "targetEndpoints", "success": "targetSuccess"}
_REMEDY = {
    "endpoints": "Remove some, shorten their bodies, or set targetOpenapi in their place: the "
    "gateway holds its operations."
}
DEMO_DIR = SOURCE_ROOT / "services" / "ape_demo_target"


def demo_file(target: TargetSettings, name: str) -> str:
    """The text of a file of the demo target, for its shop or for its MCP server."""
    return (DEMO_DIR / (f"mcp_{name}" if target.is_mcp else name)).read_text()


class Scenario(Strict):
    """The goal of a session, the endpoints of route `api`, and the success condition.

    Without endpoints, the agents ask the gateway for its operations, or those in its config.
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
        """Return the scenario of the settings, completed by the demo target's.

        Raises SettingsError, also if it is too large for an agent, or its operations are for the
        gateway.
        """
        given: dict[str, Any] = {"api": api}
        if settings.target.is_demo:
            given = json.loads(demo_file(settings.target, "scenario.json")) | given
        if settings.target.goal:
            given["goal"] = settings.target.goal
        if settings.target.endpoints:
            given["endpoints"] = settings.target.endpoints
        elif settings.target.openapi:
            # Agents get its operations from the gateway.
            document.operations_file(settings, root)
            given.pop("endpoints", None)
        if settings.target.success:
            given["success"] = settings.target.success
        made = cls.model_validate(given)
        _checked_size(made)
        return made


def _read(setting: str, path: Path, what: str) -> str:
    """Return the text of the file that a setting refers to. Raises SettingsError."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        # ValueError: a path with a zero character, or bytes that are not UTF-8.
        text = "is not UTF-8 text" if isinstance(error, UnicodeError) else "is not a path"
        reason = getattr(error, "strerror", None) or text
        remedy = f"Set the path of a readable {what}file, relative to the project."
        raise SettingsError.at(setting, f"{plain(path)}: {reason}. {remedy}") from None


def _checked_size(scenario: Scenario) -> None:
    """Agents get the scenario in one variable, whose size Linux limits to 128 KiB."""
    told = scenario.plain()
    size = variable_bytes(json_text(told))
    if size <= MAX_SCENARIO_BYTES:
        return
    most = max(_TOLD, key=lambda part: len(json_text(told.get(part))))
    has = f"has {len(scenario.endpoints)} endpoints" if most == "endpoints" else "is too long"
    raise SettingsError.at(
        _TOLD[most],
        f"{has}: an agent would get {-(-size // 1024)} KiB, above the maximum of "
        f"{MAX_SCENARIO_BYTES >> 10} KiB. {_REMEDY.get(most, 'Shorten it.')}",
    )


def gateway_config(settings: Settings, root: Path) -> tuple[str, str]:
    """Return (JSON text of the gateway's config, name of its first route).

    Raises SettingsError if the user's file cannot be read or is not a gateway config.
    """
    if settings.target.gateway_config:
        text = _read("gatewayConfig", root / settings.target.gateway_config, "JSON ")
    elif settings.target.is_demo:
        text = demo_file(settings.target, "gateway.json")
    else:
        route: dict[str, Any] = {"name": "target", "base_url": settings.target.http_url}
        if settings.target.is_mcp:
            route["mcp"] = True
        text = json.dumps({"routes": {"target": route}})
    name = settings.target.gateway_config or "the gateway's config"
    try:
        config = load_gateway_config(text)
    except GatewayConfigError as error:
        raise SettingsError.at("gatewayConfig", f"{name}: {error}") from None
    swarm = settings.platform.runtime == "swarm"
    if lines := [
        f"{config_key('gatewayConfig')}: {name}: routes.{route}.base_url: {problem}"
        for route, declared in config.routes.items()
        if (problem := reachable_problem(declared.base_url, swarm=swarm))
    ]:
        raise SettingsError(lines)
    api, first = next(iter(config.routes.items()))
    if settings.target.is_mcp and not first.mcp:
        line = (
            f'has no "mcp": true in route {api}, but target is an MCP server. Add it, or remove '
            "`mcp+` from target."
        )
        raise SettingsError.at("gatewayConfig", line)
    known = settings.target.is_demo or settings.target.endpoints or settings.target.openapi
    if not known and not first.endpoints and not first.mcp:
        line = (
            f"is required, because route {api} of gatewayConfig, which the agents use, has no "
            "endpoints. Add them there, or set targetEndpoints or targetOpenapi."
        )
        raise SettingsError.at("targetEndpoints", line)
    return upload.in_config(settings, _with_templates(settings, text, api), config), api


def _with_templates(settings: Settings, text: str, api: str) -> str:
    """The gateway's config with the paths of targetEndpoints, by which its results name requests.

    The endpoints of a gateway config come first, as they count for what is allowed.
    """
    named = [f"{each.method} {each.path.partition('?')[0]}" for each in settings.target.endpoints]
    found = list(dict.fromkeys(filter(is_template, named)))
    if not found:
        return text
    config = json.loads(text)
    route = config["routes"][api]
    route["templates"] = list(dict.fromkeys([*route.get("templates", ()), *found]))
    return json.dumps(config)


class SignIn(Strict):
    """The steps of a sign-in, as agents get them, and in words where they come from.

    `problem`: why credentials are of no use. `target_https`: see AgentSettings.
    """

    steps: list[dict[str, Any]] = Field(default=[])
    words: str = ""
    problem: str = ""
    target_https: bool = True

    @classmethod
    def of(cls, settings: Settings, root: Path, credentials: Credentials, target: str) -> Self:
        """Return that of targetSignIn, or of the document's security schemes.

        `target`: the URL of the agents' route. Raises SettingsError.
        """
        steps = plain_sign_in(settings.target.sign_in)
        words, problem = "targetSignIn", ""
        given = credentials.is_set
        # Sessions outside of runs have no row of the users file.
        if settings.run.sessions == "runs" and (rows := users(settings, root)):
            credentials = credentials.with_columns(rows.columns)
        if steps:
            credentials.check(steps)
        elif credentials.is_set:
            steps, words, problem = _of_document(settings, root, credentials, target)
            problem = problem if given else ""
        # Browsers take a target on their own machine for a secure one.
        secure = target.startswith("https://") or is_loopback(host_of(target))
        secure = secure or on_docker_host(target)
        kinds = ", ".join(step["kind"] for step in steps)
        return cls(
            steps=steps,
            words=f"{kinds}, by {words}" if steps else "",
            problem=problem,
            target_https=secure or not steps,
        )


def _of_document(
    settings: Settings, root: Path, credentials: Credentials, target: str
) -> tuple[list[dict[str, Any]], str, str]:
    """The steps of the security schemes, in words, and what is missing."""
    if not settings.target.openapi:
        return [], "", "is set, but neither targetSignIn nor targetOpenapi. Set one of them."
    operations = document.read(settings, root).operations
    found = security.sign_in(operations, credentials.has, target)
    if found.steps:
        return found.steps, f"the security scheme {', '.join(found.schemes)}", ""
    why = "; ".join(f"{plain(name)} {what}" for name, what in found.missing.items())
    why = why or "no operation has one"
    login = security.login(operations)
    example = f", for example to [{json.dumps(login)}]" if login else ""
    sentence = f"suffices for no security scheme of targetOpenapi ({why}). Set targetSignIn"
    return [], "", f"{sentence}{example}."


def users(settings: Settings, root: Path) -> Users | None:
    """Return the rows of the users file; None: there is no such setting. Raises SettingsError."""
    if not settings.run.users:
        return None
    path = root / settings.run.users
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        # Reading it reports the reason.
        size = 0
    if size > MAX_USERS_BYTES:
        raise SettingsError.at(
            "users",
            f"{plain(path)}: has {size >> 20} MiB, above the maximum of "
            f"{MAX_USERS_BYTES >> 20} MiB. Remove rows.",
        )
    try:
        return parse_users(_read("users", path, "CSV or JSON lines "))
    except UsersError as error:
        raise SettingsError.at("users", f"{settings.run.users}: {error}") from None


def target_url(config: str, api: str) -> str:
    """Return the base URL of route `api`."""
    return load_gateway_config(config).routes[api].base_url


def gateway_reaches_docker_host(config: str) -> bool:
    """Whether a route of this gateway config leads to the Docker host."""
    routes = load_gateway_config(config).routes.values()
    return any(on_docker_host(route.base_url) for route in routes)


def model_ca(settings: Settings, root: Path) -> str | None:
    """Return the certificates in modelCaFile, or None. Raises SettingsError."""
    if not settings.model.ca_file:
        return None
    text = _read("modelCaFile", root / settings.model.ca_file, "PEM ")
    try:
        # An empty text would stand for the public authorities.
        ssl.create_default_context(cadata=text or " ")
    except (ssl.SSLError, ValueError):
        line = f"{settings.model.ca_file}: has no certificates in PEM. Correct the file there."
        raise SettingsError.at("modelCaFile", line) from None
    return text


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
