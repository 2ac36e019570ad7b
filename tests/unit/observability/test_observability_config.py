"""Configs of the observability stack: complete, without secrets, limited as in the settings."""

import re
from typing import Any

import pytest
import yaml

from ape_contracts import metrics
from ape_infra.config.errors import SettingsError
from ape_infra.config.parsing import parse
from ape_infra.config.settings import Settings
from ape_infra.observability import (
    alertmanager,
    alloy,
    grafana,
    loki,
    prometheus,
    rules,
    victorialogs,
)
from ape_infra.observability.text import yaml_of
from ape_infra.planning import plan

pytestmark = pytest.mark.unit
JOBS = {"gateway": 8080, "proxy": 8080, "prometheus": 9090}


def config(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "project": "ape",
        "stack": "dev",
        "jobs": JOBS,
        "rule_files": ("/etc/ape/rules.yml",),
        "alertmanager": None,
        "remote_write": None,
    }
    return prometheus.config(**{**given, **changed})


def test_every_job_is_discovered_by_name_and_labeled_with_project_and_stack() -> None:
    found = config()["scrape_configs"]
    assert {job["job_name"] for job in found} == set(JOBS)
    for job in found:
        (dns,) = job["dns_sd_configs"]
        assert (dns["names"], dns["port"]) == ([job["job_name"]], JOBS[job["job_name"]])
        labels = {r["target_label"]: r["replacement"] for r in job["relabel_configs"]}
        assert labels == {"project": "ape", "stack": "dev"}


def test_config_has_remote_write_and_alerting_only_when_they_are_set() -> None:
    assert {"alerting", "remote_write"} & set(config()) == set()
    remote = prometheus.RemoteWrite("https://metrics.example/push", "/etc/ape/remote_write_token")
    made = config(alertmanager=("alertmanager", 9093), remote_write=remote)
    assert made["alerting"]["alertmanagers"][0]["dns_sd_configs"][0]["names"] == ["alertmanager"]
    assert made["remote_write"] == [
        {
            "url": "https://metrics.example/push",
            "authorization": {"credentials_file": "/etc/ape/remote_write_token"},
        }
    ]


def test_alerts_are_grouped_by_name_and_tier_and_not_by_agent() -> None:
    route = alertmanager.config(alertmanager.Receivers())["route"]
    assert route["group_by"] == ["alertname", "tier"]


def test_config_has_the_receivers_that_are_set_with_secrets_in_files() -> None:
    everything = alertmanager.Receivers(
        webhook_url="http://hook:1/x",
        webhook_token="/etc/ape/webhook_token",
        watchdog_url="http://dead:1/man",
        slack_url="/etc/ape/slack_url",
        slack_channel="#tests",
        email_to="a@example.org",
        email_from="b@example.org",
        smtp_host="smtp.example.org:587",
        smtp_user="b",
        smtp_password="/etc/ape/smtp_password",
    )
    found = {r["name"]: r for r in alertmanager.config(everything)["receivers"]}
    team = found[alertmanager.TEAM]
    assert team["webhook_configs"][0]["http_config"]["authorization"] == {
        "credentials_file": "/etc/ape/webhook_token"
    }
    assert team["slack_configs"][0]["api_url_file"] == "/etc/ape/slack_url"
    assert team["email_configs"][0]["auth_password_file"] == "/etc/ape/smtp_password"
    assert found[alertmanager.DEADMAN]["webhook_configs"][0]["url"] == "http://dead:1/man"
    nobody = {r["name"]: r for r in alertmanager.config(alertmanager.Receivers())["receivers"]}
    assert nobody == {
        alertmanager.NOBODY: {"name": alertmanager.NOBODY},
        alertmanager.TEAM: {"name": alertmanager.TEAM},
    }


def test_host_or_required_service_that_is_down_mutes_alerts_of_agents() -> None:
    found = alertmanager.config(alertmanager.Receivers())["inhibit_rules"]
    down = next(a for a in rules.alerts(("gateway",)) if a.name == "TargetDown")
    assert (down.severity, down.scope) == ("critical", rules.SERVICE)
    sources = [r for r in found if f'scope="{rules.AGENTS}"' in r["target_matchers"]]
    assert sources
    for rule in sources:
        assert 'severity="critical"' in rule["source_matchers"]
        # Required services only: Grafana must not mute agents.
        assert 'scope="host"' in rule["source_matchers"] or (
            'service=~"gateway|proxy|target"' in rule["source_matchers"]
        )


def test_logs_have_four_labels_and_ids_as_metadata() -> None:
    assert set(alloy.LABELS) == {"project", "stack", "service", "tier"}
    assert {"trace_id", "session_id"} <= set(alloy.METADATA)
    text = alloy.config(
        docker_url="tcp://socket-proxy:2375",
        project="ape",
        stack="dev",
        push_url="http://loki:3100",
    )
    assert text.count("{") == text.count("}")
    for component in ("discovery.docker", "loki.source.docker", "loki.process", "loki.write"):
        assert re.search(rf'^{component} "stack" {{$', text, re.MULTILINE), component
    assert '"ape.stack=dev"' in text


def test_loki_deletes_logs_after_the_retention_time() -> None:
    found = loki.config(retention_days=3)
    assert found["limits_config"]["retention_period"] == "72h"
    assert found["compactor"]["retention_enabled"]


def test_victorialogs_deletes_logs_after_the_retention_time_and_above_the_size() -> None:
    found = victorialogs.options(retention_days=3, retention_size="2GB")
    assert {"-retentionPeriod=3d", "-retention.maxDiskSpaceUsageBytes=2GB"} <= set(found)
    assert "disable_message_parsing=1" in victorialogs.PUSH_PATH, "lines stay as they were written"


def test_grafana_requires_the_password_from_its_file() -> None:
    env = grafana.environment(directory="/etc/ape", password_file="/etc/ape/grafana_password")
    assert env["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert env["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/etc/ape/grafana_password"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in env


def test_grafana_has_a_datasource_for_each_deployed_service() -> None:
    found = grafana.datasources(prometheus_url="http://p", logs=None, alertmanager_url=None)
    assert [d["uid"] for d in found["datasources"]] == [grafana.PROMETHEUS_UID]
    found = grafana.datasources(
        prometheus_url="http://p", logs=("loki", "http://l"), alertmanager_url="http://a"
    )
    assert [d["type"] for d in found["datasources"]] == ["prometheus", "loki", "alertmanager"]


TRACE = {
    "loki": '{service=~".+"} | trace_id="$${__value.raw}"',
    "victorialogs": '{service=~"(.+)"} trace_id:="$${__value.raw}"',
}


@pytest.mark.parametrize("store", plan.LOG_STORES)
def test_trace_id_in_a_line_leads_to_all_lines_of_the_trace(store: plan.LogStore) -> None:
    made = grafana.datasources(
        prometheus_url="http://p", logs=(store, "http://l"), alertmanager_url=None
    )
    source = made["datasources"][1]
    (link,) = source["jsonData"]["derivedFields"]
    assert (link["matcherRegex"], link["datasourceUid"]) == ("trace_id", source["uid"])
    assert link["url"] == TRACE[store]


def test_grafana_downloads_a_plugin_for_victorialogs_only() -> None:
    def asked(plugin: str | None) -> dict[str, str]:
        env = grafana.environment(directory="/etc/ape", password_file="/p", plugin=plugin)
        return {k: v for k, v in env.items() if k.startswith("GF_PLUGINS")}

    plugins = {store: source.plugin for store, source in grafana.LOG_SOURCES.items()}
    assert asked(plugins["loki"]) == {"GF_PLUGINS_PREINSTALL_DISABLED": "true"}
    found = asked(plugins["victorialogs"])
    ((name, plugin),) = found.items()
    assert name == "GF_PLUGINS_PREINSTALL"
    assert re.fullmatch(r"victoriametrics-logs-datasource@[0-9.]+", plugin)


def test_yaml_text_has_the_same_data_and_no_anchors() -> None:
    data = alertmanager.config(alertmanager.Receivers(webhook_url="http://hook:1/x"))
    text = yaml_of(data)
    assert yaml.safe_load(text) == data
    assert "&id" not in text


def test_shares_fit_the_memory_limit_and_leave_256_mb_for_the_monitor() -> None:
    assert set(plan.OBSERVABILITY_SHARES) == set(plan.PARTS)
    for store in plan.LOG_STORES:
        shares = [plan.OBSERVABILITY_SHARES[p] for p in plan.parts_of("full", store)]
        left = plan.OBSERVABILITY_MEMORY_MB - sum(s.memory_mb for s in shares)
        assert left >= 256
        assert round(sum(s.cpus for s in shares), 2) == plan.SERVICE_CPUS / 3


def test_mode_sets_the_parts_and_their_ports() -> None:
    assert parse({"observability": "off"}).observability.parts == ()
    assert parse({}).observability.parts == ("prometheus",)
    full = parse({"observability": "full"}, ["grafanaPassword"])
    watching = ("prometheus", "alertmanager", "grafana")
    assert full.observability.parts == (*watching, "loki", "alloy")
    assert set(full.part_ports) == {f"{part}Port" for part in (*watching, "loki")}


def test_log_store_replaces_loki() -> None:
    made = parse({"observability": "full", "logStore": "victorialogs"}, ["grafanaPassword"])
    watching = ("prometheus", "alertmanager", "grafana")
    assert made.observability.parts == (*watching, "victorialogs", "alloy")
    assert set(made.part_ports) == {f"{part}Port" for part in (*watching, "victorialogs")}
    assert made.part_images["victorialogsImage"].startswith("victoriametrics/victoria-logs:v1.")
    assert "lokiImage" not in made.part_images
    # Without full, the setting has no effect.
    assert parse({"logStore": "victorialogs"}).observability.parts == ("prometheus",)


INVALID = [
    ({"observability": "full"}, "ape:grafanaPassword: is not set"),
    (
        {"observability": "full", "observabilityParts": '["loki"]'},
        "ape:observabilityParts: lacks prometheus",
    ),
    (
        {"observability": "full", "observabilityParts": '["prometheus", "alloy"]'},
        "ape:observabilityParts: has alloy without loki",
    ),
    (
        {
            "observability": "full",
            "observabilityParts": '["prometheus", "loki"]',
            "logStore": "victorialogs",
        },
        "ape:observabilityParts: has loki, but logStore is victorialogs. Replace loki",
    ),
    ({"logStore": "elastic"}, 'ape:logStore: is "elastic"'),
    ({"logsRetentionSize": "4"}, "ape:logsRetentionSize: "),
    (
        {"observability": "full", "observabilityParts": '["tempo"]'},
        "ape:observabilityParts[0]: ",
    ),
    ({"alertWebhookUrl": "hook"}, 'ape:alertWebhookUrl: is "hook"'),
    ({"alertSlackChannel": "#x"}, "ape:alertSlackUrl: is not set"),
    ({"alertEmailTo": "a@b"}, "ape:alertSmtpHost: is required"),
    (
        {"alertEmailTo": "a@b", "alertEmailFrom": "b@b", "alertSmtpHost": "smtp"},
        "ape:alertSmtpHost: is not host:port",
    ),
    ({"remoteWriteUrl": "here"}, "ape:remoteWriteUrl: "),
    ({"alertOverrides": '{"X": {"forSeconds": -1}}'}, "ape:alertOverrides.X.forSeconds: is -1"),
    ({"metricsRetentionSize": "4"}, "ape:metricsRetentionSize: "),
]


@pytest.mark.parametrize(("raw", "line"), INVALID, ids=lambda v: str(v)[:40])
def test_invalid_observability_setting_is_rejected_with_its_path(
    raw: dict[str, str], line: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(raw)
    assert any(found.startswith(line) for found in caught.value.lines), caught.value.lines


def test_metric_names_are_unique() -> None:
    found = [m.name for m in metrics.ALL]
    assert len(found) == len(set(found))
    assert Settings().observability.parts == ("prometheus",)
