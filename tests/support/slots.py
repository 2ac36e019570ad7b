"""Ports and networks of a test stack's own, so that tests run in parallel and beside other runs.

A slot is held by a lock on a file, which ends with the process that holds it, however it ends.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PORT_SETTINGS = (
    "gatewayPort",
    "proxyPort",
    "targetPort",
    "prometheusPort",
    "alertmanagerPort",
    "grafanaPort",
    "lokiPort",
    "victorialogsPort",
    "monitorPort",
)
# Below the ports that the kernel gives to clients (32768), and beside what a user's stack takes.
FIRST_PORT = 21_000
# Slot 0 has 10.128.0.0/16.
FIRST_POOL = 128
SLOTS = 64
LOCKS = Path(tempfile.gettempdir()) / "ape-tests"


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """One process of all on this machine at a time."""
    LOCKS.mkdir(exist_ok=True)
    with (LOCKS / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Slot:
    """The lowest number that nobody holds, and what it stands for."""

    def __init__(self, kind: str = "stack") -> None:
        LOCKS.mkdir(exist_ok=True)
        for number in range(SLOTS):
            file: IO[str] = (LOCKS / f"{kind}-{number}.lock").open("w")
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.number, self._file = number, file
                return
            file.close()
        raise AssertionError(f"all {SLOTS} slots are held")

    @property
    def ports(self) -> dict[str, int]:
        first = FIRST_PORT + self.number * len(PORT_SETTINGS)
        return {name: first + n for n, name in enumerate(PORT_SETTINGS)}

    @property
    def network_pool(self) -> str:
        return f"10.{FIRST_POOL + self.number}.0.0/16"

    def release(self) -> None:
        self._file.close()
