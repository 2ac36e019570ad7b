"""Runs from the document that begins them to the target's log, with real agents in process."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_world import SCENARIO
from tests.support.run_world import Seen, run_world

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]
LOOK = {"method": "GET", "path": "/products", "status": 200}
LOGIN, CHECKOUT = ("POST", "/login"), ("POST", "/checkout")


async def test_closed_run_has_the_agents_of_its_stages(tmp_path: Path) -> None:
    async with run_world(tmp_path, think_time_seconds=0.05) as world:
        assert world.target.log == []
        await world.begin((1.5, 1), (1.5, 4))
        began = time.monotonic()
        status = await world.until("ended")
        results = await world.results(status["started"])
    assert (status["why_ended"], status["active"], status["dropped"]) == ("planned", 0, 0)
    assert status["started"] == status["ended"] == len(world.target.of(*CHECKOUT))
    # One agent, and then all of them: as their users log in.
    users = [(seen.at - began, json.loads(seen.body)) for seen in world.target.of(*LOGIN)]
    assert {body["username"] for at, body in users if at < 1.4} == {"agent-0001"}
    assert {body["username"] for at, body in users if at > 1.5} == {
        f"agent-{n:04d}" for n in range(1, 5)
    }
    (sessions,) = results["sessions"]
    assert (sessions["succeeded"], sessions["failed"]) == (status["started"], 0)
    # Each request of the target is one of the run, by its endpoint.
    counts = {(r["method"], r["endpoint"]): r["statuses"]["2xx"] for r in results["requests"]}
    assert sum(counts.values()) == len(world.target.log)
    assert counts["GET", "/products/{id}"] == status["started"]
    assert all(r["scenario"] == "default" for r in results["requests"])


async def test_open_run_begins_sessions_at_its_rate_whatever_they_take(tmp_path: Path) -> None:
    async with run_world(tmp_path, agents=10) as world:
        # About 1.2 s a session.
        world.target.delay = 0.2
        await world.begin((3, 4), executor="open")
        status = await world.until("ended")
        results = await world.results(12)
    assert (status["started"], status["ended"], status["dropped"]) == (12, 12, 0)
    times = [seen.at for seen in world.target.of(*LOGIN)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.25, abs=0.03)
    (sessions,) = results["sessions"]
    assert sessions["seconds"]["min"] > 1
    assert sessions["late"]["max"] < 0.2


async def test_arrivals_without_a_free_agent_are_dropped(tmp_path: Path) -> None:
    async with run_world(tmp_path, agents=2) as world:
        world.target.delay = 0.2
        await world.begin((3, 4), executor="open", max_late_seconds=0.3)
        status = await world.until("ended")
    assert status["started"] + status["dropped"] == 12
    # Two agents hold a session of 1.2 s each.
    assert 4 <= status["started"] <= 7
    assert 0 < status["late_seconds_max"] <= 0.3


async def test_run_has_scenarios_and_users_whose_secrets_nobody_is_shown(tmp_path: Path) -> None:
    rows = [[f"user-{n}", f"s3cret-of-{n}"] for n in range(1000)]
    endpoints = [dict(each) for each in SCENARIO["endpoints"]]
    endpoints[0]["body"] = {"username": "{name}", "password": "{password}"}
    async with run_world(tmp_path, endpoints=endpoints) as world:
        await world.begin(
            (2, 4),
            scenarios=[
                {"name": "buy", "weight": 2},
                {
                    "name": "look",
                    "operations": [list(LOGIN), ["GET", "/products"]],
                    "success": LOOK,
                },
                {"name": "short", "session_max_steps": 2, "goal": "Buy as {name}: {password}."},
            ],
            users={
                "columns": ["name", "password"],
                "rows": rows,
                "secret": ["password"],
                "mode": "unique",
                "when_used_up": "reuse",
            },
            transcripts=2,
            seed="1",
        )
        status = await world.until("ended")
        results = await world.results(status["started"])
        _, kept = await world.ask("GET", "/results/transcripts")
        _, listed = await world.ask("GET", "/results/sessions")
    scenarios = {of["scenario"]: of for of in results["sessions"]}
    assert scenarios["look"]["failed"] == scenarios["buy"]["failed"] == 0
    assert scenarios["look"]["steps"] == 2 * scenarios["look"]["succeeded"] > 0
    assert scenarios["short"]["reasons"] == {"step_limit": scenarios["short"]["failed"]}
    # The target gets what the model is not shown.
    logins = [json.loads(seen.body) for seen in world.target.of(*LOGIN)]
    assert all([body["username"], body["password"]] in rows for body in logins)
    assert len({body["username"] for body in logins}) == len(logins) > 5
    assert len(kept["transcripts"]) == 2
    first = kept["transcripts"][0]
    assert (first["scenario"], first["reason"]) == ("short", "step_limit")
    assert first["messages"][1]["content"].startswith("Buy as user-")
    assert first["messages"][1]["content"].endswith(": {password}.")
    assert "s3cret" not in json.dumps([kept, results, listed, status])


async def test_same_seed_sends_the_same_requests(tmp_path: Path) -> None:
    def of_users(log: list[Seen]) -> dict[str, list[Any]]:
        """The first requests of each agent, by the user name and the token of its sessions."""
        user = ""
        found: dict[str, list[Any]] = {}
        for seen in log:
            if seen.path == "/login":
                user = json.loads(seen.body)["username"]
            found.setdefault(user, []).append((seen.method, seen.path, seen.body))
        return {name: requests[:12] for name, requests in found.items()}

    logs = []
    for seed in ("a", "a", "b"):
        # One agent: the log is in its order.
        async with run_world(tmp_path, agents=1) as world:
            scenarios = [
                {"name": "buy"},
                {"name": "short", "session_max_steps": 2},
                {"name": "look", "session_max_steps": 3},
            ]
            await world.begin((1.5, 1), seed=seed, scenarios=scenarios)
            await world.until("ended")
        logs.append(of_users(world.target.log))
    assert logs[0] == logs[1] != logs[2]


async def test_stopped_run_lets_sessions_end(tmp_path: Path) -> None:
    async with run_world(tmp_path) as world:
        world.target.delay = 0.15
        await world.begin((60, 4), graceful_stop_seconds=10)
        await asyncio.sleep(0.5)
        _, status = await world.ask("DELETE", "/run")
        assert (status["state"], status["active"]) == ("stopping", 4)
        status = await world.until("ended")
        results = await world.results(4)
    assert (status["why_ended"], status["started"]) == ("stopped", 4)
    assert results["sessions"][0]["succeeded"] == 4


async def test_sessions_past_the_graceful_stop_are_aborted(tmp_path: Path) -> None:
    async with run_world(tmp_path, think_time_seconds=60) as world:
        await world.begin((60, 3), graceful_stop_seconds=0.2)
        await asyncio.sleep(0.5)
        await world.ask("DELETE", "/run")
        status = await world.until("ended", seconds=8)
        results = await world.results(3)
        (sessions,) = results["sessions"]
        assert (sessions["aborted"], sessions["succeeded"]) == (3, 0)
        assert (status["started"], status["ended"]) == (3, 3)
        # The agents are there for the next one.
        world.target.log.clear()
        await world.begin((0.5, 4), id="r1")
        await asyncio.sleep(0.5)
        assert len(world.target.of(*LOGIN)) == 4


async def test_sessions_outside_of_runs_precede_and_follow_a_run(tmp_path: Path) -> None:
    async with run_world(tmp_path, agents=2, idle=False, think_time_seconds=0.02) as world:
        while len(world.target.of(*LOGIN)) < 3:
            await asyncio.sleep(0.02)
        await world.begin((0.5, 1))
        status = await world.until("ended")
        results = await world.results(status["started"])
        during = len(world.target.of(*LOGIN))
        while len(world.target.of(*LOGIN)) == during:
            await asyncio.sleep(0.02)
    assert results["sessions"][0]["succeeded"] == status["started"] < during
