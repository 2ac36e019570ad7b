"""Alerting and recording rules: complete, documented, and of existing metrics."""

import re
from pathlib import Path
from typing import Any

import pytest

from ape_infra.config.settings import Settings
from ape_infra.observability import recording_rules, rules
from ape_infra.program.components.observability import PORTS, alerts
from tests.support import alert_cases
from tests.support.promql import problems

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]
JOBS = ("gateway", "proxy", "monitor", *PORTS)
ALERTS = [rule for group in alerts(Settings(), JOBS) for rule in group["rules"] if "alert" in rule]
SCOPES = {
    rules.HOST,
    rules.SERVICE,
    rules.CONTAINERS,
    rules.AGENTS,
    rules.MODEL,
    rules.WATCH,
}
RECORDING_RULES = [rule for group in recording_rules.groups() for rule in group["rules"]]


def test_alerts_include_the_required_five() -> None:
    assert {
        "HighMemoryUsage",
        "HighCpuUsage",
        "AgentFailures",
        "ServiceUnavailable",
        "ResourceExhaustion",
    } <= {rule["alert"] for rule in ALERTS}


def sections() -> set[str]:
    text = (ROOT / "docs/runbooks.md").read_text()
    return {rules.anchor(name) for name in re.findall(r"^## (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda r: r["alert"])
def test_alert_has_severity_scope_texts_and_a_runbook(rule: dict[str, dict[str, str]]) -> None:
    assert re.fullmatch(r"\d+s", str(rule["for"]))
    assert rule["labels"]["severity"] in ("critical", "warning", "none")
    for part in ("summary", "description"):
        assert rule["annotations"][part], part
    assert rule["labels"]["scope"] in SCOPES
    document, _, section = rule["annotations"]["runbook_url"].partition("#")
    assert document == "docs/runbooks.md"
    assert section in sections()


@pytest.mark.parametrize("rule", ALERTS + RECORDING_RULES, ids=lambda r: str(r)[:50])
def test_rule_queries_only_exported_metrics(rule: dict[str, str]) -> None:
    assert problems(rule["expr"]) == []


def test_check_of_metric_names_finds_wrong_names_and_labels() -> None:
    assert problems("sum by (color) (rate(ape_sessions_total[2m]))") != []
    assert problems('ape_sessions_total{color="red"}') != []
    assert problems("ape_session_total") != []
    assert problems("ape_sessions_total_bucket") != []


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    cases = alert_cases.cases(JOBS)
    names = {alert.name for alert in rules.alerts(JOBS)}
    assert {c.alert for c in cases if c.labels is not None} == names
    # The Watchdog is never silent.
    assert {c.alert for c in cases if c.labels is None} == names - {rules.WATCHDOG}


def test_override_changes_only_the_alert_it_names() -> None:
    changed = rules.groups(
        JOBS,
        runbooks="r",
        overrides={
            "AgentsSilent": rules.Override(for_seconds=5),
            "ModelRateLimited": rules.Override(disabled=True),
        },
    )[0]["rules"]
    plain = rules.groups(JOBS, runbooks="r")[0]["rules"]
    different = [r for r in plain if r not in changed]
    assert {r["alert"] for r in different} == {"AgentsSilent", "ModelRateLimited"}
    assert next(r for r in changed if r["alert"] == "AgentsSilent")["for"] == "5s"
    with pytest.raises(ValueError, match="Nothing: is not an alert"):
        rules.groups(JOBS, runbooks="r", overrides={"Nothing": rules.Override()})


def test_groups_of_the_monitor_are_added_and_completed() -> None:
    group: dict[str, Any] = {
        "name": "monitor",
        "rules": [
            {
                "alert": "ServiceUnavailable",
                "expr": "vector(1)",
                "for": "30s",
                "labels": {"severity": "critical"},
                "annotations": {"summary": "s", "description": "d"},
            }
        ],
    }
    found = rules.groups(JOBS, runbooks="docs", more=[group])
    rule = found[-1]["rules"][0]
    assert rule["labels"] == {"severity": "critical", "scope": rules.SERVICE}
    assert rule["annotations"]["runbook_url"] == "docs#serviceunavailable"
    assert group["rules"][0]["labels"] == {"severity": "critical"}, "the caller's data is unchanged"
