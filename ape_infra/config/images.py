"""Settings of images: the registry, prebuilt images, and the versions of external images."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_infra.config.group import Group
from ape_infra.planning.services import BUILT_SERVICES


def _built(name: str) -> str:
    if name not in BUILT_SERVICES:
        raise ValueError(f"it must be one of {', '.join(BUILT_SERVICES)}")
    return name


class ImageSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"{name}_image"))

    registry: str = Field(
        "",
        alias="registry",
        description="Registry to which built images are pushed; empty: none.",
    )
    registry_login: bool = Field(
        False,
        alias="registryLogin",
        description="Pull from `registry` with the credentials of `docker login` on this machine, "
        "also on the nodes of a Swarm.",
    )
    given: dict[Annotated[str, AfterValidator(_built)], str] | None = Field(
        None,
        alias="images",
        description=f"Prebuilt images by service ({', '.join(BUILT_SERVICES)}); "
        "empty: all are built from services/.",
    )
    base: str = Field("python:3.11-slim", description="Base image of the services.")
    prometheus: str = Field(
        "prom/prometheus:v2.42.0", description="Image of Prometheus, with a tag or digest."
    )
    alertmanager: str = Field(
        "prom/alertmanager:v0.25.0", description="Image of Alertmanager, with a tag or digest."
    )
    grafana: str = Field(
        "grafana/grafana:11.6.0", description="Image of Grafana, with a tag or digest."
    )
    loki: str = Field("grafana/loki:3.4.2", description="Image of Loki, with a tag or digest.")
    victorialogs: str = Field(
        "victoriametrics/victoria-logs:v1.52.1",
        description="Image of VictoriaLogs, with a tag or digest.",
    )
    alloy: str = Field(
        "grafana/alloy:v1.7.5", description="Image of Grafana Alloy, with a tag or digest."
    )
