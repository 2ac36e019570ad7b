"""`ape-load rollout`: a new setting or image, in waves, with the gates and the way back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ape_infra import preflight
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    Refused,
    StackName,
    Yes,
    app,
    applied,
    changing,
    confirmed,
    guarded,
    say,
    show,
)
from ape_infra.cli.plan import settle, window
from ape_infra.cli.scale import Timeout, finish, report, walk
from ape_infra.engine import PulumiEngine
from ape_infra.scaling.walk import Stage
from ape_infra.settings import PROJECT


def parsed(pairs: list[str]) -> dict[str, str]:
    """key=value, as given. Raises Refused."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Refused(f"--set {pair}: write KEY=VALUE, such as thinkTimeSeconds=2.")
        if key.partition("[")[0] == "agents":
            raise Refused("--set agents: that is what `ape-load scale` is for.")
        found[key.removeprefix(f"{PROJECT}:")] = value
    return found


@app.command()
def rollout(
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of a setting; again for more. None: the images."),
    ] = None,
    timeout: Timeout = 0,
    stack: StackName = "dev",
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Bring a new setting or image to the fleet in waves; what does not hold is taken back."""

    def work() -> int:
        engine = PulumiEngine(stack, say, verbose=not json)
        new = parsed(setting or [])
        with changing(engine) as lock:
            agents = int(applied(engine)["agents"])
            values = {"agents": str(agents), **new}
            with engine.trial(values) as trial:
                settings = trial.settings()
                preflight.check(settings, PROJECT, stack, tell=say)
                preview = engine.preview(trial)
            if not preview.changing:
                data = {"changes": preview.changes, "well": True}
                show(data, as_json=json, text=lambda to: to.print("Nothing to change."))
                return EXIT_OK
            confirmed(f"Roll this out to the {agents} agents of stack {stack}?", yes)
            began = time.monotonic()
            lock.begin()
            plan = settings.plan(stack)
            way = [
                Stage(
                    agents=agents,
                    steps=(values,),
                    text="rollout" + (f" of {', '.join(new)}" if new else ""),
                    look=settings.runtime == "docker",
                    settle=settle(plan),
                    window=window(plan),
                )
            ]
            outcome = walk(engine, settings, way, timeout)
            lock.end()
        data = report(outcome, way, agents, time.monotonic() - began)
        return finish(engine, outcome, data, json=json)

    guarded(work)
