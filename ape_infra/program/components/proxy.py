"""The inference proxy: the one holder of the model's key, and of its limits."""

from __future__ import annotations

import pulumi

from ape_contracts.service_settings import LIMITS, SERVICE_PORT, ProxySettings
from ape_infra.config.model import ModelSettings
from ape_infra.config.ports import PortSettings
from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.deployment import Deployment, shared
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, File, Port, Workload, service_health

NAME = services.PROXY
URL = f"http://{NAME}:{SERVICE_PORT}"


def token_file(token: str) -> File:
    """What the proxy and its callers share."""
    return File("proxy_token", token, secret=True)


def workload(
    image: str,
    model: ModelSettings,
    ports: PortSettings,
    plan: planning.Plan,
    *,
    token: File,
    api_key: pulumi.Output[str] | None,
    recording: str | None,
) -> Workload:
    """`recording`: its text; None where the model needs none."""
    files = {"token_file": token}
    if api_key is not None:
        files["api_key_file"] = File("cerebras_api_key", api_key, secret=True)
    if recording is not None:
        files["recording_file"] = File("recording.jsonl", recording)
    given = shared(model, ProxySettings) | {name: file.path for name, file in files.items()}
    limits = LIMITS["proxy"]
    return Workload(
        name=NAME,
        service=NAME,
        image=image,
        memory_mb=limits.memory_mb,
        cpus=limits.cpus,
        settings=ProxySettings(**given),
        files=tuple(files.values()),
        networks=(
            Attachment(EDGE, (NAME,)),
            *(Attachment(shard, (NAME,)) for shard in plan.networks),
        ),
        ports=(Port(SERVICE_PORT, ports.proxy),),
        health=service_health(),
        # Two connections a stream, of 2000 agents.
        nofile=8192,
    )


class InferenceProxy(Component):
    """`api_key` is needed with model cerebras, the text `recording` with model recorded."""

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        model: ModelSettings,
        *,
        token: File,
        api_key: pulumi.Output[str] | None,
        recording: str | None,
    ) -> None:
        super().__init__("ape:proxy:InferenceProxy", name, deployment.after_images("proxy"))
        made = workload(
            deployment.images.names["proxy"],
            model,
            deployment.ports,
            deployment.plan,
            token=token,
            api_key=api_key,
            recording=recording,
        )
        self.ready = deployment.runtime.run(made, deployment.networks.by_name, opts=self.child_opts)
        self.register_outputs({})
