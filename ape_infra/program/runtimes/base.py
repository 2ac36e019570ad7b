"""What a runtime offers to the components, and what both runtimes share."""

from __future__ import annotations

import base64
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pulumi
import pulumi_docker as docker

from ape_contracts import labels
from ape_infra.config.name_key import NameKey
from ape_infra.config.platform import PlatformSettings
from ape_infra.config.ports import PortSettings
from ape_infra.config.rollout import RolloutSettings
from ape_infra.program.workload import File, Workload


@dataclass(frozen=True)
class Network:
    """A declared network: its name on the engine, and the resource to wait for."""

    name: str
    resource: docker.Network


@dataclass(frozen=True)
class Context:
    """What every resource of a stack needs to know."""

    project: str
    stack: str
    name_key: NameKey
    ports: PortSettings
    rollout: RolloutSettings
    platform: PlatformSettings

    def name(self, name: str) -> str:
        """The name on the engine, unique among projects and stacks of one daemon."""
        return f"{self.project}-{self.stack}-{name}"

    def labels(self, service: str) -> dict[str, str]:
        return {labels.PROJECT: self.project, labels.STACK: self.stack, labels.SERVICE: service}


class Runtime(ABC):
    """Declares networks, volumes and workloads; each call registers its resources at once."""

    driver: ClassVar[str]

    def __init__(self, context: Context) -> None:
        self.context = context

    def network(
        self, name: str, *, subnet: str, gateway: str, internal: bool, opts: pulumi.ResourceOptions
    ) -> Network:
        full = self.context.name(name)
        resource = docker.Network(
            name,
            name=full,
            driver=self.driver,
            internal=internal,
            ipam_configs=[
                docker.NetworkIpamConfigArgs(
                    subnet=subnet, gateway=None if self.isolated(internal) else gateway
                )
            ],
            options=self._network_options(internal) or None,
            labels=[
                docker.NetworkLabelArgs(label=k, value=v)
                for k, v in self.context.labels(name).items()
            ],
            opts=opts,
        )
        return Network(full, resource)

    def isolated(self, internal: bool) -> bool:
        """Whether a network has no address on the host."""
        return False

    def _network_options(self, internal: bool) -> dict[str, str]:
        found = {}
        if mtu := self.context.platform.network_mtu:
            found["com.docker.network.driver.mtu"] = str(mtu)
        if self.isolated(internal):
            found["com.docker.network.bridge.gateway_mode_ipv4"] = "isolated"
        return found

    def volume(
        self, name: str, *, keep: bool = True, opts: pulumi.ResourceOptions
    ) -> docker.Volume:
        """`keep`: it holds data, which production protects."""
        return docker.Volume(
            name,
            name=self.context.name(name),
            labels=[
                docker.VolumeLabelArgs(label=k, value=v)
                for k, v in self.context.labels(name).items()
            ],
            opts=pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(protect=keep and self.context.platform.production)
            ),
        )

    @abstractmethod
    def run(
        self,
        workload: Workload,
        networks: dict[str, Network],
        *,
        after: Sequence[pulumi.Resource] = (),
        preceding_replicas: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions,
    ) -> Sequence[pulumi.Resource]:
        """Declare `workload`; returns what a dependant waits for.

        `after`: what its containers wait for, but its files need not.
        `preceding_replicas`: replicas of the same fleet declared before. Where this runtime paces
        replicas itself, they count among those that may change at the same time.
        """

    @abstractmethod
    def endpoint(self, port: int) -> str | None:
        """Base URL of a published port for the user; None where this runtime publishes none."""


def digest(files: Sequence[File], key: NameKey) -> pulumi.Input[str]:
    """Twelve hex digits that change with any content; plain when no content is an Output.

    With a secret among the files they are made with the key of the stack.
    """
    secret = any(file.secret for file in files)

    def of(contents: Sequence[str]) -> str:
        pairs = zip(files, contents, strict=True)
        whole = "".join(f"{file.name}\0{content}\0" for file, content in pairs).encode()
        return key.digest(whole) if secret else hashlib.sha256(whole).hexdigest()[:12]

    contents = [file.content for file in files]
    plain = [content for content in contents if isinstance(content, str)]
    if len(plain) == len(contents):
        return of(plain)
    return pulumi.Output.unsecret(pulumi.Output.all(*contents).apply(of))


def content_as_secret(file: File) -> pulumi.Input[str]:
    """The content, marked as a secret where it is one."""
    return pulumi.Output.secret(file.content) if file.secret else file.content


def encoded(file: File) -> pulumi.Output[str]:
    return pulumi.Output.from_input(content_as_secret(file)).apply(
        lambda text: base64.b64encode(text.encode()).decode()
    )


def log_options(platform: PlatformSettings) -> dict[str, str]:
    return {
        "max-size": platform.log_max_size,
        "max-file": str(platform.log_max_files),
        "compress": "true" if platform.log_compress else "false",
    }
