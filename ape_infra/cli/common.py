"""Shared by the commands: options, messages, exit codes, the handling of errors."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import docker
import requests
import typer
from docker.errors import DockerException
from rich.console import Console

from ape_contracts.text import plain
from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.errors import EngineError, NoStackError, StackLockedError
from ape_infra.automation.lock import Lock, LockHeldError
from ape_infra.checks import preflight
from ape_infra.cli.commands import app as app
from ape_infra.config.errors import SettingsError
from ape_infra.config.project import STACK_NAME, ProjectError
from ape_infra.config.settings import Settings
from ape_infra.rollout.levels import start_steps
from ape_infra.rollout.readings import OverrideError

EXIT_OK, EXIT_FAILED, EXIT_PRECONDITION_FAILED, EXIT_NOT_HEALTHY, EXIT_ROLLED_BACK = 0, 1, 2, 3, 4
EXIT_INTERRUPTED = 130


def stack_name(name: str | None) -> str | None:
    """Return a name that Pulumi accepts; as a part of a path it leads nowhere else."""
    if name is not None and not re.fullmatch(STACK_NAME, name):
        raise typer.BadParameter(
            f"{name!r} is not the name of a stack. Use letters, digits, dots, hyphens and "
            "underscores, at most 100."
        )
    return name


StackName = Annotated[
    str, typer.Option("--stack", "-s", callback=stack_name, help="Name of the stack.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AsEvents = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON, and JSON lines of events on stderr."),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Pulumi's own output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


class PreconditionFailed(Exception):
    """Nothing was changed; the text states the obstacle and the remedy."""


class NotRunning(Exception):
    """The requested data is not available; the text states the reason and the remedy."""


class _Stderr:
    """`events`: whether everything on stderr is an event, as a JSON line."""

    events = False


def log(text: str) -> None:
    """Write a line to stderr, or a note among events."""
    if _Stderr.events:
        emit({"event": "note", "text": text})
    else:
        _write(text)


def emit(event: dict[str, Any]) -> None:
    """Write an event to stderr as a JSON line, with the time."""
    _write(json.dumps({"time": round(time.time(), 3), **event}, ensure_ascii=False, default=str))


def _write(text: str) -> None:
    """Write a line to stderr; without a terminal the work continues silently."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def show(value: Any, *, as_json: bool, text: Callable[[Console], None]) -> None:
    """Print the result on stdout: as JSON, or with `text` for people."""
    if as_json:
        print(json.dumps(value, default=str))
    else:
        text(Console(highlight=False, soft_wrap=True))


def _text(error: Exception) -> str:
    """The text of an error, which may quote an answer or a file."""
    return plain(error, lines=True)


def run_command(work: Callable[[], int], *, events: bool = False) -> NoReturn:
    """Run a command; turn each expected error into a sentence and an exit code.

    `events`: what it writes to stderr are events, as JSON lines.
    """
    _Stderr.events = events
    try:
        code = _exit_code(work)
    finally:
        _Stderr.events = False
    raise typer.Exit(code)


def _exit_code(work: Callable[[], int]) -> int:
    try:
        return work()
    except (
        SettingsError,
        preflight.PreflightError,
        PreconditionFailed,
        LockHeldError,
        OverrideError,
        ProjectError,
    ) as error:
        log(f"Precondition failed; nothing was changed:\n{_text(error)}")
        code = EXIT_PRECONDITION_FAILED
    except (NotRunning, NoStackError) as error:
        log(_text(error))
        code = EXIT_NOT_HEALTHY
    except StackLockedError as error:
        log(_text(error))
        code = EXIT_PRECONDITION_FAILED
    except EngineError as error:
        log(f"{_text(error)}\nThe next ape-load command continues from here.")
        code = EXIT_FAILED
    except (DockerException, requests.RequestException) as error:
        log(f"Docker failed: {_text(error)}")
        code = EXIT_FAILED
    except KeyboardInterrupt:
        log(
            "Stopped. The stack config has the last good level; the next ape-load command "
            "continues from there."
        )
        code = EXIT_INTERRUPTED
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def stack_lock(engine: PulumiEngine, *, restore: bool = True) -> Iterator[Lock]:
    """Hold the stack's lock; after an interrupted command, first apply the stack config.

    `restore` False: only recover the stack; the command itself applies what it should be.
    Signals that would end this process become KeyboardInterrupt, so that a rollout rolls back.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with Lock(engine.project.root / ".ape" / "locks", engine.name) as lock:
        if note := lock.interrupted:
            log(f"`{note.get('command', 'a command')}` was interrupted; recovering the stack")
            engine.recover()
            if restore:
                if engine.outputs():
                    log("applying the stack config")
                    engine.apply(None, "restore after an interruption")
                lock.end()
        try:
            yield lock
        except StackLockedError:
            # This command has changed nothing, and the other update is not to be recovered.
            lock.end()
            raise


def running_outputs(engine: PulumiEngine) -> dict[str, Any]:
    """The outputs of a stack that is up. Raises NotRunning."""
    outputs = engine.outputs()
    if "agents" not in outputs:
        raise NotRunning(
            f"Stack {engine.name} is not up. Start it with: ape-load up --stack {engine.name}"
        )
    return outputs


def intermediate_settings(settings: Settings, before: int, agents: int) -> list[dict[str, str]]:
    """Settings of the steps from `before` up to `agents`, with limits sized for the whole fleet.

    Docker starts containers one by one. Swarm starts all new replicas at the same time, so the
    number of replicas itself must grow in steps.
    """
    if settings.agents_per_update is None:
        return []
    size = str(settings.with_agents(agents).fleet.size)
    sizes = start_steps(before, agents, settings.agents_per_update)
    return [{"agents": str(n), "sizedFor": size} for n in sizes[:-1]]


def apply_in_steps(engine: PulumiEngine, settings: Settings, message: str) -> None:
    """Refresh the stack and apply its config, in as many steps as the runtime needs."""
    steps = intermediate_settings(
        settings, int(engine.outputs().get("agents", 0)), settings.fleet.agents
    )
    for number, values in enumerate(steps):
        log(f"{values['agents']} of {settings.fleet.agents} agents")
        with engine.trial(values) as trial:
            engine.apply(trial, f"{message}, first {values['agents']}", refresh=not number)
    engine.apply(None, message, refresh=not steps)


def check_before_update(
    engine: PulumiEngine, settings: Settings, on_warning: Callable[[str], None] = log
) -> docker.DockerClient:
    """Run the checks before an update; returns the client that they used. Raises PreflightError."""
    return preflight.check(
        settings,
        engine.project.name,
        engine.name,
        api_key=engine.model_key(settings),
        on_warning=on_warning,
    )


def client_of(engine: PulumiEngine) -> docker.DockerClient:
    """A client of the stack's Docker daemon. Raises PreflightError."""
    return preflight.connect(engine.settings())


def confirmed(question: str, yes: bool) -> None:
    """Ask for confirmation on a terminal. Raises PreconditionFailed without one."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise PreconditionFailed("There is no terminal to ask for confirmation. Add --yes.")
    if not typer.confirm(question, err=True):
        raise PreconditionFailed("Cancelled.")
