"""`.ape/run python -m bench.monitor.screenshot FILE.svg [WIDTH HEIGHT]`: the live page, 200 agents.

A picture to check after a change of the page; chromium --headless --screenshot converts it to PNG.
"""

from __future__ import annotations

import io
import random
import sys
import time
from typing import Any

from rich.console import Console

from monitoring.alerts import Engine, health, readings
from monitoring.console import page
from monitoring.exporter import State
from monitoring.model import (
    Container,
    ContainerSample,
    FleetSample,
    KernelLimit,
    MonitorSample,
    Sample,
    SystemSample,
    Usage,
)
from monitoring.thresholds import Thresholds

MIB = 1 << 20


def scene(agents: int = 200) -> State:
    """Return a running fleet with some failures."""
    chance = random.Random(6)  # noqa: S311
    found: list[ContainerSample] = []

    def add(
        name: str, service: str, share: float, limit_mb: int, cores: float, **about: Any
    ) -> ContainerSample:
        memory = int(share * limit_mb * MIB)
        cpu = chance.uniform(5, 60) * cores
        usage = Usage(
            *(100.0, 1000, 10, memory, 10**6, 10**5, 0, 4096, limit_mb * MIB, cores, 0, 4)
        )
        one = ContainerSample(
            Container(name, name, service, health="healthy").but(**about),
            usage,
            *(cpu, cpu / cores, chance.uniform(0, 20), 100 * share),
            *(chance.uniform(1e3, 2e5), chance.uniform(1e3, 1e5), 0.0, chance.uniform(0, 5e4)),
        )
        found.append(one)
        return one

    for slot in range(1, agents + 1):
        share = chance.uniform(0.3, 0.7) if slot % 17 else chance.uniform(0.9, 0.97)
        one = add(f"agent-{slot:04d}", "agent", share, 256, 0.25, slot=slot, agents=1, id=str(slot))
        if slot == 42:
            one.restarts = one.restarts_hour = one.restarts_loop = 6
        if slot in (77, 78):
            one.container = one.container.but(state="exited", exit_code=137)
            one.usage = one.cpu_percent = one.memory_percent = one.throttled_percent = None
            one.received_rate = one.sent_rate = one.read_rate = one.written_rate = None
    add("gateway", "gateway", 0.2, 1024, 2.0)
    add("proxy", "proxy", 0.1, 1024, 2.0, health="unhealthy")
    add("prometheus", "prometheus", 0.4, 1024, 2.0)
    add("target", "target", 0.3, 256, 1.0)
    add("monitor", "monitor", 0.3, 192, 0.5)
    system = SystemSample(
        cores=16,
        cpu_percent=83.0,
        iowait_percent=2.1,
        memory_percent=71.0,
        load1=14.2,
        disks={"/": 64.0},
        received_rate=3e6,
        sent_rate=2e6,
        read_rate=0.0,
        written_rate=4e6,
        pressure={("cpu", "some"): 31.0, ("memory", "some"): 0.2, ("io", "some"): 1.5},
        limits=[KernelLimit("ports of network ape-dev-agents-00", 207, 1023)],
    )
    fleet = FleetSample(agents, agents - 2, agents - 2, agents - 3, 2)
    sample = Sample(time.time(), found, system, fleet, MonitorSample(0.0071, 0, True, 0, 100, 1800))
    alerts = Engine(Thresholds().at_once()).update(100.0, readings(sample))
    return State(sample, alerts, health(alerts, sample), "ape-dev", 190.0)


def main() -> None:
    width, height = (int(word) for word in (sys.argv[2:4] or ("130", "45")))
    console = Console(
        width=width,
        height=height,
        record=True,
        file=io.StringIO(),
        color_system="truecolor",
        force_terminal=True,
    )
    console.print(page(scene(), width, height))
    console.save_svg(sys.argv[1], title="python -m monitoring --project ape-dev")


if __name__ == "__main__":
    main()
