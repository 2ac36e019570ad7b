"""`ape-load plan`: the requirements of a fleet, the checks before a scale, and its levels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ape_contracts.text import plain
from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import preflight
from ape_infra.checks.check import Check, failed
from ape_infra.checks.facts import Facts, Machine
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
Agents = Annotated[int, typer.Option("--agents", "-n", min=1, help="Number of agents.")]
Step = Annotated[
    int, typer.Option("--step", min=1, max=MAX_STEP, help="Maximum number of agents per level.")
]


@dataclass(frozen=True)
class ScaleForecast:
    """A scale from `now` agents (0: not up) to those of the plan, before anything is changed.

    `seconds` is an estimate, from `seen_updates` updates of the stack's history.
    """

    now: int
    plan: Plan
    machine: Machine
    checks: tuple[Check, ...]
    levels: tuple[Level, ...]
    seconds: float
    seen_updates: int

    @property
    def failed(self) -> tuple[Check, ...]:
        return failed(self.checks)

    def data(self) -> dict[str, Any]:
        plan, machine = self.plan, self.machine
        return {
            "agents": plan.agents,
            "now": self.now,
            "tier": asdict(plan.tier),
            "resources": {
                **asdict(plan.resources),
                "memory_mb": plan.resources.memory_mb,
                "cpus": plan.resources.cpus,
            },
            "machine": asdict(machine),
            "missing": {
                "memory_mb": max(0, plan.resources.memory_mb - machine.memory_mb),
                "cpus": round(max(0.0, plan.resources.cpus - machine.cpus), 3),
            },
            "checks": [check.data() for check in self.checks],
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
            ("total", parts.memory_mb, parts.cpus),
            ("available", self.machine.memory_mb, self.machine.cpus),
        )
        for name, memory, cpus in rows:
            table.add_row(name, f"{memory:g}", f"{cpus:g}" if isinstance(cpus, float) else cpus)
        to.print(table)
        print_checks(to, self.checks)
        if not self.levels:
            to.print(f"{self.now} agents are applied: nothing to change.")
            return
        steps = " → ".join(f"{x.agents}{' (new tier)' if x.crosses else ''}" for x in self.levels)
        to.print(f"levels: {self.now} → {steps}")
        source = f"from {self.seen_updates} updates" if self.seen_updates else "without a history"
        to.print(f"time: about {duration(self.seconds)} ({source})")


def print_checks(to: Console, checks: Iterable[Check]) -> None:
    for check in checks:
        mark = f"[{STYLES[check.status]}]{check.status.upper():<7}[/]"
        to.print(f"{mark} {check.name:<13}", end=" ")
        to.print(plain(check.observed), plain(check.remedy), markup=False)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def waves(settings: Settings) -> Waves:
    return Waves(
        settings.rollout.parallelism,
        float(settings.rollout.delay_seconds),
        float(settings.rollout.monitor_seconds),
    )


def observation_seconds(plan: Plan) -> float:
    health = fleet.health(plan)
    return level_checks.observation_seconds(plan, health.retries if health else 1)


def settle_seconds(plan: Plan) -> float:
    health = fleet.health(plan)
    return level_checks.settle_seconds(plan, health.start_period if health else 0)


def forecast(
    engine: PulumiEngine, settings: Settings, step: int | None, *, outputs: dict[str, Any]
) -> ScaleForecast:
    """Run the checks before a scale, and plan its levels. Raises PreflightError."""
    client = preflight.connect(settings)
    project, stack, now = current().name, engine.name, int(outputs.get("agents", 0))
    facts = Facts(
        settings,
        project,
        stack,
        connected=client,
        outputs=outputs,
        history=engine.history(),
        endpoints=measure(client, project, stack, outputs).endpoints if now else {},
    )
    checks = tuple(preflight.run(preflight.BEFORE_SCALE, facts))
    found = levels(now, settings.fleet.agents, settings.fleet.tier_of, step)
    speed = estimate.fit_speed(estimate.points(facts.history))
    seconds = estimate.seconds(
        found,
        speed,
        [observation_seconds(plan_of(settings, level.agents, stack)) for level in found],
        waves(settings),
        agents_per_container=settings.fleet.agents_per_container,
        agents_per_update=settings.agents_per_update,
    )
    return ScaleForecast(now, facts.plan, facts.machine, checks, found, seconds, speed.seen)


def plan_of(settings: Settings, agents: int, stack: str) -> Plan:
    return settings.with_agents(agents).plan(stack)


@app.command()
def plan(
    agents: Agents, step: Step = DEFAULT_STEP, stack: StackName = "dev", json: AsJson = False
) -> None:
    """Show what a fleet needs, what the machine has, and the levels of a scale to it."""

    def work() -> int:
        engine = PulumiEngine(stack, log)
        settings = engine.settings(agents=str(agents))
        found = forecast(engine, settings, step, outputs=engine.outputs())
        show(found.data(), as_json=json, text=found.print)
        return EXIT_OK

    run_command(work)
