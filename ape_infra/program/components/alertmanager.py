"""Alertmanager: tells people of alerts, each once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_infra.observability import alertmanager
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, Networks
from ape_infra.program.workload import Attachment, File, Logs, Port, Workload, http_health

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = "alertmanager"
DATA = "alertmanager-data"
# `nobody`, as which the published image runs; its data directory belongs to it.
USER = "65534:65534"


@dataclass(frozen=True)
class AlertmanagerArgs:
    """Where alerts go; empty or None: not used. `url`: as users reach it, or None."""

    image: str
    port: int
    webhook_url: str
    webhook_token: pulumi.Input[str] | None
    watchdog_url: str
    slack_url: pulumi.Input[str] | None
    slack_channel: str
    email_to: str
    email_from: str
    smtp_host: str
    smtp_user: str
    smtp_password: pulumi.Input[str] | None
    url: str | None
    logs: Logs


def workload(args: AlertmanagerArgs) -> Workload:
    secrets = {
        name: File(name, content, secret=True)
        for name, content in (
            ("webhook_token", args.webhook_token),
            ("slack_url", args.slack_url),
            ("smtp_password", args.smtp_password),
        )
        if content is not None
    }
    paths = {name: file.path for name, file in secrets.items()}
    receivers = alertmanager.Receivers(
        webhook_url=args.webhook_url,
        webhook_token=paths.get("webhook_token"),
        watchdog_url=args.watchdog_url,
        slack_url=paths.get("slack_url"),
        slack_channel=args.slack_channel,
        email_to=args.email_to,
        email_from=args.email_from,
        smtp_host=args.smtp_host,
        smtp_user=args.smtp_user,
        smtp_password=paths.get("smtp_password"),
    )
    file = File("alertmanager.yml", yaml_of(alertmanager.config(receivers)))
    share = planning.OBSERVABILITY_SHARES["alertmanager"]
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        logs=args.logs,
        command=(
            f"--config.file={file.path}",
            "--storage.path=/alertmanager",
            # One of it: no port for others of its kind.
            "--cluster.listen-address=",
            *((f"--web.external-url={args.url}",) if args.url else ()),
        ),
        files=(file, *secrets.values()),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/alertmanager"},
        ports=(Port(alertmanager.PORT, args.port),),
        health=http_health(alertmanager.PORT, "/-/healthy"),
        user=USER,
    )


class Alertmanager(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: AlertmanagerArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:alerts:Alertmanager", name, opts)
        self.ready = self.run_with_data(runtime, DATA, workload(args), networks.by_name)
        self.register_outputs({})
