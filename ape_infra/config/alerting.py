"""Settings of alerts: thresholds, changes to rules, and who receives them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_infra.config.group import Group, Strict
from monitoring.thresholds import Thresholds
from monitoring.thresholds import parse as parse_thresholds


class AlertOverride(Strict):
    """What a stack changes of an alert of the rules."""

    for_seconds: int | None = Field(default=None, ge=0)
    disabled: bool = False


class AlertingSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"alert_{name}"))

    threshold_overrides: dict[str, Any] | None = Field(
        None,
        alias="alertThresholds",
        description="Thresholds over the defaults: name to a number, or to raiseAt, clearAt and "
        "holdSeconds.",
    )
    overrides: dict[str, AlertOverride] | None = Field(
        None,
        description="Changes to alerts by name: forSeconds, disabled; empty: as they come.",
    )
    runbooks: str = Field(
        "docs/runbooks.md",
        alias="runbooks",
        min_length=1,
        description="Where alerts say that their runbook is: a URL, or a path of the project.",
    )
    webhook_url: str = Field("", description="URL to which Alertmanager posts alerts; empty: none.")
    watchdog_url: str = Field(
        "",
        description="URL of a service that misses the Watchdog alert when it stops; empty: none.",
    )
    slack_channel: str = Field(
        "", description="Channel of Slack, with secret alertSlackUrl; empty: the URL's own."
    )
    email_to: str = Field("", description="Address to which alerts are mailed; empty: none.")
    email_from: str = Field("", description="Address from which alerts are mailed.")
    smtp_host: str = Field("", description="Mail server with its port: smtp.example:587.")
    smtp_user: str = Field("", description="User of the mail server; empty: no login.")

    @property
    def thresholds(self) -> Thresholds:
        """The monitor's thresholds with the stack's overrides. Raises ThresholdError."""
        return parse_thresholds(self.threshold_overrides or {})
