"""Rules that relate settings to each other, across the groups."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator

from ape_infra.config import provider, run_rules
from ape_infra.config.addresses import container_url_problems
from ape_infra.config.errors import Problem, missing_secret, url_problems
from ape_infra.config.openapi.selection import is_selector
from ape_infra.config.secrets import (
    GRAFANA_PASSWORD,
    SLACK_URL,
    SMTP_PASSWORD,
    TARGET_CREDENTIALS,
)
from ape_infra.config.settings import Settings
from ape_infra.config.sign_in import needed, plain
from ape_infra.planning import plan as planning
from ape_infra.planning import tiers
from ape_infra.planning.tiers import MAX_AGENTS
from monitoring.thresholds import ThresholdError

_PAGE_SUCCESS = '{"method": "GET", "path": "/", "status": 200}'
_TOOL_SUCCESS = (
    '{"method": "POST", "path": "/tools/NAME", "status": 200} with the name of a tool '
    "(/tools/{name} stands for any)"
)


def problems(settings: Settings, secrets: Collection[str]) -> list[Problem]:
    """Each broken rule as (path, sentence). `secrets` has the names of those that are set."""
    return [
        *(tiers.problems(settings.fleet.tier_table) if settings.fleet.tiers else ()),
        *_target(settings),
        *_sign_in(settings, secrets),
        *_sessions(settings),
        *_model(settings, secrets),
        *run_rules.problems(settings),
        *_platform(settings, secrets),
        *_nodes(settings),
        *_ports(settings),
        *_thresholds(settings),
        *_images(settings),
        *_observability(settings, secrets),
        *_alerting(settings, secrets),
    ]


def _target(settings: Settings) -> Iterator[Problem]:
    target = settings.target
    if not target.is_demo:
        yield from container_url_problems(
            "target",
            target.http_url,
            "or demo for the demo target",
            credentials="Put them into auth.headers of a gateway config, and set gatewayConfig.",
            swarm=settings.platform.runtime == "swarm",
        )
        endpoints = target.is_mcp or target.endpoints or target.openapi or target.gateway_config
        for name, value, example in (
            ("targetGoal", target.goal, '"Order one product."'),
            (
                "targetEndpoints",
                endpoints,
                '[{"method": "GET", "path": "/"}], or targetOpenapi, or gatewayConfig',
            ),
            ("targetSuccess", target.success, _TOOL_SUCCESS if target.is_mcp else _PAGE_SUCCESS),
        ):
            if not value:
                yield name, f"is required unless target is demo. Set it, for example to {example}."
    if target.is_mcp:
        for name, value in (
            ("targetOpenapi", target.openapi),
            ("targetEndpoints", target.endpoints),
        ):
            if value:
                yield name, "is set, but target is an MCP server, which lists its tools. Remove it."
    elif target.openapi and target.endpoints:
        yield "targetOpenapi", "is set, and so is targetEndpoints. Remove one of the two."
    for name, selectors in (("targetInclude", target.include), ("targetExclude", target.exclude)):
        if selectors and not target.openapi:
            yield name, "is set, but targetOpenapi is not. Set both, or neither."
        for at, text in enumerate(selectors):
            if not is_selector(text):
                yield (
                    f"{name}[{at}]",
                    f'is "{text}", which is not a selector. Write tag:NAME, id:OPERATION_ID, '
                    "/path/*, a method such as DELETE, DELETE /path/*, or deprecated.",
                )
    if target.success:
        yield from target.success.problems()
    if target.upload:
        yield from target.upload.problems()


def _sign_in(settings: Settings, secrets: Collection[str]) -> Iterator[Problem]:
    steps = settings.target.sign_in
    found = [p for at, step in enumerate(steps) for p in step.problems(f"targetSignIn[{at}]")]
    yield from found
    # Columns of a users file may suffice: files.SignIn knows them.
    by_users = settings.run.users and settings.run.sessions == "runs"
    missing = not by_users and TARGET_CREDENTIALS not in secrets
    if not found and missing and needed(plain(steps)):
        yield missing_secret(TARGET_CREDENTIALS, "targetSignIn is set")


def _sessions(settings: Settings) -> Iterator[Problem]:
    fleet = settings.fleet
    if fleet.think_time_seconds >= fleet.session_max_seconds:
        yield (
            "sessionMaxSeconds",
            f"is {fleet.session_max_seconds}, which does not exceed one pause "
            f"(thinkTimeSeconds {fleet.think_time_seconds}). Raise it.",
        )


def _model(settings: Settings, secrets: Collection[str]) -> Iterator[Problem]:
    model = settings.model
    swarm = settings.platform.runtime == "swarm"
    yield from provider.problems(model, secrets, swarm=swarm)
    yield from provider.spending(model, secrets, production=settings.platform.production)
    if model.kind == "recorded" and not model.recording:
        yield (
            "modelRecording",
            "is empty, but required because model is recorded. Set the path of a recording.",
        )
    if model.kind == "recorded" and model.record:
        yield "modelRecord", "is true, but model is recorded. Record the answers of a real model."


def _platform(settings: Settings, secrets: Collection[str]) -> Iterator[Problem]:
    if settings.platform.production and GRAFANA_PASSWORD not in secrets:
        yield missing_secret(GRAFANA_PASSWORD, "production is true")
    address = settings.ports.expose_address
    try:
        ipaddress.ip_address(address)
    except ValueError:
        yield (
            "exposeAddress",
            f'is "{address}", which is not an IP address. Set 127.0.0.1, for example.',
        )
    fleet = settings.fleet
    try:
        # The table of tiers may be invalid; another rule checks it.
        covering = (t for t in fleet.tier_table if t.min_agents <= fleet.size <= t.max_agents)
        largest = min(MAX_AGENTS, max((t.max_agents for t in covering), default=fleet.size))
        networks = planning.networks(largest, fleet.agents_per_container)
        planning.subnet(settings.platform.network_pool, 2 + len(networks))
    except ValueError as error:
        yield "networkPool", f"{error}. Set a private network such as 10.213.0.0/16."


# As `docker service create --constraint` takes them.
_CONSTRAINT = re.compile(r"(node|engine)\.[A-Za-z0-9_.-]+\s*[!=]=\s*[A-Za-z0-9_.:/-]+")


def _nodes(settings: Settings) -> Iterator[Problem]:
    platform = settings.platform
    placements = {
        "agentPlacement": platform.agent_placement,
        "servicePlacement": platform.service_placement,
    }
    for name, constraints in placements.items():
        for at, text in enumerate(constraints):
            if not _CONSTRAINT.fullmatch(text):
                yield (
                    f"{name}[{at}]",
                    f'is "{text}", which is not a constraint. Write node.labels.NAME==VALUE, '
                    "node.role==worker or node.hostname!=NAME, for example.",
                )
    if platform.runtime != "swarm":
        for name, value in (placements | {"dataNode": platform.data_node}).items():
            if value:
                yield name, "is set, but runtime is docker. Remove it, or set runtime to swarm."
    if settings.images.registry_login and not settings.images.registry:
        yield "registryLogin", "is true, but registry is empty. Set the registry's address."


def _ports(settings: Settings) -> Iterator[Problem]:
    ports = settings.ports
    used = {
        "gatewayPort": ports.gateway,
        "proxyPort": ports.proxy,
        "targetPort": ports.target,
        **settings.part_ports,
        "monitorPort": ports.monitor,
    }
    seen: dict[int, str] = {}
    for name, port in used.items():
        if port in seen:
            yield name, f"is {port}, the same as {seen[port]}. Set different ports."
        seen[port] = name


def _thresholds(settings: Settings) -> Iterator[Problem]:
    try:
        _ = settings.alerting.thresholds
    except ThresholdError as error:
        for at, sentence in error.problems:
            yield f"alertThresholds.{at}", sentence


def _images(settings: Settings) -> Iterator[Problem]:
    for name, image in settings.part_images.items():
        if not re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", image):
            yield name, "has no version. Add a tag or a digest."


def _observability(settings: Settings, secrets: Collection[str]) -> Iterator[Problem]:
    observability = settings.observability
    selected = observability.selected_parts
    if selected and "prometheus" not in selected:
        yield "observabilityParts", "lacks prometheus, which the other components require. Add it."
    store = observability.log_store
    for other in planning.LOG_STORES:
        if other in selected and other != store:
            yield (
                "observabilityParts",
                f"has {other}, but logStore is {store}. Replace {other} by {store}, or set "
                f"logStore to {other}.",
            )
    if "alloy" in selected and store not in selected:
        yield "observabilityParts", f"has alloy without {store}. Add {store}, or remove alloy."
    if "alloy" in observability.parts and not observability.monitored:
        yield (
            "monitor",
            "is off, but alloy reads logs through the monitor's socket proxy. Set it to container.",
        )
    if "grafana" in observability.parts and not settings.platform.production:
        if GRAFANA_PASSWORD not in secrets:
            yield missing_secret(GRAFANA_PASSWORD, "Grafana is deployed")


def _alerting(settings: Settings, secrets: Collection[str]) -> Iterator[Problem]:
    alerting = settings.alerting
    for name, url in (
        ("remoteWriteUrl", settings.observability.remote_write_url),
        ("alertWebhookUrl", alerting.webhook_url),
        ("alertWatchdogUrl", alerting.watchdog_url),
    ):
        if url:
            yield from url_problems(name, url, "or leave it empty")
    if alerting.slack_channel and SLACK_URL not in secrets:
        yield missing_secret(SLACK_URL, "alertSlackChannel is set")
    if alerting.email_to:
        for name, value in (
            ("alertEmailFrom", alerting.email_from),
            ("alertSmtpHost", alerting.smtp_host),
        ):
            if not value:
                yield name, "is required with alertEmailTo. Set it."
    if alerting.smtp_host and not re.fullmatch(r"[^\s:/]+:[0-9]+", alerting.smtp_host):
        yield "alertSmtpHost", "is not host:port. Set smtp.example:587, for example."
    if alerting.smtp_user and SMTP_PASSWORD not in secrets:
        yield missing_secret(SMTP_PASSWORD, "alertSmtpUser is set")
