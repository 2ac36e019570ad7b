"""The checks of machine, daemon, network, target and stack, on made-up facts."""

import json
import socket
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from ape_contracts import labels
from ape_infra.checks import (
    daemon,
    kernel_limits,
    machine,
    network,
    preflight,
    running_stack,
    target,
)
from ape_infra.checks.check import Check, Status
from ape_infra.checks.connection import PreflightError
from ape_infra.checks.facts import Facts
from ape_infra.config.parsing import parse
from ape_infra.planning.services import BUILT_SERVICES
from tests.support.facts import facts
from tests.unit.checks.conftest import FreeDisk

pytestmark = pytest.mark.unit
PRODUCTION = {"agents": "60", "production": "true"}


def statuses(checks: Iterable[Check]) -> list[Status]:
    return [check.status for check in checks]


def capacity(found: Facts) -> list[Status]:
    return statuses(preflight.run((machine.memory, machine.cpu, machine.disk), found))


def one(checks: Iterable[Check]) -> Check:
    (check,) = checks
    return check


def test_a_plan_above_the_machine_warns_in_development_and_fails_in_production(
    free_disk: FreeDisk,
) -> None:
    small = partial(facts, memory_mb=1024, cpus=2)
    assert capacity(small({"agents": "60"})) == ["warn", "warn", "ok"]
    assert capacity(facts({"agents": "60"})) == ["ok", "ok", "ok"]
    assert capacity(small(PRODUCTION)) == ["fail", "fail", "ok"]
    allowed = PRODUCTION | {"allowOvercommit": "true"}
    assert capacity(small(allowed)) == ["warn", "warn", "ok"]
    check = one(machine.memory(small({"agents": "60"})))
    assert "are missing" in check.remedy
    assert check.text.startswith("ape:agents: 60 agents and the services may use ")
    assert "the machine has 1024" in check.text


def test_the_capacity_of_a_swarm_is_that_of_all_its_nodes(free_disk: FreeDisk) -> None:
    found = facts({"agents": "60", "runtime": "swarm"}, cpus=10, manager=True, nodes=3)
    assert one(machine.cpu(found)).status == "ok"
    assert "the 3 nodes have 30" in one(machine.cpu(found)).observed
    alone = facts({"agents": "60"}, cpus=10, manager=True, nodes=3)
    assert one(machine.cpu(alone)).status == "warn", "plain Docker uses one machine"


@pytest.mark.parametrize(("free_mb", "status"), [(2000, "fail"), (2100, "warn"), (10_000, "ok")])
def test_a_full_disk_fails_and_one_too_small_for_the_logs_warns(
    free_mb: int, status: Status, free_disk: FreeDisk
) -> None:
    free_disk(free_mb)
    check = one(machine.disk(facts({})))
    assert check.status == status
    assert check.observed.startswith(f"{free_mb} MB are free at /docker")


SWARM = {"runtime": "swarm", "observability": "off"}


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        (SWARM, 1, []),
        ({"observability": "off"}, 3, []),
        (SWARM, 3, [("fail", "ape:registry")]),
        (SWARM | {"registry": "r.example"}, 3, [("ok", "")]),
        ({"runtime": "swarm", "registry": "r.example"}, 3, [("warn", "ape:dataNode")]),
        (
            {"runtime": "swarm", "registry": "r.example", "production": "true"},
            3,
            [("fail", "ape:dataNode")],
        ),
        ({"runtime": "swarm", "registry": "r.example", "dataNode": "one"}, 3, [("ok", "")]),
        (
            {
                "runtime": "swarm",
                "registry": "r.example",
                "servicePlacement": '["node.hostname==one"]',
                "exposeAddress": "10.0.0.1",
            },
            3,
            [("ok", "")],
        ),
        (
            SWARM | {"registry": "r.example", "exposeAddress": "10.0.0.1"},
            3,
            [("warn", "ape:exposeAddress")],
        ),
    ],
)
def test_several_nodes_need_a_registry_and_a_node_for_data(
    settings: dict[str, str], nodes: int, expected: list[tuple[Status, str]]
) -> None:
    found = list(daemon.nodes(facts(settings, manager=True, nodes=nodes)))
    assert [(check.status, check.path) for check in found] == expected


def test_nodes_with_images_that_are_given_need_no_registry() -> None:
    given = {service: f"r.example/{service}:1" for service in BUILT_SERVICES}
    settings = SWARM | {"images": json.dumps(given)}
    assert one(daemon.nodes(facts(settings, manager=True, nodes=3))).status == "ok"
    text = one(daemon.nodes(facts(SWARM, manager=True, nodes=3))).text
    assert "the images of agent, demo_target, gateway, proxy would be on this node only" in text


@pytest.mark.parametrize(
    ("docker_version", "isolate", "expected"),
    [
        ("20.10.24+dfsg1", "false", []),
        ("27.5.1", "true", ["fail"]),
        ("28.0.0", "true", []),
        ("29.1.3", "false", ["ok"]),
    ],
)
def test_docker_28_can_hide_the_host_from_agents(
    docker_version: str, isolate: str, expected: list[Status]
) -> None:
    found = list(daemon.isolation(facts({"isolateHosts": isolate}, docker_version=docker_version)))
    assert statuses(found) == expected
    if isolate == "true":
        assert not found or "Docker 27.5.1 gives every network an address" in found[0].observed
    elif found:
        assert "with ape:isolateHosts, Docker 29.1.3 hides it" in found[0].observed


def test_a_rootless_daemon_without_cpu_delegation_fails_before_an_update() -> None:
    found = facts({})
    assert one(daemon.limits(found)).status == "ok", "an engine that does not report it"
    found.client.info().update({"CpuCfsQuota": True, "MemoryLimit": True})
    assert one(daemon.limits(found)).status == "ok"
    rootless = facts({})
    rootless.client.info().update(
        {"CpuCfsQuota": False, "MemoryLimit": True, "SecurityOptions": ["name=rootless"]}
    )
    check = one(daemon.limits(rootless))
    assert check.status == "fail"
    assert "cannot limit the CPU of a container, as it is rootless" in check.observed
    assert "Delegate=cpu" in check.remedy


def test_the_logs_of_a_dense_fleet_are_those_of_its_containers() -> None:
    platform = parse({"logCompress": "false"}).platform
    assert machine.log_mb(platform, 106) == 106 * 10 * 3
    assert machine.log_mb(parse({"logMaxSize": "512k"}).platform, 10) == 10 * 0.5 * 1.3


def test_what_a_remote_daemon_hides_is_unknown() -> None:
    remote = facts({}, url="http://192.0.2.1:2375")
    checks = (machine.disk, network.ports, kernel_limits.fleet)
    assert statuses(preflight.run(checks, remote)) == ["unknown"] * 3
    assert not facts({}, url="http+docker://ssh").is_local


def test_a_dense_fleet_in_production_is_not_refused_on_a_large_machine(
    free_disk: FreeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "net.ipv4.neigh.default.gc_thresh3": 1024,
        "net.core.netdev_max_backlog": 1000,
        "net.netfilter.nf_conntrack_max": 262144,
        "dockerd open files": 1048576,
    }
    monkeypatch.setattr("ape_infra.checks.kernel_limits.read", lambda: values)
    dense = {"agents": "2000", "agentsPerContainer": "20", "production": "true"}
    found = list(preflight.run(preflight.BEFORE_SCALE, facts(dense)))
    assert [check.text for check in found if check.status == "fail"] == []
    limits = next(check for check in found if check.name == "kernel limits")
    assert limits.observed == "they allow the 106 containers of a machine."
    # One agent per container is too much for one machine, and fails.
    alone = list(preflight.run(preflight.BEFORE_SCALE, facts(dense | {"agentsPerContainer": "1"})))
    failed = {check.name for check in alone if check.status == "fail"}
    assert failed == {"net.core.netdev_max_backlog", "net.ipv4.neigh.default.gc_thresh3"}


def test_the_runtime_swarm_needs_a_manager() -> None:
    assert list(daemon.swarm(facts({}))) == []
    assert statuses(daemon.swarm(facts({"runtime": "swarm"}, manager=True))) == ["ok"]
    check = one(daemon.swarm(facts({"runtime": "swarm"})))
    assert check.status == "fail"
    assert check.text.startswith("ape:runtime: is swarm, and the daemon is not a Swarm manager")


@pytest.mark.parametrize(
    ("text", "forwards"),
    [
        ("19.03.15", True),
        ("20.10.24+dfsg1", True),
        ("23.0.10", True),
        ("23.0.11", False),
        ("24.0.9", True),
        ("25.0.0", True),
        ("25.0.4", True),
        ("25.0.5", False),
        ("26.0.0-rc3", False),
        ("28.5.2", False),
    ],
)
def test_a_daemon_that_forwards_names_to_the_hosts_resolver_warns_and_production_refuses(
    text: str, forwards: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(daemon, "RESOLV_CONF", file)

    def status(settings: dict[str, str], **more: Any) -> str:
        return one(daemon.names(facts(settings, docker_version=text, **more))).status

    for loopback in ("127.0.0.53", "127.0.0.1", "::1"):
        file.write_text(f"# of a test\nsearch example\nnameserver {loopback}\n")
        assert status({}) == ("warn" if forwards else "ok")
        assert status(PRODUCTION) == ("fail" if forwards else "ok")
        allowed = PRODUCTION | {"allowNameForwarding": "true"}
        assert status(allowed) == ("warn" if forwards else "ok")
    assert status({}, url="http://192.0.2.1:2375") == ("unknown" if forwards else "ok")
    file.write_text("nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\nnameserver\n")
    assert status(PRODUCTION) == "ok"
    file.unlink()
    assert status(PRODUCTION) == "ok"


def test_a_daemon_without_a_version_is_unknown() -> None:
    assert one(daemon.names(facts(PRODUCTION, docker_version="dev"))).status == "unknown"


def test_names_are_checked_before_every_update_and_processes_by_a_plan() -> None:
    assert daemon.names in preflight.BEFORE_UPDATE
    assert daemon.names in preflight.VALIDATE
    assert daemon.processes in preflight.BEFORE_SCALE
    assert statuses(daemon.processes(facts({}))) == ["ok"]
    check = one(daemon.processes(facts({"runtime": "swarm"})))
    assert check.status == "warn"
    assert "no field" in check.observed


def test_a_port_of_another_process_fails_and_one_of_the_stack_passes() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = {"gatewayPort": str(port)}
        failed = [c for c in network.ports(facts(settings)) if c.path == "ape:gatewayPort"]
        own = facts(settings, containers=[{"Ports": [{"PublicPort": port}]}])
        passed = [c for c in network.ports(own) if c.path == "ape:gatewayPort"]
    assert statuses(failed) == ["fail"]
    assert failed[0].text.startswith(f"ape:gatewayPort: port {port} of 127.0.0.1 is not available")
    assert passed == []


def test_a_pool_that_another_network_uses_warns() -> None:
    def named(stack: str) -> dict[str, object]:
        config = [{"Subnet": "10.213.4.0/22"}]
        return {"Name": "other", "Labels": {labels.STACK: stack}, "IPAM": {"Config": config}}

    assert statuses(network.address_pool(facts({}, networks=[named("dev")]))) == ["ok"]
    check = one(network.address_pool(facts({}, networks=[named("prod")])))
    assert check.status == "warn"
    assert "other (10.213.4.0/22)" in check.text


@pytest.mark.parametrize(("code", "status"), [(200, "ok"), (404, "ok"), (503, "fail")])
def test_a_target_that_answers_without_a_server_error_passes(
    code: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(status_code=code, close=lambda: None)
    monkeypatch.setattr(requests, "get", lambda url, **_: answer)
    running = facts({}, outputs={"agents": 5, "endpoints": {"target": "http://shop"}})
    check = one(target.answers(running))
    assert check.status == status
    assert check.observed.startswith(f"http://shop/health answers {code}")


def test_a_target_on_the_docker_host_is_asked_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    answer = SimpleNamespace(status_code=200, close=lambda: None)

    def get(url: str, **_: object) -> SimpleNamespace:
        asked.append(url)
        return answer

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    own = {
        "target": "http://host.docker.internal:8000/",
        "targetGoal": "Look.",
        "targetEndpoints": '[{"method": "GET", "path": "/"}]',
        "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
    }
    assert statuses(target.answers(facts(own))) == ["ok"]
    assert set(asked) == {"http://127.0.0.1:8000/"}
    elsewhere = own | {"dockerHost": "tcp://192.0.2.1:2376"}
    assert statuses(target.answers(facts(elsewhere))) == ["unknown"]


def test_a_demo_target_is_asked_only_while_it_is_reachable() -> None:
    assert statuses(target.answers(facts({}))) == ["ok"]
    inside = facts({}, outputs={"agents": 5, "endpoints": {}})
    assert statuses(target.answers(inside)) == ["unknown"]


@pytest.mark.parametrize(
    ("agents", "result", "status"),
    [(5, "failed", "warn"), (5, "succeeded", "ok"), (0, "succeeded", "warn")],
)
def test_a_rollback_needs_a_running_stack_and_a_successful_update(
    agents: int, result: str, status: Status
) -> None:
    outputs = {"agents": agents} if agents else {}
    history = [{"kind": "refresh", "result": "failed"}, {"kind": "update", "result": result}]
    check = one(running_stack.rollback(facts({}, outputs=outputs, history=history)))
    assert (check.name, check.status) == ("rollback", status)


def test_a_stack_without_prometheus_warns() -> None:
    assert statuses(running_stack.monitoring(facts({"observability": "off"}))) == ["warn"]
    assert statuses(running_stack.monitoring(facts({}))) == ["warn"]
    up = facts({}, endpoints={"prometheus": ("http://p", True)})
    assert statuses(running_stack.monitoring(up)) == ["ok"]


def test_without_a_daemon_a_run_ends_with_that_failure_and_a_precondition_raises() -> None:
    settings = parse({"dockerHost": "unix:///nonexistent/docker.sock"})
    found = list(preflight.run(preflight.VALIDATE, Facts(settings, "ape", "dev")))
    assert [check.name for check in found] == ["target", "key", "daemon"]
    assert found[-1].text.startswith("ape:dockerHost: no Docker daemon answers at unix:///nonex")
    with pytest.raises(PreflightError, match="no Docker daemon answers"):
        preflight.check(settings, "ape", "dev", api_key="", on_warning=lambda text: None)


def test_the_json_of_a_check_keeps_its_keys() -> None:
    assert Check("disk", "warn", "it is small.", "Free some.").data() == {
        "name": "disk",
        "state": "warn",
        "saw": "it is small.",
        "mend": "Free some.",
        "path": "",
    }
