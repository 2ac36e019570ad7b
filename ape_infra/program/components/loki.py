"""Loki: keeps the logs of every container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_infra.observability import loki
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import Attachment, File, Logs, Port, Workload, http_health

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = "loki"
DATA = "loki-data"
# As which the published image runs; its data directory belongs to it.
USER = "10001:10001"


@dataclass(frozen=True)
class LokiArgs:
    image: str
    port: int
    retention_days: int
    logs: Logs


def workload(args: LokiArgs) -> Workload:
    file = File("loki.yml", yaml_of(loki.config(retention_days=args.retention_days)))
    share = planning.OBSERVABILITY_SHARES["loki"]
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        logs=args.logs,
        command=(f"-config.file={file.path}",),
        files=(file,),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: loki.DATA_DIR},
        ports=(Port(loki.PORT, args.port),),
        health=http_health(loki.PORT, "/ready"),
        user=USER,
        stop_grace_seconds=30,
    )


class Loki(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: LokiArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:logs:Loki", name, opts)
        self.ready = self.run_with_data(runtime, DATA, workload(args), networks.by_name)
        self.register_outputs({})
