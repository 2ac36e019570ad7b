"""Dashboards: complete, readable by Grafana, and of existing metrics."""

import json
from collections import Counter
from typing import Any

import pytest

from ape_infra.observability import dashboards, grafana
from ape_infra.observability.dashboards.model import Dashboard, Panel
from tests.support.promql import problems

pytestmark = pytest.mark.unit
PANELS = [(d, p) for d in dashboards.ALL for p in d.panels]
JSON: dict[str, Any] = {name: json.loads(text) for name, text in dashboards.files().items()}


def test_dashboards_are_the_four_of_the_stack_and_one_of_a_test_run() -> None:
    assert {d.title for d in dashboards.ALL} == {
        "System Overview",
        "Agent Performance",
        "Service Health",
        "Infrastructure",
        "Test Run",
    }


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda v: v.title)
def test_panel_queries_only_exported_metrics(dashboard: Dashboard, panel: Panel) -> None:
    assert panel.queries
    for query in panel.queries:
        if panel.kind != "logs":
            assert problems(query.expr) == []
        # Every query is limited to the chosen projects and stacks.
        assert '"$project"' in query.expr
        assert '"$stack"' in query.expr


@pytest.mark.parametrize("name", JSON)
def test_dashboard_has_variables_annotations_and_panels_side_by_side(name: str) -> None:
    made = JSON[name]
    assert made["uid"] == name.removesuffix(".json")
    variables = {v["name"] for v in made["templating"]["list"]}
    assert {"project", "stack", "tier", "shard", "agent", "trace"} <= variables
    (scaling,) = made["annotations"]["list"]
    assert scaling["name"] == "Scaling"
    assert problems(scaling["expr"]) == []
    panels = [p for p in made["panels"] if p["type"] != "row"]
    for panel in panels:
        kind = "loki" if panel["type"] == "logs" else "prometheus"
        uid = {"loki": grafana.LOKI_UID, "prometheus": grafana.PROMETHEUS_UID}[kind]
        assert panel["datasource"] == {"type": kind, "uid": uid}
        assert all(t["expr"] and t["refId"] for t in panel["targets"])
    cells = Counter(
        (x, y)
        for p in made["panels"]
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    )
    assert max(cells.values()) == 1, "panels lie side by side"
    assert max(x for x, _ in cells) < 24


def test_graphs_link_to_the_logs() -> None:
    for made in JSON.values():
        graphs = [p for p in made["panels"] if p["type"] == "timeseries"]
        for panel in graphs:
            links = panel["fieldConfig"]["defaults"]["links"]
            assert any("/d/ape-test-run" in link["url"] for link in links)


def test_dashboard_files_are_deterministic() -> None:
    assert dashboards.files() == dashboards.files()
