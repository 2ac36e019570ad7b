"""The monitor as the stack deploys it, on real Docker."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.live import LiveStack, wait_until
from tests.support.rule_cases import files

pytestmark = pytest.mark.engine
MIB = 1 << 20


def test_the_deployed_monitor_sees_the_stack_and_cannot_change_it(
    live: Callable[..., LiveStack],
) -> None:
    stack = live("t-monitor")
    stack.config(agents=2, alertThresholds={"serviceDown": {"holdSeconds": 1}})
    stack.up()

    def sample() -> dict[str, Any]:
        found: dict[str, Any] = stack.get("monitorPort", "/sample").json()
        return found

    def settled() -> bool:
        fleet = sample()["fleet"]
        return (fleet["healthy"], fleet["heartbeat"]) == (2, 2)

    wait_until(settled, seconds=60)
    seen = sample()
    assert seen["fleet"] == {
        "declared": 2,
        "running": 2,
        "healthy": 2,
        "heartbeat": 2,
        "missing": 0,
    }
    containers = {c["name"]: c for c in seen["containers"]}
    assert set(containers) == {
        *("agent-0001", "agent-0002", "gateway", "proxy", "target"),
        *("prometheus", "monitor", "socket-proxy"),
    }
    # As Docker limits it, and alive: it has read, computed, and talked.
    assert containers["gateway"]["memory_limit_bytes"] == 1024 * MIB
    assert containers["agent-0001"]["cpu_limit_cores"] == stack.plan().tier.cpus
    for name, c in containers.items():
        assert c["memory_bytes"] > MIB, name
        assert c["cpu_percent"] is not None, name
        assert c["pids"] > 0, name
        assert (c["net_received_bytes"] > 0) == (name != "socket-proxy"), name
    assert seen["system"]["cpu_percent"] > 0
    assert seen["monitor"]["docker_up"]

    gateway = stack.containers("gateway")[0]

    def agrees_with_docker() -> bool:
        found = stack.client.api.stats(gateway["Id"], stream=False)["memory_stats"]
        working = found["usage"] - found["stats"].get("total_inactive_file", 0)
        return bool(
            sample_of(sample(), "gateway")["memory_bytes"] == pytest.approx(working, rel=0.05)
        )

    # The two readings are not of the same moment, and the kernel moves pages between its lists.
    wait_until(agrees_with_docker, seconds=30)

    # Prometheus scrapes it.
    def scraped() -> bool:
        query = "/api/v1/query?query=ape_concurrent_agents_total"
        found = stack.get("prometheusPort", query).json()["data"]["result"]
        return bool(found) and found[0]["value"][1] == "2"

    wait_until(scraped, seconds=30)

    # The image of Prometheus has promtool: the metrics are clean, and every rule is raised by what
    # it is for and by nothing less.
    check = "wget -q -O - http://monitor:8080/metrics | promtool check metrics"
    assert _in_prometheus(stack, check) == (0, "")
    write = "cd /tmp && "
    for name, body in zip(("rules.json", "test.json"), files(), strict=True):
        coded = base64.b64encode(json.dumps(body).encode()).decode()
        write += f"echo {coded} | busybox base64 -d >{name} && "
    code, output = _in_prometheus(stack, write + "promtool test rules test.json")
    assert code == 0, output

    # Its way to Docker reads and cannot write.
    monitor = stack.containers("monitor")[0]
    assert not any("docker.sock" in m["Source"] for m in monitor["Mounts"])
    reads = (
        "import docker, docker.errors as e\n"
        "c = docker.APIClient(base_url='unix:///run/ape/docker.sock', version='1.41')\n"
        "print(len(c.containers()))\n"
        "for act in (c.stop, c.remove_container, c.logs):\n"
        "    try: act('GATEWAY'); print('done')\n"
        "    except e.APIError as error: print(error.response.status_code)\n"
    ).replace("GATEWAY", gateway["Id"])
    words = stack.exec(monitor["Id"], "python", "-c", reads)[1].split()
    assert int(words[0]) >= 8
    assert words[1:] == ["403", "403", "403"]

    # A crash is a restart; a service that is gone is an alert, until it is back.
    agent = stack.containers("agent")[0]
    crash = (
        "import os\n"
        "for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):\n"
        "    if pid not in (1, os.getpid()): os.kill(pid, 9)\n"
    )
    stack.exec(agent["Id"], "python", "-c", crash)
    crashed = agent["Name"].removeprefix("/ape-t-monitor-")
    wait_until(lambda: sample_of(sample(), crashed)["restarts"] == 1, seconds=30)
    stack.client.api.stop(stack.containers("target")[0]["Id"], timeout=1)

    def alerts() -> dict[str, Any]:
        found = json.loads(stack.get("monitorPort", "/alerts").text)
        return {a["name"]: a for a in found["alerts"]}

    wait_until(lambda: "ServiceUnavailable" in alerts(), seconds=30)
    assert alerts()["ServiceUnavailable"]["examples"] == ["target"]
    stack.client.api.start(stack.containers("target")[0]["Id"])
    wait_until(lambda: "ServiceUnavailable" not in alerts(), seconds=40)
    stack.destroy()
    assert stack.leftovers() == []


def _in_prometheus(stack: LiveStack, command: str) -> tuple[int, str]:
    """(exit code, output) of a shell command in Prometheus's container."""
    return stack.exec(stack.containers("prometheus")[0]["Id"], "sh", "-c", command)


def sample_of(sample: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in sample["containers"] if c["name"] == name)
    return found
