"""Prometheus's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PORT = 9090
SCRAPE_SECONDS = 5
# Interval of DNS queries for a job's names; a new shard or node is found within it.
REFRESH_SECONDS = 5


@dataclass(frozen=True)
class RemoteWrite:
    """Where Prometheus copies its samples. `token`: path of a file with a bearer token, or None."""

    url: str
    token: str | None


def config(
    *,
    project: str,
    stack: str,
    jobs: Mapping[str, int],
    rule_files: tuple[str, ...],
    alertmanager: tuple[str, int] | None,
    remote_write: RemoteWrite | None,
) -> dict[str, Any]:
    """Return the configuration. `jobs`: name on the network -> port of /metrics.

    `alertmanager`: name and port, or None. Targets come from DNS, which returns the tasks of a name
    on all nodes.
    """
    labels = {"project": project, "stack": stack}
    made: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "scrape_timeout": f"{SCRAPE_SECONDS}s",
            "evaluation_interval": f"{SCRAPE_SECONDS}s",
            "external_labels": labels,
        },
        "rule_files": list(rule_files),
        "scrape_configs": [
            {
                "job_name": job,
                "dns_sd_configs": [_dns(job, port)],
                # The labels are on the series too, so that a query works here and in a database of
                # many stacks. Labels that a service sets for other containers are kept.
                "honor_labels": True,
                "relabel_configs": [
                    {"target_label": name, "replacement": value} for name, value in labels.items()
                ],
            }
            for job, port in jobs.items()
        ],
    }
    if alertmanager:
        made["alerting"] = {"alertmanagers": [{"dns_sd_configs": [_dns(*alertmanager)]}]}
    if remote_write:
        target: dict[str, Any] = {"url": remote_write.url}
        if remote_write.token:
            target["authorization"] = {"credentials_file": remote_write.token}
        made["remote_write"] = [target]
    return made


def _dns(name: str, port: int) -> dict[str, Any]:
    return {
        "names": [name],
        "type": "A",
        "port": port,
        "refresh_interval": f"{REFRESH_SECONDS}s",
    }
