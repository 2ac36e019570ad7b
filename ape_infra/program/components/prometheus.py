"""Prometheus: scrapes the services, and evaluates the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from ape_infra.observability import prometheus, recording_rules
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import Attachment, File, Logs, Port, Workload, http_health

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = "prometheus"
DATA = "prometheus-data"
# `nobody`, as which the published image runs; its data directory belongs to it.
USER = "65534:65534"


@dataclass(frozen=True)
class MetricsArgs:
    """`jobs`: name on the network -> port of /metrics. `alerts`: groups of alerting rules.

    `alertmanager`: its name and port, or None. `url`: as users reach Prometheus, or None.
    """

    image: str
    port: int
    project: str
    stack: str
    jobs: Mapping[str, int]
    alerts: Sequence[Mapping[str, Any]]
    alertmanager: tuple[str, int] | None
    remote_write_url: str
    remote_write_token: pulumi.Input[str] | None
    retention_days: int
    retention_size: str
    url: str | None
    logs: Logs


def workload(args: MetricsArgs) -> Workload:
    rules = File("rules.yml", yaml_of({"groups": [*recording_rules.groups(), *args.alerts]}))
    token = (
        File("remote_write_token", args.remote_write_token, secret=True)
        if args.remote_write_token is not None
        else None
    )
    config = prometheus.config(
        project=args.project,
        stack=args.stack,
        jobs=args.jobs,
        rule_files=(rules.path,),
        alertmanager=args.alertmanager,
        remote_write=prometheus.RemoteWrite(args.remote_write_url, token.path if token else None)
        if args.remote_write_url
        else None,
    )
    file = File("prometheus.yml", yaml_of(config))
    share = planning.OBSERVABILITY_SHARES["prometheus"]
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        logs=args.logs,
        command=(
            f"--config.file={file.path}",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={args.retention_days}d",
            f"--storage.tsdb.retention.size={args.retention_size}",
            *((f"--web.external-url={args.url}",) if args.url else ()),
        ),
        files=(file, rules, *((token,) if token else ())),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/prometheus"},
        ports=(Port(prometheus.PORT, args.port),),
        health=http_health(prometheus.PORT, "/-/healthy"),
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
        self.ready = self.run_with_data(runtime, DATA, workload(args), networks.by_name)
        self.register_outputs({})
