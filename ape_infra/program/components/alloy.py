"""Grafana Alloy: brings the logs of every container of the stack to the log store."""

from __future__ import annotations

from ape_infra.config.settings import Settings
from ape_infra.observability import alloy
from ape_infra.planning import plan as planning
from ape_infra.program.components import monitor
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, File, Health, Workload

NAME = "alloy"
DATA = "alloy-data"
# The user `alloy` of the published image; its data directory belongs to it.
USER = "473:473"


def workload(settings: Settings, *, project: str, stack: str, push_url: str) -> Workload:
    """`push_url`: where the log store takes logs, by Loki's protocol."""
    file = File(
        "config.alloy",
        alloy.config(
            docker_url=monitor.DOCKER_HOST,
            project=project,
            stack=stack,
            push_url=push_url,
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
        image=settings.images.alloy,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
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
        volumes={DATA: alloy.DATA_DIR},
        read_only_volumes={monitor.SOCKET_VOLUME: monitor.SOCKET_DIR},
        health=Health(
            test=("CMD", "bash", "-c", ready), interval=5, timeout=5, start_period=30, retries=5
        ),
        user=USER,
        per_node=True,
    )


class Alloy(ServiceWithData):
    token = "ape:logs:Alloy"
    data = DATA
