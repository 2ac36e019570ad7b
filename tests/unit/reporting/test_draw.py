"""The dashboards' main panels as pictures."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.observability import dashboards
from ape_infra.observability.dashboards.model import Panel, Unit
from ape_infra.reporting import draw
from ape_infra.reporting.prometheus import Series

pytestmark = pytest.mark.unit


def drawn(lines: dict[str, draw.Points], unit: Unit = "short") -> draw.PanelData:
    return draw.PanelData("Test Run", Panel("Agents", (), unit), lines)


def lines_of(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline points="([^"]+)"', svg)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in f.split())] for f in found]


def labels_of(svg: str) -> list[str]:
    return re.findall(r">([^<]+)</text>", svg)


def test_every_main_panel_is_queried_once() -> None:
    asked = []

    def ask(query: str) -> list[Series]:
        asked.append(query)
        return [Series({"result": "success", "quantile": "0.95"}, ((1.0, 2.0), (2.0, 3.0)))]

    found = draw.main_panels(ask, 60)
    main = [p for d in dashboards.ALL for p in d.panels if p.main]
    assert [f.panel for f in found] == main
    assert not any("$" in query for query in asked), "no variable is left"
    assert len(set(asked)) == len(asked), "no picture is drawn twice"
    by_title = {f.panel.title: f for f in found}
    assert set(by_title["Sessions a second"].lines) == {"success"}
    assert set(by_title["Length of sessions"].lines) == {"quantile 0.95"}
    assert {f.dashboard for f in found} == {d.title for d in dashboards.ALL}


def test_picture_shows_values_at_their_times() -> None:
    made = draw.svg(drawn({"a": [(0, 0), (50, 10), (100, 5)]}), 0, 100)
    ((left, bottom), (middle, top), (right, half)) = lines_of(made)[0]
    assert left < middle < right
    assert middle - left == pytest.approx(right - middle, abs=0.2)
    assert bottom - half == pytest.approx((bottom - top) / 2, abs=0.2)
    assert labels_of(made)[:5] == ["0", "2.5", "5", "7.5", "10"]
    assert labels_of(made)[-5:] == ["00:00:00", "00:00:25", "00:00:50", "00:01:15", "00:01:40"]


def test_pictures_of_one_test_have_the_same_time_axis() -> None:
    late = draw.svg(drawn({"a": [(80, 1), (90, 1)]}), 0, 100, marks=[50, 500])
    whole = draw.svg(drawn({"a": [(0, 1), (100, 1)]}), 0, 100)
    assert labels_of(late) == labels_of(whole)
    assert lines_of(late)[0][0][0] > lines_of(whole)[0][0][0]
    assert late.count('class="mark"') == 1, "an event outside the time range has no mark"


def test_points_on_both_sides_of_a_gap_are_not_joined() -> None:
    points = [(t, 1.0) for t in (0, 1, 2, 50, 51, 80)]
    made = draw.svg(drawn({"a": points}), 0, 100)
    assert [len(line) for line in lines_of(made)] == [3, 2]
    assert made.count("<circle") == 1, "a single point is drawn as a dot"
    assert "<circle" in draw.svg(drawn({"a": [(1.0, 2.0)]}), 0, 100)


def test_of_many_lines_the_highest_are_drawn_and_distinguishable() -> None:
    many: dict[str, draw.Points] = {
        f"agent-{i:04d}": [(0.0, float(i)), (1.0, float(i))] for i in range(100)
    }
    made = draw.svg(drawn(many), 0, 1)
    assert len(lines_of(made)) == draw.MAX_LINES
    assert "agent-0099" in made
    assert "agent-0001" not in made
    assert f"and {100 - draw.MAX_LINES} lower ones" in made
    looks = re.findall(r"<polyline points=\"[^\"]+\" (.+?)/>", made)
    assert len(set(looks)) == draw.MAX_LINES


def test_panel_without_data_has_no_picture() -> None:
    assert draw.svg(drawn({}), 0, 1) == ""
    assert draw.svg(drawn({"a": []}), 0, 1) == ""


SHOWN: list[tuple[Unit, float, str, str]] = [
    ("percentunit", 0.95, "95", "%"),
    ("percent", 95, "95", "%"),
    ("s", 0.25, "250", "ms"),
    ("s", 90, "90", "s"),
    ("bytes", 300 * 2**20, "300", "MiB"),
    ("bytes", 0, "0", "B"),
    ("Bps", 2048, "2", "KiB/s"),
    ("short", 1_500_000, "1,500,000", ""),
]


@pytest.mark.parametrize(("unit", "value", "number", "name"), SHOWN)
def test_values_are_shown_in_a_unit_that_fits_their_size(
    unit: Unit, value: float, number: str, name: str
) -> None:
    factor, found = draw.scale(unit, value)
    assert (f"{value * factor:,.10g}", found) == (number, name)


@given(st.floats(min_value=0, max_value=1e15))
def test_ticks_are_round_and_reach_the_highest_value(most: float) -> None:
    marks = draw.ticks(most)
    assert marks[0] == 0
    assert marks[-1] >= most * (1 - 1e-6)
    assert len(marks) <= 7
