"""Many agents in few containers, holding sessions: what the machine and the services take.

    .ape/run python bench/agent/dense.py [--agents 1000] [--each 50] [--think 20] [--seconds 180]

A stack of its own, with real containers, the demo shop and the offline model; it is taken away at
the end. Needs Docker. Exit code 1: an agent was not seen, a session failed, or a process of agents
grew by more than 5 % from the first half of the time to the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from tests.live import Live, until  # noqa: E402

MAX_GROWTH = 0.05
MB = 1024 * 1024


def usage(live: Live) -> dict[str, tuple[float, float]]:
    """Service -> (working set in MB, CPU seconds so far), over all its containers."""
    found: dict[str, tuple[float, float]] = {}
    for container in live.containers():
        if not container["State"]["Running"]:
            continue
        stats = live.client.api.stats(container["Id"], stream=False, one_shot=True)
        memory, service = stats["memory_stats"], container["Config"]["Labels"]["ape.service"]
        inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))
        mb, seconds = found.get(service, (0.0, 0.0))
        found[service] = (
            mb + (memory["usage"] - inactive) / MB,
            seconds + stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        )
    return found


def run(live: Live, given: argparse.Namespace) -> dict[str, Any]:
    live.config(
        agents=given.agents,
        agentsPerContainer=given.each,
        thinkTimeSeconds=given.think,
        rampSeconds=given.think,
        sessionMaxSeconds=40 * given.think + 60,
        observability="off",
        # Not that of the tests.
        networkPool="10.250.0.0/16",
    )
    started = time.monotonic()
    live.stack.up()
    applied = time.monotonic() - started

    def fleet() -> dict[str, Any]:
        found: dict[str, Any] = live.get("gatewayPort", "/fleet").json()
        return found

    until(lambda: fleet()["by_state"].get("running") == given.agents, seconds=180)
    running = time.monotonic() - started
    least = given.agents
    marks: list[tuple[float, dict[str, tuple[float, float]], dict[str, Any]]] = []
    for _ in range(2):
        marks.append((time.monotonic(), usage(live), fleet()))
        end = marks[-1][0] + given.seconds / 2
        while time.monotonic() < end:
            time.sleep(5)
            least = min(least, fleet()["alive"])
    marks.append((time.monotonic(), usage(live), fleet()))
    (t0, u0, f0), (_, u1, _), (t2, u2, f2) = marks
    seconds = t2 - t0
    return {
        "agents": given.agents,
        "containers": len(live.containers("agent")),
        "applied_seconds": round(applied, 1),
        "all_running_after_seconds": round(running, 1),
        "seconds": round(seconds, 1),
        "alive_at_least": least,
        "steps_per_second": round(
            (sum(f2["steps"].values()) - sum(f0["steps"].values())) / seconds, 1
        ),
        "sessions": f2["sessions"],
        "memory_mb": {service: round(mb, 1) for service, (mb, _) in u2.items()},
        "cores": {s: round((u2[s][1] - u0[s][1]) / seconds, 3) for s in u2},
        "agents_growth": round(u2["agent"][0] / u1["agent"][0] - 1, 4),
        "unhealthy": sum(
            c["State"].get("Health", {}).get("Status") == "unhealthy"
            for c in live.containers("agent")
        ),
        "restarts": sum(c["RestartCount"] for c in live.containers("agent")),
    }


def main() -> int:
    options = argparse.ArgumentParser(description="Many agents in few containers.")
    options.add_argument("--agents", type=int, default=1000)
    options.add_argument("--each", type=int, default=50, help="agents a container")
    options.add_argument("--think", type=int, default=20, help="pause between steps, in seconds")
    options.add_argument("--seconds", type=int, default=180, help="how long to look on")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        live = Live(Path(folder), "bench-dense")
        try:
            found = run(live, given)
        finally:
            try:
                live.destroy()
            finally:
                live.sweep()
    print(json.dumps(found, indent=1))
    well = (
        found["alive_at_least"] == given.agents
        and found["sessions"]["failure"] == 0
        and found["agents_growth"] <= MAX_GROWTH
        and not found["restarts"]
    )
    return not well


if __name__ == "__main__":
    sys.exit(main())
