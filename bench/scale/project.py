"""A copy of this project with a stack and a state of its own, and timed commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
BUSY_PERCENT = 30.0


class Project:
    """A copy in `folder`, which the caller removes. Its commands raise CommandError."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "ours"
        for part in ("ape_infra", "ape_contracts", "monitoring", "services"):
            shutil.copytree(ROOT / part, self.root / part)
        for file in ("__main__.py", "Pulumi.yaml"):
            shutil.copy(ROOT / file, self.root)
        (folder / "state").mkdir()
        self.env = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "of a benchmark",
        }

    def stack(self, name: str, settings: Mapping[str, str]) -> None:
        """Create a stack with these settings."""
        run(["pulumi", "stack", "init", name], self.root, self.env)
        self.set(name, settings)

    def set(self, stack: str, settings: Mapping[str, str]) -> None:
        """Change settings of a stack."""
        for key, value in settings.items():
            run(["pulumi", "config", "set", "-s", stack, f"ape:{key}", value], self.root, self.env)

    def pulumi(self, *words: str) -> float:
        """Run a `pulumi` command; return its duration in seconds."""
        return run(["pulumi", *words, "--non-interactive"], self.root, self.env)

    def ape_load(self, *words: str) -> float:
        """Run an `ape-load` command; return its duration in seconds."""
        return run([sys.executable, "-m", "ape_infra", *words], self.root, self.env)


def wait_until_idle(seconds: float = 20.0) -> None:
    """Wait until the processors are mostly idle for a second, at most `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and psutil.cpu_percent(interval=1.0) > BUSY_PERCENT:
        pass


class CommandError(Exception):
    """A failed command: the command, its exit code, and its last lines."""


def run(command: list[str], folder: Path, env: Mapping[str, str]) -> float:
    """Run `command`; return its duration in seconds. Raises CommandError where it fails."""
    begun = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    if done.returncode:
        output = (done.stdout + done.stderr)[-2000:]
        raise CommandError(f"{' '.join(command)}: exit code {done.returncode}\n{output}")
    return seconds
