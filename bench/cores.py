"""A core of its own for the processes that are measured."""

from __future__ import annotations

import os

import psutil


def apart(*workers: int) -> None:
    """Give the workers a core that no other process of this benchmark uses.

    They work alternately, so one core is enough for them. This process and its other children, also
    later ones, stay on the first core. With a single core, nothing is changed.
    """
    first, *rest = sorted(os.sched_getaffinity(0))
    if rest:
        for other in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            other.cpu_affinity([first])
        for worker in workers:
            for process in [psutil.Process(worker), *psutil.Process(worker).children()]:
                process.cpu_affinity(rest)
