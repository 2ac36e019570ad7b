"""The fleet: N agents in shards of containers, each agent with the limits of the fleet's tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from ape_contracts import labels
from ape_contracts.service_settings import AgentSettings, Redirects
from ape_infra.config.files import Scenario, SignIn
from ape_infra.config.fleet import FleetSettings
from ape_infra.config.model import ModelSettings
from ape_infra.config.provider import AGENT_EXTRA_SECONDS, resolve
from ape_infra.config.secrets import TARGET_CREDENTIALS
from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components import gateway, proxy
from ape_infra.program.components.base import Component
from ape_infra.program.components.deployment import Deployment, shared
from ape_infra.program.workload import Attachment, File, Health, Reports, Slots, Workload

SERVICE = services.AGENT
HEARTBEAT = "/tmp/heartbeat"  # noqa: S108 - a tmpfs of the container's own
STOP_GRACE_SECONDS = 15


@dataclass(frozen=True)
class Mission:
    """The settings that all agents share. `token`: the file with their token for the proxy.

    `report_key`: signs their tokens for reports. `target_host`, `redirects`: see AgentSettings.
    `credentials`: the file for their sign-in; None: they have none.
    """

    fleet: FleetSettings
    model: ModelSettings
    scenario: Scenario
    token: File
    report_key: str = field(repr=False)
    target_host: str = ""
    redirects: Redirects = "follow"
    sign_in: SignIn = field(default_factory=SignIn)
    credentials: File | None = None

    @property
    def files(self) -> tuple[File, ...]:
        return (self.token, self.credentials) if self.credentials else (self.token,)

    def settings(self, plan: planning.Plan, agents_here: int) -> AgentSettings:
        proxy_settings = resolve(self.model)
        return AgentSettings(
            **shared(self.fleet, AgentSettings),
            **self.scenario.plain(),
            gateway_url=gateway.URL,
            proxy_url=proxy.URL,
            token_file=self.token.path,
            target_host=self.target_host,
            redirects=self.redirects,
            model_name=proxy_settings.name,
            model_timeout_seconds=proxy_settings.request_timeout_seconds + AGENT_EXTRA_SECONDS,
            context_tokens=self.model.context_tokens,
            agents_here=agents_here,
            start_delay_seed=round(plan.start_delay_seed, 6),
            heartbeat_file=HEARTBEAT,
            stop_grace_seconds=STOP_GRACE_SECONDS - 5,
            sign_in=self.sign_in.steps,
            credentials_file=self.credentials.path if self.credentials else "",
            target_https=self.sign_in.target_https,
            stream=self.model.stream,
        )


def credentials_file(sign_in: SignIn, secrets: Mapping[str, pulumi.Output[str]]) -> File | None:
    """What agents sign in with; None: they do not, or without credentials."""
    if not sign_in.steps or TARGET_CREDENTIALS not in secrets:
        return None
    return File("target_credentials", secrets[TARGET_CREDENTIALS], secret=True)


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


def workload(
    image: str,
    mission: Mission,
    plan: planning.Plan,
    shard: planning.Shard,
    group: planning.Group,
) -> Workload:
    """The containers of `group`, with the limits of all the agents in one of them."""
    each = group.agents_each
    return Workload(
        name=group.name,
        service=SERVICE,
        image=image,
        memory_mb=plan.tier.memory_mb * each,
        cpus=planning.container_cpus(plan.tier, each),
        settings=mission.settings(plan, each),
        files=mission.files,
        networks=(Attachment(shard.name),),
        health=health(plan),
        labels={labels.TIER: plan.tier.label, labels.AGENTS: str(each)},
        slots=Slots(group.first, group.last, plan.agents_per_container),
        stop_grace_seconds=STOP_GRACE_SECONDS,
        nofile=1024,
        peers_only=True,
        reports=Reports(mission.report_key, *_slots(plan, shard, group)),
    )


def _slots(plan: planning.Plan, shard: planning.Shard, group: planning.Group) -> tuple[int, int]:
    """The first and the last slot that the containers of `group` may ever have."""
    first = (group.first - 1) * plan.agents_per_container + 1
    if group.agents_each < plan.agents_per_container:
        return first, first + group.agents_each - 1
    most = planning.CONTAINERS_PER_NETWORK * plan.agents_per_container
    return first, shard.first_slot + most - 1


class AgentFleet(Component):
    """`after`: the services without which no agent starts."""

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        mission: Mission,
        *,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("ape:fleet:AgentFleet", name, deployment.after_images("agent"))
        plan, image = deployment.plan, deployment.images.names["agent"]
        made: list[pulumi.Resource] = []
        for shard in plan.shards:
            for group in shard.groups:
                made += deployment.runtime.run(
                    workload(image, mission, plan, shard, group),
                    deployment.networks.by_name,
                    after=after,
                    preceding_replicas=made,
                    opts=self.child_opts,
                )
        self.ready = made
        self.register_outputs({})
