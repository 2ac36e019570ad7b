"""The run report of `ape-load report`: the panels of a stack as charts."""

import html
import json
import re
from typing import Any

import pytest

from ape_infra.observability import dashboards, recording_rules
from ape_infra.observability.dashboards.model import Panel, Unit
from ape_infra.reporting.panels import PanelData, Points, main_panels
from ape_infra.reporting.prometheus import Series
from ape_infra.reporting.run_report import RunReport
from ape_infra.runs.pages import stack

pytestmark = pytest.mark.unit


def charts_of(lines: dict[str, Points], unit: Unit = "short") -> list[dict[str, Any]]:
    found = stack.of_panels([PanelData("Test Run", Panel("Agents", (), unit), lines)], 0, 100)
    charts: list[dict[str, Any]] = found["charts"]
    return charts


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_report_contains_its_data_and_loads_nothing() -> None:
    points = tuple((1000.0 + i, float(i)) for i in range(10))

    def ask(query: str) -> list[Series]:
        if recording_rules.FIRST_TOKEN_SECONDS.name in query:
            return []
        return [Series({"result": "<b>success</b>", "state": "running"}, points)]

    done = [(1005.0, "ape-load: scale to 10", "succeeded")]
    test = RunReport("dev", 1000, 1060, {"agents": "5"}, [("gave_up", 3)], done)
    made = stack.page(test, main_panels(ask))
    main = [p for d in dashboards.ALL for p in d.panels if p.main]
    data = data_of(made)
    assert len(data["charts"]) == len(main) - 1
    assert {x["group"] for x in data["charts"]} == {d.title for d in dashboards.ALL}
    assert (data["start"], data["span"], data["marks"]) == (1000, 60, [5])
    assert "No data in this time: Time to first token." in made
    assert "1970-01-01 00:16:45" in made, "the time of the scale"
    assert "gave_up" in made
    assert "<b>success" not in made, "values are escaped"
    for outside in ("<link", " src=", "@import", "url("):
        assert outside not in made.replace(made[made.index("<script>") :], "")


def test_report_names_the_panels_without_data() -> None:
    made = stack.page(RunReport("dev", 1000, 1060, {}, [], []), main_panels(lambda query: []))
    assert data_of(made)["charts"] == []
    for dashboard in dashboards.ALL:
        for panel in dashboard.panels:
            assert not panel.main or panel.title in html.unescape(made)


def test_lines_with_the_same_times_share_them() -> None:
    a: Points = [(0.0, 1.0), (10.0, 2.0)]
    panel = PanelData("Test Run", Panel("Agents", (), "s"), {"a": a, "b": a, "c": [(5.0, 1.0)]})
    found = stack.of_panels([panel], 0, 100)
    assert found["tables"] == [(0, 10), (5,)]
    assert [x["table"] for x in found["charts"][0]["lines"]] == [0, 0, 1]
    assert found["charts"][0]["unit"] == "seconds"


def test_points_on_both_sides_of_a_gap_are_not_joined() -> None:
    line = charts_of({"a": [(t, 1.0) for t in (0, 1, 2, 50, 51)]})[0]["lines"][0]
    assert line["values"] == [1, 1, 1, None, 1, 1]


def test_of_many_lines_the_highest_are_drawn_and_distinguishable() -> None:
    many: dict[str, Points] = {
        f"agent-{i:04d}": [(0.0, float(i)), (1.0, float(i))] for i in range(100)
    }
    chart = charts_of(many)[0]
    names = [x["name"] for x in chart["lines"]]
    assert len(names) == stack.MAX_LINES
    assert "agent-0099" in names
    assert "agent-0001" not in names
    assert chart["note"] == f"and {100 - stack.MAX_LINES} lower lines"
    assert len({(x["color"], x["dash"]) for x in chart["lines"]}) == stack.MAX_LINES


def test_panel_without_data_has_no_chart() -> None:
    assert charts_of({}) == charts_of({"a": []}) == []
