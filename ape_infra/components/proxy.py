"""The inference proxy: the one holder of the model's key, and of its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pulumi

from ape_infra import plan as planning
from ape_infra.components.base import Component
from ape_infra.components.networks import EDGE, Networks
from ape_infra.runtimes import Runtime
from ape_infra.workload import SERVICE_PORT, Attachment, File, Logs, Port, Workload, service_health

NAME = "proxy"
URL = f"http://{NAME}:{SERVICE_PORT}"


@dataclass(frozen=True)
class InferenceProxyArgs:
    image: str
    model: Literal["offline", "cerebras"]
    model_name: str
    model_base_url: str
    api_key: pulumi.Output[str] | None
    port: int
    plan: planning.Plan
    logs: Logs


def workload(args: InferenceProxyArgs) -> Workload:
    key = File("cerebras_api_key", args.api_key, secret=True) if args.api_key is not None else None
    env = {
        "APE_MODEL": args.model,
        "APE_MODEL_NAME": args.model_name,
        "APE_MODEL_BASE_URL": args.model_base_url,
        "APE_REQUEST_TIMEOUT_SECONDS": "30",
    }
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=planning.PROXY_MEMORY_MB,
        cpus=planning.SERVICE_CPUS / 3,
        logs=args.logs,
        env=env | ({"APE_API_KEY_FILE": key.path} if key else {}),
        files=(key,) if key else (),
        networks=(
            Attachment(EDGE, (NAME,)),
            *(Attachment(shard.name, (NAME,)) for shard in args.plan.shards),
        ),
        ports=(Port(SERVICE_PORT, args.port),),
        health=service_health(),
    )


class InferenceProxy(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: InferenceProxyArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:proxy:InferenceProxy", name, opts)
        self.ready = runtime.run(workload(args), networks.by_name, opts=self.child_opts)
        self.register_outputs({})
