"""An MCP server as target: its settings, its route, its check and its new project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ape_contracts.gateway_config import load
from ape_infra.checks import mcp
from ape_infra.cli.new_project import ModelChoice, NewProject
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import Scenario, gateway_config, target_host
from ape_infra.config.parsing import parse
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import Settings

pytestmark = pytest.mark.unit
SUCCESS = {"method": "POST", "path": "/tools/add", "status": 200}
OWN = {
    "target": "mcp+https://tools.example/mcp",
    "targetGoal": "Add two numbers.",
    "targetSuccess": json.dumps(SUCCESS),
}


def lines_of(**settings: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(settings)
    return list(caught.value.lines)


def scenario_of(settings: Settings) -> tuple[dict[str, Any], Scenario]:
    text, api = gateway_config(settings, Path("/nowhere"))
    return json.loads(text)["routes"][api], Scenario.of(settings, Path("/nowhere"), api)


def test_mcp_target_gets_a_route_with_its_url() -> None:
    settings = parse(OWN)
    route, scenario = scenario_of(settings)
    assert (route["base_url"], route["mcp"]) == ("https://tools.example/mcp", True)
    assert (scenario.goal, scenario.endpoints) == ("Add two numbers.", [])
    text, api = gateway_config(settings, Path("/nowhere"))
    assert load(text).routes[api].mcp
    assert target_host(text, api) == "tools.example/mcp"


def test_demo_has_an_mcp_server_with_its_own_scenario() -> None:
    settings = parse({"target": "mcp+demo"})
    route, scenario = scenario_of(settings)
    assert settings.target.is_demo
    assert (route["base_url"], route["mcp"]) == ("http://target:8080/mcp", True)
    assert scenario.success.path == "/tools/checkout"


def test_mcp_target_needs_a_goal_and_a_tool_whose_result_is_success() -> None:
    goal, success = lines_of(target=OWN["target"])
    assert goal.startswith("ape:targetGoal: is required")
    assert success.startswith("ape:targetSuccess: is required")
    assert "/tools/NAME" in success


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"targetOpenapi": "a.json"}, "ape:targetOpenapi: is set, but target is an MCP server"),
        (
            {"targetEndpoints": '[{"method": "GET", "path": "/"}]'},
            "ape:targetEndpoints: is set, but target is an MCP server",
        ),
        ({"target": "mcp+http://localhost:8000/mcp"}, "ape:target: names localhost"),
        ({"target": "mcp+https://u:p@tools.example/mcp"}, "ape:target: holds credentials"),
        ({"target": "mcp+ftp://tools.example"}, "ape:target: "),
    ],
)
def test_setting_that_no_mcp_target_can_have_is_rejected(more: dict[str, str], words: str) -> None:
    assert any(line.startswith(words) for line in lines_of(**(OWN | more)))


@pytest.mark.parametrize("target", ["mcp+http://tools.example/mcp", "mcp+demo"])
def test_new_project_for_an_mcp_server_has_valid_settings(target: str) -> None:
    project = NewProject("tools", target, None, ModelChoice("offline"))
    texts = project.texts()
    [route] = load(texts["gateway.json"]).routes.values()
    assert route.mcp
    given = {k: v if isinstance(v, str) else json.dumps(v) for k, v in project.scenario().items()}
    settings = parse({"target": target, **given}, secrets=SECRETS)
    assert settings.target.success is not None
    assert settings.target.success.path.startswith("/tools/")


@pytest.mark.parametrize(
    ("status", "message", "state", "words"),
    [
        (
            200,
            {"result": {"protocolVersion": "2025-06-18", "serverInfo": {"name": "shop"}}},
            "ok",
            "the MCP server shop (protocol 2025-06-18)",
        ),
        (400, {"error": {"code": -32022}}, "ok", "without sessions"),
        (401, None, "ok", "credentials"),
        (404, None, "fail", "answers 404 to initialize, but not as an MCP server"),
        (200, None, "fail", "not as an MCP server"),
        (200, {"result": {"serverInfo": "\x1b[2J"}}, "ok", "without a name"),
    ],
)
def test_answer_to_initialize_is_evaluated(
    status: int, message: dict[str, Any] | None, state: str, words: str
) -> None:
    found = mcp.judged(status, message)
    assert found.status == state
    assert words in found.observed
    assert bool(found.remedy) is (state == "fail")


@pytest.mark.parametrize("is_mcp", [False, True])
def test_route_of_a_gateway_config_must_be_that_of_an_mcp_server(
    is_mcp: bool, tmp_path: Path
) -> None:
    route = {"base_url": "https://tools.example/mcp", "mcp": is_mcp}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": {"own": route}}))
    settings = parse(OWN | {"gatewayConfig": "gateway.json"})
    if is_mcp:
        assert gateway_config(settings, tmp_path)[1] == "own"
        return
    with pytest.raises(SettingsError) as caught:
        gateway_config(settings, tmp_path)
    assert caught.value.lines[0].startswith('ape:gatewayConfig: has no "mcp": true in route own')
