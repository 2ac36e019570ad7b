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

from ape_common.gateway_config import GatewayConfigError
from ape_common.gateway_config import load as load_gateway_config
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ape_infra import plan as planning
from ape_infra.tiers import DEFAULT_TIERS, MAX_AGENTS, Tier, problems

PROJECT = "ape"
CEREBRAS_API_KEY = "cerebrasApiKey"
GRAFANA_PASSWORD = "grafanaPassword"
SECRETS = {
    CEREBRAS_API_KEY: "Key of the Cerebras API; needed with model cerebras.",
    GRAFANA_PASSWORD: "Password of Grafana's admin user; needed in production.",
}
DEMO_TARGET = "demo"
DEMO_DIR = Path("services/demo_target")
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


class Success(_Model):
    """A session succeeds when the answer to `method` `path` has `status`, and `json_path`."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(pattern=r"^/")
    status: int = Field(ge=100, le=599)
    json_path: str | None = Field(default=None, alias="json_path")


PortNumber = Annotated[int, Field(ge=1, le=65535)]


class Settings(_Model):
    """What a stack can set. Field names are the keys of the stack config in camelCase."""

    agents: int = Field(5, ge=1, le=MAX_AGENTS, description="Number of agents, 1 to 2000.")
    runtime: Literal["docker", "swarm"] = Field(
        "docker", description="docker: one container an agent. swarm: one service a shard."
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
        "description, body; empty: the demo's (demo only).",
    )
    target_success: Success | None = Field(
        None,
        description="The answer that makes a session a success: method, path, status, json_path; "
        "empty: the demo's (demo only).",
    )
    test_duration_seconds: int = Field(
        0, ge=0, description="Length of the test in seconds; 0: until the stack is taken down."
    )
    think_time_seconds: int = Field(
        1, ge=0, le=600, description="Pause of an agent between two steps, in seconds."
    )
    gateway_config: str = Field(
        "", description="Path of the gateway's JSON config; empty: one route to the target."
    )
    model: Literal["offline", "cerebras"] = Field(
        "offline", description="offline: a deterministic stand-in. cerebras: the real model."
    )
    model_base_url: str = Field(
        "https://api.cerebras.ai/v1", description="Base URL of the OpenAI-compatible API."
    )
    model_name: str = Field("llama-3.3-70b", min_length=1, description="Name of the model.")
    tiers: list[TierRow] = Field(
        [],
        description="Limits by fleet size: minAgents, maxAgents, memoryMb, cpus; "
        "empty: the seed's table.",
    )
    update_parallelism: int = Field(
        10, ge=1, le=100, description="Agents that start or change at the same time, at most."
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
    network_pool: str = Field(
        "10.213.0.0/16", description="Addresses from which the networks take their subnets (/22)."
    )
    observability: planning.Observability = Field(
        "metrics", description="off, metrics (Prometheus), or full."
    )
    registry: str = Field(
        "", description="Registry to which the images are pushed; empty: built locally only."
    )
    images: dict[Literal["gateway", "proxy", "agent", "demo_target"], str] | None = Field(
        None,
        description="Images to use as they are, by service (gateway, proxy, agent, demo_target); "
        "empty: built from services/.",
    )
    base_image: str = Field("python:3.11-slim", description="Base image of the services.")
    prometheus_image: str = Field(
        "prom/prometheus:v2.42.0", description="Image of Prometheus, with its version."
    )
    production: bool = Field(
        False, description="Refuse what is only a warning in development; need the secrets."
    )
    allow_overcommit: bool = Field(
        False, description="Allow a plan larger than the machine, also in production."
    )

    @property
    def tier_table(self) -> tuple[Tier, ...]:
        rows = tuple(Tier(t.min_agents, t.max_agents, t.memory_mb, t.cpus) for t in self.tiers)
        return rows or DEFAULT_TIERS

    @property
    def demo(self) -> bool:
        return self.target == DEMO_TARGET

    def plan(self, stack: str) -> planning.Plan:
        return planning.make_plan(
            self.agents,
            stack=stack,
            tiers=self.tier_table,
            observability=self.observability,
            demo_target=self.demo,
        )

    def problems(self, secrets: Collection[str]) -> list[tuple[str, str]]:
        """Broken rules between settings, as (path, sentence)."""
        found = list(problems(self.tier_table)) if self.tiers else []
        if not self.demo:
            found += _url_problems("target", self.target, "or demo for the shop of this project")
            for name, value, example in (
                ("targetGoal", self.target_goal, '"Order one product."'),
                ("targetEndpoints", self.target_endpoints, '[{"method": "GET", "path": "/"}]'),
                (
                    "targetSuccess",
                    self.target_success,
                    '{"method": "GET", "path": "/", "status": 200}',
                ),
            ):
                if not value:
                    found.append((name, f"is needed with a target of your own, e.g. {example}."))
        found += _url_problems("modelBaseUrl", self.model_base_url, "such as that of Cerebras")
        if self.model == "cerebras" and CEREBRAS_API_KEY not in secrets:
            found.append(_missing_secret(CEREBRAS_API_KEY, "model is cerebras"))
        if self.production and GRAFANA_PASSWORD not in secrets:
            found.append(_missing_secret(GRAFANA_PASSWORD, "production is true"))
        try:
            ipaddress.ip_address(self.expose_address)
        except ValueError:
            found.append(
                ("exposeAddress", f'is "{self.expose_address}", not an IP address. Try 127.0.0.1.')
            )
        try:
            planning.subnet(self.network_pool, 2 + len(planning.shards(self.agents)))
        except ValueError as error:
            found.append(("networkPool", f"{error}. Give a private network such as 10.213.0.0/16."))
        ports = {
            "gatewayPort": self.gateway_port,
            "proxyPort": self.proxy_port,
            "targetPort": self.target_port,
            "prometheusPort": self.prometheus_port,
        }
        seen: dict[int, str] = {}
        for name, port in ports.items():
            if port in seen:
                found.append((name, f"is {port}, as {seen[port]} is. Give each its own port."))
            seen[port] = name
        if not re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", self.prometheus_image):
            found.append(("prometheusImage", "names no version. Add a tag or a digest."))
        return found


def _missing_secret(name: str, why: str) -> tuple[str, str]:
    return (
        name,
        f"is not set, and {why}. Set it with: pulumi config set --secret {PROJECT}:{name}",
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
    return [f"{PROJECT}:{path}: {sentence}" for path, sentence in found]


class Scenario(_Model):
    """What an agent is told: the goal, the endpoints of route `api`, and what success is."""

    goal: str
    api: str
    endpoints: list[Endpoint]
    success: Success

    def dumped(self, part: Literal["endpoints", "success"]) -> str:
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True)[part]
        return json.dumps(value, separators=(",", ":"), sort_keys=True)

    @classmethod
    def of(cls, settings: Settings, root: Path, api: str) -> Self:
        """The scenario of the settings, the demo's where they are silent."""
        given: dict[str, Any] = {"api": api}
        if settings.demo:
            given = json.loads((root / DEMO_DIR / "scenario.json").read_text()) | given
        if settings.target_goal:
            given["goal"] = settings.target_goal
        if settings.target_endpoints:
            given["endpoints"] = settings.target_endpoints
        if settings.target_success:
            given["success"] = settings.target_success
        return cls.model_validate(given)


def gateway_config(settings: Settings, root: Path) -> tuple[str, str]:
    """(JSON text of the gateway's config, name of its first route).

    Raises SettingsError where the user's file cannot be read or breaks the contract.
    """
    if settings.gateway_config:
        path = root / settings.gateway_config
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8 text"
            line = f"{path}: {reason}. Name a readable JSON file, relative to the project."
            raise SettingsError([f"{PROJECT}:gatewayConfig: {line}"]) from None
    elif settings.demo:
        text = (root / DEMO_DIR / "gateway.json").read_text()
    else:
        route = {"name": "target", "base_url": settings.target}
        text = json.dumps({"routes": {"target": route}})
    try:
        config = load_gateway_config(text)
    except GatewayConfigError as error:
        name = settings.gateway_config or "the gateway's config"
        raise SettingsError([f"{PROJECT}:gatewayConfig: {name}: {error}"]) from None
    return text, next(iter(config.routes))
