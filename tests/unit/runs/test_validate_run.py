"""`ape-load validate` checks the settings of a run and its files."""

from typing import Any

import pytest

from ape_infra.checks import preflight
from ape_infra.cli.validate import checks
from ape_infra.config.credentials import Credentials
from ape_infra.config.parsing import parse
from ape_infra.config.settings import Settings

pytestmark = pytest.mark.unit


class Engine:
    name = "dev"

    def __init__(self, **config: str) -> None:
        self.config = config

    def settings(self) -> Settings:
        return parse(self.config)

    def credentials(self) -> Credentials:
        return Credentials()

    def outputs(self) -> dict[str, Any]:
        return {}

    def model_key(self, settings: Settings) -> str:
        return ""


@pytest.mark.parametrize(
    ("config", "status", "observed"),
    [
        ({}, "ok", "closed, 5 agents for 5m, scenario default."),
        ({"users": "no-such-file.csv"}, "fail", "No such file or directory"),
        (
            {"thresholds": '["http_reqs{endpoint=\\"GET /cart\\"} > 1"]', "duration": "10m"},
            *("ok", "closed, 5 agents for 10m, scenario default, 1 threshold."),
        ),
    ],
)
def test_validate_shows_the_run_or_the_reason_why_it_cannot_start(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, str], status: str, observed: str
) -> None:
    monkeypatch.setattr(preflight, "run", lambda *_: ())
    (found,) = (each for each in checks(Engine(**config)) if each.name == "run")  # type: ignore[arg-type]
    assert found.status == status
    assert observed in found.observed


def test_validate_reports_a_broken_gateway_config_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "run", lambda *_: ())
    found = list(checks(Engine(gatewayConfig="no-such-file.json")))  # type: ignore[arg-type]
    assert [each.name for each in found if each.status == "fail"] == ["gateway"]
