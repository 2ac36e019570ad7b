"""`ape-load status`: what is declared, what runs, how it does; from live data."""

from __future__ import annotations

import json as jsonlib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import docker
import requests
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ape_contracts import labels
from ape_infra.automation.engine import PulumiEngine
from ape_infra.cli.common import (
    EXIT_NOT_HEALTHY,
    EXIT_OK,
    AsJson,
    StackName,
    app,
    log,
    run_command,
    running_outputs,
)
from ape_infra.cli.common import client_of as client_of_stack
from ape_infra.config.project import current
from ape_infra.reporting.rates import Rates, Sample, rates
from ape_infra.reporting.summary import Summary, measured
from ape_infra.rollout.probe import OBSERVED_SERVICES, samples
from monitoring import cgroups

# Between the two looks from which the rates follow.
LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class ServiceUsage:
    """Of one service's containers on this machine; limits None where one of them has none."""

    containers: int
    memory_mb: float
    memory_limit_mb: float | None
    fullest_percent: float | None
    cpus: float
    cpus_limit: float | None


@dataclass(frozen=True)
class StackSample:
    """One look at the stack."""

    at: float
    summary: Summary
    metrics: list[Sample]
    found: list[dict[str, Any]]
    cpu: dict[str, float]


@dataclass(frozen=True)
class Status:
    configured: int
    applied: int
    summary: Summary
    drift: list[str]
    rates: Rates
    uses: dict[str, ServiceUsage]
    alerts: list[str] | None
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        return self.summary.well and not self.drift

    def data(self) -> dict[str, Any]:
        found = self.rates
        return {
            "configured": self.configured,
            "applied": self.applied,
            **asdict(self.summary),
            "drift": self.drift,
            "rates": {
                **asdict(found),
                "request_seconds": {f"p{q * 100:g}": v for q, v in found.request_seconds.items()},
                "first_token_seconds": {
                    f"p{q * 100:g}": v for q, v in found.first_token_seconds.items()
                },
            },
            "resources": {name: asdict(use) for name, use in self.uses.items()},
            "alerts": self.alerts,
        }


def look(client: docker.DockerClient, stack: str, outputs: Mapping[str, Any]) -> StackSample:
    summary, reach, found = measured(client, current().name, stack, outputs)
    metrics = [s for name in OBSERVED_SERVICES for s in samples(reach.get(name, "/metrics"))]
    cpu = {c["Id"]: at[0] for c in found if (at := cgroups.cpu(c["Id"]))}
    return StackSample(time.monotonic(), summary, metrics, found, cpu)


def uses(before: StackSample, after: StackSample) -> dict[str, ServiceUsage]:
    """Memory and CPU of each service, as far as its containers run here."""
    groups: dict[str, list[str]] = defaultdict(list)
    for container in after.found:
        if container["State"] == "running":
            groups[container["Labels"][labels.SERVICE]].append(container["Id"])
    made = {}
    for service, ids in sorted(groups.items()):
        memory = [m for i in ids if (m := cgroups.memory(i))]
        limits = [c[1] for i in ids if (c := cgroups.cpu(i))]
        if not memory:
            continue
        spent = sum(after.cpu[i] - before.cpu[i] for i in ids if i in after.cpu and i in before.cpu)
        made[service] = ServiceUsage(
            len(ids),
            sum(m[0] for m in memory) / 2**20,
            sum(m[1] for m in memory) / 2**20,
            max(100 * m[0] / m[1] for m in memory),
            spent / (after.at - before.at),
            None if None in limits else sum(x for x in limits if x),
        )
    return made


def drift(
    configured: int, applied: int, summary: Summary, found: list[dict[str, Any]]
) -> list[str]:
    """Where config, state and reality differ, each with what mends it."""
    made = []
    if configured != applied:
        made.append(
            f"the config says {configured} agents, {applied} are applied: `ape-load up`, or "
            f"`ape-load scale --agents {configured}`"
        )
    if summary.running != applied:
        made.append(f"{applied} agents are applied, {summary.running} run: `ape-load up`")
    elif summary.healthy < summary.running:
        made.append(f"{summary.running} agents run, {summary.healthy} of them are healthy")
    down = [name for name, (_, up) in summary.endpoints.items() if not up]
    if down:
        made.append(f"{', '.join(down)} down: `ape-load logs --service {down[0]}`")
    stopped = [
        c["Names"][0].lstrip("/")
        for c in found
        if c["State"] in ("exited", "dead", "restarting", "paused")
    ]
    if stopped:
        some = ", ".join(sorted(stopped)[:5]) + (" and more" if len(stopped) > 5 else "")
        made.append(f"not running: {some}")
    return made


def alerts(outputs: Mapping[str, Any]) -> list[str] | None:
    """Open alerts: of Prometheus, else of the monitor; None where neither is deployed.

    Prometheus has the monitor's rules, and those of the test itself.
    """
    endpoints = outputs.get("endpoints") or {}
    for name, path in (("prometheus", "/api/v1/alerts"), ("monitor", "/alerts")):
        if base := endpoints.get(name):
            try:
                answer = requests.get(base + path, timeout=5).json()
            except (requests.RequestException, ValueError):
                continue
            listed = (answer.get("data") or answer).get("alerts")
            if listed is not None:
                return [_alert(item) for item in listed if _open(item)]
    return None


def _open(item: Mapping[str, Any]) -> bool:
    """Prometheus lists what waits for its time too, and the Watchdog, which always fires."""
    labels = item.get("labels") or {}
    return item.get("state") in (None, "firing") and labels.get("severity") != "none"


def _alert(item: Mapping[str, Any]) -> str:
    labels = item.get("labels") or {}
    notes = item.get("annotations") or {}
    name = labels.get("alertname") or item.get("name") or "alert"
    return f"{name}: {notes.get('summary') or item.get('summary') or jsonlib.dumps(labels)}"


def take(
    engine: PulumiEngine,
    client: docker.DockerClient,
    before: StackSample,
    outputs: Mapping[str, Any],
) -> tuple[Status, StackSample]:
    after = look(client, engine.name, outputs)
    configured = engine.settings().fleet.agents
    declared = int(outputs["agents"])
    made = Status(
        configured,
        declared,
        after.summary,
        drift(configured, declared, after.summary, after.found),
        rates(before.metrics, after.metrics, after.at - before.at),
        uses(before, after),
        alerts(outputs),
        outputs,
    )
    return made, after


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:.0f} ms"


def drawn(status: Status) -> RenderableType:
    """For people."""
    found = status.rates
    parts: list[RenderableType] = [Text("\n".join(status.summary.lines()))]
    for line in status.drift:
        parts.append(Text(f"drift       {line}", style="yellow"))
    success = "-" if found.success_rate is None else f"{100 * found.success_rate:.1f} %"
    quantiles = "  ".join(f"p{q * 100:g} {_ms(v)}" for q, v in found.request_seconds.items())
    first = "  ".join(f"p{q * 100:g} {_ms(v)}" for q, v in found.first_token_seconds.items())
    parts.append(
        Text(
            f"of the last {found.seconds:.0f} s:\n"
            f"  sessions  {found.sessions_per_second:.2f}/s, {success} succeeded\n"
            f"  requests  {found.requests_per_second:.1f}/s  {quantiles}\n"
            f"  tokens    {found.tokens_in_per_second:.0f}/s in, "
            f"{found.tokens_out_per_second:.0f}/s out  first token {first}"
        )
    )
    table = Table("service", "containers", "memory", "fullest", "cores", box=None, pad_edge=False)
    for name, use in status.uses.items():
        table.add_row(
            name,
            str(use.containers),
            f"{use.memory_mb:.0f} of {use.memory_limit_mb:.0f} MB",
            f"{use.fullest_percent:.0f} %",
            f"{use.cpus:.2f} of {use.cpus_limit:g}" if use.cpus_limit else f"{use.cpus:.2f}",
        )
    if status.uses:
        parts.append(table)
    if status.alerts is None:
        parts.append(Text("alerts      not deployed"))
    for line in status.alerts or []:
        parts.append(Text(f"alert       {line}", style="red"))
    if status.alerts == []:
        parts.append(Text("alerts      none open"))
    return Group(*parts)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C.")] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, help="Between two looks.")
    ] = LOOK_SECONDS,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """What is declared, what runs, what is healthy, how it does; exit code 3 if not all well."""

    def work() -> int:
        engine = PulumiEngine(stack, log, create=False)
        client = client_of_stack(engine)
        outputs = running_outputs(engine)
        before = look(client, stack, outputs)

        def after_a_while() -> Status:
            nonlocal before
            time.sleep(seconds)
            made, before = take(engine, client, before, outputs)
            return made

        def once() -> int:
            found = after_a_while()
            if json:
                print(jsonlib.dumps(found.data(), default=str), flush=True)
            else:
                Console(highlight=False, soft_wrap=True).print(drawn(found))
            return EXIT_OK if found.well else EXIT_NOT_HEALTHY

        if not watch:
            return once()
        try:
            while json:
                once()
            with Live(Text("looking ..."), auto_refresh=False, screen=True) as live:
                while True:
                    live.update(drawn(after_a_while()), refresh=True)
        except KeyboardInterrupt:
            return EXIT_OK

    run_command(work)
