"""The credentials of the agents' sign-in: in a file of the agents, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from tests.program.test_program import agent_settings, files
from tests.support.program_mocks import Recorder, run

pytestmark = pytest.mark.program
SIGN_IN = [{"kind": "json", "path": "/login"}, {"kind": "logout", "path": "/logout"}]
USER = {"username": "ada", "password": "hunter2-of-a-test"}
CREDENTIALS = "/etc/ape/target_credentials"


def declared(**config: Any) -> Recorder:
    return run("dev", agents=2, targetCredentials=json.dumps(USER), **config)


def test_credentials_are_in_a_file_of_the_agents_and_in_no_environment() -> None:
    found = declared(targetSignIn=SIGN_IN)
    (shard,) = {r.name for r in found.of("Network") if r.name.startswith("agents-")}
    assert json.loads(files(found, shard)[CREDENTIALS]) == USER
    for made in found.resources:
        plain = {k: v for k, v in made.inputs.items() if k != "uploads"}
        assert USER["password"] not in json.dumps(plain, default=str), made.name
        if made.name != f"{shard}-files-filler":
            assert USER["password"] not in json.dumps(made.inputs, default=str), made.name
    for agent in found.agents():
        settings = agent_settings(agent)
        assert [step["kind"] for step in settings.sign_in] == ["json", "logout"]
        assert (settings.credentials_file, settings.target_https) == (CREDENTIALS, False)


def test_credentials_without_a_sign_in_change_no_resource_and_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_: said.append(text))

    def agents(found: Recorder) -> list[Any]:
        return [a.inputs["envs"] for a in found.agents()]

    assert agents(declared())[0] == agents(run("dev", agents=2))[0]
    assert any("targetCredentials: is set, but neither targetSignIn" in text for text in said)


def test_the_documents_security_scheme_is_the_sign_in(tmp_path: Path) -> None:
    flow = {"password": {"tokenUrl": "auth/token", "scopes": {}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {"/carts": {"post": {"security": [{"O": []}], "responses": {}}}},
        "components": {"securitySchemes": {"O": {"type": "oauth2", "flows": flow}}},
    }
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    config = {
        "target": "https://shop.example",
        "targetGoal": "Make a cart.",
        "targetOpenapi": str(tmp_path / "openapi.json"),
        "targetSuccess": {"method": "POST", "path": "/carts", "status": 201},
    }
    made = agent_settings(declared(**config).agents()[0])
    assert made.sign_in == [{"kind": "oauth2", "path": "/auth/token"}]
    assert (made.credentials_file, made.target_https) == (CREDENTIALS, True)
    assert agent_settings(run("dev", agents=1, **config).agents()[0]).sign_in == []
