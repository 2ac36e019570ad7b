"""`ape-load rollout`: bring a new setting or image to the fleet in waves, with rollback."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ape_infra.automation.engine import PulumiEngine
from ape_infra.cli.common import (
    EXIT_OK,
    AsEvents,
    PreconditionFailed,
    StackName,
    Verbose,
    Yes,
    app,
    check_before_update,
    confirmed,
    log,
    run_command,
    running_outputs,
    show,
    stack_lock,
)
from ape_infra.cli.display import Display, display
from ape_infra.cli.plan import observation_seconds, settle_seconds
from ape_infra.cli.scale import Timeout, finish, report, run_rollout
from ape_infra.config.project import config_key
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import Settings
from ape_infra.rollout.controller import Stage


def parsed(pairs: list[str]) -> dict[str, str]:
    """Setting -> value, of the KEY=VALUE pairs. Raises PreconditionFailed."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise PreconditionFailed(
                f"--set {pair}: is not KEY=VALUE. Write, for example: --set thinkTimeSeconds=2"
            )
        if key.partition("[")[0] == "agents":
            raise PreconditionFailed(
                "--set agents: a rollout keeps the number of agents. Run: ape-load scale"
            )
        if key.removeprefix(config_key("")) in SECRETS:
            raise PreconditionFailed(
                f"--set {key}: is a secret. Set it with: pulumi config set --secret {key}"
            )
        found[key.removeprefix(config_key(""))] = value
    return found


def pins(state: Mapping[str, Any]) -> dict[str, str]:
    """The settings that pin the images built last, from the stack's state."""
    resources = (state.get("deployment") or {}).get("resources") or []
    found = {}
    for resource in resources:
        _, image, name = resource["urn"].partition("Image::image-")
        if image:
            found[f"images.{name.replace('-', '_')}"] = resource["inputs"]["imageName"]
    return found


def stage(
    settings: Settings,
    agents: int,
    values: Mapping[str, str | None],
    stack: str,
    *,
    names: Sequence[str],
) -> Stage:
    """The only stage of a rollout: all agents, with the new values; `names`: of the settings."""
    plan = settings.plan(stack)
    return Stage(
        agents=agents,
        steps=(values,),
        text="rollout" + (f" of {', '.join(names)}" if names else ""),
        in_waves=settings.platform.runtime == "docker",
        settle_seconds=settle_seconds(plan),
        observation_seconds=observation_seconds(plan),
    )


@app.command()
def rollout(
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Set KEY=VALUE, repeatedly for more settings; none: new images."
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="Reset the setting KEY to its default.")
    ] = None,
    timeout: Timeout = 0,
    stack: StackName = "dev",
    yes: Yes = False,
    verbose: Verbose = False,
    json: AsEvents = False,
) -> None:
    """Bring new settings or images to the fleet in waves; roll back when a check fails."""

    removed = [key.removeprefix(config_key("")) for key in unset or []]

    def work() -> int:
        with display("rollout", stack, json=json, verbose=verbose) as shown:
            engine = PulumiEngine(stack, log, create=False, watcher=shown)
            new = parsed(setting or [])
            return roll_out(engine, new, removed, shown, timeout=timeout, yes=yes, json=json)

    run_command(work, events=json)


def roll_out(
    engine: PulumiEngine,
    new: Mapping[str, str],
    removed: Sequence[str],
    shown: Display,
    *,
    timeout: float,
    yes: bool,
    json: bool,
) -> int:
    """Bring settings to the fleet, with the `removed` ones reset; returns the exit code."""
    with stack_lock(engine) as lock:
        agents = int(running_outputs(engine)["agents"])
        values: dict[str, str | None] = {
            "agents": str(agents),
            **new,
            **dict.fromkeys(removed),
        }
        with engine.trial(values) as trial:
            settings = trial.settings()
            check_before_update(engine, settings)
            preview = engine.preview(trial)
        if not preview.changing:
            data = {"changes": preview.changes, "well": True}
            show(data, as_json=json, text=lambda to: to.print("Nothing to change."))
            return EXIT_OK
        confirmed(f"Roll this out to the {agents} agents of stack {engine.name}?", yes)
        began = time.monotonic()
        shown.restart()
        lock.begin()
        if preview.images:
            # A rollback applies the stack config, which must not build images: the sources
            # of the running ones may have changed.
            engine.set_config(pins(engine.state()))
            values = {**values, "images": None}
        way = [stage(settings, agents, values, engine.name, names=list(new))]
        outcome = run_rollout(engine, settings, way, timeout, shown)
        lock.end()
        if not outcome.succeeded and engine.settings().images.given:
            log(
                f"The stack config names the previous images ({config_key('images')}). To try "
                "again: ape-load rollout --unset images"
            )
    data = report(outcome, way, agents, time.monotonic() - began)
    return finish(engine, outcome, data, json=json)
