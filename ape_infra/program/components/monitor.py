"""The resource monitor, one on each node, and what lets it read Docker's API and nothing more."""

from __future__ import annotations

import json

import pulumi

from ape_contracts import docker_endpoint
from ape_contracts.limits import LIMITS, LOG_STREAMS, socket_proxy_memory_mb
from ape_contracts.service_settings import SERVICE_PORT, SocketProxySettings
from ape_infra.config.alerting import AlertingSettings
from ape_infra.config.ports import PortSettings
from ape_infra.planning import services
from ape_infra.program.components import gateway
from ape_infra.program.components.base import Component
from ape_infra.program.components.deployment import Deployment
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, Health, Port, Workload, service_health

NAME = services.MONITOR
PROXY = "socket-proxy"
# A Unix socket in a volume: on every node it is the node's own proxy, and needs no network.
SOCKET_VOLUME = "docker-api"
SOCKET_DIR = "/run/ape"
DOCKER_HOST = f"unix://{SOCKET_DIR}/docker.sock"
# A user of its own: another container's process of the same user could be looked into by /proc.
USER = "10002:10002"
# Docker's socket belongs to root and to a group whose number differs from host to host. Root
# without capabilities is its owner, and nothing else.
PROXY_USER = "0:0"
INTERVAL_SECONDS = 5
# A check starts a Python, which is more than the monitor itself does in that time.
HEALTH_SECONDS = 10


def proxy_workload(
    image: str, socket: str, *, project: str, stack: str, log_streams: int
) -> Workload:
    """`socket`: Docker's, on the daemon's own host.

    `log_streams`: of a log shipper; 0: none is deployed. `project` and `stack`: whose containers
    are visible.
    """
    streams = log_streams or LOG_STREAMS
    return Workload(
        name=PROXY,
        service=PROXY,
        image=image,
        memory_mb=socket_proxy_memory_mb(streams),
        cpus=LIMITS["socket_proxy"].cpus,
        settings=SocketProxySettings(
            project=project,
            stack=stack,
            listen=f"{SOCKET_DIR}/docker.sock",
            logs=bool(log_streams),
            log_streams=streams,
        ),
        volumes={SOCKET_VOLUME: SOCKET_DIR},
        host_paths={socket: docker_endpoint.LOCAL_SOCKET},
        health=Health(
            test=("CMD", "python", "-m", "ape_socket_proxy", "check"),
            interval=HEALTH_SECONDS,
            timeout=5,
            start_period=10,
            retries=3,
        ),
        user=PROXY_USER,
        # Two files a connection.
        nofile=max(4096, 1024 + 2 * streams),
        per_node=True,
    )


def workload(image: str, alerting: AlertingSettings, ports: PortSettings, project: str) -> Workload:
    """`project`: its containers are the ones that are watched."""
    return Workload(
        name=NAME,
        service=NAME,
        image=image,
        memory_mb=LIMITS["monitor"].memory_mb,
        cpus=LIMITS["monitor"].cpus,
        command=("--no-console",),
        # Not APE_SETTINGS: the monitor is a command of its own, with options and their variables.
        env={
            "APE_MONITOR_PROJECT": project,
            "APE_MONITOR_INTERVAL": str(INTERVAL_SECONDS),
            "APE_MONITOR_BIND": "0.0.0.0",
            "APE_MONITOR_PORT": str(SERVICE_PORT),
            "APE_MONITOR_DOCKER_HOST": DOCKER_HOST,
            "APE_MONITOR_CGROUP_ROOT": "/host/cgroup",
            "APE_MONITOR_PROC_ROOT": "/host/proc",
            "APE_MONITOR_GATEWAY": gateway.URL,
            "APE_MONITOR_THRESHOLDS": json.dumps(
                alerting.threshold_overrides or {}, sort_keys=True
            ),
        },
        networks=(Attachment(EDGE, (NAME,)),),
        read_only_volumes={SOCKET_VOLUME: SOCKET_DIR},
        host_paths={"/sys/fs/cgroup": "/host/cgroup", "/proc": "/host/proc"},
        ports=(Port(SERVICE_PORT, ports.monitor),),
        health=service_health(interval=HEALTH_SECONDS),
        user=USER,
        # /proc/PID/cgroup is relative to the reader's namespace. A service has no such field; there
        # the monitor finds a container by its id.
        host_cgroups=True,
        # Ten files a container stay open; a host may allow no more than 20000.
        nofile=16384,
        per_node=True,
    )


class Monitor(Component):
    """`logs`: a log shipper reads Docker through the socket proxy, too."""

    def __init__(
        self, name: str, deployment: Deployment, alerting: AlertingSettings, *, logs: bool
    ) -> None:
        opts = deployment.after_images("monitor", "socket_proxy")
        super().__init__("ape:monitor:Monitor", name, opts)
        runtime, networks = deployment.runtime, deployment.networks.by_name
        context, images = runtime.context, deployment.images.names
        volume = runtime.volume(SOCKET_VOLUME, keep=False, opts=self.child_opts)
        after = pulumi.ResourceOptions.merge(
            self.child_opts, pulumi.ResourceOptions(depends_on=[volume])
        )
        endpoint = docker_endpoint.resolve(context.platform.docker_host)
        proxy = proxy_workload(
            images["socket_proxy"],
            docker_endpoint.daemon_socket(endpoint),
            project=context.project,
            stack=context.stack,
            log_streams=deployment.plan.log_streams if logs else 0,
        )
        project = f"{context.project}-{context.stack}"
        monitor = workload(images["monitor"], alerting, deployment.ports, project)
        # The monitor tries until the proxy is there, so neither waits for the other.
        self.ready = [
            *runtime.run(proxy, networks, opts=after),
            *runtime.run(monitor, networks, opts=after),
        ]
        self.register_outputs({})
