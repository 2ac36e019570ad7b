"""`.ape/run python bench/scale/dry_run.py [N]`: a dry run of N agents against a naive program.

Both runtimes of ours and the peer, one after the other, best of three, same machine and engine.
Prints seconds and the ratio to the peer; needs a Docker daemon that answers, starts nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3


def best(command: list[str], cwd: Path, env: dict[str, str]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True)
        times.append(time.monotonic() - begun)
    return min(times)


def main(agents: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "state").mkdir()
        env = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "of a benchmark",
        }
        ours, peer = folder / "ours", folder / "peer"
        for part in ("ape_infra", "monitoring", "services"):
            shutil.copytree(ROOT / part, ours / part)
        for file in ("__main__.py", "Pulumi.yaml", ".dockerignore"):
            shutil.copy(ROOT / file, ours)
        shutil.copytree(Path(__file__).parent / "naive", peer)
        setup = {**env, "PYTHONPATH": f"{ours}:{ours / 'services/common'}"}
        found: dict[str, float] = {}
        for runtime in ("swarm", "docker"):
            subprocess.run(["pulumi", "stack", "init", runtime], cwd=ours, env=env, check=True)
            for key, value in (("ape:runtime", runtime), ("ape:observability", "off")):
                subprocess.run(
                    ["pulumi", "config", "set", "-s", runtime, key, value],
                    cwd=ours,
                    env=env,
                    check=True,
                )
            command = [sys.executable, "-m", "ape_infra", "scale", "--stack", runtime]
            command += ["--agents", str(agents), "--dry-run", "--json"]
            found[f"ape-load, {runtime}"] = best(command, ours, setup)
        subprocess.run(["pulumi", "stack", "init", "naive"], cwd=peer, env=env, check=True)
        subprocess.run(
            ["pulumi", "config", "set", "naive:agents", str(agents)], cwd=peer, env=env, check=True
        )
        found["naive"] = best(["pulumi", "preview", "--non-interactive"], peer, env)
    print(
        json.dumps(
            {
                "agents": agents,
                "seconds": {k: round(v, 2) for k, v in found.items()},
                "ratio": {k: round(v / found["naive"], 3) for k, v in found.items()},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
