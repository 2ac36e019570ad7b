"""Grafana's provisioning: environment, datasources, the folder of dashboards."""

from __future__ import annotations

from typing import Any

PORT = 3000
PROVISIONING = "provisioning"
# The dashboards refer to the datasources by these; fixed, so that links do not break.
PROMETHEUS_UID, LOKI_UID = "ape-prometheus", "ape-loki"


def environment(*, directory: str, password_file: str) -> dict[str, str]:
    """Return Grafana's settings. Every page requires a login."""
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
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    }


def datasources(
    *, prometheus_url: str, loki_url: str | None, alertmanager_url: str | None
) -> dict[str, Any]:
    """Return the datasources; None: not deployed."""
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
    if loki_url:
        made.append(
            {
                "name": "Loki",
                "uid": LOKI_UID,
                "type": "loki",
                "access": "proxy",
                "url": loki_url,
                "editable": False,
                "jsonData": {
                    "maxLines": 1000,
                    # A trace id in a line leads to all lines of that trace.
                    "derivedFields": [
                        {
                            "name": "trace",
                            "matcherType": "label",
                            "matcherRegex": "trace_id",
                            "datasourceUid": LOKI_UID,
                            # $$ is a dollar sign in a provisioning file.
                            "url": '{service=~".+"} | trace_id="$${__value.raw}"',
                            "urlDisplayLabel": "All services",
                        }
                    ],
                },
            }
        )
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
