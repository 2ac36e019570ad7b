"""Grafana Alloy: brings the logs of every container of the stack to Loki."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_infra.observability import alloy
from ape_infra.planning import plan as planning
from ape_infra.program.components import monitor
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import Attachment, File, Health, Logs, Workload

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = "alloy"
DATA = "alloy-data"
# The user `alloy` of the published image; its data directory belongs to it.
USER = "473:473"


@dataclass(frozen=True)
class AlloyArgs:
    image: str
    project: str
    stack: str
    push_url: str
    logs: Logs


def workload(args: AlloyArgs) -> Workload:
    file = File(
        "config.alloy",
        alloy.config(
            docker_url=monitor.DOCKER_HOST,
            project=args.project,
            stack=args.stack,
            push_url=args.push_url,
        ),
    )
    share = planning.OBSERVABILITY_SHARES["alloy"]
    # The image has bash, and no wget.
    ready = (
        f"exec 3<>/dev/tcp/127.0.0.1/{alloy.PORT} && "
        "printf 'GET /-/ready HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"
    )
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        logs=args.logs,
        command=(
            "run",
            f"--server.http.listen-addr=0.0.0.0:{alloy.PORT}",
            f"--storage.path={alloy.DATA_DIR}",
            "--disable-reporting",
            file.path,
        ),
        files=(file,),
        networks=(Attachment(EDGE, (NAME,)),),
        # Docker is read through the proxy of the monitor, which lets lists and logs pass.
        volumes={DATA: alloy.DATA_DIR, monitor.SOCKET_VOLUME: monitor.SOCKET_DIR},
        health=Health(
            test=("CMD", "bash", "-c", ready), interval=5, timeout=5, start_period=30, retries=5
        ),
        user=USER,
        per_node=True,
    )


class Alloy(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: AlloyArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:logs:Alloy", name, opts)
        self.ready = self.run_with_data(runtime, DATA, workload(args), networks.by_name)
        self.register_outputs({})
