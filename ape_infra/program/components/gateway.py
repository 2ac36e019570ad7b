"""The MCP gateway: the agents' only way to the target."""

from __future__ import annotations

from ape_contracts.limits import LIMITS
from ape_contracts.service_settings import SERVICE_PORT, GatewaySettings
from ape_infra.config.files import gateway_reaches_docker_host
from ape_infra.config.settings import Settings
from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.deployment import Deployment
from ape_infra.program.components.networks import EDGE, TARGET
from ape_infra.program.workload import Attachment, File, Port, Workload, service_health

NAME = services.GATEWAY
MIN_IN_FLIGHT = 256
URL = f"http://{NAME}:{SERVICE_PORT}"


# MCP clients on the host share an address, that of the network's bridge.
MIN_CONNECTIONS_PER_ADDRESS, CONNECTIONS_PER_AGENT = 512, 4


def workload(
    image: str,
    config: str,
    settings: Settings,
    report_key: str,
    plan: planning.Plan,
    operations: str | None = None,
    upload: str | None = None,
) -> Workload:
    """`config`: JSON text of the gateway's config. `operations`: see ape_contracts.operations_file.

    `upload`: content of the file that agents upload, in base64. None: the stack has no such file.
    """
    # The config may carry the credentials of the target, so it is treated as a secret.
    file = File("gateway.json", config, secret=True)
    key = File("report_key", report_key, secret=True)
    listed = None if operations is None else File("operations.json", operations)
    sent = None if upload is None else File("upload.base64", upload)
    limits = LIMITS["gateway"]
    return Workload(
        name=NAME,
        service=NAME,
        image=image,
        memory_mb=limits.memory_mb,
        cpus=limits.cpus,
        settings=GatewaySettings(
            config_file=file.path,
            pool_connections=plan.pools.connections,
            pool_maxsize=plan.pools.maxsize,
            keepalive_connections=plan.pools.keepalive,
            # Each agent of the tier may have a request in flight: a queue here would hide the
            # target's behavior.
            max_in_flight=max(MIN_IN_FLIGHT, plan.tier.max_agents),
            user_agent=settings.target.user_agent,
            connections_per_address=max(
                MIN_CONNECTIONS_PER_ADDRESS, CONNECTIONS_PER_AGENT * plan.agents_per_container
            ),
            report_key_file=key.path,
            max_agents=plan.tier.max_agents,
            operations_file=listed.path if listed else "",
            upload_file=sent.path if sent else "",
            idle=settings.run.sessions == "runs",
        ),
        files=(file, key, *(each for each in (listed, sent) if each is not None)),
        networks=(
            Attachment(EDGE, (NAME,)),
            Attachment(TARGET),
            *(Attachment(shard, (NAME,)) for shard in plan.networks),
        ),
        ports=(Port(SERVICE_PORT, settings.ports.gateway),),
        health=service_health(),
        # One connection per agent, one to the target per request in flight, and a reserve.
        nofile=16384,
        docker_host=gateway_reaches_docker_host(config),
    )


class Gateway(Component):
    def __init__(
        self,
        name: str,
        deployment: Deployment,
        config: str,
        settings: Settings,
        report_key: str,
        operations: str | None = None,
        upload: str | None = None,
    ) -> None:
        super().__init__("ape:gateway:Gateway", name, deployment.after_images("gateway"))
        image = deployment.images.names["gateway"]
        made = workload(image, config, settings, report_key, deployment.plan, operations, upload)
        self.ready = deployment.runtime.run(made, deployment.networks.by_name, opts=self.child_opts)
        self.register_outputs({})
