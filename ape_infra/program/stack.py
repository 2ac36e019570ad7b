"""The whole stack, declared from its settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pulumi

from ape_infra.config import upload
from ape_infra.config.credentials import Credentials
from ape_infra.config.document import operations_file
from ape_infra.config.files import (
    Scenario,
    SignIn,
    gateway_config,
    model_ca,
    model_recording,
    target_host,
    target_url,
)
from ape_infra.config.name_key import NameKey
from ape_infra.config.project import SOURCE_ROOT, config_key
from ape_infra.config.provider import key_note
from ape_infra.config.report_key import ReportKey
from ape_infra.config.secrets import AGENT_TOKEN, TARGET_CREDENTIALS
from ape_infra.config.settings import Settings
from ape_infra.planning.plan import Plan
from ape_infra.planning.services import deployed
from ape_infra.program.components import observability
from ape_infra.program.components.agents import AgentFleet, Mission, credentials_file
from ape_infra.program.components.demo_target import DemoTarget
from ape_infra.program.components.deployment import Deployment
from ape_infra.program.components.gateway import Gateway
from ape_infra.program.components.images import Images
from ape_infra.program.components.monitor import Monitor
from ape_infra.program.components.networks import Networks
from ape_infra.program.components.proxy import InferenceProxy, model_files, token_file
from ape_infra.program.runtimes import DockerRuntime, SwarmRuntime
from ape_infra.program.runtimes.base import Context

FORGEABLE = (
    "reports: without a model key or a passphrase, an agent that is taken over can compute the "
    "tokens of other agents' reports. Set PULUMI_CONFIG_PASSPHRASE."
)
GUESSABLE = (
    "{0}: is not set, and there is neither a model key nor a passphrase. Names of secrets contain "
    "digests, from which a simple password can be guessed. Set it with: pulumi config set "
    "--secret {0} $(openssl rand -hex 32)"
)


def declare(
    settings: Settings,
    *,
    project: str,
    stack: str,
    root: Path,
    secrets: Mapping[str, pulumi.Output[str]],
    agent_token: str,
    name_key: NameKey,
    report_key: ReportKey,
    credentials: Credentials,
    opts: pulumi.ResourceOptions,
) -> dict[str, pulumi.Input[object]]:
    """Register every resource of the stack; returns its outputs.

    `secrets`: those that are set. `agent_token` is a secret, but plain here, so that a preview
    knows the names made of its hash. `name_key`: of those names. `report_key`: of the agents'
    reports. `credentials`: what is known of that secret. Raises SettingsError.
    """
    config, api = gateway_config(settings, root)
    token = token_file(agent_token)
    files = model_files(
        settings.model,
        secrets,
        ca=model_ca(settings, root),
        recording=model_recording(settings, root),
    )
    sign_in = sign_in_of(settings, root, credentials, target_url(config, api))
    mission = Mission(
        settings.fleet,
        settings.model,
        Scenario.of(settings, root, api),
        token,
        report_key.value,
        target_host(config, api),
        settings.target.redirects,
        sign_in,
        credentials_file(sign_in, secrets),
    )
    deployment = prepare(
        settings, project=project, stack=stack, root=root, name_key=name_key, opts=opts
    )

    gateway = gateway_of(settings, root, deployment, config, report_key)
    proxy = InferenceProxy("proxy", deployment, settings.model, {"token_file": token, **files})
    ready = [*gateway.ready, *proxy.ready]
    monitors: list[pulumi.Resource] = []
    if settings.target.is_demo:
        ready += DemoTarget("target", deployment, faults=not settings.platform.production).ready
    if settings.observability.monitored:
        logs = settings.observability.mode == "full"
        monitors += Monitor("monitor", deployment, settings.alerting, logs=logs).ready
    observability.declare(settings, secrets, deployment, monitors=monitors)
    AgentFleet("agents", deployment, mission, after=ready)

    log_notes(settings, deployment.plan, secrets)
    named = name_key.guessable and bool(secrets or settings.target.gateway_config)
    log_guessable(names=named, reports=report_key.guessable)
    return outputs(settings, deployment, agent_token)


def gateway_of(
    settings: Settings, root: Path, deployment: Deployment, config: str, key: ReportKey
) -> Gateway:
    """Register the gateway with the files that it serves. Raises SettingsError."""
    return Gateway(
        "gateway",
        deployment,
        config,
        settings,
        key.value,
        operations_file(settings, root),
        upload.content(settings, root, config),
    )


def prepare(
    settings: Settings,
    *,
    project: str,
    stack: str,
    root: Path,
    name_key: NameKey,
    opts: pulumi.ResourceOptions,
) -> Deployment:
    """Register the images and networks, which the services need."""
    plan = settings.plan(stack)
    context = Context(project, stack, name_key, settings.ports, settings.rollout, settings.platform)
    runtime = (
        DockerRuntime(context) if settings.platform.runtime == "docker" else SwarmRuntime(context)
    )
    services = deployed(
        demo_target=settings.target.is_demo, monitor=settings.observability.monitored
    )
    images = Images(
        "images", services, root=root, source_root=SOURCE_ROOT, settings=settings.images, opts=opts
    )
    networks = Networks("networks", runtime, plan, pool=settings.platform.network_pool, opts=opts)
    return Deployment(plan, settings.ports, runtime, images, networks, opts)


def outputs(
    settings: Settings, deployment: Deployment, agent_token: str
) -> dict[str, pulumi.Input[object]]:
    plan, runtime = deployment.plan, deployment.runtime
    return {
        "agents": plan.agents,
        "agentContainers": plan.containers,
        "runtime": settings.platform.runtime,
        "tier": plan.tier.label,
        "agentMemoryMb": plan.tier.memory_mb,
        "agentCpus": plan.tier.cpus,
        "totalMemoryMb": plan.resources.memory_mb,
        "totalCpus": plan.resources.cpus,
        "endpoints": {
            setting.removesuffix("Port"): runtime.endpoint(port)
            for setting, port in settings.published_ports.items()
        },
        "agentToken": pulumi.Output.secret(agent_token),
    }


def log_guessable(*, names: bool, reports: bool) -> None:
    if names:
        pulumi.log.warn(GUESSABLE.format(config_key(AGENT_TOKEN)))
    if reports:
        pulumi.log.warn(FORGEABLE)


def sign_in_of(settings: Settings, root: Path, credentials: Credentials, target: str) -> SignIn:
    """As SignIn.of; logs why credentials are of no use."""
    found = SignIn.of(settings, root, credentials, target)
    if found.problem:
        pulumi.log.warn(f"{config_key(TARGET_CREDENTIALS)}: {found.problem}")
    return found


def log_notes(settings: Settings, plan: Plan, secrets: Collection[str]) -> None:
    """What a person should know at a preview and cannot see from the list of resources."""
    pulumi.log.info(
        f"{plan.summary}. At most {settings.rollout.parallelism} containers of agents start or "
        "change at a time."
    )
    if note := key_note(settings.model, secrets):
        pulumi.log.info(note)
    if plan.health_interval_seconds is None:
        pulumi.log.info(
            "At this fleet size agents have no health checks; the gateway counts their heartbeats."
        )
    if settings.platform.runtime == "swarm":
        pulumi.log.info(
            "swarm: no-new-privileges has no field in a service; set it in daemon.json. "
            "Ports are published only with an exposeAddress other than loopback."
        )
