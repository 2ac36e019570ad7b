"""`ape-load scale`: change the number of agents level by level, with rollback."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.lock import Lock
from ape_infra.automation.trial import ConfigTrial
from ape_infra.checks import preflight
from ape_infra.checks.facts import is_local
from ape_infra.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_ROLLED_BACK,
    AsEvents,
    PreconditionFailed,
    StackName,
    Verbose,
    Yes,
    app,
    confirmed,
    intermediate_settings,
    log,
    run_command,
    running_outputs,
    show,
    stack_lock,
)
from ape_infra.cli.display import Display, display
from ape_infra.cli.plan import (
    Agents,
    ScaleForecast,
    Step,
    forecast,
    observation_seconds,
    plan_of,
    settle_seconds,
    waves,
)
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.rollout.controller import RolloutController, RolloutResult, Stage
from ape_infra.rollout.level_checks import Limits
from ape_infra.rollout.levels import DEFAULT_STEP, Level
from ape_infra.rollout.probe import DockerProbe


class Strategy(StrEnum):
    gradual = "gradual"
    immediate = "immediate"


Timeout = Annotated[
    int, typer.Option("--timeout", min=0, help="Roll back after this many seconds; 0: never.")
]


def values(settings: Settings, agents: int, *, force: bool) -> dict[str, str]:
    """The settings of a fleet of `agents`; `force` also allows overcommit in production."""
    forced = {"allowOvercommit": "true"} if force and settings.platform.production else {}
    return {"agents": str(agents), **forced}


def stages(
    settings: Settings, levels: Sequence[Level], text: str, stack: str, *, force: bool
) -> list[Stage]:
    """The stages of the rollout: one for each level."""
    made = []
    for number, level in enumerate(levels):
        last = values(settings, level.agents, force=force)
        way = intermediate_settings(settings, level.previous_agents, level.agents)
        plan = plan_of(settings, level.agents, stack)
        made.append(
            Stage(
                agents=level.agents,
                steps=(*({**last, **step} for step in way), last),
                text=text,
                # The first shows what else would change; later ones only with a tier.
                in_waves=settings.platform.runtime == "docker" and (level.crosses or number == 0),
                settle_seconds=settle_seconds(plan),
                observation_seconds=observation_seconds(plan),
            )
        )
    return made


def run_rollout(
    engine: PulumiEngine,
    settings: Settings,
    way: Sequence[Stage],
    timeout: float,
    shown: Display,
) -> RolloutResult:
    """Apply the stages, with their checks."""
    client = preflight.connect(settings)
    probe = DockerProbe(
        client,
        current().name,
        engine.name,
        engine.outputs,
        local=is_local(client),
    )
    made: RolloutController[ConfigTrial] = RolloutController(
        engine,
        probe,
        limits=Limits.of(settings.alerting.thresholds),
        waves=waves(settings),
        on_progress=shown.rollout_line,
        on_event=shown.rollout_event,
        deadline=time.monotonic() + timeout if timeout else float("inf"),
    )
    with shown.shown():
        return made.run(way)


def report(
    outcome: RolloutResult, way: Sequence[Stage], before: int, seconds: float
) -> dict[str, Any]:
    held = way[outcome.levels_passed - 1].agents if outcome.levels_passed else before
    return {
        "from": before,
        "to": way[-1].agents,
        "held": held,
        "well": outcome.succeeded,
        "reasons": list(outcome.reasons),
        "interrupted": outcome.interrupted,
        "levels": [
            {"agents": stage.agents, "checks": [check.data() for check in found.checks]}
            for stage, found in zip(way, outcome.check_results, strict=False)
        ],
        "seconds": round(seconds),
    }


def finish(
    engine: PulumiEngine, outcome: RolloutResult, data: dict[str, Any], *, json: bool
) -> int:
    def text(to: Console) -> None:
        if outcome.succeeded:
            to.print(f"Scaled to {data['to']} agents; all checks passed ({data['seconds']} s).")
            return
        to.print(f"Rolled back to {data['held']} agents, as in the stack config.")
        for reason in data["reasons"]:
            to.print(f"reason: {reason}", markup=False)

    show(data, as_json=json, text=text)
    if outcome.succeeded:
        return EXIT_OK
    return EXIT_INTERRUPTED if outcome.interrupted else EXIT_ROLLED_BACK


def require_checks(found: ScaleForecast, force: bool) -> None:
    """Raise PreconditionFailed with the failed checks, unless `force` is set."""
    for check in found.checks:
        if check.status == "warn" or (force and check.status == "fail"):
            log(f"{'forced: ' if check.status == 'fail' else ''}{check.text}")
    if found.failed and not force:
        raise PreconditionFailed(
            "\n".join(check.text for check in found.failed)
            + "\nAdd --force to scale despite that; the checks of each level stay."
        )


def dry_run_of(engine: PulumiEngine, agents: int, width: int | None, *, json: bool) -> int:
    """Show the forecast and the preview; change nothing."""
    with engine.trial({"agents": str(agents)}) as trial, ThreadPoolExecutor(1) as beside:
        # The preview takes most of the time; the machine is checked meanwhile.
        previewed = beside.submit(engine.preview, trial)
        found = forecast(engine, trial.settings(), width, outputs=engine.outputs())
        preview = previewed.result()
    if not json:
        show({}, as_json=False, text=found.print)
    data = {**found.data(), "preview": preview.changes}
    changes = ", ".join(f"{n} {op}" for op, n in sorted(preview.changes.items()))
    show(data, as_json=json, text=lambda to: to.print(f"preview: {changes}"))
    return EXIT_OK


def scale_to(
    engine: PulumiEngine,
    lock: Lock,
    found: ScaleForecast,
    settings: Settings,
    *,
    force: bool,
    timeout: float,
    json: bool,
    shown: Display,
) -> int:
    """Scale through the forecast's levels; returns the exit code."""
    before, agents = found.now, settings.fleet.agents
    began = time.monotonic()
    lock.begin()
    if engine.settings().fleet.agents != before:
        log(f"the stack config was changed and not applied; setting it to the {before} agents")
        engine.set_config({"agents": str(before)})
    text = f"scale {before} -> {agents}"
    way = stages(settings, found.levels, text, engine.name, force=force)
    shown.restart(found.seconds)
    outcome = run_rollout(engine, settings, way, timeout, shown)
    lock.end()
    data = report(outcome, way, before, time.monotonic() - began)
    return finish(engine, outcome, data, json=json)


@app.command()
def scale(
    agents: Agents,
    strategy: Annotated[
        Strategy, typer.Option(help="Scale in levels (gradual) or at once (immediate).")
    ] = Strategy.gradual,
    step: Step = DEFAULT_STEP,
    force: Annotated[
        bool, typer.Option("--force", help="Scale even if a check of the forecast fails.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the forecast and the preview; change nothing.")
    ] = False,
    timeout: Timeout = 0,
    stack: StackName = "dev",
    yes: Yes = False,
    verbose: Verbose = False,
    json: AsEvents = False,
) -> None:
    """Scale the fleet in levels; roll back to the last good level when a check fails."""
    width = None if strategy is Strategy.immediate else step

    def work() -> int:
        with display("scale", stack, json=json, verbose=verbose) as shown:
            engine = PulumiEngine(stack, log, create=dry_run, watcher=shown)
            if dry_run:
                return dry_run_of(engine, agents, width, json=json)
            return scale_checked(
                engine, agents, width, shown, force=force, timeout=timeout, yes=yes, json=json
            )

    run_command(work, events=json)


def scale_checked(
    engine: PulumiEngine,
    agents: int,
    width: int | None,
    shown: Display,
    *,
    force: bool,
    timeout: float,
    yes: bool,
    json: bool,
) -> int:
    """Show the forecast, ask, and scale; returns the exit code."""
    with stack_lock(engine) as lock:
        outputs = running_outputs(engine)
        settings = engine.settings(agents=str(agents))
        found = forecast(engine, settings, width, outputs=outputs)
        before = found.now
        if not json:
            show({}, as_json=False, text=found.print)
        require_checks(found, force)
        if not found.levels:
            data = {"from": before, "to": agents, "held": before, "well": True, "reasons": []}
            show(data, as_json=json, text=lambda to: None)
            return EXIT_OK
        for level in found.levels:
            if level.crosses:
                log(
                    f"{level.previous_agents} → {level.agents} crosses into tier "
                    f"{level.tier.label}: {level.replaces} agents change, "
                    f"{settings.rollout.parallelism} at a time"
                )
        confirmed(f"Scale stack {engine.name} from {before} to {agents} agents?", yes)
        return scale_to(
            engine, lock, found, settings, force=force, timeout=timeout, json=json, shown=shown
        )
