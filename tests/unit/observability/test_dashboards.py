"""Dashboards: complete, readable by Grafana, and of existing metrics."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from ape_infra.observability import dashboards, grafana
from ape_infra.observability.dashboards.model import Dashboard, Panel
from ape_infra.observability.log_queries import LANGUAGES
from ape_infra.planning.plan import LOG_STORES
from tests.support.promql import problems

pytestmark = pytest.mark.unit
# Grafana's own plugin, and the one that it downloads.
LOKI = {"type": "loki", "uid": "ape-loki"}
VICTORIALOGS = {"type": "victoriametrics-logs-datasource", "uid": "ape-victorialogs"}
PANELS = [(d, p) for d in dashboards.ALL for p in d.panels]
JSON: dict[str, Any] = {
    f"{store}/{name}": json.loads(text)
    for store in LOG_STORES
    for name, text in dashboards.files(store).items()
}


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
    texts = [query.expr for query in panel.queries]
    assert all(problems(text) == [] for text in texts)
    if panel.lines:
        texts = [language(panel.lines) for language in LANGUAGES.values()]
    assert bool(panel.lines) == (panel.kind == "logs")
    assert texts
    for text in texts:
        # Every query is limited to the chosen projects and stacks.
        assert re.search(r'project=~"\(?\$project\)?"', text)
        assert re.search(r'stack=~"\(?\$stack\)?"', text)


@pytest.mark.parametrize("name", JSON)
def test_dashboard_has_variables_annotations_and_panels_side_by_side(name: str) -> None:
    made, store = JSON[name], name.partition("/")[0]
    assert f"{store}/{made['uid']}.json" == name
    variables = {v["name"] for v in made["templating"]["list"]}
    assert {"project", "stack", "tier", "shard", "agent", "trace"} <= variables
    (scaling,) = made["annotations"]["list"]
    assert scaling["name"] == "Scaling"
    assert problems(scaling["expr"]) == []
    panels = [p for p in made["panels"] if p["type"] != "row"]
    for panel in panels:
        expected = {"type": "prometheus", "uid": grafana.PROMETHEUS_UID}
        if panel["type"] == "logs":
            expected = {"loki": LOKI, "victorialogs": VICTORIALOGS}[store]
        assert panel["datasource"] == expected
        assert panel["targets"]
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
    for store in LOG_STORES:
        assert dashboards.files(store) == dashboards.files(store)


@pytest.mark.parametrize(
    ("store", "metric"),
    [("loki", "loki_distributor_lines_received_total"), ("victorialogs", "vl_rows_ingested_total")],
)
def test_dashboard_counts_the_lines_of_the_store_that_is_deployed(store: str, metric: str) -> None:
    panels = JSON[f"{store}/ape-infrastructure.json"]["panels"]
    (lines,) = (panel for panel in panels if panel["title"] == "Log lines a second")
    (target,) = lines["targets"]
    assert metric in target["expr"]
