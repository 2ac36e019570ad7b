"""The resource monitor, one on each node, and what lets it read Docker's API and nothing more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components import gateway
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import (
    SERVICE_PORT,
    Attachment,
    Health,
    Logs,
    Port,
    Workload,
    service_health,
)

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = services.MONITOR
PROXY = "socket-proxy"
# A Unix socket in a volume: on every node it is the node's own proxy, and needs no network.
SOCKET_VOLUME = "docker-api"
SOCKET_DIR = "/run/ape"
DOCKER_HOST = f"unix://{SOCKET_DIR}/docker.sock"
DOCKER_SOCKET = "/var/run/docker.sock"
# A user of its own: another container's process of the same user could be looked into by /proc.
USER = "10002:10002"
# Docker's socket belongs to root and to a group whose number differs from host to host. Root
# without capabilities is its owner, and nothing else.
PROXY_USER = "0:0"
INTERVAL_SECONDS = 5
# A check starts a Python, which is more than the monitor itself does in that time.
HEALTH_SECONDS = 10


@dataclass(frozen=True)
class MonitorArgs:
    """`project` is the name before the stack's; `docker_host` the address of the stack's daemon

    (empty: its default); `logs_by_proxy` lets a log shipper in, too.
    """

    image: str
    proxy_image: str
    project: str
    stack: str
    docker_host: str
    port: int
    thresholds: Mapping[str, Any]
    logs_by_proxy: bool
    logs: Logs


def socket_path(docker_host: str) -> str:
    """Docker's socket on its own machine; the usual one where the address does not say."""
    scheme, _, path = docker_host.partition("://")
    return path if scheme == "unix" and path else DOCKER_SOCKET


def proxy_workload(args: MonitorArgs) -> Workload:
    return Workload(
        name=PROXY,
        service=PROXY,
        image=args.proxy_image,
        memory_mb=planning.SOCKET_PROXY_MEMORY_MB,
        cpus=0.25,
        logs=args.logs,
        env={
            "APE_SOCKET": f"{SOCKET_DIR}/docker.sock",
            "APE_SOCKET_PROXY_LOGS": "1" if args.logs_by_proxy else "0",
        },
        volumes={SOCKET_VOLUME: SOCKET_DIR},
        host_paths={socket_path(args.docker_host): DOCKER_SOCKET},
        health=Health(
            test=("CMD", "python", "-m", "ape_socket_proxy", "check"),
            interval=HEALTH_SECONDS,
            timeout=5,
            start_period=10,
            retries=3,
        ),
        user=PROXY_USER,
        per_node=True,
    )


def workload(args: MonitorArgs) -> Workload:
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=planning.MONITOR_MEMORY_MB,
        cpus=0.5,
        logs=args.logs,
        command=("--no-console",),
        env={
            "APE_MONITOR_PROJECT": f"{args.project}-{args.stack}",
            "APE_MONITOR_INTERVAL": str(INTERVAL_SECONDS),
            "APE_MONITOR_BIND": "0.0.0.0",
            "APE_MONITOR_PORT": str(SERVICE_PORT),
            "APE_MONITOR_DOCKER_HOST": DOCKER_HOST,
            "APE_MONITOR_CGROUP_ROOT": "/host/cgroup",
            "APE_MONITOR_PROC_ROOT": "/host/proc",
            "APE_MONITOR_GATEWAY": gateway.URL,
            "APE_MONITOR_THRESHOLDS": json.dumps(dict(args.thresholds), sort_keys=True),
        },
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={SOCKET_VOLUME: SOCKET_DIR},
        host_paths={"/sys/fs/cgroup": "/host/cgroup", "/proc": "/host/proc"},
        ports=(Port(SERVICE_PORT, args.port),),
        health=service_health(interval=HEALTH_SECONDS),
        user=USER,
        # Ten files a container stay open; a host may allow no more than 20000.
        nofile=16384,
        per_node=True,
    )


class Monitor(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: MonitorArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:monitor:Monitor", name, opts)
        volume = runtime.volume(SOCKET_VOLUME, keep=False, opts=self.child_opts)

        after = pulumi.ResourceOptions.merge(
            self.child_opts, pulumi.ResourceOptions(depends_on=[volume])
        )
        # The monitor tries until the proxy is there, so neither waits for the other.
        self.ready = [
            *runtime.run(proxy_workload(args), networks.by_name, opts=after),
            *runtime.run(workload(args), networks.by_name, opts=after),
        ]
        self.register_outputs({})
