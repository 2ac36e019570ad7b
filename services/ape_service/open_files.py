"""The limit of open files of a service's process."""

from __future__ import annotations

import resource


def raise_limit() -> None:
    """Raise the soft limit to the hard one.

    A service of Swarm has no limit of its own, and with Docker 29 a soft one of 1024 from the
    daemon. A container's two limits are equal.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
