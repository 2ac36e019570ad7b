"""Grafana's provisioning: environment, datasources, the folder of dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ape_infra.observability.log_queries import LANGUAGES, LogQuery, Match
from ape_infra.planning.plan import LogStore

PORT = 3000
PROVISIONING = "provisioning"
# The dashboards refer to the datasources by these; fixed, so that links do not break.
PROMETHEUS_UID = "ape-prometheus"


class Source(NamedTuple):
    """Grafana's datasource for a log store. `plugin`: not part of Grafana, with its version."""

    name: str
    uid: str
    type: str
    plugin: str | None = None


LOG_SOURCES: Mapping[LogStore, Source] = {
    "loki": Source("Loki", "ape-loki", "loki"),
    "victorialogs": Source(
        "VictoriaLogs",
        "ape-victorialogs",
        "victoriametrics-logs-datasource",
        "victoriametrics-logs-datasource@0.30.1",
    ),
}


def environment(*, directory: str, password_file: str, plugin: str | None = None) -> dict[str, str]:
    """Return Grafana's settings. Every page requires a login.

    `plugin`: one that Grafana downloads at its start; without it, it downloads none.
    """
    plugins = {"GF_PLUGINS_PREINSTALL": plugin} if plugin else {}
    return {
        "GF_PATHS_PROVISIONING": f"{directory}/{PROVISIONING}",
        "GF_LOG_MODE": "console",
        "GF_SECURITY_ADMIN_USER": "admin",
        "GF_SECURITY_ADMIN_PASSWORD__FILE": password_file,
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
        "GF_AUTH_ANONYMOUS_ENABLED": "false",
        "GF_USERS_ALLOW_SIGN_UP": "false",
        "GF_USERS_ALLOW_ORG_CREATE": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        **(plugins or {"GF_PLUGINS_PREINSTALL_DISABLED": "true"}),
    }


def datasources(
    *,
    prometheus_url: str,
    logs: tuple[LogStore, str] | None,
    alertmanager_url: str | None,
) -> dict[str, Any]:
    """Return the datasources; None: not deployed. `logs`: the log store and its URL."""
    made: list[dict[str, Any]] = [
        {
            "name": "Prometheus",
            "uid": PROMETHEUS_UID,
            "type": "prometheus",
            "access": "proxy",
            "url": prometheus_url,
            "isDefault": True,
            "editable": False,
            "jsonData": {"httpMethod": "POST", "timeInterval": "5s"},
        }
    ]
    if logs:
        made.append(_log_source(*logs))
    if alertmanager_url:
        made.append(
            {
                "name": "Alertmanager",
                "uid": "ape-alertmanager",
                "type": "alertmanager",
                "access": "proxy",
                "url": alertmanager_url,
                "editable": False,
                "jsonData": {"implementation": "prometheus"},
            }
        )
    return {"apiVersion": 1, "prune": True, "datasources": made}


def _log_source(store: LogStore, url: str) -> dict[str, Any]:
    source = LOG_SOURCES[store]
    # $$ is a dollar sign in a provisioning file.
    trace = LogQuery(
        (Match("service", "=~", ".+"),), fields=((Match("trace_id", "=", "$${__value.raw}"),),)
    )
    return {
        "name": source.name,
        "uid": source.uid,
        "type": source.type,
        "access": "proxy",
        "url": url,
        "editable": False,
        "jsonData": {
            "maxLines": 1000,
            # A trace id in a line leads to all lines of that trace.
            "derivedFields": [
                {
                    "name": "trace",
                    "matcherType": "label",
                    "matcherRegex": "trace_id",
                    "datasourceUid": source.uid,
                    "url": LANGUAGES[store](trace),
                    "urlDisplayLabel": "All services",
                }
            ],
        },
    }


def providers(*, directory: str) -> dict[str, Any]:
    """Return the folder of the dashboards. They are code: edits in the browser are not saved."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "ape",
                "folder": "APE",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": directory},
            }
        ],
    }
