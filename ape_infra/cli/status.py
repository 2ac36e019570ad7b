"""`ape-load status`: configured, applied and running agents, health and rates; from live data."""

from __future__ import annotations

import json as jsonlib
import time
from collections import Counter, defaultdict
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

from ape_contracts import labels, metrics
from ape_contracts.text import plain
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
from ape_infra.reporting.rates import Rates, Sample, rates, samples
from ape_infra.reporting.summary import Summary, measure_stack
from ape_infra.rollout.probe import OBSERVED_SERVICES
from monitoring import cgroups

# Between the two samples that rates are computed from.
SAMPLE_SECONDS = 5.0
# Part of the model's spend limit from which it is shown as a warning.
NEAR_BUDGET = 0.9


@dataclass(frozen=True)
class ServiceUsage:
    """Of one service's containers on this machine; `cpus_limit`: None if one has none."""

    containers: int
    memory_mb: float
    memory_limit_mb: float
    fullest_percent: float
    cpus: float
    cpus_limit: float | None


@dataclass(frozen=True)
class StackSample:
    """The stack at the monotonic time `at`. `cpu`: container id -> CPU seconds so far."""

    at: float
    summary: Summary
    metrics: list[Sample]
    containers: list[dict[str, Any]]
    cpu: dict[str, float]


@dataclass(frozen=True)
class Status:
    """`configured`: agents in the stack config. `applied`: agents in the stack's outputs.

    `usage`: service -> resources. `alerts`: None if neither Prometheus nor the monitor answers.
    `repaired`: what was wrong -> tool calls of the model that were put right, since the start.
    `budget`: the used part of the model's spend limit, 1: all; None: there is no limit.
    """

    configured: int
    applied: int
    summary: Summary
    drift: list[str]
    rates: Rates
    usage: dict[str, ServiceUsage]
    alerts: list[str] | None
    repaired: dict[str, int] = field(default_factory=dict)
    budget: float | None = None

    @property
    def is_healthy(self) -> bool:
        return self.summary.is_healthy and not self.drift

    def data(self) -> dict[str, Any]:
        """Return the status as JSON data."""
        return {
            "configured": self.configured,
            "applied": self.applied,
            **asdict(self.summary),
            "drift": self.drift,
            "rates": {
                **asdict(self.rates),
                "request_seconds": _by_percentile(self.rates.request_seconds),
                "first_token_seconds": _by_percentile(self.rates.first_token_seconds),
            },
            "resources": {name: asdict(usage) for name, usage in self.usage.items()},
            "alerts": self.alerts,
            "repaired": self.repaired,
            "budget": self.budget,
        }


def _by_percentile(quantiles: Mapping[float, float | None]) -> dict[str, float | None]:
    return {f"p{q * 100:g}": value for q, value in quantiles.items()}


def take_sample(client: docker.DockerClient, stack: str, outputs: Mapping[str, Any]) -> StackSample:
    summary, services, containers = measure_stack(client, current().name, stack, outputs)
    metrics = [s for name in OBSERVED_SERVICES for s in samples(services.get(name, "/metrics"))]
    cpu = {c["Id"]: used[0] for c in containers if (used := cgroups.cpu(c["Id"]))}
    return StackSample(time.monotonic(), summary, metrics, containers, cpu)


def service_usage(before: StackSample, after: StackSample) -> dict[str, ServiceUsage]:
    """Return memory and CPU of each service's running containers on this machine."""
    ids_by_service: dict[str, list[str]] = defaultdict(list)
    for container in after.containers:
        if container["State"] == "running":
            ids_by_service[container["Labels"][labels.SERVICE]].append(container["Id"])
    usage = {}
    for service, ids in sorted(ids_by_service.items()):
        memory = [m for i in ids if (m := cgroups.memory(i))]
        limits = [c[1] for i in ids if (c := cgroups.cpu(i))]
        if not memory:
            continue
        spent = sum(after.cpu[i] - before.cpu[i] for i in ids if i in after.cpu and i in before.cpu)
        usage[service] = ServiceUsage(
            len(ids),
            sum(m[0] for m in memory) / 2**20,
            sum(m[1] for m in memory) / 2**20,
            max(100 * m[0] / m[1] for m in memory),
            spent / (after.at - before.at),
            None if None in limits else sum(x for x in limits if x),
        )
    return usage


def drift(
    configured: int, applied: int, summary: Summary, containers: list[dict[str, Any]]
) -> list[str]:
    """Return the differences between stack config, state and containers, each with its remedy."""
    found = []
    if configured != applied:
        found.append(
            f"the stack config has {configured} agents, {applied} are applied: `ape-load up`, or "
            f"`ape-load scale --agents {configured}`"
        )
    if summary.running != applied:
        found.append(f"{applied} agents are applied, {summary.running} run: `ape-load up`")
    elif summary.healthy < summary.running:
        found.append(f"{summary.running} agents run, {summary.healthy} of them are healthy")
    down = [name for name, (_, up) in summary.endpoints.items() if not up]
    if down:
        found.append(f"{', '.join(down)} down: `ape-load logs --service {down[0]}`")
    stopped = [
        c["Names"][0].lstrip("/")
        for c in containers
        if c["State"] in ("exited", "dead", "restarting", "paused")
    ]
    if stopped:
        some = ", ".join(sorted(stopped)[:5]) + (" and more" if len(stopped) > 5 else "")
        found.append(f"not running: {some}")
    return found


def alerts(outputs: Mapping[str, Any]) -> list[str] | None:
    """Return the open alerts of Prometheus, else of the monitor; None if neither answers.

    Prometheus evaluates the monitor's rules and those of the test itself.
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
    """Prometheus also lists pending alerts, and the Watchdog, which always fires."""
    tags = item.get("labels") or {}
    return item.get("state") in (None, "firing") and tags.get("severity") != "none"


def _alert(item: Mapping[str, Any]) -> str:
    tags = item.get("labels") or {}
    annotations = item.get("annotations") or {}
    name = tags.get("alertname") or item.get("name") or "alert"
    return f"{name}: {annotations.get('summary') or item.get('summary') or jsonlib.dumps(tags)}"


def next_status(
    engine: PulumiEngine,
    client: docker.DockerClient,
    before: StackSample,
    outputs: Mapping[str, Any],
) -> tuple[Status, StackSample]:
    """Take a sample, and return it with the status since the sample `before`."""
    after = take_sample(client, engine.name, outputs)
    configured, applied = engine.settings().fleet.agents, int(outputs["agents"])
    found = Status(
        configured,
        applied,
        after.summary,
        drift(configured, applied, after.summary, after.containers),
        rates(before.metrics, after.metrics, after.at - before.at),
        service_usage(before, after),
        alerts(outputs),
        repaired_calls(after.metrics),
        next((v for n, _, v in after.metrics if n == metrics.PROXY_BUDGET_USED.name), None),
    )
    return found, after


def repaired_calls(found: list[Sample]) -> dict[str, int]:
    """Return the number of repaired tool calls by what was wrong, the most frequent first."""
    counted: Counter[str] = Counter()
    for name, sample_labels, value in found:
        if name == metrics.REPAIRED_CALLS.name and value > 0:
            counted[sample_labels.get("kind", "")] += int(value)
    return dict(counted.most_common())


def _cut(text: str, style: str = "") -> Text:
    """A line that is cut at the width of the terminal."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:.0f} ms"


def _quantiles(quantiles: Mapping[float, float | None]) -> str:
    return "  ".join(f"{name} {_ms(value)}" for name, value in _by_percentile(quantiles).items())


def rendered(status: Status) -> RenderableType:
    """Return the status as text for people."""
    found = status.rates
    parts: list[RenderableType] = [Text("\n".join(status.summary.lines()))]
    for line in status.summary.failures():
        parts.append(_cut(f"failed      {line}", "yellow"))
    if status.repaired:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in status.repaired.items())
        total = sum(status.repaired.values())
        parts.append(_cut(f"repaired    {total} tool calls of the model ({kinds})"))
    if status.budget is not None:
        style = "yellow" if status.budget > NEAR_BUDGET else ""
        parts.append(Text(f"budget      {100 * status.budget:.1f} % of the spend limit", style))
    for line in status.drift:
        parts.append(Text(f"drift       {line}", style="yellow"))
    success = "-" if found.success_rate is None else f"{100 * found.success_rate:.1f} %"
    parts.append(
        Text(
            f"last {found.seconds:.0f} s:\n"
            f"  sessions  {found.sessions_per_second:.2f}/s, {success} succeeded\n"
            f"  requests  {found.requests_per_second:.1f}/s  {_quantiles(found.request_seconds)}\n"
            f"  tokens    {found.tokens_in_per_second:.0f}/s in, "
            f"{found.tokens_out_per_second:.0f}/s out  "
            f"first token {_quantiles(found.first_token_seconds)}"
        )
    )
    table = Table("service", "containers", "memory", "fullest", "cores", box=None, pad_edge=False)
    for name, usage in status.usage.items():
        table.add_row(
            name,
            str(usage.containers),
            f"{usage.memory_mb:.0f} of {usage.memory_limit_mb:.0f} MB",
            f"{usage.fullest_percent:.0f} %",
            f"{usage.cpus:.2f} of {usage.cpus_limit:g}"
            if usage.cpus_limit
            else f"{usage.cpus:.2f}",
        )
    if status.usage:
        parts.append(table)
    if status.alerts is None:
        parts.append(Text("alerts      not deployed"))
    for line in status.alerts or []:
        parts.append(Text(f"alert       {plain(line)}", style="red"))
    if status.alerts == []:
        parts.append(Text("alerts      none open"))
    return Group(*parts)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat until Ctrl-C.")] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, help="Seconds between two samples.")
    ] = SAMPLE_SECONDS,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Show agents, health, drift, rates, resources and alerts; exit with 3 if not healthy."""

    def work() -> int:
        engine = PulumiEngine(stack, log, create=False)
        client = client_of_stack(engine)
        outputs = running_outputs(engine)
        before = take_sample(client, stack, outputs)

        def wait_for_status() -> Status:
            nonlocal before
            time.sleep(seconds)
            found, before = next_status(engine, client, before, outputs)
            return found

        def print_status() -> int:
            found = wait_for_status()
            if json:
                print(jsonlib.dumps(found.data(), default=str), flush=True)
            else:
                Console(highlight=False, soft_wrap=True).print(rendered(found))
            return EXIT_OK if found.is_healthy else EXIT_NOT_HEALTHY

        if not watch:
            return print_status()
        try:
            while json:
                print_status()
            with Live(Text("sampling ..."), auto_refresh=False, screen=True) as live:
                while True:
                    live.update(rendered(wait_for_status()), refresh=True)
        except KeyboardInterrupt:
            return EXIT_OK

    run_command(work)
