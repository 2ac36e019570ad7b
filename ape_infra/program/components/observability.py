"""Which parts of the observability stack are declared, and what they know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi

from ape_infra.config.errors import SettingsError
from ape_infra.config.project import config_key
from ape_infra.config.secrets import (
    GRAFANA_PASSWORD,
    REMOTE_WRITE_TOKEN,
    SLACK_URL,
    SMTP_PASSWORD,
    WEBHOOK_TOKEN,
)
from ape_infra.config.settings import Settings
from ape_infra.observability import alertmanager as alertmanager_config
from ape_infra.observability import alloy as alloy_config
from ape_infra.observability import dashboards, rules
from ape_infra.observability import grafana as grafana_config
from ape_infra.observability import loki as loki_config
from ape_infra.observability import prometheus as prometheus_config
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
)
from ape_infra.program.components.networks import Networks
from ape_infra.program.workload import SERVICE_PORT, Logs, Workload
from monitoring.rules import prometheus_rules

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

# Names on the network and ports of /metrics.
PORTS = {
    prometheus.NAME: prometheus_config.PORT,
    alertmanager.NAME: alertmanager_config.PORT,
    grafana.NAME: grafana_config.PORT,
    loki.NAME: loki_config.PORT,
    alloy.NAME: alloy_config.PORT,
}


def url(part: str) -> str:
    """Of a part, for the others."""
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


Args = (
    prometheus.MetricsArgs
    | alertmanager.AlertmanagerArgs
    | grafana.GrafanaArgs
    | loki.LokiArgs
    | alloy.AlloyArgs
)


def arguments(
    settings: Settings,
    secrets: Mapping[str, pulumi.Input[str]],
    *,
    project: str,
    stack: str,
    urls: Mapping[str, str | None],
    logs: Logs,
) -> dict[planning.Part, Args]:
    """What each part that the settings name is told. `urls`: of the parts, for the user."""
    parts = settings.observability.parts
    services = [
        gateway.NAME,
        proxy.NAME,
        *([monitor.NAME] if settings.observability.monitored else []),
    ]
    jobs = dict.fromkeys(services, SERVICE_PORT) | {part: PORTS[part] for part in parts}

    def there(part: planning.Part) -> str | None:
        return url(part) if part in parts else None

    made: dict[planning.Part, Args] = {
        "prometheus": prometheus.MetricsArgs(
            image=settings.images.prometheus,
            port=settings.ports.prometheus,
            project=project,
            stack=stack,
            jobs=jobs,
            alerts=alerts(settings, tuple(jobs)),
            alertmanager=(alertmanager.NAME, PORTS[alertmanager.NAME])
            if alertmanager.NAME in parts
            else None,
            remote_write_url=settings.observability.remote_write_url,
            remote_write_token=secrets.get(REMOTE_WRITE_TOKEN),
            retention_days=settings.observability.metrics_retention_days,
            retention_size=settings.observability.metrics_retention_size,
            url=urls.get(prometheus.NAME),
            logs=logs,
        ),
        "alertmanager": alertmanager.AlertmanagerArgs(
            image=settings.images.alertmanager,
            port=settings.ports.alertmanager,
            webhook_url=settings.alerting.webhook_url,
            webhook_token=secrets.get(WEBHOOK_TOKEN),
            watchdog_url=settings.alerting.watchdog_url,
            slack_url=secrets.get(SLACK_URL),
            slack_channel=settings.alerting.slack_channel,
            email_to=settings.alerting.email_to,
            email_from=settings.alerting.email_from,
            smtp_host=settings.alerting.smtp_host,
            smtp_user=settings.alerting.smtp_user,
            smtp_password=secrets.get(SMTP_PASSWORD),
            url=urls.get(alertmanager.NAME),
            logs=logs,
        ),
        "grafana": grafana.GrafanaArgs(
            image=settings.images.grafana,
            port=settings.ports.grafana,
            password=secrets.get(GRAFANA_PASSWORD, ""),
            prometheus_url=url(prometheus.NAME),
            loki_url=there("loki"),
            alertmanager_url=there("alertmanager"),
            dashboards=dashboards.files(),
            url=urls.get(grafana.NAME),
            logs=logs,
        ),
        "loki": loki.LokiArgs(
            image=settings.images.loki,
            port=settings.ports.loki,
            retention_days=settings.observability.logs_retention_days,
            logs=logs,
        ),
        "alloy": alloy.AlloyArgs(
            image=settings.images.alloy,
            project=project,
            stack=stack,
            push_url=f"{url(loki.NAME)}{loki_config.PUSH_PATH}",
            logs=logs,
        ),
    }
    return {part: made[part] for part in parts}


def declare(
    settings: Settings,
    secrets: Mapping[str, pulumi.Output[str]],
    runtime: Runtime,
    networks: Networks,
    logs: Logs,
    opts: pulumi.ResourceOptions,
    *,
    watched: Sequence[pulumi.Resource],
) -> dict[str, str | None]:
    """Register the parts that the settings name; returns their endpoints for the user.

    `watched`: the monitor and its proxy, through which Alloy reads Docker.
    """
    urls = {
        name.removesuffix("Port"): runtime.endpoint(port)
        for name, port in settings.part_ports.items()
    }
    context = runtime.context
    found = arguments(
        settings, secrets, project=context.project, stack=context.stack, urls=urls, logs=logs
    )
    for args in found.values():
        match args:
            case prometheus.MetricsArgs():
                prometheus.Metrics("metrics", args, runtime, networks, opts)
            case alertmanager.AlertmanagerArgs():
                alertmanager.Alertmanager("alerts", args, runtime, networks, opts)
            case grafana.GrafanaArgs():
                grafana.Grafana("dashboards", args, runtime, networks, opts)
            case loki.LokiArgs():
                loki.Loki("logs", args, runtime, networks, opts)
            case alloy.AlloyArgs():
                after = pulumi.ResourceOptions(depends_on=list(watched))
                alloy.Alloy(
                    "log-shipper",
                    args,
                    runtime,
                    networks,
                    pulumi.ResourceOptions.merge(opts, after),
                )
    return urls


def workload(args: Args) -> Workload:
    """The workload of a part."""
    match args:
        case prometheus.MetricsArgs():
            return prometheus.workload(args)
        case alertmanager.AlertmanagerArgs():
            return alertmanager.workload(args)
        case grafana.GrafanaArgs():
            return grafana.workload(args)
        case loki.LokiArgs():
            return loki.workload(args)
        case alloy.AlloyArgs():
            return alloy.workload(args)
