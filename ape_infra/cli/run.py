"""`ape-load run`: bring the stack up if it is not, run the load test, end with a result."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import docker
import typer
from rich.console import Console

from ape_infra.automation.engine import PulumiEngine
from ape_infra.cli.common import (
    EXIT_FAILED,
    AsEvents,
    NotRunning,
    PreconditionFailed,
    StackName,
    Verbose,
    Yes,
    app,
    check_before_update,
    client_of,
    log,
    run_command,
)
from ape_infra.cli.display import Display, display
from ape_infra.cli.up import SETTLE_SECONDS, apply_config, ended_sessions
from ape_infra.config.project import config_key, current
from ape_infra.config.settings import Settings
from ape_infra.planning.services import GATEWAY, PROXY
from ape_infra.reporting.summary import POLL_SECONDS, containers, measure
from ape_infra.runs import live, pages
from ape_infra.runs.begin import Options, OptionsError, first_summary, overrides
from ape_infra.runs.client import HttpServices
from ape_infra.runs.conduct import Conductor, Plan, RunRefusedError, Stop
from ape_infra.runs.judge import Thresholds
from ape_infra.runs.preparation import prepare
from ape_infra.runs.store import RunFolder, StoredRun, StoreError
from ape_infra.runs.summary import Summary

RESULTS = "results"
Results = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of results. Default: results/ of the project."),
]


def results_folder(given: Path | None) -> Path:
    return given if given is not None else current().root / RESULTS


def bring_up(engine: PulumiEngine, settings: Settings, shown: Display) -> bool:
    """Bring the stack up if it is not, or check that its config was applied.

    Returns whether it was brought up. Raises PreconditionFailed.
    """
    outputs = engine.outputs()
    if "agents" not in outputs:
        check_before_update(engine, settings, shown.warn)
        apply_config(engine, settings, shown)
        return True
    if int(outputs["agents"]) != settings.fleet.agents:
        raise PreconditionFailed(
            f"Stack {engine.name} has {outputs['agents']} agents, and its config "
            f"{settings.fleet.agents}. Apply the config first: ape-load up --stack {engine.name}"
        )
    return False


def wait_ready(
    client: docker.DockerClient, engine: PulumiEngine, outputs: dict[str, Any], shown: Display
) -> None:
    """Wait until all agents, the gateway and the inference proxy are healthy.

    Raises NotRunning.
    """
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        found = measure(client, current().name, engine.name, outputs)
        down = [name for name in (GATEWAY, PROXY) if not found.endpoints.get(name, ("", False))[1]]
        if found.healthy >= found.declared and not down:
            return
        if time.monotonic() >= end:
            raise NotRunning(
                f"{found.healthy} of {found.declared} agents are healthy"
                + (f", and {' and '.join(down)} down" if down else "")
                + f". Show what is wrong with: ape-load status --stack {engine.name}"
            )
        shown.health(found.healthy, found.declared, ended_sessions(found))
        time.sleep(POLL_SECONDS)


def services_of(engine: PulumiEngine, settings: Settings, outputs: dict[str, Any]) -> HttpServices:
    """The services of a run. Raises PreconditionFailed where they publish no port."""
    found = outputs.get("endpoints") or {}
    urls = {name: str(found.get(name) or "") for name in (GATEWAY, PROXY)}
    if missing := [name for name, url in urls.items() if not url]:
        raise PreconditionFailed(
            f"The {' and the '.join(missing)} of stack {engine.name} publishes no port, and a run "
            f"is conducted over it. Set {config_key('exposeAddress')}, and apply it: ape-load up"
        )
    tokens = engine.run_tokens(settings)
    return HttpServices(
        urls[GATEWAY], urls[PROXY], control_token=tokens.control, proxy_token=tokens.agents
    )


def report_page(folder: RunFolder) -> Callable[[Summary, dict[str, Any]], str]:
    def page(summary: Summary, measurements: dict[str, Any]) -> str:
        stored = StoredRun(folder.path, summary, is_running=True)
        return pages.report(summary.model_dump(mode="json"), measurements, stored.transcripts())

    return page


def conduct(conductor: Conductor, console: Console) -> Summary:
    """Conduct a begun run; signals end it in order, a second one at once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: conductor.stop.ask())
    with live.Shown(console, log) as shown:
        conductor.on_progress = shown
        return conductor.conduct()


def ready(engine: PulumiEngine, settings: Settings, folder: RunFolder, shown: Display) -> Conductor:
    """Check all input, bring the stack up if it is not, and begin the run.

    Raises SettingsError, PreconditionFailed, NotRunning, RunRefusedError and the engine's errors.
    """
    prepared = prepare(settings, current().root, folder.name)
    changed = bring_up(engine, settings, shown)
    client, outputs = client_of(engine), engine.outputs()
    services = services_of(engine, settings, outputs)
    with shown.shown():
        wait_ready(client, engine, outputs, shown)
    base = first_summary(
        settings,
        run=folder.name,
        project=current().name,
        stack=engine.name,
        started=time.time(),
        containers=containers(client, current().name, engine.name),
    )
    conductor = Conductor(
        services,
        folder,
        Plan.of(prepared.document, base),
        Thresholds(prepared.thresholds),
        Stop(),
        page=report_page(folder),
    )
    try:
        conductor.begin()
    except RunRefusedError as error:
        if changed:
            raise
        raise PreconditionFailed(str(error)) from None
    return conductor


def run_test(
    stack: str, options: Options, results: Path, *, as_json: bool, verbose: bool = False
) -> int:
    """Run the load test; returns the exit code."""
    with display("run", stack, json=as_json, verbose=verbose) as shown:
        conductor, folder = begun(PulumiEngine(stack, log, watcher=shown), options, results, shown)
    if conductor is None:
        return EXIT_FAILED
    log(f"Run {folder.name} has begun.")
    terminal = False if as_json else None
    found = conduct(conductor, Console(file=sys.stderr, highlight=False, force_terminal=terminal))
    if as_json:
        print(found.model_dump_json())
    else:
        Console(highlight=False).print(live.summary(found))
        print(f"Results: {folder.path}")
    return found.exit_code or 0


def begun(
    engine: PulumiEngine, options: Options, results: Path, shown: Display
) -> tuple[Conductor | None, RunFolder]:
    """Begin the run in a new folder; no conductor: the services refuse it, as was logged."""
    try:
        settings = engine.settings(None, **overrides(options, engine.settings(), engine.name))
        folder = RunFolder.create(results, engine.name, time.time())
    except (OptionsError, StoreError) as error:
        raise PreconditionFailed(str(error)) from None
    conductor = None
    try:
        conductor = ready(engine, settings, folder, shown)
    except RunRefusedError as error:
        log(f"The run has not begun; the stack is up: {error}")
    finally:
        if conductor is None:
            folder.discard()
    return conductor, folder


@app.command()
def run(
    duration: Annotated[
        str, typer.Option("--duration", help="Duration of constant load, such as 10m.")
    ] = "",
    agents: Annotated[
        int, typer.Option("--agents", min=0, help="Active agents of constant load.")
    ] = 0,
    rate: Annotated[
        str, typer.Option("--rate", help="Sessions that start per second, of constant load.")
    ] = "",
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", help="A further threshold; may be repeated."),
    ] = None,
    seed: Annotated[str, typer.Option("--seed", help="Random seed of the run.")] = "",
    results: Results = None,
    stack: StackName = "dev",
    yes: Yes = False,
    verbose: Verbose = False,
    json: AsEvents = False,
) -> None:
    """Run the load test of the settings: brings the stack up if it is not, ends with a result.

    Exit codes: 0 passed, 5 a threshold is not met, 6 a threshold ended the run, 130 stopped by
    hand, 1 the run did not come to its end.
    """
    del yes  # `run` never asks: without the stack, it applies the stack config, as `up`.
    options = Options(duration, agents, rate, tuple(threshold or ()), seed)
    run_command(
        lambda: run_test(stack, options, results_folder(results), as_json=json, verbose=verbose),
        events=json,
    )
