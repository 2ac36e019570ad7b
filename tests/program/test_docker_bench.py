"""The checks of docker-bench-security (section 5, containers) on what the stack declares.

Those that depend on the host (5.1 Swarm, 5.2 AppArmor) and the manual ones are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.program_mocks import PROD, Registered, run

pytestmark = pytest.mark.program
SENSITIVE = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
Inputs = dict[str, Any]


def _mounts(inputs: Inputs) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = inputs.get("volumes", [])
    return found


def _sensitive(inputs: Inputs) -> bool:
    """The check finds such a folder also where another mount of the container is writable."""
    folders = {mount.get("hostPath") for mount in _mounts(inputs)} & set(SENSITIVE)
    return bool(folders) and not all(mount.get("readOnly") for mount in _mounts(inputs))


WARNS: dict[str, Callable[[Inputs], bool]] = {
    "5.3": lambda c: not c.get("securityOpts"),
    "5.4": lambda c: bool(c.get("capabilities", {}).get("adds")),
    "5.5": lambda c: bool(c.get("privileged")),
    "5.6": _sensitive,
    "5.8": lambda c: any(port["external"] < 1025 for port in c.get("ports", [])),
    "5.9": lambda c: bool(c.get("ports")),
    "5.10": lambda c: c.get("networkMode") == "host",
    "5.11": lambda c: not c.get("memory"),
    "5.12": lambda c: not (c.get("cpus") or c.get("cpuShares")),
    "5.13": lambda c: not c.get("readOnly"),
    "5.14": lambda c: any(port.get("ip") == "0.0.0.0" for port in c.get("ports", [])),
    "5.15": lambda c: c.get("maxRetryCount", 0) > 5,
    "5.16": lambda c: c.get("pidMode") == "host",
    "5.17": lambda c: c.get("ipcMode") == "host",
    "5.18": lambda c: bool(c.get("devices")),
    "5.19": lambda c: not c.get("ulimits"),
    "5.20": lambda c: "shared" in json.dumps(_mounts(c)),
    "5.21": lambda c: c.get("utsMode") == "host",
    "5.22": lambda c: "seccomp=unconfined" in c.get("securityOpts", []),
    "5.25": lambda c: bool(c.get("cgroupParent")),
    "5.26": lambda c: not any("no-new-privileges" in o for o in c.get("securityOpts", [])),
    "5.27": lambda c: not c.get("healthcheck"),
    # pulumi-docker has no such input (docs/facts.md).
    "5.29": lambda c: not c.get("pidsLimit"),
    "5.31": lambda c: c.get("usernsMode") == "host",
    "5.32": lambda c: "docker.sock" in json.dumps(_mounts(c)),
}


def _running(stack: str, **settings: Any) -> Iterator[Registered]:
    return (c for c in run(stack, **settings).of("Container") if c.inputs.get("start", True))


@pytest.mark.parametrize("log_store", ["loki", "victorialogs"])
def test_docker_bench_warns_of_nothing_but_what_the_threat_model_states(log_store: str) -> None:
    containers = list(_running("prod", logStore=log_store, **PROD))
    found = {
        check: {container.inputs["labels"][2]["value"] for container in warned}
        for check, warns in WARNS.items()
        if (warned := [container for container in containers if warns(container.inputs)])
    }
    everyone = {container.inputs["labels"][2]["value"] for container in containers}
    published = {c.inputs["labels"][2]["value"] for c in containers if c.inputs.get("ports")}
    expected = {"5.9": published, "5.29": everyone, "5.32": {"socket-proxy"}}
    if log_store == "victorialogs":
        expected["5.27"] = {"victorialogs"}
    assert found == expected
