"""Settings of the observability stack: its parts, and how long they keep what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ape_infra.config.group import Group
from ape_infra.planning.plan import PARTS_OF, Observability, Part


class ObservabilitySettings(Group):
    mode: Observability = Field(
        "metrics", alias="observability", description="off, metrics (Prometheus), or full."
    )
    selected_parts: list[Part] = Field(
        [],
        alias="observabilityParts",
        description="Parts of observability full: prometheus, alertmanager, grafana, loki, alloy; "
        "empty: all of them.",
    )
    monitor: Literal["container", "off"] = Field(
        "container",
        description="container: a monitor on each node (with observability). off: none; "
        "`python -m monitoring` runs on the host.",
    )
    metrics_retention_days: int = Field(
        15, ge=1, description="Days for which Prometheus keeps metrics."
    )
    metrics_retention_size: str = Field(
        "4GB", pattern=r"^[1-9][0-9]*[MGT]B$", description="Size at which the oldest metrics go."
    )
    logs_retention_days: int = Field(7, ge=1, description="Days for which Loki keeps logs.")
    remote_write_url: str = Field(
        "", description="URL to which Prometheus writes its metrics too; empty: none."
    )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are deployed, in a fixed order."""
        selected = self.selected_parts if self.mode == "full" else ()
        return tuple(p for p in PARTS_OF[self.mode] if not selected or p in selected)

    @property
    def monitored(self) -> bool:
        """Whether the stack has monitors of its own."""
        return self.mode != "off" and self.monitor == "container"
