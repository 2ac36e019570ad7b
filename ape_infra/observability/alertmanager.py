"""Alertmanager's configuration: receivers, routes, and which alerts mute others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ape_infra.observability.rules import AGENTS, HOST, REQUIRED_SERVICES, SERVICE, WATCHDOG

PORT = 9093
# Receivers. The Watchdog goes to `nobody` if no URL expects it.
NOBODY, TEAM, DEADMAN = "nobody", "team", "watchdog"


@dataclass(frozen=True)
class Receivers:
    """Where alerts go; empty or None: not used. Secrets are paths of files in the container."""

    webhook_url: str = ""
    webhook_token: str | None = None
    watchdog_url: str = ""
    slack_url: str | None = None
    slack_channel: str = ""
    email_to: str = ""
    email_from: str = ""
    smtp_host: str = ""
    smtp_user: str = ""
    smtp_password: str | None = None


def config(receivers: Receivers) -> dict[str, Any]:
    """Return the configuration. Alerts are grouped by name and tier, never by agent."""
    return {
        "route": {
            "receiver": TEAM,
            "group_by": ["alertname", "tier"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
            "routes": [
                {
                    "matchers": [f'alertname="{WATCHDOG}"'],
                    "receiver": DEADMAN if receivers.watchdog_url else NOBODY,
                    "group_wait": "0s",
                    "group_interval": "1m",
                    "repeat_interval": "1m",
                },
                {"matchers": ['severity="critical"'], "repeat_interval": "1h"},
            ],
        },
        "inhibit_rules": [
            # A host or a required service that is down explains the alerts of agents. A monitor
            # that is down explains none.
            *(
                {
                    "source_matchers": ['severity="critical"', *source],
                    "target_matchers": [of_agents],
                    "equal": ["project", "stack"],
                }
                for source in (
                    [f'scope="{HOST}"'],
                    [f'scope="{SERVICE}"', f'service=~"{"|".join(REQUIRED_SERVICES)}"'],
                )
                for of_agents in (f'scope="{AGENTS}"', 'service="agent"')
            ),
            {
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity="warning"'],
                "equal": ["alertname", "project", "stack", "service", "tier"],
            },
        ],
        "receivers": [
            {"name": NOBODY},
            {"name": TEAM, **_team(receivers)},
            *([_deadman(receivers)] if receivers.watchdog_url else []),
        ],
    }


def _webhook(url: str, token: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {"url": url, "send_resolved": True}
    if token:
        made["http_config"] = {"authorization": {"credentials_file": token}}
    return made


def _deadman(receivers: Receivers) -> dict[str, Any]:
    hook = _webhook(receivers.watchdog_url, None) | {"send_resolved": False}
    return {"name": DEADMAN, "webhook_configs": [hook]}


def _team(receivers: Receivers) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if receivers.webhook_url:
        made["webhook_configs"] = [_webhook(receivers.webhook_url, receivers.webhook_token)]
    if receivers.slack_url:
        slack = {"api_url_file": receivers.slack_url, "send_resolved": True}
        if receivers.slack_channel:
            slack["channel"] = receivers.slack_channel
        made["slack_configs"] = [slack]
    if receivers.email_to:
        mail: dict[str, Any] = {
            "to": receivers.email_to,
            "from": receivers.email_from,
            "smarthost": receivers.smtp_host,
            "send_resolved": True,
        }
        if receivers.smtp_user:
            mail |= {
                "auth_username": receivers.smtp_user,
                "auth_password_file": receivers.smtp_password,
            }
        made["email_configs"] = [mail]
    return made
