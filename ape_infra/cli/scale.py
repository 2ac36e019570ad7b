"""`ape-load scale`: to N agents in levels that must hold, and back when one does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from ape_infra.automation.engine import ConfigTrial, PulumiEngine
from ape_infra.checks import preflight
from ape_infra.checks.facts import is_local
from ape_infra.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_ROLLED_BACK,
    AsJson,
    PreconditionFailed,
    StackName,
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
    int, typer.Option("--timeout", min=0, help="Seconds after which it returns; 0: none.")
]


def values(settings: Settings, agents: int, *, force: bool) -> dict[str, str]:
    """The settings of a fleet of `agents`. What is forced is written down: the config is true."""
    forced = {"allowOvercommit": "true"} if force and settings.platform.production else {}
    return {"agents": str(agents), **forced}


def stages(
    settings: Settings, levels: Sequence[Level], text: str, stack: str, *, force: bool
) -> list[Stage]:
    """What the walk does for each level."""
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
    engine: PulumiEngine, settings: Settings, way: Sequence[Stage], timeout: float
) -> RolloutResult:
    """Go the way, under the gates."""
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
        on_progress=log,
        deadline=time.monotonic() + timeout if timeout else float("inf"),
    )
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
            to.print(f"{data['to']} agents, and they hold ({data['seconds']} s).")
            return
        to.print(f"Returned to {data['held']} agents; the config says {data['held']} too.")
        for reason in data["reasons"]:
            to.print(f"reason: {reason}", markup=False)

    show(data, as_json=json, text=text)
    if outcome.succeeded:
        return EXIT_OK
    return EXIT_INTERRUPTED if outcome.interrupted else EXIT_ROLLED_BACK


def refuse(found: ScaleForecast, force: bool) -> None:
    """Raises PreconditionFailed with what stands in the way, unless it is forced."""
    for check in found.checks:
        if check.status == "warn" or (force and check.status == "fail"):
            log(f"{'forced: ' if check.status == 'fail' else ''}{check.text}")
    if found.failed and not force:
        raise PreconditionFailed(
            "\n".join(check.text for check in found.failed)
            + "\n--force goes on all the same; the validation of each level stays."
        )


@app.command()
def scale(
    agents: Agents,
    strategy: Annotated[
        Strategy, typer.Option(help="gradual: in levels. immediate: at once.")
    ] = Strategy.gradual,
    step: Step = DEFAULT_STEP,
    force: Annotated[bool, typer.Option("--force", help="Skip the pre-flight's refusals.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="The plan and the preview; change nothing.")
    ] = False,
    timeout: Timeout = 0,
    stack: StackName = "dev",
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Scale the fleet in levels that must hold; one that does not is taken back."""
    width = None if strategy is Strategy.immediate else step

    def dry(engine: PulumiEngine) -> int:
        with engine.trial({"agents": str(agents)}) as trial, ThreadPoolExecutor(1) as beside:
            # The preview takes most of the time; the machine is looked at meanwhile.
            previewed = beside.submit(engine.preview, trial)
            found = forecast(engine, trial.settings(), width, outputs=engine.outputs())
            preview = previewed.result()
        if not json:
            show({}, as_json=False, text=found.print)
        data = {**found.data(), "preview": preview.changes}
        changes = ", ".join(f"{n} {op}" for op, n in sorted(preview.changes.items()))
        show(data, as_json=json, text=lambda to: to.print(f"preview: {changes}"))
        return EXIT_OK

    def work() -> int:
        engine = PulumiEngine(stack, log, verbose=not json, create=dry_run)
        if dry_run:
            return dry(engine)
        with stack_lock(engine) as lock:
            outputs = running_outputs(engine)
            settings = engine.settings(agents=str(agents))
            found = forecast(engine, settings, width, outputs=outputs)
            before = found.now
            if not json:
                show({}, as_json=False, text=found.print)
            refuse(found, force)
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
            confirmed(f"Scale stack {stack} from {before} to {agents} agents?", yes)
            began = time.monotonic()
            lock.begin()
            if engine.settings().fleet.agents != before:
                log(f"the config was changed and never applied; {before} agents are, and count")
                engine.set_config({"agents": str(before)})
            text = f"scale {before} -> {agents}"
            way = stages(settings, found.levels, text, stack, force=force)
            outcome = run_rollout(engine, settings, way, timeout)
            lock.end()
        data = report(outcome, way, before, time.monotonic() - began)
        return finish(engine, outcome, data, json=json)

    run_command(work)
