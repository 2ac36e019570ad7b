"""A machine for the monitor: a fake Docker daemon, a synthetic tree, and a monitor over them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.cgroup_tree import Tree
from tests.support.fake_docker import FakeDocker

APE = {"ape.project": "ape", "ape.stack": "dev"}


def wait_until(check: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll `check` until it is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.005)


class World:
    """A fake daemon, and a tree of cgroups with the same containers."""

    def __init__(self, folder: Path) -> None:
        self.daemon, self.tree = FakeDocker(folder), Tree(folder / "tree")
        for name in ("stat", "meminfo", "vmstat", "loadavg", "diskstats", "sys", "pressure", "1"):
            (self.tree.proc / name).symlink_to(f"/proc/{name}")

    def birth(self, slot: int, *, event: bool = True, **counters: Any) -> None:
        key, pid = f"{slot:064x}", 100_000 + slot
        self.tree.put(key, pid, **counters)
        labels = {**APE, "ape.service": "agent"}
        self.daemon.put(
            *(key, f"ape-dev-agent-{slot:04d}"),
            pid=pid,
            labels=labels,
            env=[f"APE_AGENT_SLOT={slot}"],
        )
        if event:
            self.daemon.emit("start", key)

    def death(self, slot: int, *, event: bool = True) -> None:
        key = f"{slot:064x}"
        self.tree.remove(key, 100_000 + slot)
        self.daemon.forget(key)
        if event:
            self.daemon.emit("die", key, exitCode="0")
            self.daemon.emit("destroy", key)

    def arguments(self, *more: str) -> list[str]:
        return [
            *("--project", "ape-dev", "--docker-host", self.daemon.url, "--disk", "/"),
            *("--cgroup-root", str(self.tree.cgroup), "--proc-root", str(self.tree.proc)),
            *more,
        ]
