"""The lines of the dashboards' main panels."""

import pytest

from ape_infra.observability import dashboards
from ape_infra.reporting import panels
from ape_infra.reporting.prometheus import Series

pytestmark = pytest.mark.unit


def test_every_main_panel_is_queried_once() -> None:
    asked = []

    def ask(query: str) -> list[Series]:
        asked.append(query)
        return [Series({"result": "success", "quantile": "0.95"}, ((1.0, 2.0), (2.0, 3.0)))]

    found = panels.main_panels(ask, 60)
    main = [p for d in dashboards.ALL for p in d.panels if p.main]
    assert [f.panel for f in found] == main
    assert not any("$" in query for query in asked), "no variable is left"
    assert len(set(asked)) == len(asked), "no picture is drawn twice"
    by_title = {f.panel.title: f for f in found}
    assert set(by_title["Sessions a second"].lines) == {"success"}
    assert set(by_title["Length of sessions"].lines) == {"quantile 0.95"}
    assert {f.dashboard for f in found} == {d.title for d in dashboards.ALL}
