"""What the commands share: options, words, exit codes, and the guard around each."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import docker
import requests
import typer
from docker.errors import DockerException
from rich.console import Console

from ape_infra.automation.engine import LOCKS, NoStackError, PulumiEngine
from ape_infra.automation.lock import Lock, LockHeldError
from ape_infra.checks import preflight
from ape_infra.config.errors import SettingsError
from ape_infra.config.settings import Settings
from ape_infra.rollout.controller import EngineError, StackLockedError
from ape_infra.rollout.levels import start_steps
from ape_infra.rollout.readings import OverrideError

EXIT_OK, EXIT_FAILED, EXIT_PRECONDITION_FAILED, EXIT_NOT_HEALTHY, EXIT_ROLLED_BACK = 0, 1, 2, 3, 4
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="ape-load",
    help="Load tests by AI agents: scale the fleet in validated steps, and see what it does.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
StackName = Annotated[str, typer.Option("--stack", "-s", help="Name of the stack.")]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON, on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class PreconditionFailed(Exception):
    """Nothing was changed; says what stands in the way and what to do."""


class NotRunning(Exception):
    """There is nothing to look at; says why."""


def log(text: str) -> None:
    """A line on stderr; where the terminal is gone, the work goes on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def show(value: Any, *, as_json: bool, text: Callable[[Console], None]) -> None:
    """The result on stdout: JSON for programs, `text` for people."""
    if as_json:
        print(json.dumps(value, default=str))
    else:
        text(Console(highlight=False, soft_wrap=True))


def run_command(work: Callable[[], int]) -> NoReturn:
    """Run a command; turn what can go wrong into a sentence and an exit code."""
    try:
        code = work()
    except (
        SettingsError,
        preflight.PreflightError,
        PreconditionFailed,
        LockHeldError,
        OverrideError,
    ) as error:
        log(f"Refused, nothing was changed:\n{error}")
        code = EXIT_PRECONDITION_FAILED
    except (NotRunning, NoStackError) as error:
        log(str(error))
        code = EXIT_NOT_HEALTHY
    except StackLockedError as error:
        log(str(error))
        code = EXIT_PRECONDITION_FAILED
    except EngineError as error:
        log(f"{error}\nThe next ape-load command goes on from here.")
        code = EXIT_FAILED
    except (DockerException, requests.RequestException) as error:
        log(f"Docker failed: {error}")
        code = EXIT_FAILED
    except KeyboardInterrupt:
        log("Stopped. The config says the last good level; the next command goes on from there.")
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def stack_lock(engine: PulumiEngine, *, back: bool = True) -> Iterator[Lock]:
    """Hold the stack's lock; first bring a stack that was left in the middle to its config.

    `back` False: only clear what was left; the command itself brings the stack where it belongs.
    Signals that would end us become KeyboardInterrupt, so that the way back is taken.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with Lock(LOCKS, engine.name) as lock:
        if note := lock.interrupted:
            log(f"`{note.get('command', 'a command')}` was cut off; clearing what it left")
            engine.recover()
            if back:
                if engine.outputs():
                    log("returning to what the config says")
                    engine.apply(None, "return after an interruption")
                lock.end()
        try:
            yield lock
        except StackLockedError:
            # Nothing of ours is half done, and what runs is not ours to clear.
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
    """Settings of the fleets on the way up to `agents`, each agent as one of so many already.

    Plain Docker starts containers one by one; Swarm all new replicas at the same time, so the
    replicas themselves must come in steps.
    """
    if settings.agents_per_update is None:
        return []
    size = str(settings.with_agents(agents).fleet.size)
    sizes = start_steps(before, agents, settings.agents_per_update)
    return [{"agents": str(n), "sizedFor": size} for n in sizes[:-1]]


def apply_in_steps(engine: PulumiEngine, settings: Settings, message: str) -> None:
    """Refresh the stack and bring it to its config, however many agents that starts."""
    way = intermediate_settings(
        settings, int(engine.outputs().get("agents", 0)), settings.fleet.agents
    )
    for number, values in enumerate(way):
        log(f"{values['agents']} of {settings.fleet.agents} agents")
        with engine.trial(values) as trial:
            engine.apply(trial, f"{message}, first {values['agents']}", refresh=not number)
    engine.apply(None, message, refresh=not way)


def client_of(engine: PulumiEngine) -> docker.DockerClient:
    return preflight.connect(engine.settings())


def confirmed(question: str, yes: bool) -> None:
    """Ask on a terminal. Raises PreconditionFailed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise PreconditionFailed("This is no terminal to ask on. Give --yes.")
    if not typer.confirm(question, err=True):
        raise PreconditionFailed("You said no.")
