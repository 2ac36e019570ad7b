"""The stack's settings: one strict model of what `Pulumi.yaml` declares.

Secrets are not in the model. Pulumi holds them, encrypted; the model is told only which are set.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ape_contracts import conditions
from ape_contracts.gateway_config import GatewayConfigError
from ape_contracts.gateway_config import load as load_gateway_config
from ape_contracts.recording import RecordingError
from ape_contracts.recording import load as load_recording
from ape_infra.config import openapi
from ape_infra.config.project import SOURCE_ROOT, config_key
from ape_infra.planning import plan as planning
from ape_infra.planning.services import BuiltService
from ape_infra.planning.tiers import DEFAULT_TIERS, MAX_AGENTS, Tier, problems
from monitoring.thresholds import ThresholdError, Thresholds
from monitoring.thresholds import parse as parse_thresholds

CEREBRAS_API_KEY = "cerebrasApiKey"
AGENT_TOKEN = "agentToken"
GRAFANA_PASSWORD = "grafanaPassword"
REMOTE_WRITE_TOKEN = "remoteWriteToken"
WEBHOOK_TOKEN = "alertWebhookToken"
SLACK_URL = "alertSlackUrl"
SMTP_PASSWORD = "alertSmtpPassword"
SECRETS = {
    CEREBRAS_API_KEY: "Key of the Cerebras API; needed with model cerebras.",
    AGENT_TOKEN: "Token of the agents at the proxy; empty: made of the key and the stack's name.",
    GRAFANA_PASSWORD: "Password of Grafana's admin user; needed in production and with Grafana.",
    REMOTE_WRITE_TOKEN: "Bearer token for remoteWriteUrl.",
    WEBHOOK_TOKEN: "Bearer token for alertWebhookUrl.",
    SLACK_URL: "Incoming webhook of Slack to which alerts go; empty: none.",
    SMTP_PASSWORD: "Password of alertSmtpUser.",
}
DEMO_TARGET = "demo"
MAX_AGENTS_PER_CONTAINER = 100
DEMO_DIR = SOURCE_ROOT / "services" / "ape_demo_target"
_PRICE = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a setting",
}


class SettingsError(Exception):
    """Every broken rule of the settings, one line each: path, what is wrong, what to do."""

    def __init__(self, lines: Collection[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


class _Model(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class TierRow(_Model):
    min_agents: int = Field(ge=1)
    max_agents: int = Field(ge=1, le=MAX_AGENTS)
    # Docker refuses less than 6 MiB; the plugin reads less than 0.1 cores back as 0.1.
    memory_mb: int = Field(ge=6)
    cpus: float = Field(ge=0.1)


class Endpoint(_Model):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(pattern=r"^/")
    description: str = ""
    body: dict[str, Any] | None = None


class Check(_Model):
    """One thing that must hold of a body; see ape_contracts.conditions."""

    json_path: str | None = Field(default=None, alias="json_path")
    equals: str | int | float | bool | None = None
    matches: str | None = None
    text: str | None = None


class Answer(Check):
    """An answer that must come: to `method` `path`, with `status`, and all checks hold."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(pattern=r"^/")
    status: int = Field(ge=100, le=599)
    checks: list[Check] = []


class Success(Answer):
    """A session succeeds when this answer has come, and all of `also`."""

    also: list[Answer] = []

    def problems(self) -> list[tuple[str, str]]:
        found = conditions.problems(self.model_dump(by_alias=True))
        return [(f"targetSuccess.{at}".rstrip("."), why) for at, why in found]


class AlertOverride(_Model):
    """What a stack changes of an alert of the rules."""

    for_seconds: int | None = Field(default=None, ge=0)
    disabled: bool = False


PortNumber = Annotated[int, Field(ge=1, le=65535)]


class Settings(_Model):
    """What a stack can set. Field names are the keys of the stack config in camelCase."""

    agents: int = Field(5, ge=1, le=MAX_AGENTS, description="Number of agents, 1 to 2000.")
    sized_for: int = Field(
        0,
        ge=0,
        le=MAX_AGENTS,
        description="Fleet whose tier and networks the agents get while they are fewer, so that "
        "growing to it changes none of them; 0: that of agents.",
    )
    runtime: Literal["docker", "swarm"] = Field(
        "docker", description="docker: containers of one machine. swarm: one service a shard."
    )
    docker_host: str = Field(
        "", description="Address of the Docker daemon; empty: DOCKER_HOST or the local socket."
    )
    target: str = Field(
        DEMO_TARGET, description="demo: the shop of this project. Or the URL of your application."
    )
    target_goal: str = Field(
        "", description="What an agent is to achieve; empty: the demo's goal (demo only)."
    )
    target_endpoints: list[Endpoint] = Field(
        [],
        description="Endpoints of the target, in the order of a session: method, path, "
        "description, body; empty: those of targetOpenapi, of the demo, or of gatewayConfig.",
    )
    target_openapi: str = Field(
        "",
        description="Path of an OpenAPI file (JSON or YAML) whose operations are the endpoints.",
    )
    target_success: Success | None = Field(
        None,
        description="The answer that makes a session a success: method, path, status, and what "
        "its body holds: json_path (with equals or matches) or text; more in checks, further "
        "answers in also; empty: the demo's (demo only).",
    )
    persona: str = Field(
        "", max_length=2000, description="Who the agents are; a sentence for the model, or empty."
    )
    agents_per_container: int = Field(
        1,
        ge=1,
        le=MAX_AGENTS_PER_CONTAINER,
        description="Agents in one container, 1 to 100; its limits are the sum of theirs.",
    )
    test_duration_seconds: int = Field(
        0, ge=0, description="Length of the test in seconds; 0: until the stack is taken down."
    )
    think_time_seconds: int = Field(
        1, ge=0, le=600, description="Pause of an agent between two steps, in seconds."
    )
    ramp_seconds: int = Field(
        10, ge=0, le=86400, description="Agents begin within so many seconds, evenly spread."
    )
    session_max_steps: int = Field(
        20, ge=1, le=1000, description="Steps of a session, at most; then it has failed."
    )
    session_max_seconds: int = Field(
        300, ge=1, le=86400, description="Length of a session, at most; then it has failed."
    )
    gateway_config: str = Field(
        "", description="Path of the gateway's JSON config; empty: one route to the target."
    )
    model: Literal["offline", "cerebras", "recorded"] = Field(
        "offline",
        description="offline: a deterministic stand-in. cerebras: the real model. "
        "recorded: answers of modelRecording.",
    )
    model_base_url: str = Field(
        "https://api.cerebras.ai/v1", description="Base URL of the OpenAI-compatible API."
    )
    model_name: str = Field("llama-3.3-70b", min_length=1, description="Name of the model.")
    model_requests_per_minute: int = Field(
        0, ge=0, description="Requests a minute to the model, of all agents together; 0: no limit."
    )
    model_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens a minute of the model, of all agents together; 0: no limit."
    )
    model_queue_seconds: int = Field(
        20, ge=1, le=30, description="Seconds that a request may wait for those limits."
    )
    model_retries: int = Field(
        2, ge=0, le=10, description="Further tries of a request that the model did not take."
    )
    model_input_price: str = Field(
        "0",
        pattern=_PRICE,
        description="Price of a million prompt tokens in dollars, such as 0.85; 0: unknown.",
    )
    model_output_price: str = Field(
        "0",
        pattern=_PRICE,
        description="Price of a million completion tokens in dollars; 0: unknown.",
    )
    model_record: bool = Field(
        False, description="Keep the model's answers for GET /recording of the proxy."
    )
    model_recording: str = Field("", description="Path of a recording; needed with model recorded.")
    tiers: list[TierRow] = Field(
        [],
        description="Limits by fleet size: minAgents, maxAgents, memoryMb, cpus; "
        "empty: the seed's table.",
    )
    update_parallelism: int = Field(
        10,
        ge=1,
        le=100,
        description="Containers of agents that start or change at the same time, at most.",
    )
    update_delay_seconds: int = Field(
        3, ge=0, le=59, description="Seconds between two batches of an update (swarm)."
    )
    update_monitor_seconds: int = Field(
        15, ge=1, le=59, description="Seconds for which a changed agent is watched (swarm)."
    )
    update_rollback: bool = Field(
        True, description="Roll a failed update back (swarm); false: pause it."
    )
    log_max_size: str = Field(
        "10m", pattern=r"^[1-9][0-9]*[kmg]$", description="Size at which a log is rotated."
    )
    log_max_files: int = Field(3, ge=2, le=100, description="Rotated logs kept for a container.")
    log_compress: bool = Field(True, description="Compress rotated logs.")
    expose_address: str = Field(
        "127.0.0.1", description="Address on which ports are published; loopback by default."
    )
    gateway_port: PortNumber = Field(8080, description="Published port of the gateway.")
    proxy_port: PortNumber = Field(8081, description="Published port of the inference proxy.")
    target_port: PortNumber = Field(8082, description="Published port of the demo target.")
    prometheus_port: PortNumber = Field(9090, description="Published port of Prometheus.")
    alertmanager_port: PortNumber = Field(9093, description="Published port of Alertmanager.")
    grafana_port: PortNumber = Field(3000, description="Published port of Grafana.")
    loki_port: PortNumber = Field(3100, description="Published port of Loki.")
    monitor: Literal["container", "off"] = Field(
        "container",
        description="container: a monitor on each node (with observability). off: none; "
        "`python -m monitoring` runs on the host.",
    )
    monitor_port: PortNumber = Field(9101, description="Published port of the monitor.")
    alert_thresholds: dict[str, Any] | None = Field(
        None,
        description="Thresholds over the defaults: name to a number, or to raiseAt, clearAt and "
        "holdSeconds.",
    )
    network_pool: str = Field(
        "10.213.0.0/16", description="Addresses from which the networks take their subnets (/22)."
    )
    observability: planning.Observability = Field(
        "metrics", description="off, metrics (Prometheus), or full."
    )
    observability_parts: list[planning.Part] = Field(
        [],
        description="Parts of observability full: prometheus, alertmanager, grafana, loki, alloy; "
        "empty: all of them.",
    )
    metrics_retention_days: int = Field(
        15, ge=1, description="Days for which Prometheus keeps metrics."
    )
    metrics_retention_size: str = Field(
        "4GB", pattern=r"^[1-9][0-9]*[MGT]B$", description="Size at which the oldest metrics go."
    )
    logs_retention_days: int = Field(7, ge=1, description="Days for which Loki keeps logs.")
    remote_write_url: str = Field(
        "", description="URL to which Prometheus writes its metrics too; empty: none."
    )
    runbooks: str = Field(
        "docs/runbooks.md",
        min_length=1,
        description="Where alerts say that their runbook is: a URL, or a path of the project.",
    )
    alert_overrides: dict[str, AlertOverride] | None = Field(
        None,
        description="Changes to alerts by name: forSeconds, disabled; empty: as they come.",
    )
    alert_webhook_url: str = Field(
        "", description="URL to which Alertmanager posts alerts; empty: none."
    )
    alert_watchdog_url: str = Field(
        "",
        description="URL of a service that misses the Watchdog alert when it stops; empty: none.",
    )
    alert_slack_channel: str = Field(
        "", description="Channel of Slack, with secret alertSlackUrl; empty: the URL's own."
    )
    alert_email_to: str = Field("", description="Address to which alerts are mailed; empty: none.")
    alert_email_from: str = Field("", description="Address from which alerts are mailed.")
    alert_smtp_host: str = Field("", description="Mail server with its port: smtp.example:587.")
    alert_smtp_user: str = Field("", description="User of the mail server; empty: no login.")
    registry: str = Field(
        "", description="Registry to which the images are pushed; empty: built locally only."
    )
    images: dict[BuiltService, str] | None = Field(
        None,
        description="Images to use as they are, by service (gateway, proxy, agent, demo_target, "
        "monitor, socket_proxy); empty: built from services/.",
    )
    base_image: str = Field("python:3.11-slim", description="Base image of the services.")
    prometheus_image: str = Field(
        "prom/prometheus:v2.42.0", description="Image of Prometheus, with its version."
    )
    alertmanager_image: str = Field(
        "prom/alertmanager:v0.25.0", description="Image of Alertmanager, with its version."
    )
    grafana_image: str = Field(
        "grafana/grafana:11.6.0", description="Image of Grafana, with its version."
    )
    loki_image: str = Field("grafana/loki:3.4.2", description="Image of Loki, with its version.")
    alloy_image: str = Field(
        "grafana/alloy:v1.7.5", description="Image of Grafana Alloy, with its version."
    )
    production: bool = Field(
        False, description="Refuse what is only a warning in development; need the secrets."
    )
    allow_overcommit: bool = Field(
        False, description="Allow a plan larger than the machine, also in production."
    )

    @property
    def agents_a_step(self) -> int | None:
        """Agents that may be added at a time to a runtime that starts all new ones at once.

        None: it starts them one by one, however many are added.
        """
        if self.runtime == "docker":
            return None
        return self.update_parallelism * self.agents_per_container

    @property
    def tier_table(self) -> tuple[Tier, ...]:
        rows = tuple(Tier(t.min_agents, t.max_agents, t.memory_mb, t.cpus) for t in self.tiers)
        return rows or DEFAULT_TIERS

    @property
    def thresholds(self) -> Thresholds:
        """Those of the monitor, with what the stack says over them."""
        return parse_thresholds(self.alert_thresholds or {})

    @property
    def demo(self) -> bool:
        return self.target == DEMO_TARGET

    @property
    def parts(self) -> tuple[planning.Part, ...]:
        """The parts of the observability stack that are deployed, in a fixed order."""
        if self.observability == "off":
            return ()
        if self.observability == "metrics":
            return ("prometheus",)
        return tuple(p for p in planning.PARTS if p in (self.observability_parts or planning.PARTS))

    @property
    def part_images(self) -> dict[str, str]:
        """Setting -> image, of the parts that are deployed."""
        return {f"{part}Image": getattr(self, f"{part}_image") for part in self.parts}

    @property
    def part_ports(self) -> dict[str, int]:
        """Setting -> published port, of the parts that are deployed. Alloy publishes none."""
        return {
            f"{part}Port": getattr(self, f"{part}_port") for part in self.parts if part != "alloy"
        }

    @property
    def monitored(self) -> bool:
        return self.observability != "off" and self.monitor == "container"

    def plan(self, stack: str) -> planning.Plan:
        return planning.make_plan(
            self.agents,
            sized_for=self.sized_for,
            stack=stack,
            tiers=self.tier_table,
            observability=self.observability,
            demo_target=self.demo,
            agents_per_container=self.agents_per_container,
            monitor=self.monitored,
        )

    def problems(self, secrets: Collection[str]) -> list[tuple[str, str]]:
        """Broken rules between settings, as (path, sentence)."""
        found = list(problems(self.tier_table)) if self.tiers else []
        if not self.demo:
            found += _url_problems("target", self.target, "or demo for the shop of this project")
            for name, value, example in (
                ("targetGoal", self.target_goal, '"Order one product."'),
                (
                    "targetEndpoints",
                    self.target_endpoints or self.target_openapi or self.gateway_config,
                    '[{"method": "GET", "path": "/"}], or targetOpenapi, or gatewayConfig',
                ),
                (
                    "targetSuccess",
                    self.target_success,
                    '{"method": "GET", "path": "/", "status": 200}',
                ),
            ):
                if not value:
                    found.append((name, f"is needed with a target of your own, e.g. {example}."))
        if self.target_openapi and self.target_endpoints:
            found.append(
                ("targetOpenapi", "is set, and targetEndpoints too. Remove one of the two.")
            )
        found += self.target_success.problems() if self.target_success else []
        if self.think_time_seconds >= self.session_max_seconds:
            found.append(
                (
                    "sessionMaxSeconds",
                    f"is {self.session_max_seconds}, no more than one pause "
                    f"(thinkTimeSeconds {self.think_time_seconds}). Raise it.",
                )
            )
        found += _url_problems("modelBaseUrl", self.model_base_url, "such as that of Cerebras")
        if self.model == "cerebras" and CEREBRAS_API_KEY not in secrets:
            found.append(_missing_secret(CEREBRAS_API_KEY, "model is cerebras"))
        if self.model == "recorded" and not self.model_recording:
            found.append(
                ("modelRecording", "is empty, and model is recorded. Name the file of a recording.")
            )
        if self.model == "recorded" and self.model_record:
            found.append(
                ("modelRecord", "is true, and model is recorded. Record with a real model.")
            )
        if self.production and GRAFANA_PASSWORD not in secrets:
            found.append(_missing_secret(GRAFANA_PASSWORD, "production is true"))
        try:
            ipaddress.ip_address(self.expose_address)
        except ValueError:
            found.append(
                ("exposeAddress", f'is "{self.expose_address}", not an IP address. Try 127.0.0.1.')
            )
        try:
            # The table may be unsound; that is said elsewhere.
            size = max(self.agents, self.sized_for)
            tiers = (t for t in self.tier_table if t.min_agents <= size <= t.max_agents)
            largest = min(MAX_AGENTS, max((t.max_agents for t in tiers), default=size))
            networks = planning.networks(largest, self.agents_per_container)
            planning.subnet(self.network_pool, 2 + len(networks))
        except ValueError as error:
            found.append(("networkPool", f"{error}. Give a private network such as 10.213.0.0/16."))
        ports = {
            "gatewayPort": self.gateway_port,
            "proxyPort": self.proxy_port,
            "targetPort": self.target_port,
            **self.part_ports,
            "monitorPort": self.monitor_port,
        }
        seen: dict[int, str] = {}
        for name, port in ports.items():
            if port in seen:
                found.append((name, f"is {port}, as {seen[port]} is. Give each its own port."))
            seen[port] = name
        try:
            _ = self.thresholds
        except ThresholdError as error:
            found += [(f"alertThresholds.{at}", sentence) for at, sentence in error.problems]
        for name, image in self.part_images.items():
            if not re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", image):
                found.append((name, "names no version. Add a tag or a digest."))
        return found + self._observability_problems(secrets)

    def _observability_problems(self, secrets: Collection[str]) -> list[tuple[str, str]]:
        found = []
        given = self.observability_parts
        if given and "prometheus" not in given:
            found.append(("observabilityParts", "lacks prometheus, which the other parts need."))
        if "alloy" in given and "loki" not in given:
            found.append(("observabilityParts", "has alloy without loki. Add loki, or leave both."))
        if "alloy" in self.parts and not self.monitored:
            found.append(
                ("monitor", "is off, and alloy reads logs by its proxy. Set it to container.")
            )
        if "grafana" in self.parts and not self.production and GRAFANA_PASSWORD not in secrets:
            found.append(_missing_secret(GRAFANA_PASSWORD, "Grafana is deployed"))
        for name, url in (
            ("remoteWriteUrl", self.remote_write_url),
            ("alertWebhookUrl", self.alert_webhook_url),
            ("alertWatchdogUrl", self.alert_watchdog_url),
        ):
            if url:
                found += _url_problems(name, url, "or leave it empty")
        if self.alert_slack_channel and SLACK_URL not in secrets:
            found.append(_missing_secret(SLACK_URL, "alertSlackChannel is set"))
        if self.alert_email_to:
            for name, value in (
                ("alertEmailFrom", self.alert_email_from),
                ("alertSmtpHost", self.alert_smtp_host),
            ):
                if not value:
                    found.append((name, "is needed with alertEmailTo."))
        if self.alert_smtp_host and not re.fullmatch(r"[^\s:/]+:[0-9]+", self.alert_smtp_host):
            found.append(("alertSmtpHost", "must be host:port, e.g. smtp.example:587."))
        if self.alert_smtp_user and SMTP_PASSWORD not in secrets:
            found.append(_missing_secret(SMTP_PASSWORD, "alertSmtpUser is set"))
        return found


def _missing_secret(name: str, why: str) -> tuple[str, str]:
    return (
        name,
        f"is not set, and {why}. Set it with: pulumi config set --secret {config_key(name)}",
    )


def _url_problems(name: str, value: str, alternative: str) -> list[tuple[str, str]]:
    parts = urlsplit(value)
    if parts.scheme in ("http", "https") and parts.hostname:
        return []
    return [
        (
            name,
            f'is "{value}", no URL with a scheme. Write http://... or https://..., {alternative}.',
        )
    ]


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _problems_of(error: ValidationError) -> list[tuple[str, str]]:
    found = []
    for item in error.errors(include_url=False):
        message = _WORDS.get(item["type"])
        if message is None:
            rule = item["msg"][0].lower() + item["msg"][1:]
            message = f"is {json.dumps(item['input'], default=str)}; {rule}"
        if item["type"] == "extra_forbidden":
            message += ". See `Pulumi.yaml` for the settings there are; remove or correct it"
        found.append((_path(item["loc"]), f"{message}."))
    return found


def parse(raw: Mapping[str, str], secrets: Collection[str] = ()) -> Settings:
    """Settings from the stack config as Pulumi hands it over: key without project -> string.

    `secrets` names the secrets that are set. Raises SettingsError with every broken rule.
    """
    values: dict[str, Any] = {}
    for key, text in raw.items():
        field = next((f for n, f in Settings.model_fields.items() if f.alias == key), None)
        if field is not None and field.annotation is str:
            values[key] = text
            continue
        try:
            value = json.loads(text)
            # Pulumi wants a default for every setting, and an object has no "none".
            values[key] = None if value == {} else value
        except ValueError:
            values[key] = text
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_lines(_problems_of(error))) from None
    if broken := settings.problems(secrets):
        raise SettingsError(_lines(broken))
    return settings


def parse_config(given: Mapping[str, str]) -> Settings:
    """As `parse`, of a config that holds the secrets too; their values are not looked at."""
    secrets = [name for name in SECRETS if given.get(name)]
    return parse({k: v for k, v in given.items() if k not in SECRETS}, secrets)


def _lines(found: list[tuple[str, str]]) -> list[str]:
    return [f"{config_key(path)}: {sentence}" for path, sentence in found]


class Scenario(_Model):
    """What an agent is told: the goal, the endpoints of route `api`, and what success is.

    Without endpoints the agents ask the gateway for those of its config.
    """

    goal: str
    api: str
    endpoints: list[Endpoint] = []
    success: Success

    def dumped(self, part: Literal["endpoints", "success"]) -> str:
        value = self.model_dump(mode="json", by_alias=True, exclude_defaults=True).get(part, [])
        return json.dumps(value, separators=(",", ":"), sort_keys=True)

    @classmethod
    def of(cls, settings: Settings, root: Path, api: str) -> Self:
        """The scenario of the settings, the demo's where they are silent."""
        given: dict[str, Any] = {"api": api}
        if settings.demo:
            given = json.loads((DEMO_DIR / "scenario.json").read_text()) | given
        if settings.target_goal:
            given["goal"] = settings.target_goal
        if settings.target_endpoints:
            given["endpoints"] = settings.target_endpoints
        elif settings.target_openapi:
            given["endpoints"] = _openapi_endpoints(root / settings.target_openapi)
        if settings.target_success:
            given["success"] = settings.target_success
        return cls.model_validate(given)


def _read(setting: str, path: Path, what: str) -> str:
    """The text of a file that a setting names. Raises SettingsError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        line = f"{path}: {reason}. Name a readable {what} file, relative to the project."
        raise SettingsError([f"{config_key(setting)}: {line}"]) from None


def _openapi_endpoints(path: Path) -> list[Endpoint]:
    text = _read("targetOpenapi", path, "JSON or YAML")
    try:
        # JSON is YAML.
        found = openapi.endpoints(yaml.safe_load(text))
        return [Endpoint.model_validate(endpoint) for endpoint in found]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        line = f"{path}: {where}neither JSON nor YAML. Correct the file there."
    except openapi.OpenApiError as error:
        line = f"{path}: {error}"
    except ValidationError as error:
        line = f"{path}: " + "; ".join(f"{at} {why}" for at, why in _problems_of(error))
    raise SettingsError([f"{config_key('targetOpenapi')}: {line}"])


def gateway_config(settings: Settings, root: Path) -> tuple[str, str]:
    """(JSON text of the gateway's config, name of its first route).

    Raises SettingsError where the user's file cannot be read or breaks the contract.
    """
    if settings.gateway_config:
        text = _read("gatewayConfig", root / settings.gateway_config, "JSON")
    elif settings.demo:
        text = (DEMO_DIR / "gateway.json").read_text()
    else:
        route = {"name": "target", "base_url": settings.target}
        text = json.dumps({"routes": {"target": route}})
    try:
        config = load_gateway_config(text)
    except GatewayConfigError as error:
        name = settings.gateway_config or "the gateway's config"
        raise SettingsError([f"{config_key('gatewayConfig')}: {name}: {error}"]) from None
    api, first = next(iter(config.routes.items()))
    known = settings.demo or settings.target_endpoints or settings.target_openapi
    if not known and not first.endpoints:
        line = (
            f"is needed: route {api} of gatewayConfig, which the agents use, names no endpoints. "
            "Add them there, or set targetEndpoints or targetOpenapi."
        )
        raise SettingsError([f"{config_key('targetEndpoints')}: {line}"])
    return text, api


def model_recording(settings: Settings, root: Path) -> str | None:
    """Text of the recording; None where the model needs none.

    Raises SettingsError where the user's file cannot be read or is no recording.
    """
    if settings.model != "recorded":
        return None
    path = root / settings.model_recording
    try:
        text = path.read_text("utf-8")
        load_recording(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        line = f"{path}: {reason}. Name a readable file, relative to the project."
        raise SettingsError([f"{config_key('modelRecording')}: {line}"]) from None
    except RecordingError as error:
        raise SettingsError(
            [f"{config_key('modelRecording')}: {settings.model_recording}: {error}"]
        ) from None
    return text
