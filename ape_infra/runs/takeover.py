"""The run of a command that was killed: the gateway keeps it until its lease ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ape_infra.runs.client import NO_ANSWER, Services
from ape_infra.runs.snapshots import ENDED, NONE
from ape_infra.runs.store import RUN_NAME, SUMMARY, is_locked

# Sessions of it may end in order, and are cancelled then.
END_SECONDS = 90.0
POLL_SECONDS = 1.0


def end_orphan(
    services: Services, results: Path, wait: Callable[[float], None], clock: Callable[[], float]
) -> str:
    """End the active run if its command is gone; returns its name, or an empty text.

    Its command is gone if its results are in this folder, and no process has their lock.
    """
    try:
        found = services.status("")
        path = results / found.id
        if not RUN_NAME.fullmatch(found.id) or not (path / SUMMARY).exists() or is_locked(path):
            return ""
        services.stop()
        end = clock() + END_SECONDS
        while found.state not in (ENDED, NONE):
            if clock() > end:
                return ""
            wait(POLL_SECONDS)
            found = services.status("")
    except NO_ANSWER:
        return ""
    return path.name
