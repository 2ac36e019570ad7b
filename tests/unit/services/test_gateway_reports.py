"""Reports count for the agents whose container signed them, as a whole or not at all."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from ape_agent.host import Host
from ape_contracts import metrics
from ape_contracts.gateway_config import load
from ape_contracts.report_token import sign, verify
from ape_gateway.app import make_app
from tests.support.agent_world import wait_until

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
KEY = "k" * 64
CONFIG = '{"routes": {"shop": {"base_url": "http://127.0.0.1:1"}}}'
# Of the container with agents 21 to 40, and of a service of five containers of 20.
OWN, SHARED = sign(KEY, 21, 40, 20), sign(KEY, 1, 100, 20)


class Gateway:
    def __init__(self, client: Any) -> None:
        self.client = client

    async def send(self, token: str | None, first: int = 21, **changed: Any) -> int:
        """The status of a report of twenty agents from `first`, with 2 steps and a success."""
        body = {
            "source": "a",
            "number": 1,
            "agents": [[slot, "running"] for slot in range(first, first + 20)],
            "memory_bytes": 1,
            "steps": [["ok", 0.1, None]] * 2,
            "sessions": [{"slot": first, "result": "success", "seconds": 1}],
            "lost": 0,
        } | changed
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await self.client.post("/agents/report", data=json.dumps(body), headers=headers)
        assert isinstance(await answer.json(), dict)
        return int(answer.status)

    async def fleet(self) -> tuple[int, int, int]:
        """Agents alive, steps, successes."""
        found = await (await self.client.get("/fleet")).json()
        return found["alive"], found["steps"].get("ok", 0), found["sessions"]["success"]

    async def refused(self) -> dict[str, float]:
        text = await (await self.client.get("/metrics")).text()
        name = metrics.GATEWAY_REPORTS_REFUSED.name
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        counts = {line.split('"')[1]: float(line.split()[-1]) for line in lines}
        assert counts.keys() == set(metrics.REFUSAL_REASONS), "each is there from the start"
        return {reason: count for reason, count in counts.items() if count}


@pytest.fixture
def gateway(serve: Any) -> Any:
    async def start(key: str = KEY, max_agents: int = 100) -> Gateway:
        app = make_app(load(CONFIG), report_key=key, max_agents=max_agents)
        return Gateway(await serve(app))

    return start


async def test_report_without_an_authentic_token_is_refused_and_counted(gateway: Any) -> None:
    here = await gateway()
    forged = [
        None,
        "",
        "x",
        sign("another key", 21, 40, 20),
        OWN.replace("21-40", "1-100"),
        OWN[:-1] + ("0" if OWN[-1] != "0" else "1"),
        OWN.replace("21-", "021-"),
        OWN + "\xe9",
        "9" * 5000 + OWN,
    ]
    assert [await here.send(token) for token in forged] == [401] * len(forged)
    assert await here.fleet() == (0, 0, 0)
    assert await here.refused() == {"token": len(forged)}
    assert await here.send(OWN) == 200
    assert await here.fleet() == (20, 2, 1)


async def test_container_cannot_report_for_the_agents_of_another(gateway: Any) -> None:
    here = await gateway()
    assert await here.send(OWN) == 200
    assert await here.send(OWN, first=41, source="b") == 403
    assert await here.send(OWN, first=22, source="b") == 403
    assert await here.send(OWN, source="b", agents=[[41, "running"]], sessions=[]) == 403
    # A session of an agent that the report is not about.
    other = [{"slot": 41, "result": "success", "seconds": 1}]
    assert await here.send(OWN, source="b", sessions=other) == 422
    assert await here.fleet() == (20, 2, 1)
    assert await here.refused() == {"slots": 3, "invalid": 1}


async def test_invented_slots_evict_no_agent_and_do_not_enlarge_metrics(gateway: Any) -> None:
    here = await gateway(key="", max_agents=100)
    assert await here.send(None) == 200
    size = len(await (await here.client.get("/metrics")).text())
    for number in range(2, 30):
        slots = [101 * number, 10 ** (100 * number), 10**9]
        status = await here.send(None, number=number, agents=[[s, "running"] for s in slots])
        assert status == 422
    assert await here.send(None, agents=[[s, "running"] for s in range(1, 101)]) == 200
    assert (await here.fleet())[0] == 100
    assert len(await (await here.client.get("/metrics")).text()) < size + 100 * 60


async def test_number_too_large_counts_nothing(gateway: Any) -> None:
    here = await gateway()
    huge = 10**400
    for bad in (
        {"lost": huge},
        {"number": huge},
        {"memory_bytes": huge},
        {"steps": [["ok", 0.1, None], ["ok", huge, None]]},
        {"sessions": [{"slot": 21, "result": "success", "seconds": huge}]},
        {"sessions": [{"slot": 21, "result": "success", "seconds": 1, "repaired": {"path": huge}}]},
        {"sessions": [{"slot": huge, "result": "success", "seconds": 1}]},
    ):
        assert await here.send(OWN, **bad) == 422, bad.keys()
    assert await here.fleet() == (0, 0, 0)
    text = await (await here.client.get("/metrics")).text()
    assert f"\n{metrics.AGENT_RESULTS_LOST.name} 0.0\n" in text
    assert await here.send(OWN) == 200


async def test_replayed_report_is_refused_and_a_repeated_one_counts_once(gateway: Any) -> None:
    here = await gateway()
    assert await here.send(OWN, number=7) == 200
    assert await here.send(OWN, number=7) == 200, "its answer was lost"
    assert await here.fleet() == (20, 2, 1)
    assert await here.send(OWN, number=7, lost=3) == 409
    assert await here.send(OWN, number=6) == 409
    assert await here.fleet() == (20, 2, 1)
    assert await here.refused() == {"replayed": 2}
    # A process that was started again.
    assert await here.send(OWN, source="b", number=1) == 200
    assert await here.fleet() == (20, 4, 2)


async def test_containers_with_a_shared_token_report_for_their_own_agents(gateway: Any) -> None:
    here = await gateway()
    assert await here.send(SHARED) == 200
    assert await here.send(SHARED, first=22, source="b") == 403, "not one container's agents"
    assert await here.send(SHARED, first=21, source="b") == 409
    assert await here.send(SHARED, first=41, source="b") == 200
    assert await here.fleet() == (40, 4, 2)
    assert await here.refused() == {"slots": 1, "claimed": 1}
    # The container of agents 21 to 40 was replaced.
    stopping = [[slot, "stopping"] for slot in range(21, 41)]
    assert await here.send(SHARED, number=2, agents=stopping, steps=[], sessions=[]) == 200
    assert await here.send(SHARED, source="c") == 200


async def test_agents_sign_their_reports_and_keep_results_that_are_refused(
    world: Any, serve: Any
) -> None:
    here = await world()
    gateway = Gateway(await serve(make_app(load(CONFIG), report_key=KEY)))
    settings = replace(
        here.settings, gateway_url=str(gateway.client.make_url("")).rstrip("/"), slot="20+1"
    )
    unsigned, signed = Host(settings), Host(settings, report_token=sign(KEY, 21, 21, 1))
    tasks = [asyncio.create_task(host.run()) for host in (unsigned, signed)]

    async def alive() -> bool:
        return (await gateway.fleet())[0] == 1 and (await gateway.refused()).get("token", 0) > 0

    await wait_until(alive)
    for host in (unsigned, signed):
        host.stop()
    await asyncio.wait_for(asyncio.gather(*tasks), 15)


async def test_token_names_its_slots_and_only_the_key_makes_one() -> None:
    grant = verify(KEY, SHARED)
    assert grant is not None
    assert (grant.slots, grant.each, grant.is_shared) == (range(1, 101), 20, True)
    assert grant.container_of(41) == grant.container_of(60) == range(41, 61)
    own = verify(KEY, sign(KEY, 41, 45, 5))
    assert own is not None
    assert (own.slots, own.is_shared) == (range(41, 46), False)
    assert verify(KEY + "x", SHARED) is None
    assert KEY not in SHARED
