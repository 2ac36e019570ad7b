"""The whole stack, declared from its settings."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi_docker as docker

from ape_infra import plan as planning
from ape_infra.components.agents import AgentFleet, AgentFleetArgs
from ape_infra.components.demo_target import DemoTarget, DemoTargetArgs
from ape_infra.components.gateway import Gateway, GatewayArgs
from ape_infra.components.images import Images
from ape_infra.components.metrics import Metrics, MetricsArgs
from ape_infra.components.networks import Networks
from ape_infra.components.proxy import InferenceProxy, InferenceProxyArgs
from ape_infra.runtimes import DockerRuntime, Runtime, SwarmRuntime
from ape_infra.runtimes.base import Context, UpdatePolicy
from ape_infra.settings import Scenario, Settings, gateway_config
from ape_infra.workload import Logs


def declare(
    settings: Settings,
    *,
    project: str,
    stack: str,
    root: Path,
    cerebras_api_key: pulumi.Output[str] | None,
) -> dict[str, pulumi.Input[object]]:
    """Register every resource of the stack; returns the stack's outputs."""
    plan = settings.plan(stack)
    config, api = gateway_config(settings, root)
    scenario = Scenario.of(settings, root, api)
    logs = Logs(settings.log_max_size, settings.log_max_files, settings.log_compress)
    provider = docker.Provider("docker", host=settings.docker_host or None)
    opts = pulumi.ResourceOptions(providers={"docker": provider})
    context = Context(
        project=project,
        stack=stack,
        expose_address=settings.expose_address,
        update=UpdatePolicy(
            settings.update_parallelism,
            settings.update_delay_seconds,
            settings.update_monitor_seconds,
            settings.update_rollback,
        ),
        protect_data=settings.production,
    )
    runtime: Runtime = (
        DockerRuntime(context) if settings.runtime == "docker" else SwarmRuntime(context)
    )

    services = ("gateway", "proxy", "agent") + (("demo_target",) if settings.demo else ())
    images = Images(
        "images",
        services,
        root=root,
        base_image=settings.base_image,
        registry=settings.registry,
        given={str(k): v for k, v in (settings.images or {}).items()},
        opts=opts,
    )
    networks = Networks("networks", runtime, plan, pool=settings.network_pool, opts=opts)

    def after(*waits: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=list(waits)))

    gateway = Gateway(
        "gateway",
        GatewayArgs(images.names["gateway"], config, settings.gateway_port, plan, logs),
        runtime,
        networks,
        after(*images.built("gateway")),
    )
    proxy = InferenceProxy(
        "proxy",
        InferenceProxyArgs(
            image=images.names["proxy"],
            model=settings.model,
            model_name=settings.model_name,
            model_base_url=settings.model_base_url,
            api_key=cerebras_api_key,
            port=settings.proxy_port,
            plan=plan,
            logs=logs,
        ),
        runtime,
        networks,
        after(*images.built("proxy")),
    )
    ready = [*gateway.ready, *proxy.ready]
    endpoints = {
        "gateway": runtime.endpoint(settings.gateway_port),
        "proxy": runtime.endpoint(settings.proxy_port),
    }
    if settings.demo:
        target = DemoTarget(
            "target",
            DemoTargetArgs(
                images.names["demo_target"],
                settings.target_port,
                faults=not settings.production,
                logs=logs,
            ),
            runtime,
            networks,
            after(*images.built("demo_target")),
        )
        ready += target.ready
        endpoints["target"] = runtime.endpoint(settings.target_port)
    if settings.observability != "off":
        Metrics(
            "metrics",
            MetricsArgs(settings.prometheus_image, settings.prometheus_port, project, stack, logs),
            runtime,
            networks,
            opts,
        )
        endpoints["prometheus"] = runtime.endpoint(settings.prometheus_port)
    AgentFleet(
        "agents",
        AgentFleetArgs(
            image=images.names["agent"],
            stack=stack,
            plan=plan,
            scenario=scenario,
            model_name=settings.model_name,
            test_duration_seconds=settings.test_duration_seconds,
            think_time_seconds=settings.think_time_seconds,
            logs=logs,
        ),
        runtime,
        networks,
        after(*images.built("agent"), *ready),
    )
    tell(settings, plan)
    return {
        "agents": plan.agents,
        "runtime": settings.runtime,
        "tier": plan.tier.label,
        "agentMemoryMb": plan.tier.memory_mb,
        "agentCpus": plan.tier.cpus,
        "totalMemoryMb": plan.resources.memory_mb,
        "totalCpus": plan.resources.cpus,
        "endpoints": endpoints,
    }


def tell(settings: Settings, plan: planning.Plan) -> None:
    """What a person should know at a preview and cannot see from the list of resources."""
    pulumi.log.info(
        f"{plan.summary}. Agents start and change at most {settings.update_parallelism} at a time."
    )
    if plan.health_interval_seconds is None:
        pulumi.log.info(
            "A fleet of this size carries no health check an agent; the gateway counts heartbeats."
        )
    if settings.observability == "full":
        pulumi.log.warn(
            "observability full: Prometheus is declared; Grafana, Loki and Alloy are not part of "
            "this version yet. Their memory is kept free in the plan."
        )
    if settings.runtime == "swarm":
        pulumi.log.info(
            "swarm: no-new-privileges has no field in a service; set it in daemon.json. "
            "Ports are published only with an exposeAddress other than loopback."
        )
