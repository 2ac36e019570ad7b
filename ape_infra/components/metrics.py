"""Prometheus, scraping gateway and proxy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2
import pulumi

from ape_infra import plan as planning
from ape_infra.components import gateway, monitor, proxy
from ape_infra.components.base import Component
from ape_infra.components.networks import EDGE, Networks
from ape_infra.runtimes import Runtime
from ape_infra.workload import SERVICE_PORT, Attachment, File, Health, Logs, Port, Workload

NAME = "prometheus"
DATA = "prometheus-data"
PORT = 9090
# `nobody`, as which the published image runs; its data directory belongs to it.
USER = "65534:65534"
TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class MetricsArgs:
    image: str
    port: int
    project: str
    stack: str
    monitored: bool
    logs: Logs


def config(project: str, stack: str, monitored: bool) -> str:
    """Prometheus's own configuration, YAML."""
    environment = jinja2.Environment(  # noqa: S701 - YAML, not HTML
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("prometheus.yml.j2").render(
        project=project,
        stack=stack,
        jobs={
            gateway.NAME: SERVICE_PORT,
            proxy.NAME: SERVICE_PORT,
            **({monitor.NAME: SERVICE_PORT} if monitored else {}),
            NAME: PORT,
        },
    )


def workload(args: MetricsArgs) -> Workload:
    file = File("prometheus.yml", config(args.project, args.stack, args.monitored))
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=planning.PROMETHEUS_MEMORY_MB,
        cpus=planning.SERVICE_CPUS / 3,
        logs=args.logs,
        command=(
            f"--config.file={file.path}",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
            "--storage.tsdb.retention.size=4GB",
        ),
        files=(file,),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/prometheus"},
        ports=(Port(PORT, args.port),),
        health=Health(
            test=("CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/-/healthy"),
            interval=5,
            timeout=5,
            start_period=10,
            retries=5,
        ),
        user=USER,
        stop_grace_seconds=30,
    )


class Metrics(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: MetricsArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:metrics:Metrics", name, opts)
        data = runtime.volume(DATA, opts=self.child_opts)
        self.ready = runtime.run(
            workload(args),
            networks.by_name,
            opts=pulumi.ResourceOptions.merge(
                self.child_opts, pulumi.ResourceOptions(depends_on=[data])
            ),
        )
        self.register_outputs({})
