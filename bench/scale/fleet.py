"""Times of a fleet on plain Docker: start, one more agent, and no change.

    .ape/run python -m bench.scale.fleet [--agents 60] [--rounds 3] [--json]

The program is the real one, with the demo shop, the offline model and no observability: three
services and, once these are healthy, the agents. It is compared with docker-compose 1.29 and the
same containers (image, limits, hardening, logs, health checks, networks, files), derived from the
resources of the program, with `up -d --scale agent=N`; its agents differ only in their number. The
images exist before. Each round, one after the other:

- `start`: `pulumi up --skip-preview` from nothing, in seconds; `compose`: the same of the peer.
- `one_more`: `pulumi up --skip-preview` from N to N + 1.
- `no_op`: `pulumi preview --expect-no-changes` of the N + 1.

Each begins when the machine is idle, and the best of the rounds counts. Goals: start at most 1.2
times the peer's, one more 4 s, no-op 2 s; exit code 1 where one is missed. Needs root's Docker and
`docker-compose` (apt-get install docker-compose); takes about two minutes per round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import yaml

from bench.scale.compose import compose, program
from bench.scale.project import Project, run, wait_until_idle

GOAL_RATIO, GOAL_ONE_MORE, GOAL_NO_OP = 1.2, 4.0, 2.0
STACK = "bench"
PEER = "apebench"
SETTINGS = {
    "observability": "off",
    "networkPool": "10.244.0.0/16",
    "gatewayPort": "28080",
    "proxyPort": "28081",
    "targetPort": "28082",
    # Only the start is measured, so the agents do little after it.
    "rampSeconds": "300",
    "thinkTimeSeconds": "60",
}
UP = ("up", "--yes", "--skip-preview", "--stack", STACK)


def measure_program(project: Project, agents: int) -> dict[str, float]:
    """Measure one round, and remove the stack."""
    try:
        project.set(STACK, {"agents": str(agents)})
        wait_until_idle()
        found = {"start": project.pulumi(*UP)}
        project.set(STACK, {"agents": str(agents + 1)})
        wait_until_idle()
        found["one_more"] = project.pulumi(*UP)
        wait_until_idle()
        found["no_op"] = project.pulumi("preview", "--expect-no-changes", "--stack", STACK)
    finally:
        project.pulumi("destroy", "--yes", "--skip-preview", "--stack", STACK)
    return found


def peer(file: Path, agents: int) -> float:
    """Measure the peer's start, and remove it."""
    command = ["docker-compose", "-p", PEER, "-f", str(file)]
    wait_until_idle()
    try:
        scale = [*command, "up", "-d", "--scale", f"agent={agents}"]
        return run(scale, file.parent, os.environ)
    finally:
        run([*command, "down", "-v", "-t", "15"], file.parent, os.environ)


def measure(agents: int, rounds: int) -> dict[str, float]:
    """Return seconds, the best of the rounds."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name))
        project.stack(STACK, SETTINGS)
        file = Path(name) / "peer" / "compose.yaml"
        file.parent.mkdir()
        resources = program(project.root, STACK, {**SETTINGS, "agents": str(agents)})
        file.write_text(yaml.safe_dump(compose(resources, file.parent / "files")))
        measure_program(project, 1)  # Builds the images.
        for _ in range(rounds):
            seconds = {**measure_program(project, agents), "compose": peer(file, agents)}
            for key, value in seconds.items():
                found.setdefault(key, []).append(value)
    return {key: min(values) for key, values in found.items()}


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--agents", type=int, default=60)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    # A terminated run also removes its stack.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if shutil.which("docker-compose") is None:
        sys.exit("docker-compose is not installed. Run apt-get install docker-compose")
    seconds = measure(given.agents, given.rounds)
    ratio = seconds["start"] / seconds["compose"]
    goals = {
        "ratio": ratio <= GOAL_RATIO,
        "one_more": seconds["one_more"] <= GOAL_ONE_MORE,
        "no_op": seconds["no_op"] <= GOAL_NO_OP,
    }
    data = {
        "agents": given.agents,
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "ratio": round(ratio, 2),
        "goals": goals,
    }
    if given.json:
        print(json.dumps(data))
    else:
        print(
            f"0 -> {given.agents}: {seconds['start']:.1f} s, docker-compose "
            f"{seconds['compose']:.1f} s: {ratio:.2f} times (goal {GOAL_RATIO})\n"
            f"one more: {seconds['one_more']:.1f} s (goal {GOAL_ONE_MORE:g}); "
            f"no change: {seconds['no_op']:.1f} s (goal {GOAL_NO_OP:g})"
        )
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
