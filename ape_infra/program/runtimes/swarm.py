"""Past one machine: every workload is a service of Docker Swarm, a shard of agents too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pulumi
import pulumi_docker as docker

from ape_infra.program.runtimes.base import Network, Runtime, digest, encoded, log_options
from ape_infra.program.workload import (
    PEER_NAMES,
    Workload,
    environment,
    with_shared_report_token,
)

# What a task takes to be scheduled, started and seen healthy on a busy 2-core host, measured at
# 5 -> 200 replicas (docs/facts.md): 0.5 s each on top of a fixed start.
CONVERGE_BASE_SECONDS = 180
CONVERGE_SECONDS_PER_REPLICA = 1.5
LOOPBACK = ("127.0.0.1", "::1")


class SwarmRuntime(Runtime):
    driver = "overlay"

    @property
    def _publishes(self) -> bool:
        # Swarm binds published ports on every address of every node. Where the user wants
        # loopback, nothing is published rather than more than was asked for.
        return self.context.ports.expose_address not in LOOPBACK

    def endpoint(self, port: int) -> str | None:
        return f"http://{self.context.ports.expose_address}:{port}" if self._publishes else None

    def run(
        self,
        workload: Workload,
        networks: dict[str, Network],
        *,
        after: Sequence[pulumi.Resource] = (),
        preceding_replicas: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions,
    ) -> Sequence[pulumi.Resource]:
        workload = with_shared_report_token(workload)
        count = workload.slots.count if workload.slots else 1
        labels = self._labels(workload)
        service = docker.Service(
            workload.name,
            name=self.context.name(workload.name),
            labels=[docker.ServiceLabelArgs(label=k, value=v) for k, v in labels.items()],
            mode=docker.ServiceModeArgs(global_=True)
            if workload.per_node
            else docker.ServiceModeArgs(
                replicated=docker.ServiceModeReplicatedArgs(replicas=count)
            ),
            task_spec=self._task(workload, networks, opts),
            update_config=self._update(),
            rollback_config=self._rollback(),
            endpoint_spec=self._endpoint_spec(workload),
            # The plugin refuses to wait for a global service.
            converge_config=None
            if workload.per_node
            else docker.ServiceConvergeConfigArgs(delay="2s", timeout=_converge_timeout(count)),
            opts=pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(delete_before_replace=True, depends_on=list(after))
            ),
        )
        return [service]

    def _labels(self, workload: Workload) -> dict[str, str]:
        return {**self.context.labels(workload.service), **workload.labels}

    def _task(
        self, workload: Workload, networks: dict[str, Network], opts: pulumi.ResourceOptions
    ) -> docker.ServiceTaskSpecArgs:
        return docker.ServiceTaskSpecArgs(
            container_spec=self._container(workload, opts),
            resources=docker.ServiceTaskSpecResourcesArgs(
                limits=docker.ServiceTaskSpecResourcesLimitsArgs(
                    memory_bytes=workload.memory_mb * 1024 * 1024,
                    nano_cpus=round(workload.cpus * 1_000_000_000),
                )
            ),
            restart_policy=docker.ServiceTaskSpecRestartPolicyArgs(
                # Swarm stops an unhealthy task, which then exits as it should, with 0.
                condition="any",
                delay="5s",
                max_attempts=workload.restart_max_attempts,
                window="59s",
            ),
            placement=self._placement(workload),
            log_driver=docker.ServiceTaskSpecLogDriverArgs(
                name="json-file", options=log_options(self.context.platform)
            ),
            networks_advanceds=[
                docker.ServiceTaskSpecNetworksAdvancedArgs(
                    id=networks[a.network].resource.id, aliases=list(a.aliases) or None
                )
                for a in workload.networks
            ],
        )

    def _placement(self, workload: Workload) -> docker.ServiceTaskSpecPlacementArgs | None:
        platform = self.context.platform
        if workload.per_node:
            return None
        constraints = platform.agent_placement if workload.slots else platform.service_placement
        if platform.data_node and workload.volumes:
            constraints = [*constraints, f"node.hostname=={platform.data_node}"]
        if not constraints:
            return None
        return docker.ServiceTaskSpecPlacementArgs(constraints=constraints)

    def _container(
        self, workload: Workload, opts: pulumi.ResourceOptions
    ) -> docker.ServiceTaskSpecContainerSpecArgs:
        health = workload.health
        return docker.ServiceTaskSpecContainerSpecArgs(
            image=workload.image,
            args=list(workload.command) or None,
            env=environment(workload, "{{.Task.Slot}}"),
            hostname="{{.Service.Name}}-{{.Task.Slot}}",
            user=workload.user,
            read_only=True,
            init=True,
            cap_drops=["ALL"],
            dns_config=docker.ServiceTaskSpecContainerSpecDnsConfigArgs(
                nameservers=list(PEER_NAMES.servers),
                options=list(PEER_NAMES.options),
                searches=list(PEER_NAMES.searches),
            )
            if workload.peers_only
            else None,
            stop_grace_period=f"{workload.stop_grace_seconds}s",
            healthcheck=docker.ServiceTaskSpecContainerSpecHealthcheckArgs(
                tests=list(health.test),
                interval=f"{health.interval}s",
                timeout=f"{health.timeout}s",
                start_period=f"{health.start_period}s",
                retries=health.retries,
            )
            if health
            else None,
            mounts=self._mounts(workload),
            configs=self._configs(workload, opts),
            secrets=self._secrets(workload, opts),
            labels=[
                docker.ServiceTaskSpecContainerSpecLabelArgs(label=k, value=v)
                for k, v in self._labels(workload).items()
            ],
        )

    def _update(self) -> docker.ServiceUpdateConfigArgs:
        rollout = self.context.rollout
        return docker.ServiceUpdateConfigArgs(
            parallelism=rollout.parallelism,
            delay=f"{rollout.delay_seconds}s",
            monitor=f"{rollout.monitor_seconds}s",
            failure_action="rollback" if rollout.rollback else "pause",
            # One decimal: "0.05" would read back as another value.
            max_failure_ratio="0.1",
            order="stop-first",
        )

    def _rollback(self) -> docker.ServiceRollbackConfigArgs:
        rollout = self.context.rollout
        return docker.ServiceRollbackConfigArgs(
            parallelism=rollout.parallelism,
            delay="0s",
            monitor=f"{rollout.monitor_seconds}s",
            failure_action="pause",
            max_failure_ratio="0.0",
            order="stop-first",
        )

    def _endpoint_spec(self, workload: Workload) -> docker.ServiceEndpointSpecArgs:
        return docker.ServiceEndpointSpecArgs(
            # By name to the task itself: needs no IPVS in the kernel, and no virtual address per
            # network. A published port is then that of the node on which the task runs.
            mode="dnsrr",
            ports=[
                docker.ServiceEndpointSpecPortArgs(
                    target_port=p.internal,
                    published_port=p.external,
                    protocol="tcp",
                    publish_mode="host",
                )
                for p in sorted(workload.ports, key=lambda p: p.internal)
            ]
            if self._publishes and workload.ports
            else None,
        )

    def _mounts(self, workload: Workload) -> list[docker.ServiceTaskSpecContainerSpecMountArgs]:
        return (
            [
                docker.ServiceTaskSpecContainerSpecMountArgs(
                    type="tmpfs",
                    target=path,
                    tmpfs_options=docker.ServiceTaskSpecContainerSpecMountTmpfsOptionsArgs(
                        size_bytes=mb * 1024 * 1024, mode=0o777
                    ),
                )
                for path, mb in workload.tmpfs.items()
            ]
            + [
                docker.ServiceTaskSpecContainerSpecMountArgs(
                    type="volume", source=self.context.name(name), target=path
                )
                for name, path in workload.volumes.items()
            ]
            + [
                docker.ServiceTaskSpecContainerSpecMountArgs(
                    type="volume", source=self.context.name(name), target=path, read_only=True
                )
                for name, path in workload.read_only_volumes.items()
            ]
            + [
                docker.ServiceTaskSpecContainerSpecMountArgs(
                    type="bind", source=host, target=path, read_only=True
                )
                for host, path in workload.host_paths.items()
            ]
        )

    def _configs(
        self, workload: Workload, opts: pulumi.ResourceOptions
    ) -> list[docker.ServiceTaskSpecContainerSpecConfigArgs] | None:
        made = []
        for file in workload.files:
            if file.secret:
                continue
            name = pulumi.Output.concat(
                self.context.name(workload.name),
                "-",
                file.label,
                "-",
                digest([file], self.context.name_key),
            )
            config = docker.ServiceConfig(
                f"{workload.name}-{file.label}", name=name, data=encoded(file), opts=opts
            )
            made.append(
                docker.ServiceTaskSpecContainerSpecConfigArgs(
                    config_id=config.id,
                    config_name=name,
                    file_name=file.path,
                    file_uid=workload.user.partition(":")[0],
                    file_gid=workload.user.partition(":")[2],
                    file_mode=0o400,
                )
            )
        return made or None

    def _secrets(
        self, workload: Workload, opts: pulumi.ResourceOptions
    ) -> list[docker.ServiceTaskSpecContainerSpecSecretArgs] | None:
        made = []
        for file in workload.files:
            if not file.secret:
                continue
            name = pulumi.Output.concat(
                self.context.name(workload.name),
                "-",
                file.label,
                "-",
                digest([file], self.context.name_key),
            )
            secret = docker.Secret(
                f"{workload.name}-{file.label}", name=name, data=encoded(file), opts=opts
            )
            made.append(
                docker.ServiceTaskSpecContainerSpecSecretArgs(
                    secret_id=secret.id,
                    secret_name=name,
                    file_name=file.path,
                    file_uid=workload.user.partition(":")[0],
                    file_gid=workload.user.partition(":")[2],
                    file_mode=0o400,
                )
            )
        return made or None


def _converge_timeout(replicas: int) -> str:
    """As the plugin reads it back: minutes and seconds, "3m" and not "3m0s"."""
    seconds = CONVERGE_BASE_SECONDS + math.ceil(replicas * CONVERGE_SECONDS_PER_REPLICA)
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if rest else f"{minutes}m"
