"""A stack with an OpenAPI document: its operations are a file of the gateway, and nothing else."""

import base64
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from ape_contracts import operations
from ape_contracts.operations_file import unpack
from ape_contracts.service_settings import AgentSettings, GatewaySettings, decode
from tests.support.openapi_documents import document
from tests.support.program_mocks import Recorder, run

pytestmark = pytest.mark.program
OWN = {
    "target": "https://shop.example",
    "targetGoal": "Order.",
    "targetSuccess": {"method": "GET", "path": "/", "status": 200},
}
FILE = "/etc/ape/operations.json"


def stack(tmp_path: Path, paths: dict[str, Any], **config: Any) -> Recorder:
    (tmp_path / "api.json").write_text(json.dumps(document(paths)))
    return run("dev", **OWN, targetOpenapi=str(tmp_path / "api.json"), **config)


def variables(found: Recorder, name: str) -> str:
    """The settings of a container or a service."""
    made = next(r for r in [*found.of("Container"), *found.of("Service")] if r.name == name)
    if "taskSpec" in made.inputs:
        return str(made.inputs["taskSpec"]["containerSpec"]["env"]["APE_SETTINGS"])
    envs = made.inputs["envs"]
    given = envs["value"] if isinstance(envs, dict) else envs
    return str(dict(e.split("=", 1) for e in given)["APE_SETTINGS"])


def test_gateway_has_the_operations_in_a_file_and_agents_have_no_endpoints(tmp_path: Path) -> None:
    found = stack(tmp_path, {"/lamps/{id}": {"get": {"summary": "One lamp."}}}, agents=1)
    assert decode(GatewaySettings, variables(found, "gateway")).operations_file == FILE
    (filler,) = (r for r in found.of("Container") if r.name == "gateway-files-filler")
    held = {u["file"]: u["content"] for u in filler.inputs["uploads"]["value"]}
    (listed,) = operations.decode(unpack(held[FILE])).operations
    assert (listed.method, listed.path) == ("GET", "/lamps/{id}")
    agent = variables(found, "agent-0001")
    assert decode(AgentSettings, agent).endpoints == []
    assert "lamp" not in agent


def test_a_thousand_operations_are_a_config_of_the_swarm_within_its_limit(tmp_path: Path) -> None:
    many = {f"/orders/{n}": {"get": {"summary": "x" * 190}} for n in range(1000)}
    found = stack(tmp_path, many, runtime="swarm")
    (config,) = (r for r in found.of("ServiceConfig") if r.name == "gateway-operations.json")
    # A twentieth of what it holds.
    assert len(config.inputs["data"]) < 20_000
    (gateway,) = (r for r in found.of("Service") if r.name == "gateway")
    mounted = gateway.inputs["taskSpec"]["containerSpec"]["configs"]
    assert [each["fileName"] for each in mounted] == [FILE]
    assert len(variables(found, "agents-00")) < 2000


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_a_stack_without_a_document_has_neither_the_file_nor_the_setting(runtime: str) -> None:
    found = run("dev", runtime=runtime)
    assert "operations" not in json.dumps([r.inputs for r in found.resources], default=str)


def test_settings_that_linux_would_refuse_stop_the_preview() -> None:
    long = {"target": "demo", "modelBody": {"stop": "x" * 140_000}, "model": "provider"}
    with pytest.raises(pulumi.RunError, match=r"APE_SETTINGS: has \d+ KiB, most of them in param"):
        run("dev", **long, provider="ollama", modelName="m")


def test_gateway_has_the_file_of_uploads_in_base64(tmp_path: Path) -> None:
    (tmp_path / "cat.gif").write_bytes(b"GIF\x00\xff")
    found = run("dev", agents=1, targetUpload={"file": str(tmp_path / "cat.gif")})
    settings = decode(GatewaySettings, variables(found, "gateway"))
    (filler,) = (r for r in found.of("Container") if r.name == "gateway-files-filler")
    held = {u["file"]: u["content"] for u in filler.inputs["uploads"]["value"]}
    assert base64.b64decode(held[settings.upload_file]) == b"GIF\x00\xff"
    assert json.loads(held[settings.config_file])["upload"]["file"].endswith("cat.gif")
