"""What the program declares for the machines that a stack runs on."""

import json

import pytest

from ape_contracts.service_settings import (
    LIMITS,
    LOG_STREAMS,
    SocketProxySettings,
    decode,
    socket_proxy_memory_mb,
)
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
