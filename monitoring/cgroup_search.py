"""Groups whose place no rule knows: found by the container's id in their name.

Rootless Docker, custom parents, systemd slices and Podman each put containers somewhere else; all
of them name the group after the container: ID, docker-ID.scope, libpod-ID.scope.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

# A whole tree of 1000 containers is read in about 0.1 s; one that has none of them every so often.
SEARCH_SECONDS = 60.0
MAX_FOLDERS = 50_000
# Docker's and Podman's ids have 64 digits; a part of a shorter one could be in any name.
ID_CHARACTERS = 64


def folders(root: str) -> list[str]:
    """Return the paths of all folders below `root`, the upper ones first, without links."""
    found: list[str] = []
    waiting = deque([""])
    while waiting and len(found) < MAX_FOLDERS:
        at = waiting.popleft()
        try:
            with os.scandir(f"{root}/{at}") as entries:
                below = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        paths = [f"{at}/{name}" if at else name for name in below]
        found += paths
        waiting.extend(paths)
    return found


class Search:
    """Finds containers below `root`, and remembers the forms of the places where they were."""

    def __init__(self, root: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self._clock = root, clock
        self._forms: list[tuple[str, str]] = []
        self._searched: float | None = None

    def path(self, container_id: str) -> str | None:
        """Return the container's path below `root`; None where it is not found (now)."""
        if len(container_id) != ID_CHARACTERS:
            return None
        for before, after in self._forms:
            path = f"{before}{container_id}{after}"
            if os.path.exists(f"{self.root}/{path}"):
                return path
        now = self._clock()
        if self._searched is not None and now - self._searched < SEARCH_SECONDS:
            return None
        self._searched = now
        for path in folders(self.root):
            before, found, after = path.rpartition(container_id)
            if found and "/" not in after:
                self._forms.append((before, after))
                self._searched = None
                return path
        return None
