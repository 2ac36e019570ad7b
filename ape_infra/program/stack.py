"""The whole stack, declared from its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pulumi

from ape_infra.config.files import Scenario, gateway_config, model_recording
from ape_infra.config.project import SOURCE_ROOT
from ape_infra.config.secrets import CEREBRAS_API_KEY
from ape_infra.config.settings import Settings
from ape_infra.planning import plan as planning
from ape_infra.program.components import observability
from ape_infra.program.components.agents import AgentFleet, AgentFleetArgs
from ape_infra.program.components.demo_target import DemoTarget, DemoTargetArgs
from ape_infra.program.components.gateway import Gateway, GatewayArgs
from ape_infra.program.components.images import Images
from ape_infra.program.components.monitor import Monitor, MonitorArgs
from ape_infra.program.components.networks import Networks
from ape_infra.program.components.proxy import InferenceProxy, InferenceProxyArgs, token_file
from ape_infra.program.runtimes import DockerRuntime, Runtime, SwarmRuntime
from ape_infra.program.runtimes.base import Context, UpdatePolicy
from ape_infra.program.workload import Logs


def declare(
    settings: Settings,
    *,
    provider: pulumi.ProviderResource,
    project: str,
    stack: str,
    root: Path,
    secrets: Mapping[str, pulumi.Output[str]],
    agent_token: str,
) -> dict[str, pulumi.Input[object]]:
    """Register every resource of the stack; returns its outputs.

    `secrets`: those that are set. `agent_token` is a secret, but plain here: so the names made of
    its hash are plain too, and a preview knows them.
    """
    plan = settings.plan(stack)
    config, api = gateway_config(settings, root)
    recording = model_recording(settings, root)
    token = token_file(agent_token)
    scenario = Scenario.of(settings, root, api)
    logs = Logs(
        settings.platform.log_max_size,
        settings.platform.log_max_files,
        settings.platform.log_compress,
    )
    opts = pulumi.ResourceOptions(providers={"docker": provider})
    context = Context(
        project=project,
        stack=stack,
        expose_address=settings.ports.expose_address,
        update=UpdatePolicy(
            settings.rollout.parallelism,
            settings.rollout.delay_seconds,
            settings.rollout.monitor_seconds,
            settings.rollout.rollback,
        ),
        protect_data=settings.platform.production,
    )
    runtime: Runtime = (
        DockerRuntime(context) if settings.platform.runtime == "docker" else SwarmRuntime(context)
    )

    services = ("gateway", "proxy", "agent") + (("demo_target",) if settings.target.is_demo else ())
    services += ("monitor", "socket_proxy") if settings.observability.monitored else ()
    images = Images(
        "images",
        services,
        root=root,
        source_root=SOURCE_ROOT,
        base_image=settings.images.base,
        registry=settings.images.registry,
        given={str(k): v for k, v in (settings.images.given or {}).items()},
        opts=opts,
    )
    networks = Networks("networks", runtime, plan, pool=settings.platform.network_pool, opts=opts)

    def after(*waits: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=list(waits)))

    gateway = Gateway(
        "gateway",
        GatewayArgs(images.names["gateway"], config, settings.ports.gateway, plan, logs),
        runtime,
        networks,
        after(*images.built("gateway")),
    )
    proxy = InferenceProxy(
        "proxy",
        InferenceProxyArgs(
            image=images.names["proxy"],
            model=settings.model.kind,
            model_name=settings.model.name,
            model_base_url=settings.model.base_url,
            api_key=secrets.get(CEREBRAS_API_KEY),
            token=token,
            recording=recording,
            record=settings.model.record,
            requests_per_minute=settings.model.requests_per_minute,
            tokens_per_minute=settings.model.tokens_per_minute,
            queue_seconds=settings.model.queue_seconds,
            retries=settings.model.retries,
            input_price=settings.model.input_price,
            output_price=settings.model.output_price,
            port=settings.ports.proxy,
            plan=plan,
            logs=logs,
        ),
        runtime,
        networks,
        after(*images.built("proxy")),
    )
    ready = [*gateway.ready, *proxy.ready]
    endpoints = {
        "gateway": runtime.endpoint(settings.ports.gateway),
        "proxy": runtime.endpoint(settings.ports.proxy),
    }
    if settings.target.is_demo:
        target = DemoTarget(
            "target",
            DemoTargetArgs(
                images.names["demo_target"],
                settings.ports.target,
                faults=not settings.platform.production,
                logs=logs,
            ),
            runtime,
            networks,
            after(*images.built("demo_target")),
        )
        ready += target.ready
        endpoints["target"] = runtime.endpoint(settings.ports.target)
    watched: list[pulumi.Resource] = []
    if settings.observability.monitored:
        watcher = Monitor(
            "monitor",
            MonitorArgs(
                image=images.names["monitor"],
                proxy_image=images.names["socket_proxy"],
                project=project,
                stack=stack,
                docker_host=settings.platform.docker_host or os.environ.get("DOCKER_HOST", ""),
                port=settings.ports.monitor,
                thresholds=settings.alerting.threshold_overrides or {},
                logs_by_proxy=settings.observability.mode == "full",
                logs=logs,
            ),
            runtime,
            networks,
            after(*images.built("monitor"), *images.built("socket_proxy")),
        )
        watched += watcher.ready
        endpoints["monitor"] = runtime.endpoint(settings.ports.monitor)
    endpoints |= observability.declare(
        settings, secrets, runtime, networks, logs, opts, watched=watched
    )
    AgentFleet(
        "agents",
        AgentFleetArgs(
            image=images.names["agent"],
            plan=plan,
            scenario=scenario,
            model_name=settings.model.name,
            token=token,
            persona=settings.fleet.persona,
            test_duration_seconds=settings.fleet.test_duration_seconds,
            think_time_seconds=settings.fleet.think_time_seconds,
            ramp_seconds=settings.fleet.ramp_seconds,
            session_max_steps=settings.fleet.session_max_steps,
            session_max_seconds=settings.fleet.session_max_seconds,
            logs=logs,
        ),
        runtime,
        networks,
        ready,
        after(*images.built("agent")),
    )
    log_notes(settings, plan)
    return {
        "agents": plan.agents,
        "agentContainers": plan.containers,
        "runtime": settings.platform.runtime,
        "tier": plan.tier.label,
        "agentMemoryMb": plan.tier.memory_mb,
        "agentCpus": plan.tier.cpus,
        "totalMemoryMb": plan.resources.memory_mb,
        "totalCpus": plan.resources.cpus,
        "endpoints": endpoints,
        "agentToken": pulumi.Output.secret(agent_token),
    }


def log_notes(settings: Settings, plan: planning.Plan) -> None:
    """What a person should know at a preview and cannot see from the list of resources."""
    pulumi.log.info(
        f"{plan.summary}. At most {settings.rollout.parallelism} containers of agents start or "
        "change at a time."
    )
    if plan.health_interval_seconds is None:
        pulumi.log.info(
            "A fleet of this size carries no health check an agent; the gateway counts heartbeats."
        )
    if settings.platform.runtime == "swarm":
        pulumi.log.info(
            "swarm: no-new-privileges has no field in a service; set it in daemon.json. "
            "Ports are published only with an exposeAddress other than loopback."
        )
