"""Soak test of a fleet: stability and resource usage over time.

    .ape/run python -m bench.scale.soak --agents 300                     300 containers
    .ape/run python -m bench.scale.soak --agents 300 --runtime swarm     300 tasks
    .ape/run python -m bench.scale.soak --agents 1000 --each 50          1000 agents, 20 containers

The stack is its own, with real agents, the demo target and the offline model, and is removed at the
end. Needs Docker; turns this machine into a Swarm while it needs one. Exit code 1 means one of:

- An agent was lost or not seen, a container ended, or a session failed.
- The agents' memory grew by more than 5 % in the second half of the time.
- The mean load average (of one minute) of the second half was not below 2.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from ape_contracts import labels
from ape_infra.reporting.summary import measure_stack
from monitoring import cgroups
from tests.support.ape_load import Command
from tests.support.live import PROJECT, LiveStack

NAME = "bench-hold"
MAX_GROWTH = 0.05
MAX_LOAD = 2.0
SAMPLE_SECONDS = 10
UP_SECONDS = 900
MB = 1024 * 1024
# Time, usage of each service, answer of the gateway's /fleet.
Mark = tuple[float, dict[str, tuple[float, float]], dict[str, Any]]


@contextmanager
def swarm(client: docker.DockerClient, wanted: bool) -> Iterator[None]:
    """Turn this daemon into a Swarm for the duration, unless it is one."""
    made = wanted and client.info()["Swarm"]["LocalNodeState"] == "inactive"
    if made:
        client.swarm.init(advertise_addr="127.0.0.1")
    try:
        yield
    finally:
        if made:
            client.swarm.leave(force=True)


def usage(live: LiveStack) -> dict[str, tuple[float, float]]:
    """Map each service to (working set in MB, CPU seconds so far) over all its containers."""
    found: dict[str, tuple[float, float]] = {}
    for container in live.client.api.containers(filters={"label": f"{labels.STACK}={live.name}"}):
        memory, cpu = cgroups.memory(container["Id"]), cgroups.cpu(container["Id"])
        if memory and cpu:
            service = container["Labels"][labels.SERVICE]
            mb, seconds = found.get(service, (0.0, 0.0))
            found[service] = (mb + memory[0] / MB, seconds + cpu[0])
    return found


def ended(live: LiveStack, since: float) -> int:
    """Return the number of containers of the stack that ended since then."""
    stream = live.client.api.events(  # type: ignore[call-overload]
        since=since,
        until=time.time(),
        filters={"event": ["die"], "label": f"{labels.STACK}={live.name}"},
        decode=True,
    )
    return sum(1 for _ in stream)


def observe(
    live: LiveStack, fleet: Callable[[], dict[str, Any]], given: argparse.Namespace
) -> tuple[list[Mark], int, int, list[float]]:
    """Sample the fleet for `given.minutes`.

    Return the marks at the start, the middle and the end, the smallest number of healthy and alive
    agents, the number of samples without an answer of the gateway, and the load averages.
    """
    marks: list[Mark] = []
    least, unanswered, loads = given.agents, 0, []
    for _ in range(2):
        marks.append((time.time(), usage(live), fleet()))
        end = marks[-1][0] + given.minutes * 30
        while time.time() < end:
            time.sleep(SAMPLE_SECONDS)
            now = fleet()
            if "alive" in now:
                least = min(least, now["healthy"], now["alive"])
            else:
                unanswered += 1
            loads.append(os.getloadavg()[0])
    marks.append((time.time(), usage(live), fleet()))
    return marks, least, unanswered, loads


def run(live: LiveStack, given: argparse.Namespace) -> dict[str, Any]:
    live.config(
        agents=given.agents,
        agentsPerContainer=given.each,
        runtime=given.runtime,
        thinkTimeSeconds=given.think,
        rampSeconds=given.think,
        sessionMaxSeconds=40 * given.think + 60,
        observability="off",
        # Not the pool of the tests.
        networkPool="10.250.0.0/16",
    )
    begun = time.time()
    # It waits until all are healthy, and fails otherwise.
    Command(live).run("up", seconds=UP_SECONDS)
    applied = time.time() - begun
    outputs = {key: value.value for key, value in live.stack.outputs().items()}

    def fleet() -> dict[str, Any]:
        summary, reach, _ = measure_stack(live.client, PROJECT, live.name, outputs)
        told = json.loads(reach.get("gateway", "/fleet") or b"{}")
        return {"healthy": summary.healthy, **told}

    while (now := fleet())["healthy"] < given.agents or now.get("alive", 0) < given.agents:
        if time.time() > begun + UP_SECONDS:
            sys.exit(f"not up within {UP_SECONDS} s: {now}")
        time.sleep(2)
    up = time.time() - begun
    lost = ended(live, begun)
    marks, least, unanswered, loads = observe(live, fleet, given)
    (t0, u0, f0), (_, u1, _), (t2, u2, f2) = marks
    settled = loads[len(loads) // 2 :]
    seconds = t2 - t0
    steps = sum(f2["steps"].values()) - sum(f0["steps"].values())
    return {
        "agents": given.agents,
        "runtime": given.runtime,
        "containers": sum(
            c["Labels"][labels.SERVICE] == "agent"
            for c in live.client.api.containers(filters={"label": f"{labels.STACK}={live.name}"})
        ),
        "applied_seconds": round(applied, 1),
        "up_seconds": round(up, 1),
        "held_seconds": round(seconds, 1),
        "healthy_and_alive_at_least": least,
        "looks_that_the_gateway_left_unanswered": unanswered,
        "ended_while_coming_up": lost,
        "ended_while_held": ended(live, t0),
        "steps_per_second": round(steps / seconds, 1),
        "sessions": f2["sessions"],
        "memory_mb": {service: round(mb, 1) for service, (mb, _) in u2.items()},
        "cores": {s: round((u2[s][1] - u0[s][1]) / seconds, 3) for s in u2},
        "agents_growth": round(u2["agent"][0] / u1["agent"][0] - 1, 4),
        "load_average": {
            "first": loads[0],
            "settled": round(statistics.fmean(settled), 2),
            "settled_most": max(settled),
        },
    }


def main() -> int:
    options = argparse.ArgumentParser(
        description="Soak test of a fleet: stability and resource usage over time."
    )
    options.add_argument("--agents", type=int, default=300)
    options.add_argument("--each", type=int, default=1, help="agents per container")
    options.add_argument("--runtime", choices=("docker", "swarm"), default="docker")
    options.add_argument("--think", type=int, default=60, help="pause between steps, in seconds")
    options.add_argument("--minutes", type=float, default=10, help="duration of the test")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        live = LiveStack(Path(folder), NAME)
        with swarm(live.client, given.runtime == "swarm"):
            try:
                found = run(live, given)
            finally:
                try:
                    live.destroy()
                finally:
                    live.sweep()
    print(json.dumps(found, indent=1))
    passed = (
        found["healthy_and_alive_at_least"] == given.agents
        and not found["looks_that_the_gateway_left_unanswered"]
        and found["sessions"]["failure"] == 0
        and found["agents_growth"] <= MAX_GROWTH
        and not found["ended_while_coming_up"] + found["ended_while_held"]
        and found["load_average"]["settled"] < MAX_LOAD
    )
    return not passed


if __name__ == "__main__":
    sys.exit(main())
