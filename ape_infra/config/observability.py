"""Settings of observability: its components, and the retention of metrics and logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ape_infra.config.group import Group
from ape_infra.planning.plan import LogStore, Observability, Part, parts_of


class ObservabilitySettings(Group):
    mode: Observability = Field(
        "metrics",
        alias="observability",
        description="off: none. metrics: Prometheus. full: observabilityParts.",
    )
    selected_parts: list[Part] = Field(
        [],
        alias="observabilityParts",
        description="Components of observability full, of prometheus, alertmanager, grafana, the "
        "log store (loki or victorialogs) and alloy; empty: all.",
    )
    log_store: LogStore = Field(
        "loki",
        alias="logStore",
        description="Component of observability full that keeps logs, loki or victorialogs. "
        "Changing it deletes the logs that the other one has kept.",
    )
    monitor: Literal["container", "off"] = Field(
        "container",
        description="container: a monitor on each node, unless observability is off. off: none; "
        "run `python -m monitoring` on the host.",
    )
    metrics_retention_days: int = Field(
        15, ge=1, description="Days for which Prometheus keeps metrics."
    )
    metrics_retention_size: str = Field(
        "4GB",
        pattern=r"^[1-9][0-9]*[MGT]B$",
        description="Size above which Prometheus deletes the oldest metrics.",
    )
    logs_retention_days: int = Field(
        7, ge=1, description="Days for which the log store keeps logs."
    )
    logs_retention_size: str = Field(
        "4GB",
        pattern=r"^[1-9][0-9]*[MGT]B$",
        description="Size above which VictoriaLogs deletes the oldest days of logs. Loki has no "
        "such limit.",
    )
    remote_write_url: str = Field(
        "", description="URL to which Prometheus also writes its metrics; empty: none."
    )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are deployed, in a fixed order; of the log stores, the one that is set."""
        selected = self.selected_parts if self.mode == "full" else ()
        deployed = parts_of(self.mode, self.log_store)
        return tuple(part for part in deployed if not selected or part in selected)

    @property
    def monitored(self) -> bool:
        """Whether the stack runs a monitor on each node."""
        return self.mode != "off" and self.monitor == "container"
