"""The inference proxy: the one holder of the model's key, and of its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pulumi

from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import (
    SERVICE_PORT,
    Attachment,
    File,
    Logs,
    Port,
    Workload,
    service_health,
)

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = services.PROXY
URL = f"http://{NAME}:{SERVICE_PORT}"
TOKEN_ENV = "APE_PROXY_TOKEN_FILE"


def token_file(token: str) -> File:
    """What the proxy and its callers share."""
    return File("proxy_token", token, secret=True)


@dataclass(frozen=True)
class InferenceProxyArgs:
    image: str
    model: Literal["offline", "cerebras", "recorded"]
    model_name: str
    model_base_url: str
    api_key: pulumi.Output[str] | None
    token: File
    recording: str | None
    record: bool
    requests_per_minute: int
    tokens_per_minute: int
    queue_seconds: int
    retries: int
    input_price: str
    output_price: str
    port: int
    plan: planning.Plan
    logs: Logs


def workload(args: InferenceProxyArgs) -> Workload:
    files = [args.token]
    env = {
        TOKEN_ENV: args.token.path,
        "APE_MODEL": args.model,
        "APE_MODEL_NAME": args.model_name,
        "APE_MODEL_BASE_URL": args.model_base_url,
        "APE_MODEL_REQUESTS_PER_MINUTE": str(args.requests_per_minute),
        "APE_MODEL_TOKENS_PER_MINUTE": str(args.tokens_per_minute),
        "APE_QUEUE_SECONDS": str(args.queue_seconds),
        "APE_MODEL_RETRIES": str(args.retries),
        "APE_MODEL_INPUT_PRICE": args.input_price,
        "APE_MODEL_OUTPUT_PRICE": args.output_price,
        "APE_MODEL_RECORD": "true" if args.record else "false",
        "APE_REQUEST_TIMEOUT_SECONDS": "30",
    }
    if args.api_key is not None:
        files.append(File("cerebras_api_key", args.api_key, secret=True))
        env["APE_API_KEY_FILE"] = files[-1].path
    if args.recording is not None:
        files.append(File("recording.jsonl", args.recording))
        env["APE_MODEL_RECORDING"] = files[-1].path
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=planning.PROXY_MEMORY_MB,
        cpus=planning.SERVICE_CPUS / 3,
        logs=args.logs,
        env=env,
        files=tuple(files),
        networks=(
            Attachment(EDGE, (NAME,)),
            *(Attachment(shard, (NAME,)) for shard in args.plan.networks),
        ),
        ports=(Port(SERVICE_PORT, args.port),),
        health=service_health(),
        # Two connections a stream, of 2000 agents.
        nofile=8192,
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
