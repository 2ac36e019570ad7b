"""`ape-load` without a command: the state of a stack, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import typer
from rich.console import Console

from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.errors import NoStackError
from ape_infra.checks.host import Host
from ape_infra.cli.common import EXIT_OK, log, run_command
from ape_infra.cli.run import results_folder
from ape_infra.config.project import current
from ape_infra.runs import store
from ape_infra.runs.client import NO_ANSWER, active_run
from ape_infra.runs.snapshots import DRAINING, RUNNING, STOPPING, Status

STACK = "dev"
MORE = "All commands: ape-load --help"


@dataclass(frozen=True)
class Standing:
    """`agents`: of the stack as it is applied; 0: it is down. `run`: None: no gateway answers.

    `last`: name and state of the newest run that has ended.
    """

    project: str
    stack: str
    has_pulumi: bool = True
    is_clone: bool = True
    agents: int = 0
    run: Status | None = None
    last: tuple[str, str] | None = None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def described(found: Standing) -> tuple[str, Sequence[tuple[str, str]]]:
    """What the state is, and (command, purpose) of what comes next, the first one first."""
    doctor = ("ape-load doctor", "check this machine")
    if not found.has_pulumi:
        setup = (("make setup", "install what is missing"),) if found.is_clone else ()
        return "Nothing is set up: the command pulumi is not installed.", (*setup, doctor)
    stack = f"--stack {found.stack}"
    if not found.agents:
        return f"Stack {found.stack} of project {found.project} is down.", (
            ("ape-load up" if found.stack == STACK else f"ape-load up {stack}", "start it"),
            ("ape-load validate", "check settings, target and machine first"),
            doctor,
        )
    is_up = f"Stack {found.stack} of project {found.project} is up with {found.agents} agents"
    if found.run is None:
        return f"{is_up}, and its gateway does not answer.", (
            ("ape-load status", "show which service is not healthy"),
            ("ape-load logs --service gateway", "show the reason"),
            doctor,
        )
    return _with_run(is_up, found.run, found.last)


def _with_run(
    is_up: str, run: Status, last: tuple[str, str] | None
) -> tuple[str, Sequence[tuple[str, str]]]:
    watch = ("ape-load status --watch", "watch it")
    if run.state in (DRAINING, RUNNING, STOPPING):
        state = {
            DRAINING: "waits for the agents to be idle",
            RUNNING: f"has run for {_duration(run.elapsed)}",
            STOPPING: "ends: its last sessions are in flight",
        }[run.state]
        return (
            f"{is_up}. Run {run.id} {state}: {run.active} of {run.agents} agents are active, "
            f"{run.ended} sessions have ended."
        ), (watch, ("ape-load logs --follow", "show what the agents do"))
    commands = [("ape-load run", "run the load test of the settings")]
    ended = "."
    if last:
        ended = f". The last run, {last[0]}, is {last[1]}."
        commands.append(("ape-load results latest", "show its results"))
    return f"{is_up}, and no run is going on{ended}", (*commands, watch)


def _last_run() -> tuple[str, str] | None:
    runs, _ = store.load_all(results_folder(None))
    ended = [each for each in runs if not each.is_running]
    newest = max(ended, key=lambda each: each.summary.started, default=None)
    return (newest.summary.run, newest.summary.state) if newest else None


def has_pulumi(host: Host) -> bool:
    return host.find("pulumi") is not None


def standing(stack: str) -> Standing:
    """The state of the stack. Raises ProjectError, EngineError."""
    host, project = Host(), current().name
    if not has_pulumi(host):
        return Standing(project, stack, has_pulumi=False, is_clone=host.is_clone)
    try:
        outputs = PulumiEngine(stack, log, create=False).outputs()
    except NoStackError:
        return Standing(project, stack)
    gateway = (outputs.get("endpoints") or {}).get("gateway")
    try:
        run = active_run(gateway) if gateway else None
    except NO_ANSWER:
        run = None
    return Standing(project, stack, agents=int(outputs.get("agents", 0)), run=run, last=_last_run())


def show() -> None:
    """Print the state and the next commands."""

    def work() -> int:
        state, commands = described(standing(STACK))
        typer.echo(f"{state}\n")
        console = Console(highlight=False)
        width = max(len(command) for command, _ in commands)
        for number, (command, purpose) in enumerate(commands):
            style = "bold" if number == 0 else ""
            name = "Next" if number == 0 else "or"
            console.print(f"{name:<5} ", end="")
            console.print(f"{command:<{width}}", style=style, markup=False, end="")
            console.print(f"  # {purpose}", style="dim", markup=False)
        typer.echo(f"\n{MORE}")
        return EXIT_OK

    run_command(work)
