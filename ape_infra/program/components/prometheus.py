"""Prometheus: scrapes the services, and evaluates the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ape_infra.config.secrets import REMOTE_WRITE_TOKEN
from ape_infra.config.settings import Settings
from ape_infra.observability import prometheus, recording_rules
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan as planning
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.networks import EDGE
from ape_infra.program.workload import Attachment, File, Port, Workload, http_health

NAME = "prometheus"
DATA = "prometheus-data"
# `nobody`, as which the published image runs; its data directory belongs to it.
USER = "65534:65534"


def workload(
    settings: Settings,
    secrets: Mapping[str, pulumi.Input[str]],
    *,
    project: str,
    stack: str,
    jobs: Mapping[str, int],
    alerts: Sequence[Mapping[str, Any]],
    alertmanager: tuple[str, int] | None,
    url: str | None,
) -> Workload:
    """`jobs`: name on the network -> port of /metrics. `alerts`: groups of alerting rules.

    `alertmanager`: its name and port, or None. `url`: as users reach Prometheus, or None.
    """
    kept = settings.observability
    rules = File("rules.yml", yaml_of({"groups": [*recording_rules.groups(), *alerts]}))
    token = (
        File("remote_write_token", secrets[REMOTE_WRITE_TOKEN], secret=True)
        if REMOTE_WRITE_TOKEN in secrets
        else None
    )
    config = prometheus.config(
        project=project,
        stack=stack,
        jobs=jobs,
        rule_files=(rules.path,),
        alertmanager=alertmanager,
        remote_write=prometheus.RemoteWrite(kept.remote_write_url, token.path if token else None)
        if kept.remote_write_url
        else None,
    )
    file = File("prometheus.yml", yaml_of(config))
    share = planning.OBSERVABILITY_SHARES["prometheus"]
    return Workload(
        name=NAME,
        service=NAME,
        image=settings.images.prometheus,
        memory_mb=share.memory_mb,
        cpus=share.cpus,
        command=(
            f"--config.file={file.path}",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={kept.metrics_retention_days}d",
            f"--storage.tsdb.retention.size={kept.metrics_retention_size}",
            *((f"--web.external-url={url}",) if url else ()),
        ),
        files=(file, rules, *((token,) if token else ())),
        networks=(Attachment(EDGE, (NAME,)),),
        volumes={DATA: "/prometheus"},
        ports=(Port(prometheus.PORT, settings.ports.prometheus),),
        health=http_health(prometheus.PORT, "/-/healthy"),
        user=USER,
        stop_grace_seconds=30,
    )


class Metrics(ServiceWithData):
    token = "ape:metrics:Metrics"
    data = DATA
