"""Alertmanager: notifies people of alerts, once of each."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from ape_infra.config.secrets import SLACK_URL, SMTP_PASSWORD, WEBHOOK_TOKEN
from ape_infra.config.settings import Settings
from ape_infra.observability import alertmanager
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, File, Port, Workload, http_health

NAME = "alertmanager"
DATA = "alertmanager-data"
# `nobody`, as which the published image runs; its data directory belongs to it.
USER = "65534:65534"


def workload(
    settings: Settings, secrets: Mapping[str, pulumi.Input[str]], *, url: str | None
) -> Workload:
    """`url`: as users reach it, or None."""
    alerting = settings.alerting
    files = {
        name: File(name, secrets[secret], secret=True)
        for name, secret in (
            ("webhook_token", WEBHOOK_TOKEN),
            ("slack_url", SLACK_URL),
            ("smtp_password", SMTP_PASSWORD),
        )
        if secret in secrets
    }
    paths = {name: file.path for name, file in files.items()}
    receivers = alertmanager.Receivers(
        webhook_url=alerting.webhook_url,
        webhook_token=paths.get("webhook_token"),
        watchdog_url=alerting.watchdog_url,
        slack_url=paths.get("slack_url"),
        slack_channel=alerting.slack_channel,
        email_to=alerting.email_to,
        email_from=alerting.email_from,
        smtp_host=alerting.smtp_host,
        smtp_user=alerting.smtp_user,
        smtp_password=paths.get("smtp_password"),
    )
    file = File("alertmanager.yml", yaml_of(alertmanager.config(receivers)))
    share = planning.OBSERVABILITY_SHARES["alertmanager"]
    return Workload(
        name=NAME,
        service=NAME,
        image=settings.images.alertmanager,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        command=(
            f"--config.file={file.path}",
            "--storage.path=/alertmanager",
            # One of it: no port for others of its kind.
            "--cluster.listen-address=",
            *((f"--web.external-url={url}",) if url else ()),
        ),
        files=(file, *files.values()),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/alertmanager"},
        ports=(Port(alertmanager.PORT, settings.ports.alertmanager),),
        health=http_health(alertmanager.PORT, "/-/healthy"),
        user=USER,
    )


class Alertmanager(ServiceWithData):
    token = "ape:alerts:Alertmanager"
    data = DATA
