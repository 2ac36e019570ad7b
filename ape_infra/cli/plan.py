"""`ape-load plan`: what N agents take, what is missing, and the steps to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import checklist, kernel_limits, preflight
from ape_infra.checks.checklist import Item, Machine
from ape_infra.cli.common import EXIT_OK, AsJson, StackName, app, log, run_command, show
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.planning.plan import Plan
from ape_infra.program.components import agents as fleet
from ape_infra.reporting.summary import measure
from ape_infra.rollout import estimate, level_checks
from ape_infra.rollout.estimate import Waves
from ape_infra.rollout.levels import DEFAULT_STEP, MAX_STEP, Level, levels

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "dim"}
Agents = Annotated[int, typer.Option("--agents", "-n", min=1, help="Size of the fleet.")]
Step = Annotated[int, typer.Option("--step", min=1, max=MAX_STEP, help="Agents a level, at most.")]


@dataclass(frozen=True)
class ScaleForecast:
    """A scale from `now` (0: not up) to the settings' agents, before anything is changed."""

    now: int
    plan: Plan
    machine: Machine
    items: tuple[Item, ...]
    levels: tuple[Level, ...]
    seconds: float
    seen_updates: int

    @property
    def refusals(self) -> list[Item]:
        return [item for item in self.items if item.state == "fail"]

    def data(self) -> dict[str, Any]:
        plan, there = self.plan, self.machine
        return {
            "agents": plan.agents,
            "now": self.now,
            "tier": asdict(plan.tier),
            "resources": {
                **asdict(plan.resources),
                "memory_mb": plan.resources.memory_mb,
                "cpus": plan.resources.cpus,
            },
            "machine": asdict(there),
            "missing": {
                "memory_mb": max(0, plan.resources.memory_mb - there.memory_mb),
                "cpus": round(max(0.0, plan.resources.cpus - there.cpus), 3),
            },
            "checks": [asdict(item) for item in self.items],
            "levels": [
                {"agents": x.agents, "tier": x.tier.label, "crosses_tier": x.crosses}
                for x in self.levels
            ],
            "estimate_seconds": round(self.seconds),
        }

    def print(self, to: Console) -> None:
        plan, parts = self.plan, self.plan.resources
        to.print(f"[bold]{plan.summary}[/]")
        table = Table("", "memory MB", "cores", box=None, pad_edge=False)
        rows: tuple[tuple[str, float, float | str], ...] = (
            ("agents", parts.agents_memory_mb, parts.agents_cpus),
            ("services", parts.services_memory_mb, parts.services_cpus),
            ("Docker itself", parts.docker_memory_mb, "-"),
            ("in all", parts.memory_mb, parts.cpus),
            ("there is", self.machine.memory_mb, self.machine.cpus),
        )
        for name, memory, cpus in rows:
            table.add_row(name, f"{memory:g}", f"{cpus:g}" if isinstance(cpus, float) else cpus)
        to.print(table)
        print_items(to, self.items)
        if not self.levels:
            to.print(f"{self.now} agents are applied: there is nothing to do.")
            return
        steps = " → ".join(f"{x.agents}{' (new tier)' if x.crosses else ''}" for x in self.levels)
        to.print(f"steps: {self.now} → {steps}")
        known = (
            f"from {self.seen_updates} updates seen here" if self.seen_updates else "no update seen"
        )
        to.print(f"time: about {duration(self.seconds)} ({known})")


def print_items(to: Console, items: Iterable[Item]) -> None:
    for item in items:
        mark = f"[{STYLES[item.state]}]{item.state.upper():<7}[/]"
        to.print(f"{mark} {item.name:<12}", end=" ")
        to.print(item.saw, item.mend, markup=False)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def waves(settings: Settings) -> Waves:
    return Waves(
        settings.rollout.parallelism,
        float(settings.rollout.delay_seconds),
        float(settings.rollout.monitor_seconds),
    )


def window(plan: Plan) -> float:
    health = fleet.health(plan)
    return level_checks.observation_seconds(plan, health.retries if health else 1)


def settle(plan: Plan) -> float:
    health = fleet.health(plan)
    return level_checks.settle_seconds(plan, health.start_period if health else 0)


def forecast(
    engine: PulumiEngine, settings: Settings, step: int | None, *, outputs: dict[str, Any]
) -> ScaleForecast:
    """StackSample at the machine and the stack; changes nothing. Raises PreflightError."""
    client = preflight.connect(settings)
    now = int(outputs.get("agents", 0))
    plan = settings.plan(engine.name)
    there = checklist.machine(settings, client)
    history = engine.history()
    endpoints = measure(client, current().name, engine.name, outputs).endpoints if now else {}
    items = [*checklist.resources(settings, plan, there)]
    if checklist.is_local(settings, client):
        asked = checklist.load(plan, there, swarm=settings.platform.runtime == "swarm")
        items += checklist.limits(settings, kernel_limits.read(), asked)
    items.append(checklist.pools(settings, engine.name, client))
    if not settings.target.is_demo:
        items.append(checklist.target(settings.target.url, "the target"))
    elif now:
        base = outputs["endpoints"].get("target")
        items.append(checklist.target(base and f"{base}/health", "the demo shop"))
    items.append(checklist.monitoring(settings, endpoints))
    items.append(checklist.way_back(now, history))
    way = levels(
        now,
        settings.fleet.agents,
        settings.fleet.tier_table,
        step,
        sized_for=settings.fleet.sized_for,
    )
    pace = estimate.pace(estimate.points(history))
    windows = [window(plan_of(settings, level.agents, engine.name)) for level in way]
    seconds = estimate.seconds(
        way, pace, windows, waves(settings), a_step=settings.agents_per_update
    )
    return ScaleForecast(now, plan, there, tuple(items), way, seconds, pace.seen)


def plan_of(settings: Settings, agents: int, stack: str) -> Plan:
    return settings.with_agents(agents).plan(stack)


@app.command()
def plan(
    agents: Agents, step: Step = DEFAULT_STEP, stack: StackName = "dev", json: AsJson = False
) -> None:
    """What N agents take, what this machine has, what stands in the way, and the steps."""

    def work() -> int:
        engine = PulumiEngine(stack, log)
        settings = engine.settings(agents=str(agents))
        found = forecast(engine, settings, step, outputs=engine.outputs())
        show(found.data(), as_json=json, text=found.print)
        return EXIT_OK

    run_command(work)
