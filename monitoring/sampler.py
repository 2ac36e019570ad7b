"""Samples of containers: rates from two readings of their cgroups.

Limits, OOM kills and processes change slowly: each container's are read in one of SLOW_EVERY
samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from monitoring.cgroups import Cgroups, Group
from monitoring.model import Container, ContainerSample, Usage
from monitoring.thresholds import CPU_PERIODS_PER_SECOND

SLOW_EVERY = 6
# In so many samples without its group, a container has not just ended.
UNSEEN_SAMPLES = 2


class _Tracked(NamedTuple):
    group: Group
    usage: Usage | None
    at: float


def rates(
    container: Container, before: Usage | None, now: Usage, seconds: float
) -> ContainerSample:
    """Return a sample from two readings `seconds` apart; without the first it has no rates.

    A counter that went backwards belongs to a new start: the rates follow with the next sample.
    """
    limit, cores = now.memory_limit, now.cpu_limit
    memory = 100.0 * now.memory / limit if limit else None
    if before is None or seconds <= 0 or now.cpu_seconds < before.cpu_seconds:
        return ContainerSample(container, now, memory_percent=memory)
    cpu = 100.0 * (now.cpu_seconds - before.cpu_seconds) / seconds
    # The kernel counts only periods in which the container had something to run. The share is of
    # all periods: one throttled health check in an idle container is little.
    periods = max(now.periods - before.periods, CPU_PERIODS_PER_SECOND * seconds)
    return ContainerSample(
        container,
        now,
        cpu,
        cpu / cores if cores else None,
        100.0 * (now.throttled - before.throttled) / periods,
        memory,
        max(0.0, (now.received - before.received) / seconds),
        max(0.0, (now.sent - before.sent) / seconds),
        max(0.0, (now.read - before.read) / seconds),
        max(0.0, (now.written - before.written) / seconds),
    )


class Sampler:
    """Samples containers, and closes the files of removed ones."""

    def __init__(self, cgroups: Cgroups) -> None:
        self.cgroups = cgroups
        self._tracked: dict[str, _Tracked] = {}
        self._missed: dict[str, int] = {}
        self._tick = 0
        # Containers that run and cannot be measured, and the reason for one of them.
        self.unseen, self.problem = 0, ""

    def sample(self, containers: Iterable[Container], now: float) -> list[ContainerSample]:
        """Return a sample of each container; `now` is of the monotonic clock.

        A container that does not run, or dies meanwhile, has a sample without usage.
        """
        self._tick += 1
        found: list[ContainerSample] = []
        kept: dict[str, _Tracked] = {}
        missed: list[Container] = []
        for index, container in enumerate(containers):
            tracked = self._tracked.get(container.id)
            if not container.running:
                found.append(ContainerSample(container))
                continue
            if tracked is None or tracked.group.pid != container.pid:
                if tracked is not None:
                    tracked.group.close()
                    del self._tracked[container.id]
                group = self.cgroups.group(container)
                if group is None:
                    missed.append(container)
                    found.append(ContainerSample(container))
                    continue
                tracked = _Tracked(group, None, now)
            usage = tracked.group.read(slow=(self._tick + index) % SLOW_EVERY == 0)
            kept[container.id] = _Tracked(tracked.group, usage, now)
            found.append(
                ContainerSample(container)
                if usage is None
                else rates(container, tracked.usage, usage, now - tracked.at)
            )
        for key, gone in self._tracked.items():
            if key not in kept:
                gone.group.close()
        self._tracked = kept
        self._note(missed)
        return found

    def _note(self, missed: list[Container]) -> None:
        self._missed = {c.id: self._missed.get(c.id, 0) + 1 for c in missed}
        unseen = [c for c in missed if self._missed[c.id] >= UNSEEN_SAMPLES]
        self.unseen = len(unseen)
        self.problem = (
            f"{len(unseen)} running containers have no measurements, such as {unseen[0].name}: "
            f"{self.cgroups.why_not(unseen[0])}."
            if unseen
            else ""
        )

    def close(self) -> None:
        """Close all descriptors."""
        for tracked in self._tracked.values():
            tracked.group.close()
        self._tracked = {}
