"""VictoriaLogs: keeps the logs of every container, in the place of Loki."""

from __future__ import annotations

from ape_infra.config.settings import Settings
from ape_infra.observability import victorialogs
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, Port, Workload

NAME = "victorialogs"
DATA = "victorialogs-data"
# The published image runs as root. This user of it has a home of its own there, for the data.
USER = "65532:65532"


def workload(settings: Settings) -> Workload:
    """Without a health check: the image has nothing but the server, which cannot query itself.

    Prometheus (`up`) and `ape-load status` query it over the network.
    """
    kept = settings.observability
    share = planning.OBSERVABILITY_SHARES["victorialogs"]
    return Workload(
        name=NAME,
        service=NAME,
        image=settings.images.victorialogs,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        command=victorialogs.options(
            retention_days=kept.logs_retention_days, retention_size=kept.logs_retention_size
        ),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: victorialogs.HOME},
        ports=(Port(victorialogs.PORT, settings.ports.victorialogs),),
        user=USER,
        stop_grace_seconds=30,
    )


class VictoriaLogs(ServiceWithData):
    token = "ape:logs:VictoriaLogs"
    data = DATA
