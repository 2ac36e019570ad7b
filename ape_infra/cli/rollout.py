"""`ape-load rollout`: a new setting or image, in waves, with the gates and the way back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ape_infra.automation.engine import Preview, PulumiEngine
from ape_infra.checks import preflight
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    StackName,
    Yes,
    app,
    confirmed,
    log,
    run_command,
    running_outputs,
    show,
    stack_lock,
)
from ape_infra.cli.plan import observation_seconds, settle_seconds
from ape_infra.cli.scale import Timeout, finish, report, run_rollout
from ape_infra.config.project import config_key, current
from ape_infra.config.secrets import SECRETS
from ape_infra.rollout.controller import Stage


def parsed(pairs: list[str]) -> dict[str, str]:
    """key=value, as given. Raises PreconditionFailed."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise PreconditionFailed(f"--set {pair}: write KEY=VALUE, such as thinkTimeSeconds=2.")
        if key.partition("[")[0] == "agents":
            raise PreconditionFailed("--set agents: that is what `ape-load scale` is for.")
        if key.removeprefix(config_key("")) in SECRETS:
            raise PreconditionFailed(
                f"--set {key}: a secret is set with: pulumi config set --secret {key}"
            )
        found[key.removeprefix(config_key(""))] = value
    return found


def builds(preview: Preview) -> bool:
    """Whether images are built anew."""
    return any("Image::" in urn and op != "delete" for urn, op in preview.operations.items())


def pins(state: Mapping[str, Any]) -> dict[str, str]:
    """The settings that keep the images that were built last, from the stack's state."""
    resources = (state.get("deployment") or {}).get("resources") or []
    found = {}
    for resource in resources:
        _, image, name = resource["urn"].partition("Image::image-")
        if image:
            found[f"images.{name.replace('-', '_')}"] = resource["inputs"]["imageName"]
    return found


@app.command()
def rollout(
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of a setting; again for more. None: the images."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="KEY of a setting: back to its default.")
    ] = None,
    timeout: Timeout = 0,
    stack: StackName = "dev",
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Bring a new setting or image to the fleet in waves; what does not hold is taken back."""

    def work() -> int:
        engine = PulumiEngine(stack, log, verbose=not json, create=False)
        new = parsed(setting or [])
        with stack_lock(engine) as lock:
            agents = int(running_outputs(engine)["agents"])
            values: dict[str, str | None] = {
                "agents": str(agents),
                **new,
                **{key.removeprefix(config_key("")): None for key in unset or []},
            }
            with engine.trial(values) as trial:
                settings = trial.settings()
                preflight.check(settings, current().name, stack, on_warning=log)
                preview = engine.preview(trial)
            if not preview.changing:
                data = {"changes": preview.changes, "well": True}
                show(data, as_json=json, text=lambda to: to.print("Nothing to change."))
                return EXIT_OK
            confirmed(f"Roll this out to the {agents} agents of stack {stack}?", yes)
            began = time.monotonic()
            lock.begin()
            if builds(preview):
                # The way back is the config, and one that builds cannot build what was before.
                engine.set_config(pins(engine.state()))
                values = {**values, "images": None}
            plan = settings.plan(stack)
            way = [
                Stage(
                    agents=agents,
                    steps=(values,),
                    text="rollout" + (f" of {', '.join(new)}" if new else ""),
                    in_waves=settings.platform.runtime == "docker",
                    settle_seconds=settle_seconds(plan),
                    observation_seconds=observation_seconds(plan),
                )
            ]
            outcome = run_rollout(engine, settings, way, timeout)
            lock.end()
            if not outcome.succeeded and engine.settings().images.given:
                log(
                    f"The config names the images that held ({config_key('images')}). To try "
                    "again: ape-load rollout --unset images"
                )
        data = report(outcome, way, agents, time.monotonic() - began)
        return finish(engine, outcome, data, json=json)

    run_command(work)
