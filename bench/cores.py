"""Who is measured gets a core of its own."""

from __future__ import annotations

import os

import psutil


def apart(*workers: int) -> None:
    """Give the workers a core from which nobody else of this benchmark takes time.

    They work in turns, so one core is enough for them. This process and what else it has started,
    or will start, stays on the other. Nothing is done where there is one core only.
    """
    first, *rest = sorted(os.sched_getaffinity(0))
    if rest:
        for other in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            other.cpu_affinity([first])
        for worker in workers:
            for process in [psutil.Process(worker), *psutil.Process(worker).children()]:
                process.cpu_affinity(rest)
