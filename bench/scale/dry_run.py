"""A dry run of N agents: the plan and the real preview, from nothing to N.

    .ape/run python -m bench.scale.dry_run [--agents 1000] [--rounds 3] [--json]

`ape-load scale --agents N --dry-run` and the `pulumi preview` in it, on both runtimes, and a naive
program's `pulumi preview` (`naive/`: a loop of docker.Container) run one after the other. The best
of the rounds counts. Goals for `ape-load` at N = 1000: Swarm 2.5 s, docker 10 s; exit code 1 where
one is missed. Needs a Docker daemon that answers; starts no container.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.scale.project import Project, run

GOALS = {"swarm": 2.5, "docker": 10.0}
SETTINGS = {"observability": "off", "allowOvercommit": "true"}


def measure(agents: int, rounds: int) -> dict[str, float]:
    """Return seconds, the best of the rounds."""
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name))
        naive = Path(name) / "naive"
        shutil.copytree(Path(__file__).parent / "naive", naive)
        for runtime in GOALS:
            project.stack(runtime, {**SETTINGS, "runtime": runtime, "agents": str(agents)})
        run(["pulumi", "stack", "init", "naive"], naive, project.env)
        run(["pulumi", "config", "set", "naive:agents", str(agents)], naive, project.env)

        tasks: dict[str, Callable[[], float]] = {}
        for runtime in GOALS:
            words = ["scale", "--stack", runtime, "--agents", str(agents), "--dry-run", "--json"]
            tasks[runtime] = partial(project.ape_load, *words)
            tasks[f"preview of {runtime}"] = partial(project.pulumi, "preview", "--stack", runtime)
        command = ["pulumi", "preview", "--non-interactive", "--stack", "naive"]
        tasks["naive"] = partial(run, command, naive, project.env)
        return {key: min(task() for _ in range(rounds)) for key, task in tasks.items()}


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--agents", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    seconds = measure(given.agents, given.rounds)
    goals = {runtime: seconds[runtime] <= goal for runtime, goal in GOALS.items()}
    data = {
        "agents": given.agents,
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "ratio": {key: round(value / seconds["naive"], 3) for key, value in seconds.items()},
        "goals": goals,
    }
    if given.json:
        print(json.dumps(data))
    else:
        for key, value in seconds.items():
            goal = f" (goal {GOALS[key]:g} s)" if key in GOALS else ""
            print(f"{key}: {value:.1f} s, {value / seconds['naive']:.2f} of the naive{goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
