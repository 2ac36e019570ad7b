"""The inference proxy: the one holder of the model's key, and of its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pulumi

from ape_contracts.limits import LIMITS
from ape_contracts.service_settings import SERVICE_PORT
from ape_infra.config.addresses import on_docker_host
from ape_infra.config.model import ModelSettings
from ape_infra.config.ports import PortSettings
from ape_infra.config.provider import key_secret, resolve
from ape_infra.config.secrets import CEREBRAS_API_KEY, MODEL_API_KEY
from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.deployment import Deployment
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, File, Port, Workload, service_health

NAME = services.PROXY
URL = f"http://{NAME}:{SERVICE_PORT}"
# Another file for the same key would replace the proxy of an existing stack.
KEY_FILES = {MODEL_API_KEY: "model_api_key", CEREBRAS_API_KEY: "cerebras_api_key"}


def token_file(token: str) -> File:
    """What the proxy and its callers share."""
    return File("proxy_token", token, secret=True)


def model_files(
    model: ModelSettings,
    secrets: Mapping[str, pulumi.Output[str]],
    *,
    ca: str | None,
    recording: str | None,
) -> dict[str, File]:
    """Setting of the proxy -> file. `ca` and `recording`: their texts; None where not needed."""
    files = {}
    if secret := key_secret(model, secrets):
        files["api_key_file"] = File(KEY_FILES[secret], secrets[secret], secret=True)
    if ca is not None:
        files["ca_file"] = File("model_ca.pem", ca)
    if recording is not None:
        files["recording_file"] = File("recording.jsonl", recording)
    return files


def workload(
    image: str,
    model: ModelSettings,
    ports: PortSettings,
    plan: planning.Plan,
    files: Mapping[str, File],
) -> Workload:
    """`files`: setting -> file."""
    paths: dict[str, Any] = {name: file.path for name, file in files.items()}
    settings = replace(resolve(model), agents_per_address=plan.agents_per_container, **paths)
    limits = LIMITS["proxy"]
    return Workload(
        name=NAME,
        service=NAME,
        image=image,
        memory_mb=limits.memory_mb,
        cpus=limits.cpus,
        settings=settings,
        files=tuple(files.values()),
        networks=(
            Attachment(EDGE, (NAME,)),
            *(Attachment(shard, (NAME,)) for shard in plan.networks),
        ),
        ports=(Port(SERVICE_PORT, ports.proxy),),
        health=service_health(),
        # Two connections a stream, of 2000 agents.
        nofile=8192,
        docker_host=model.is_remote
        and any(map(on_docker_host, (settings.base_url, settings.http_proxy))),
    )


class InferenceProxy(Component):
    """`files`: setting -> file, such as the key of the model and the token of its callers."""

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        model: ModelSettings,
        files: Mapping[str, File],
    ) -> None:
        super().__init__("ape:proxy:InferenceProxy", name, deployment.after_images("proxy"))
        image = deployment.images.names["proxy"]
        made = workload(image, model, deployment.ports, deployment.plan, files)
        self.ready = deployment.runtime.run(made, deployment.networks.by_name, opts=self.child_opts)
        self.register_outputs({})
