"""One machine: every workload is a container (or one per slot) of plain Docker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_docker as docker

from ape_contracts.service_settings import REPORT_TOKEN
from ape_infra.config.addresses import DOCKER_HOST, HOST_GATEWAY
from ape_infra.program.provider import PLUGIN_VERSION
from ape_infra.program.runtimes.base import Network, Runtime, content_as_secret, digest, log_options
from ape_infra.program.workload import (
    CONFIG_DIR,
    PEER_NAMES,
    Health,
    Workload,
    environment,
    own_report_token,
)

TOKEN = "docker:index/container:Container"


class Container(pulumi.CustomResource):
    """docker.Container, registered with plain properties under the names of its schema.

    The class of pulumi-docker makes four futures for each of its 60 properties, given or not: of
    1000 agents that was most of a preview's time (docs/facts.md).
    """

    def __init__(self, name: str, properties: dict[str, Any], opts: pulumi.ResourceOptions) -> None:
        defaults = pulumi.ResourceOptions(version=PLUGIN_VERSION)
        super().__init__(TOKEN, name, properties, pulumi.ResourceOptions.merge(defaults, opts))


class DockerRuntime(Runtime):
    driver = "bridge"

    def isolated(self, internal: bool) -> bool:
        return internal and self.context.platform.isolate_hosts

    def run(
        self,
        workload: Workload,
        networks: dict[str, Network],
        *,
        after: Sequence[pulumi.Resource] = (),
        preceding_replicas: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions,
    ) -> Sequence[pulumi.Resource]:
        waits = [*after, *(networks[a.network].resource for a in workload.networks)]
        mounts: list[dict[str, Any]] = (
            [
                {"volumeName": self.context.name(name), "containerPath": path}
                for name, path in workload.volumes.items()
            ]
            + [
                {"volumeName": self.context.name(name), "containerPath": path, "readOnly": True}
                for name, path in workload.read_only_volumes.items()
            ]
            + [
                {"hostPath": host, "containerPath": path, "readOnly": True}
                for host, path in workload.host_paths.items()
            ]
        )
        if workload.files:
            volume, filler = self._files(workload, opts)
            waits.append(filler)
            mounts.append({"volumeName": volume, "containerPath": CONFIG_DIR, "readOnly": True})
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=waits))
        if workload.slots is None:
            env = _variables(environment(workload))
            return [self._container(workload.name, workload, env, mounts, opts)]
        return self._replicas(workload, mounts, preceding_replicas, opts)

    def _replicas(
        self,
        workload: Workload,
        mounts: list[dict[str, Any]],
        preceding_replicas: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> list[pulumi.Resource]:
        """One container per slot, in as many chains as may start or change at the same time.

        The chains continue those of `preceding_replicas`. They bound the engine whatever its own
        parallelism, and make it remove the highest numbers first.
        """
        slots = workload.slots
        assert slots is not None
        width = self.context.rollout.parallelism
        made = list(preceding_replicas)
        for number in range(1, slots.count + 1):
            before = made[-width : -width + 1 or None] if len(made) >= width else []
            made.append(
                self._container(
                    f"{workload.service}-{slots.label(slots.first + number - 1)}",
                    workload,
                    _replica_variables(workload, number),
                    mounts,
                    pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=before)),
                )
            )
        return made[len(preceding_replicas) :]

    def _container(
        self,
        name: str,
        workload: Workload,
        env: list[pulumi.Input[str]],
        mounts: list[dict[str, Any]],
        opts: pulumi.ResourceOptions,
    ) -> Container:
        labels = {**self.context.labels(workload.service), **workload.labels}
        properties: dict[str, Any] = {
            "name": self.context.name(name),
            "hostname": name,
            "image": workload.image,
            "command": list(workload.command) or None,
            "envs": env,
            "init": True,
            "restart": "on-failure",
            "maxRetryCount": workload.restart_max_attempts,
            "stopTimeout": workload.stop_grace_seconds,
            "destroyGraceSeconds": workload.stop_grace_seconds,
            "logDriver": "json-file",
            "logOpts": log_options(self.context.platform),
            "healthcheck": _healthcheck(workload.health),
            # A service must be healthy before the agents start; the agents themselves wait inside.
            "cgroupnsMode": "host" if workload.host_cgroups else None,
            "wait": workload.health is not None and workload.slots is None,
            "volumes": mounts or None,
            "labels": [{"label": k, "value": v} for k, v in labels.items()],
            **_restrictions(workload),
            **self._networking(workload),
        }
        return Container(
            name,
            {key: value for key, value in properties.items() if value is not None},
            pulumi.ResourceOptions.merge(
                opts,
                pulumi.ResourceOptions(
                    delete_before_replace=True,
                    # Edits of these the plugin accepts without applying them (docs/facts.md).
                    replace_on_changes=["healthcheck", "tmpfs", "init"],
                ),
            ),
        )

    def _networking(self, workload: Workload) -> dict[str, Any]:
        """The properties for networks, published ports and the name of the Docker host."""
        names = PEER_NAMES if workload.peers_only else None
        return {
            "dns": list(names.servers) if names else None,
            "dnsOpts": list(names.options) if names else None,
            "dnsSearches": list(names.searches) if names else None,
            "networksAdvanced": [
                {"name": self.context.name(a.network), "aliases": list(a.aliases) or None}
                for a in workload.networks
            ]
            or None,
            "networkMode": None if workload.networks else "none",
            "hosts": [{"host": DOCKER_HOST, "ip": HOST_GATEWAY}] if workload.docker_host else None,
            "ports": [
                {
                    "internal": p.internal,
                    "external": p.external,
                    "ip": self.context.ports.expose_address,
                    "protocol": "tcp",
                }
                for p in sorted(workload.ports, key=lambda p: p.internal)
            ]
            or None,
        }

    def _files(
        self, workload: Workload, opts: pulumi.ResourceOptions
    ) -> tuple[pulumi.Input[str], pulumi.Resource]:
        """A volume with the workload's files; returns its name and what to wait for.

        Docker cannot copy files into a container with a read-only root, nor hand over a secret
        without showing it in `inspect`. A container that is never started can be copied into, and
        its volume carries the files over. New content makes a new volume, so the workload is
        replaced with it.
        """
        name = f"{workload.name}-files"
        full: pulumi.Input[str] = pulumi.Output.concat(
            self.context.name(name), "-", digest(workload.files, self.context.name_key)
        )
        labels = self.context.labels(name)
        volume = docker.Volume(
            name,
            name=full,
            labels=[docker.VolumeLabelArgs(label=k, value=v) for k, v in labels.items()],
            opts=opts,
        )
        filler = docker.Container(
            f"{name}-filler",
            name=full,
            image=workload.image,
            start=False,
            must_run=False,
            user=workload.user,
            network_mode="none",
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"]),
            security_opts=["no-new-privileges:true"],
            memory=16,
            memory_swap=16,
            log_driver="none",
            restart="no",
            volumes=[docker.ContainerVolumeArgs(volume_name=full, container_path=CONFIG_DIR)],
            uploads=[
                docker.ContainerUploadArgs(
                    file=file.path, content=content_as_secret(file), permissions="0444"
                )
                for file in workload.files
            ],
            labels=[docker.ContainerLabelArgs(label=k, value=v) for k, v in labels.items()],
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[volume])),
        )
        return full, filler

    def endpoint(self, port: int) -> str | None:
        return f"http://{self.context.ports.expose_address}:{port}"


def _variables(env: dict[str, str]) -> list[pulumi.Input[str]]:
    return [f"{k}={v}" for k, v in sorted(env.items())]


def _replica_variables(workload: Workload, number: int) -> list[pulumi.Input[str]]:
    """The variables of a replica, with its token, which is a secret.

    A file of its own would take a volume and a filler for each agent.
    """
    variables = _variables(environment(workload, number))
    if token := own_report_token(workload, number):
        variables.insert(0, pulumi.Output.secret(f"{REPORT_TOKEN}={token}"))
    return variables


def _restrictions(workload: Workload) -> dict[str, Any]:
    """The properties that limit what a container may use and do."""
    return {
        "user": workload.user,
        "readOnly": True,
        "tmpfs": {
            path: f"rw,noexec,nosuid,nodev,size={mb}m" for path, mb in workload.tmpfs.items()
        },
        "capabilities": {"drops": ["ALL"]},
        "securityOpts": ["no-new-privileges:true"],
        "memory": workload.memory_mb,
        # Equal to memory: no swap. Left unset, every preview would show a change.
        "memorySwap": workload.memory_mb,
        # As the plugin reads it back: at least one decimal, at most two.
        "cpus": str(float(round(workload.cpus, 2))),
        "ulimits": [{"name": "nofile", "soft": workload.nofile, "hard": workload.nofile}],
    }


def _healthcheck(health: Health | None) -> dict[str, Any] | None:
    if health is None:
        return None
    return {
        "tests": list(health.test),
        "interval": f"{health.interval}s",
        "timeout": f"{health.timeout}s",
        "startPeriod": f"{health.start_period}s",
        "retries": health.retries,
    }
