"""Fixtures of the monitor's tests: a machine, and monitors of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from monitoring import inventory
from monitoring.__main__ import build
from monitoring.monitor import Monitor
from monitoring.options import parse_arguments
from tests.support.monitored_world import World, wait_until


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder in memory, like the kernel's own files; on disk where that is missing."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def world(memory_path: Path) -> Iterator[World]:
    made = World(memory_path)
    yield made
    made.daemon.close()
    psutil.PROCFS_PATH = "/proc"


@pytest.fixture
def monitor(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Monitor]]:
    monkeypatch.setattr(inventory, "_BACKOFF_SECONDS", (0.05, 0.2))
    started: list[Monitor] = []

    def start(*more: str) -> Monitor:
        made = build(parse_arguments(world.arguments(*more)))
        started.append(made)
        made.start()
        wait_until(made.watcher.listed.is_set)
        return made

    yield start
    for made in started:
        made.close()
