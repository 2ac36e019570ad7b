"""Agents in containers hold sessions against the demo shop, through the gateway and the proxy."""

import re
import time
from collections.abc import Callable

import pytest
import requests

from tests.support.live import LiveStack, wait_until

pytestmark = pytest.mark.e2e
Make = Callable[..., LiveStack]


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    total = 0.0
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
            total += float(found[2])
    return total


def test_agents_finish_sessions_and_everybody_counts_the_same(live: Make) -> None:
    stack = live("t-e2e")
    # The acceptance is 5 agents and 20 sessions in two minutes.
    stack.config(agents=5, testDurationSeconds=90)
    started = time.monotonic()
    stack.up()

    def fleet() -> dict[str, object]:
        found: dict[str, object] = stack.get("gatewayPort", "/fleet").json()
        return found

    # The test ends when it should: agents stay healthy, and start no more sessions.
    wait_until(lambda: fleet()["by_state"] == {"finished": 5}, seconds=150)
    assert time.monotonic() - started < 240
    time.sleep(3)
    sessions = fleet()["sessions"]
    assert isinstance(sessions, dict)
    orders = stack.get("targetPort", "/orders/stats").json()["orders"]
    text = stack.get("gatewayPort", "/metrics").text
    assert sessions["success"] >= 20
    assert sessions["failure"] == 0
    assert orders == sessions["success"] == metric(text, "ape_sessions_total", result="success")
    assert metric(text, "ape_gateway_requests_total", status="201") >= orders
    assert all(c["State"]["Health"]["Status"] == "healthy" for c in stack.containers("agent")), (
        "finished agents are healthy"
    )
    # Prometheus sees it too.
    wait_until(
        lambda: stack.get(
            "prometheusPort", '/api/v1/query?query=ape_sessions_total{result="success"}'
        ).json()["data"]["result"],
        seconds=30,
    )
    stack.destroy()
    assert stack.leftovers() == []


@pytest.mark.xdist_group("shared")
def test_a_broken_target_makes_sessions_fail(shared_stack: LiveStack) -> None:
    stack = shared_stack
    url = f"{stack.url('targetPort')}/_faults"
    requests.put(url, json={"checkout": 500}, timeout=5).raise_for_status()
    orders = stack.get("targetPort", "/orders/stats").json()["orders"]
    before = stack.get("gatewayPort", "/fleet").json()["sessions"]["failure"]

    def failed() -> bool:
        found = stack.get("gatewayPort", "/fleet").json()["sessions"]
        return bool(found["failure"] >= before + 2)

    try:
        wait_until(failed, seconds=90)
        assert stack.get("targetPort", "/orders/stats").json()["orders"] == orders
    finally:
        requests.put(url, json={}, timeout=5).raise_for_status()


@pytest.mark.xdist_group("shared")
def test_an_agent_reaches_the_gateway_and_the_proxy_and_nothing_else(
    shared_stack: LiveStack,
) -> None:
    stack = shared_stack
    agent = stack.containers("agent")[0]
    networks = stack.containers("target")[0]["NetworkSettings"]["Networks"]
    target = next(iter(networks.values()))["IPAddress"]
    gateway = next(iter(networks.values()))["Gateway"]

    def reaches(host: str, port: int, source: str = agent["Id"]) -> bool:
        code = (
            "import socket,sys\n"
            "socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"
        )
        return stack.exec(source, "python", "-c", code, host, str(port))[0] == 0

    assert reaches("gateway", 8080)
    assert reaches("proxy", 8080)
    assert not reaches("target", 8080)
    assert not reaches(target, 8080)
    # The ports published on the host, by the host's own address.
    assert not reaches(gateway, stack.ports["targetPort"])
    # One rule drops all that leaves the agents' own network, so an address on another network
    # stands for the internet; from there it answers.
    control = stack.containers("gateway")[0]["Id"]
    assert reaches(target, 8080, control)
