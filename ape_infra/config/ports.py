"""Settings of the published ports, and the address that they are published on."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_infra.config.group import Group

PortNumber = Annotated[int, Field(ge=1, le=65535)]


class PortSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"{name}_port"))

    expose_address: str = Field(
        "127.0.0.1",
        alias="exposeAddress",
        description="IP address on which ports are published; loopback by default.",
    )
    gateway: PortNumber = Field(8080, description="Published port of the gateway.")
    proxy: PortNumber = Field(8081, description="Published port of the inference proxy.")
    target: PortNumber = Field(8082, description="Published port of the demo target.")
    prometheus: PortNumber = Field(9090, description="Published port of Prometheus.")
    alertmanager: PortNumber = Field(9093, description="Published port of Alertmanager.")
    grafana: PortNumber = Field(3000, description="Published port of Grafana.")
    loki: PortNumber = Field(3100, description="Published port of Loki.")
    victorialogs: PortNumber = Field(9428, description="Published port of VictoriaLogs.")
    monitor: PortNumber = Field(9101, description="Published port of the monitor.")
