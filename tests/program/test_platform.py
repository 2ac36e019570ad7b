"""What the program declares for the machines that a stack runs on."""

import json
from typing import Any

import pytest

from ape_contracts.limits import LIMITS, LOG_STREAMS, socket_proxy_memory_mb
from ape_contracts.service_settings import SocketProxySettings, decode
from ape_infra.planning import plan as planning
from tests.support.program_mocks import PROD, Recorder, Registered, run

pytestmark = pytest.mark.program


def container(found: Recorder, name: str) -> Registered:
    (made,) = (c for c in found.of("Container") if c.name == name)
    return made


def socket_proxy(found: Recorder) -> SocketProxySettings:
    envs = dict(e.split("=", 1) for e in container(found, "socket-proxy").inputs["envs"])
    return decode(SocketProxySettings, envs["APE_SETTINGS"])


def test_the_socket_proxy_has_a_log_stream_for_each_container_of_the_tier() -> None:
    found = run("prod", **PROD)
    # 60 agents are of the tier 51-100, and there are ten services.
    assert socket_proxy(found).log_streams == 100 + 10 + LOG_STREAMS
    made = container(found, "socket-proxy").inputs
    assert made["memory"] == socket_proxy_memory_mb(174) > LIMITS["socket_proxy"].memory_mb
    larger = container(run("prod", **PROD | {"agents": "100"}), "socket-proxy").inputs
    assert larger == made, "a fleet that grows within its tier leaves it as it is"


def test_the_largest_fleet_leaves_observability_within_its_memory() -> None:
    found = run("prod", **PROD | {"agents": "501"})
    made = container(found, "socket-proxy").inputs
    streams = socket_proxy(found).log_streams
    assert streams > 2000
    (files,) = (u["hard"] for u in made["ulimits"] if u["name"] == "nofile")
    assert files > 2 * streams
    memory = {c.name: c.inputs["memory"] for c in found.of("Container")}
    watching = (*planning.parts_of("full"), "monitor", "socket-proxy")
    assert sum(memory[part] for part in watching) <= planning.OBSERVABILITY_MEMORY_MB


def test_a_stack_without_a_shipper_has_the_socket_proxy_that_it_had() -> None:
    made = container(run("dev"), "socket-proxy").inputs
    (settings,) = (e.partition("=")[2] for e in made["envs"] if e.startswith("APE_SETTINGS="))
    assert "log_streams" not in json.loads(settings)
    assert (made["memory"], made["ulimits"][0]["hard"]) == (64, 4096)


def test_only_the_monitor_is_in_the_cgroup_namespace_of_the_host() -> None:
    found = run("prod", **PROD).of("Container")
    assert {c.name for c in found if c.inputs.get("cgroupnsMode")} == {"monitor"}


def services(**settings: object) -> dict[str, dict[str, Any]]:
    found = run("prod", **PROD | {"runtime": "swarm"} | settings)
    return {s.name: s.inputs["taskSpec"] for s in found.of("Service")}


def test_a_stack_without_placement_has_no_constraints_and_no_options() -> None:
    assert not [name for name, task in services().items() if "placement" in task]
    for runtime in ("docker", "swarm"):
        for network in run("dev", runtime=runtime).of("Network"):
            assert "options" not in network.inputs
            assert network.inputs["ipamConfigs"][0]["gateway"]


def test_swarm_places_agents_services_and_data_where_the_settings_say() -> None:
    found = services(
        agentPlacement=["node.role==worker"],
        servicePlacement=["node.labels.ape==services"],
        dataNode="first",
    )
    constraints = {
        name: task["placement"]["constraints"]
        for name, task in found.items()
        if "placement" in task
    }
    of_services = ["node.labels.ape==services"]
    assert constraints.pop("agents-00") == ["node.role==worker"]
    with_data = {"prometheus", "alertmanager", "grafana", "loki"}
    for name, values in constraints.items():
        pinned = ["node.hostname==first"] if name in with_data else []
        assert values == [*of_services, *pinned], name
    # What runs on each node has no place of its own.
    assert found.keys() - constraints.keys() == {"agents-00", "monitor", "socket-proxy", "alloy"}


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_every_network_has_the_mtu_of_the_setting(runtime: str) -> None:
    found = run("dev", runtime=runtime, networkMtu=1400).of("Network")
    options = [network.inputs["options"] for network in found]
    assert options == [{"com.docker.network.driver.mtu": "1400"}] * 3


def test_isolated_networks_of_agents_have_no_address_on_the_host() -> None:
    found = {n.name: n.inputs for n in run("dev", isolateHosts="true").of("Network")}
    agents = found.pop("agents-00")
    assert agents["options"] == {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}
    assert agents["internal"]
    assert "gateway" not in agents["ipamConfigs"][0]
    assert not [name for name, made in found.items() if "options" in made]


def test_the_plugin_reads_the_login_of_the_registry_and_the_state_has_no_password() -> None:
    settings = {"registry": "registry.example:5000/team", "registryLogin": "true"}
    found = run("dev", runtime="swarm", **settings)
    (provider,) = (r for r in found.resources if r.type == "pulumi:providers:docker")
    given = json.loads(provider.inputs["registryAuth"])
    assert given == [{"address": "registry.example:5000"}]
    assert "registryAuth" not in next(
        r.inputs for r in run("dev").resources if r.type == "pulumi:providers:docker"
    )
