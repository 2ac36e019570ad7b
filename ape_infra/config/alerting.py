"""Settings of alerts: thresholds, changes to rules, and receivers."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_infra.config.group import Group, Strict
from monitoring.thresholds import Thresholds
from monitoring.thresholds import parse as parse_thresholds


class AlertOverride(Strict):
    """The changes of a stack to one alert."""

    for_seconds: int | None = Field(default=None, ge=0)
    disabled: bool = False


class AlertingSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"alert_{name}"))

    threshold_overrides: dict[str, Any] | None = Field(
        None,
        alias="alertThresholds",
        description="Thresholds other than the defaults, by name: a number, or an object of "
        "raiseAt, clearAt and holdSeconds.",
    )
    overrides: dict[str, AlertOverride] | None = Field(
        None,
        description="Changes to alerts, by name: forSeconds and disabled; empty: none.",
    )
    runbooks: str = Field(
        "docs/runbooks.md",
        alias="runbooks",
        min_length=1,
        description="Location of the runbooks that alerts link to: a URL or a path in the project.",
    )
    webhook_url: str = Field("", description="URL to which Alertmanager posts alerts; empty: none.")
    watchdog_url: str = Field(
        "",
        description="URL of a service that alerts when the Watchdog alert stops; empty: none.",
    )
    slack_channel: str = Field(
        "",
        description="Slack channel, with secret alertSlackUrl; empty: the URL's default channel.",
    )
    email_to: str = Field("", description="Email address to which alerts are sent; empty: none.")
    email_from: str = Field(
        "", description="Email address from which alerts are sent; required with alertEmailTo."
    )
    smtp_host: str = Field("", description="Mail server and its port, such as smtp.example:587.")
    smtp_user: str = Field("", description="User name at the mail server; empty: no login.")

    @property
    def thresholds(self) -> Thresholds:
        """The monitor's thresholds with the stack's overrides. Raises ThresholdError."""
        return parse_thresholds(self.threshold_overrides or {})
