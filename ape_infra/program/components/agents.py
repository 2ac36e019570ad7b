"""The fleet: N agents in shards of containers, each agent with the limits of the fleet's tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_contracts import labels
from ape_infra.config.files import Scenario
from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components import gateway, proxy
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import Networks
from ape_infra.program.workload import Attachment, File, Health, Logs, Slots, Workload

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

SERVICE = services.AGENT
HEARTBEAT = "/tmp/heartbeat"  # noqa: S108 - a tmpfs of the container's own
STOP_GRACE_SECONDS = 15


@dataclass(frozen=True)
class AgentFleetArgs:
    image: str
    plan: planning.Plan
    scenario: Scenario
    model_name: str
    token: File
    persona: str
    test_duration_seconds: int
    think_time_seconds: int
    ramp_seconds: int
    session_max_steps: int
    session_max_seconds: int
    logs: Logs


def health(plan: planning.Plan) -> Health | None:
    """The container touches a file while its loop turns and its peers are there; the check reads

    its age, without starting Python.
    """
    interval = plan.health_interval_seconds
    if interval is None:
        return None
    fresh = f"test -n \"$(find {HEARTBEAT} -newermt '-30 seconds' 2>/dev/null)\""
    return Health(
        test=("CMD-SHELL", fresh), interval=interval, timeout=10, start_period=30, retries=3
    )


def workload(args: AgentFleetArgs, shard: planning.Shard, group: planning.Group) -> Workload:
    """The containers of `group`, with the limits of all the agents in one of them."""
    plan, each = args.plan, group.agents_each
    return Workload(
        name=group.name,
        service=SERVICE,
        image=args.image,
        memory_mb=plan.tier.memory_mb * each,
        cpus=planning.container_cpus(plan.tier, each),
        logs=args.logs,
        env={
            "APE_GATEWAY_URL": gateway.URL,
            "APE_PROXY_URL": proxy.URL,
            proxy.TOKEN_ENV: args.token.path,
            "APE_MODEL_NAME": args.model_name,
            "APE_GOAL": args.scenario.goal,
            "APE_TARGET_API": args.scenario.api,
            "APE_ENDPOINTS": args.scenario.dumped("endpoints"),
            "APE_SUCCESS": args.scenario.dumped("success"),
            "APE_PERSONA": args.persona,
            "APE_AGENTS_HERE": str(each),
            "APE_TEST_DURATION_SECONDS": str(args.test_duration_seconds),
            "APE_THINK_TIME_SECONDS": str(args.think_time_seconds),
            "APE_START_DELAY_SEED": f"{plan.start_delay_seed:.6f}",
            "APE_RAMP_SECONDS": str(args.ramp_seconds),
            "APE_SESSION_MAX_STEPS": str(args.session_max_steps),
            "APE_SESSION_MAX_SECONDS": str(args.session_max_seconds),
            "APE_HEARTBEAT_FILE": HEARTBEAT,
            "APE_STOP_GRACE_SECONDS": str(STOP_GRACE_SECONDS - 5),
        },
        files=(args.token,),
        networks=(Attachment(shard.name),),
        health=health(plan),
        labels={labels.TIER: plan.tier.label, labels.AGENTS: str(each)},
        slots=Slots(group.first, group.last, plan.agents_per_container),
        stop_grace_seconds=STOP_GRACE_SECONDS,
        nofile=1024,
    )


class AgentFleet(Component):
    """`after`: the services without which no agent starts."""

    def __init__(
        self,
        name: str,
        args: AgentFleetArgs,
        runtime: Runtime,
        networks: Networks,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:fleet:AgentFleet", name, opts)
        made: list[pulumi.Resource] = []
        for shard in args.plan.shards:
            for group in shard.groups:
                made += runtime.run(
                    workload(args, shard, group),
                    networks.by_name,
                    after=after,
                    preceding_replicas=made,
                    opts=self.child_opts,
                )
        self.register_outputs({})
