"""Which parts of the observability stack are declared, and what they know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ape_contracts.service_settings import SERVICE_PORT
from ape_infra.config.errors import SettingsError
from ape_infra.config.project import config_key
from ape_infra.config.settings import Settings
from ape_infra.observability import alertmanager as alertmanager_config
from ape_infra.observability import alloy as alloy_config
from ape_infra.observability import grafana as grafana_config
from ape_infra.observability import loki as loki_config
from ape_infra.observability import prometheus as prometheus_config
from ape_infra.observability import rules
from ape_infra.observability import victorialogs as victorialogs_config
from ape_infra.planning import plan as planning
from ape_infra.program.components import (
    alertmanager,
    alloy,
    gateway,
    grafana,
    loki,
    monitor,
    prometheus,
    proxy,
    victorialogs,
)
from ape_infra.program.components.base import ServiceWithData
from ape_infra.program.components.deployment import Deployment
from ape_infra.program.workload import Workload
from monitoring.rules import prometheus_rules

# Names on the network and ports of /metrics.
PORTS = {
    prometheus.NAME: prometheus_config.PORT,
    alertmanager.NAME: alertmanager_config.PORT,
    grafana.NAME: grafana_config.PORT,
    loki.NAME: loki_config.PORT,
    victorialogs.NAME: victorialogs_config.PORT,
    alloy.NAME: alloy_config.PORT,
}
# Log store -> where it takes logs by Loki's protocol.
PUSH_PATHS: dict[planning.LogStore, str] = {
    "loki": loki_config.PUSH_PATH,
    "victorialogs": victorialogs_config.PUSH_PATH,
}
# Part -> its resource's name and class.
COMPONENTS: dict[planning.Part, tuple[str, type[ServiceWithData]]] = {
    "prometheus": ("metrics", prometheus.Metrics),
    "alertmanager": ("alerts", alertmanager.Alertmanager),
    "grafana": ("dashboards", grafana.Grafana),
    "loki": ("logs", loki.Loki),
    "victorialogs": ("logs", victorialogs.VictoriaLogs),
    "alloy": ("log-shipper", alloy.Alloy),
}


def url_of(part: str) -> str:
    """Where the other parts reach `part`."""
    return f"http://{part}:{PORTS[part]}"


def alerts(settings: Settings, jobs: Sequence[str]) -> list[dict[str, Any]]:
    """Groups of alerting rules for a Prometheus that scrapes `jobs`.

    Raises SettingsError where an override names no alert.
    """
    overrides = {
        name: rules.Override(override.for_seconds, override.disabled)
        for name, override in (settings.alerting.overrides or {}).items()
    }
    try:
        return rules.groups(
            jobs,
            runbooks=settings.alerting.runbooks,
            overrides=overrides,
            more=prometheus_rules(settings.alerting.thresholds)["groups"]
            if settings.observability.monitored
            else (),
        )
    except ValueError as error:
        raise SettingsError([f"{config_key('alertOverrides')}.{error}."]) from None


def workload(
    part: planning.Part,
    settings: Settings,
    secrets: Mapping[str, pulumi.Input[str]],
    *,
    project: str,
    stack: str,
    url: str | None = None,
) -> Workload:
    """The workload of a part, which knows the other parts of the settings. `url`: for users."""
    parts, store = settings.observability.parts, settings.observability.log_store
    services = [
        gateway.NAME,
        proxy.NAME,
        *([monitor.NAME] if settings.observability.monitored else []),
    ]
    jobs = dict.fromkeys(services, SERVICE_PORT) | {name: PORTS[name] for name in parts}
    match part:
        case "prometheus":
            return prometheus.workload(
                settings,
                secrets,
                project=project,
                stack=stack,
                jobs=jobs,
                alerts=alerts(settings, tuple(jobs)),
                alertmanager=(alertmanager.NAME, PORTS[alertmanager.NAME])
                if "alertmanager" in parts
                else None,
                url=url,
            )
        case "alertmanager":
            return alertmanager.workload(settings, secrets, url=url)
        case "grafana":
            return grafana.workload(
                settings,
                secrets,
                prometheus_url=url_of(prometheus.NAME),
                logs_url=url_of(store) if store in parts else None,
                alertmanager_url=url_of(alertmanager.NAME) if "alertmanager" in parts else None,
                url=url,
            )
        case "loki":
            return loki.workload(settings)
        case "victorialogs":
            return victorialogs.workload(settings)
        case "alloy":
            push_url = f"{url_of(store)}{PUSH_PATHS[store]}"
            return alloy.workload(settings, project=project, stack=stack, push_url=push_url)


def declare(
    settings: Settings,
    secrets: Mapping[str, pulumi.Output[str]],
    deployment: Deployment,
    *,
    monitors: Sequence[pulumi.Resource],
) -> None:
    """Register the parts that the settings name.

    `monitors`: the monitor and its proxy, through which Alloy reads Docker.
    """
    runtime = deployment.runtime
    ports = settings.part_ports
    for part in settings.observability.parts:
        made = workload(
            part,
            settings,
            secrets,
            project=runtime.context.project,
            stack=runtime.context.stack,
            url=runtime.endpoint(ports[port]) if (port := f"{part}Port") in ports else None,
        )
        name, component = COMPONENTS[part]
        opts = deployment.after(*monitors) if part == "alloy" else deployment.opts
        component(name, deployment, made, opts)
