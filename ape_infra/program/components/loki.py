"""Loki: keeps the logs of every container."""

from __future__ import annotations

from ape_infra.config.settings import Settings
from ape_infra.observability import loki
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, File, Port, Workload, http_health

NAME = "loki"
DATA = "loki-data"
# As which the published image runs; its data directory belongs to it.
USER = "10001:10001"


def workload(settings: Settings) -> Workload:
    days = settings.observability.logs_retention_days
    file = File("loki.yml", yaml_of(loki.config(retention_days=days)))
    share = planning.OBSERVABILITY_SHARES["loki"]
    return Workload(
        name=NAME,
        service=NAME,
        image=settings.images.loki,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        command=(f"-config.file={file.path}",),
        files=(file,),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: loki.DATA_DIR},
        ports=(Port(loki.PORT, settings.ports.loki),),
        health=http_health(loki.PORT, "/ready"),
        user=USER,
        stop_grace_seconds=30,
    )


class Loki(ServiceWithData):
    token = "ape:logs:Loki"
    data = DATA
