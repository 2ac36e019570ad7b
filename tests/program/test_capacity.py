"""The plan's services are the containers that the program declares."""

import pytest

from ape_infra.config.parsing import parse
from ape_infra.config.secrets import GRAFANA_PASSWORD
from tests.support.program_mocks import run

pytestmark = pytest.mark.program


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"observability": "off"},
        {"observability": "full"},
        {"observability": "full", "logStore": "victorialogs"},
        {"observability": "full", "observabilityParts": '["prometheus", "grafana"]'},
        {"monitor": "off", "agents": "45", "agentsPerContainer": "20"},
    ],
    ids=str,
)
def test_the_plan_counts_the_containers_that_the_program_declares(config: dict[str, str]) -> None:
    found = run("dev", **config, grafanaPassword="p-of-a-test")
    plan = parse(config, [GRAFANA_PASSWORD]).plan("dev")
    started = [c.name for c in found.of("Container") if c.inputs.get("start", True)]
    assert {name for name in started if not name.startswith("agent-")} == set(plan.services)
    assert len(started) == plan.all_containers
