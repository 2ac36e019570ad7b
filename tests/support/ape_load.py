"""`ape-load` as a user runs it, on a stack of a test: a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

import yaml

from ape_infra.rollout.probe import OVERRIDE_ENV
from tests.support.live import LiveStack

# Other load on this machine must not affect these tests.
QUIET: list[dict[str, Any]] = [
    {"set": {"cpu_percent": 20.0, "memory_percent": 40.0, "disk_percent": 40.0}}
]
# Health checks every 10 s: windows of 30 s, the shortest there are.
TIERS = [
    {"minAgents": 1, "maxAgents": 40, "memoryMb": 128, "cpus": 0.25},
    {"minAgents": 41, "maxAgents": 2000, "memoryMb": 64, "cpus": 0.25},
]


class Command:
    """ape-load on one stack."""

    def __init__(self, stack: LiveStack) -> None:
        self.stack = stack
        self.readings = stack.root.parent / "readings.json"
        self.inject()

    def inject(self, *rules: dict[str, Any]) -> None:
        self.readings.write_text(json.dumps([*QUIET, *rules]))

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        root = self.stack.root
        env = {
            **os.environ,
            **self.stack.env,
            OVERRIDE_ENV: str(self.readings),
        }
        command, *rest = arguments
        return subprocess.Popen(
            [sys.executable, "-m", "ape_infra", command, "--stack", self.stack.name, *rest],
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, code: int | None = 0, seconds: float = 600) -> tuple[str, str]:
        """(stdout, stderr) of a run that ends with `code`; None: with any."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=seconds)
        assert code in (None, process.returncode), f"exit code {process.returncode}\n{out}\n{err}"
        return out, err

    def json(self, *arguments: str, code: int = 0) -> Any:
        out, _ = self.run(*arguments, "--json", code=code)
        return json.loads(out)

    def configured(self) -> int:
        file = self.stack.root / f"Pulumi.{self.stack.name}.yaml"
        return int(yaml.safe_load(file.read_text())["config"]["ape:agents"])

    def assert_consistent(self, agents: int) -> None:
        """Config, state and reality are the same, and nothing is left over."""
        assert self.configured() == agents
        expected = [f"ape-{self.stack.name}-agent-{i:04d}" for i in range(1, agents + 1)]
        assert self.stack.names("agent") == expected
        assert all(c["State"]["Running"] for c in self.stack.containers("agent"))
        assert not list(self.stack.root.glob(".trial-*"))
        state = json.loads(
            self.stack.stack.workspace.pulumi_command.run(
                ["stack", "export", "--stack", self.stack.name],
                str(self.stack.root),
                self.stack.env,
            ).stdout
        )["deployment"]
        assert not state.get("pending_operations")
        known = {r.get("id") for r in state["resources"]}
        assert {c["Id"] for c in self.stack.containers()} <= known, "no orphan"
        self.stack.assert_no_change()

    def messages(self) -> list[str]:
        """Of `pulumi stack history`, oldest first."""
        return [u.message for u in reversed(self.stack.stack.history())]
