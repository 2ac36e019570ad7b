"""Grafana, with its datasources and dashboards."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from ape_infra.config.secrets import GRAFANA_PASSWORD
from ape_infra.config.settings import Settings
from ape_infra.observability import dashboards, grafana
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import CONFIG_DIR, Attachment, File, Port, Workload, http_health

NAME = "grafana"
DATA = "grafana-data"
# The user of the published image, whose group is root's; its data directory belongs to it.
USER = "472:0"


def workload(
    settings: Settings,
    secrets: Mapping[str, pulumi.Input[str]],
    *,
    prometheus_url: str,
    logs_url: str | None,
    alertmanager_url: str | None,
    url: str | None,
) -> Workload:
    """URLs as Grafana reaches them; None: not deployed. `url`: as users reach it, or None."""
    store = settings.observability.log_store
    password = File("grafana_password", secrets.get(GRAFANA_PASSWORD, ""), secret=True)
    sources = grafana.datasources(
        prometheus_url=prometheus_url,
        logs=(store, logs_url) if logs_url else None,
        alertmanager_url=alertmanager_url,
    )
    where = grafana.PROVISIONING
    share = planning.OBSERVABILITY_SHARES["grafana"]
    env = grafana.environment(
        directory=CONFIG_DIR,
        password_file=password.path,
        plugin=grafana.LOG_SOURCES[store].plugin if logs_url else None,
    )
    return Workload(
        name=NAME,
        service=NAME,
        image=settings.images.grafana,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        env=env | ({"GF_SERVER_ROOT_URL": url} if url else {}),
        files=(
            password,
            File(f"{where}/datasources/ape.yml", yaml_of(sources)),
            File(
                f"{where}/dashboards/ape.yml",
                yaml_of(grafana.providers(directory=f"{CONFIG_DIR}/dashboards")),
            ),
            *(File(f"dashboards/{name}", text) for name, text in dashboards.files(store).items()),
        ),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/var/lib/grafana"},
        ports=(Port(grafana.PORT, settings.ports.grafana),),
        health=http_health(grafana.PORT, "/api/health"),
        user=USER,
    )


class Grafana(ServiceWithData):
    token = "ape:dashboards:Grafana"
    data = DATA
