"""A gateway with an active run, in a process of its own: `gateway.py serve | simulate`.

`serve`: as `python -m ape_gateway`, with a run `bench` that has the scenario `default`.

`simulate`: without requests, what a run of 1,000 agents with 50 steps per second leaves in ten
minutes, and then the most that a run may leave. Prints the memory of the process as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from typing import Any

import psutil

from ape_contracts.gateway_config import GatewayConfig, load
from ape_gateway import __main__ as gateway
from ape_gateway import results as of_results
from ape_gateway.app import RequestMiddleware, make_app
from ape_gateway.reports import PHASES, Session, parse_transcript
from ape_gateway.results import Results

AGENTS, STEPS_PER_SECOND, SECONDS, STEPS_PER_SESSION = 1000, 50, 600, 8
ENDPOINTS, SCENARIOS = 40, 5


def serve() -> int:
    """Serve with a run that is active from the start."""
    init = Results.__init__

    def begun(self: Results, *args: Any, **more: Any) -> None:
        init(self, *args, **more)
        self.begin("bench", ["default"])

    Results.__init__ = begun  # type: ignore[method-assign]
    return gateway.main()


def resident() -> float:
    gc.collect()
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1e6


def simulate() -> int:
    chance = random.Random(5)  # noqa: S311 - no secret
    config = load('{"routes": {"shop": {"base_url": "http://127.0.0.1:1"}}}')
    results = _results_of(config)
    found: dict[str, Any] = {"before_mb": resident()}
    scenarios = [f"scenario{n}" for n in range(SCENARIOS)]
    results.begin("bench", scenarios)
    began = time.process_time()
    for number in range(STEPS_PER_SECOND * SECONDS):
        label = results.label(f"bench/{scenarios[number % SCENARIOS]}/main")
        assert label is not None
        place = ("shop", "GET", f"/page{chance.randrange(ENDPOINTS)}/{number}")
        label.answered(place, 200, chance.lognormvariate(-3, 1), 100, 1000)
    found["request_us"] = (time.process_time() - began) / STEPS_PER_SECOND / SECONDS * 1e6
    sessions = STEPS_PER_SECOND * SECONDS // STEPS_PER_SESSION
    _sessions(results, scenarios, sessions, chance)
    found |= {"after_mb": resident(), "requests": STEPS_PER_SECOND * SECONDS, "sessions": sessions}
    began = time.perf_counter()
    text = b"".join(results.pieces())
    found |= {"read_ms": (time.perf_counter() - began) * 1e3, "read_kb": len(text) / 1e3}
    found["series"] = text.count(b'"endpoint":')
    del text
    _most(results, chance)
    found["most_mb"] = resident()
    began = time.perf_counter()
    text = b"".join(results.pieces())
    found |= {"most_read_ms": (time.perf_counter() - began) * 1e3, "most_read_kb": len(text) / 1e3}
    found["most_series"] = text.count(b'"endpoint":')
    print(json.dumps(found))
    return 0


def _results_of(config: GatewayConfig) -> Results:
    app = make_app(config, declared=AGENTS)
    assert isinstance(app, RequestMiddleware)
    return app.results


def _sessions(results: Results, scenarios: list[str], count: int, chance: random.Random) -> None:
    for number in range(count):
        slot = 1 + number % AGENTS
        results.granted(number, slot, chance.choice(scenarios), "main", chance.random() / 100)
        failed = number % 10 == 0
        reason = "step_limit" if failed else "goal_met"
        result, detail = ("failure", f"Detail {number}." * 10) if failed else ("success", "")
        seconds, run = chance.lognormvariate(3, 1), "bench"
        results.session(Session(slot, result, reason, seconds, detail, {}, 8, run, number))


def _most(results: Results, chance: random.Random) -> None:
    """All series, rows and transcripts that a run may leave, with durations of all sizes."""
    scenarios = [f"scenario{n}" for n in range(50)]
    results.begin("bench", scenarios)
    for scenario in scenarios:
        for phase in PHASES:
            label = results.label(f"bench/{scenario}/{phase}")
            assert label is not None
            for number in range(of_results.MAX_ENDPOINTS // 2):
                for _ in range(60):
                    place = ("shop", "GET", f"/page{number}")
                    label.answered(place, 200, chance.lognormvariate(-3, 1))
    _sessions(results, scenarios, of_results.MAX_ROWS, chance)
    words = {"role": "user", "content": "x" * 60_000}
    one = {"run": "bench", "scenario": "scenario0", "reason": "gave_up", "messages": [words]}
    for number in range(100):
        results.granted(number, 1, "scenario0", "main")
        results.transcript(parse_transcript(one | {"slot": 1, "session": number}, AGENTS))


if __name__ == "__main__":
    sys.exit({"serve": serve, "simulate": simulate}[sys.argv[1]]())
