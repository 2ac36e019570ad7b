"""Grafana, with its datasources and dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_infra.observability import grafana
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import (
    CONFIG_DIR,
    Attachment,
    File,
    Logs,
    Port,
    Workload,
    http_health,
)

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = "grafana"
DATA = "grafana-data"
# The user of the published image, whose group is root's; its data directory belongs to it.
USER = "472:0"


@dataclass(frozen=True)
class GrafanaArgs:
    """URLs as Grafana reaches them; None: not deployed. `dashboards`: file name -> JSON."""

    image: str
    port: int
    password: pulumi.Input[str]
    prometheus_url: str
    loki_url: str | None
    alertmanager_url: str | None
    dashboards: Mapping[str, str]
    url: str | None
    logs: Logs


def workload(args: GrafanaArgs) -> Workload:
    password = File("grafana_password", args.password, secret=True)
    sources = grafana.datasources(
        prometheus_url=args.prometheus_url,
        loki_url=args.loki_url,
        alertmanager_url=args.alertmanager_url,
    )
    where = grafana.PROVISIONING
    share = planning.OBSERVABILITY_SHARES["grafana"]
    env = grafana.environment(directory=CONFIG_DIR, password_file=password.path)
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        logs=args.logs,
        env=env | ({"GF_SERVER_ROOT_URL": args.url} if args.url else {}),
        files=(
            password,
            File(f"{where}/datasources/ape.yml", yaml_of(sources)),
            File(
                f"{where}/dashboards/ape.yml",
                yaml_of(grafana.providers(directory=f"{CONFIG_DIR}/dashboards")),
            ),
            *(File(f"dashboards/{name}", text) for name, text in args.dashboards.items()),
        ),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/var/lib/grafana"},
        ports=(Port(grafana.PORT, args.port),),
        health=http_health(grafana.PORT, "/api/health"),
        user=USER,
    )


class Grafana(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: GrafanaArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:dashboards:Grafana", name, opts)
        self.ready = self.run_with_data(runtime, DATA, workload(args), networks.by_name)
        self.register_outputs({})
