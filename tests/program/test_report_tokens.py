"""Each container of agents gets the token of its slots, and the gateway the key that signs them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ape_contracts.report_token import Grant, verify
from ape_contracts.service_settings import AgentSettings, GatewaySettings, decode
from tests.program.test_program import files, only_variable, report_token_of
from tests.support.program_mocks import KEY, Recorder, run

pytestmark = pytest.mark.program


def key_of(found: Recorder) -> str:
    return files(found, "gateway")["/etc/ape/report_key"]


def secret(found: Recorder, name: str) -> str:
    (made,) = (r for r in found.of("Secret") if r.name == name)
    value = made.inputs["data"]
    return base64.b64decode(value["value"] if isinstance(value, dict) else value).decode()


@pytest.mark.parametrize("density", [1, 20])
def test_container_has_the_token_of_its_own_slots_and_no_other(density: int) -> None:
    found = run("dev", agents=45, agentsPerContainer=density)
    tokens = {a.name: report_token_of(a) for a in found.agents()}
    assert len(set(tokens.values())) == len(tokens) == -(-45 // density)
    granted: list[int] = []
    for agent in found.agents():
        settings = decode(AgentSettings, only_variable(agent))
        grant = verify(key_of(found), tokens[agent.name])
        assert grant == Grant(settings.slots, settings.agents_here)
        assert grant is not None
        assert not grant.is_shared
        granted += grant.slots
    assert sorted(granted) == list(range(1, 46)), "no slot beyond those declared"


def test_key_is_the_gateways_alone_and_agents_cannot_compute_it() -> None:
    found = run("dev", agents=2, cerebrasApiKey=KEY, agentToken="of-a-test-0123456789")
    key = key_of(found)
    for made in found.resources:
        if made.name != "gateway-files-filler":
            assert key not in str(made.inputs), made.name
    (container,) = (c for c in found.of("Container") if c.name == "gateway")
    settings = decode(GatewaySettings, only_variable(container))
    assert settings.report_key_file == "/etc/ape/report_key"
    assert settings.max_agents >= 2
    # Another key of the model replaces no agent where the token of the stack is set.
    other = run("dev", agents=2, cerebrasApiKey=KEY + "2", agentToken="of-a-test-0123456789")
    assert key_of(other) == key
    assert key_of(run("dev", agents=2, cerebrasApiKey=KEY)) != key_of(run("dev", agents=2))


def _services(agents: int, density: int) -> dict[str, Any]:
    """Of each service of agents: the file's path in its settings, and the token's grant."""
    found = run("dev", agents=agents, agentsPerContainer=density, runtime="swarm")
    made = {}
    for service in found.of("Service"):
        if service.name.startswith("agents-"):
            key = secret(found, "gateway-report_key")
            made[service.name] = verify(key, secret(found, f"{service.name}-report_token"))
            spec = service.inputs["taskSpec"]["containerSpec"]
            assert '"report_token_file": "/etc/ape/report_token"' in str(spec["env"])
    return made


def test_services_of_swarm_share_a_token_of_their_slots_that_scaling_keeps() -> None:
    assert _services(5, 1) == {"agents-00": Grant(range(1, 251), 1)}
    assert _services(5, 1) == _services(45, 1)
    assert _services(251, 1)["agents-01"] == Grant(range(251, 501), 1)
    assert _services(45, 20) == {
        "agents-00": Grant(range(1, 5001), 20),
        "agents-00-rest": Grant(range(41, 46), 5),
    }
