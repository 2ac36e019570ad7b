"""`python -m ape_infra up|down|status`: the engine, with a preflight and a measured summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import docker
import typer
from docker.errors import DockerException
from pulumi import automation as auto

from ape_infra import preflight
from ape_infra.settings import PROJECT, Settings, SettingsError, parse_config
from ape_infra.summary import containers, measure, wait_settled
from ape_infra.workload import LABEL_PROJECT, LABEL_STACK

ROOT = Path(__file__).resolve().parent.parent
# A first session takes its start-up delay (10 s at most), the services' and its own health.
SETTLE_SECONDS = 90.0
EXIT_REFUSED, EXIT_FAILED, EXIT_UNWELL = 2, 1, 3

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
StackName = Annotated[str, typer.Option("--stack", "-s", help="Name of the stack.")]
AsJson = Annotated[bool, typer.Option("--json", help="The summary as JSON.")]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def line(text: str) -> None:
    say(text.rstrip("\n"))


def open_stack(name: str) -> auto.Stack:
    return auto.create_or_select_stack(stack_name=name, work_dir=str(ROOT))


def read_settings(stack: auto.Stack) -> Settings:
    """The stack's settings, checked as the program checks them."""
    found = stack.get_all_config()
    return parse_config({key.partition(":")[2]: value.value for key, value in found.items()})


def guarded(work: Callable[[], int]) -> None:
    """Run a command; turn what can go wrong into a sentence and an exit code."""
    try:
        code = work()
    except (SettingsError, preflight.PreflightError) as error:
        say(f"Refused, nothing was changed:\n{error}")
        code = EXIT_REFUSED
    except auto.ConcurrentUpdateError:
        say("Another update of this stack is running. Wait for it; after a crash: pulumi cancel")
        code = EXIT_FAILED
    except auto.CommandError as error:
        say(
            f"Pulumi failed, and says above why; `make up` again goes on from here.\n{_tail(error)}"
        )
        code = EXIT_FAILED
    except DockerException as error:
        say(f"Docker failed: {error}")
        code = EXIT_FAILED
    except KeyboardInterrupt:
        say("Stopped. The stack is at what was done so far; `make up` goes on from there.")
        code = 130
    raise typer.Exit(code)


def _tail(error: auto.CommandError) -> str:
    return "\n".join(x for x in str(error).splitlines() if "error" in x.lower())[-2000:]


@app.command()
def up(stack: StackName = "dev", json: AsJson = False) -> None:
    """Show the preview, apply it, and measure what runs."""

    def work() -> int:
        opened = open_stack(stack)
        settings = read_settings(opened)
        client = preflight.check(settings, PROJECT, stack, tell=say)
        started = time.monotonic()
        preview = opened.preview(refresh=True, on_output=line, color="auto")
        changes = {str(k): v for k, v in preview.change_summary.items()}
        changing = {k: v for k, v in changes.items() if k not in ("same", "OpType.SAME")}
        if changing:
            opened.up(refresh=True, on_output=line, color="auto")
        say(
            f"Applied in {time.monotonic() - started:.0f} s."
            if changing
            else f"Nothing to change ({time.monotonic() - started:.0f} s)."
        )
        outputs = {k: v.value for k, v in opened.outputs().items()}
        summary = wait_settled(
            lambda: measure(client, PROJECT, stack, outputs),
            seconds=SETTLE_SECONDS,
            tell=lambda s: say(f"waiting: {s.healthy} of {s.declared} agents healthy"),
        )
        print(summary.json() if json else "\n".join(summary.lines()))
        return 0 if summary.well else EXIT_UNWELL

    guarded(work)


@app.command()
def status(stack: StackName = "dev", json: AsJson = False) -> None:
    """Measure what runs."""

    def work() -> int:
        opened = open_stack(stack)
        client = preflight.connect(read_settings(opened))
        outputs = {k: v.value for k, v in opened.outputs().items()}
        if "agents" not in outputs:
            say(f"Stack {stack} is not up. Start it with: make up STACK={stack}")
            return EXIT_UNWELL
        summary = measure(client, PROJECT, stack, outputs)
        print(summary.json() if json else "\n".join(summary.lines()))
        return 0 if summary.well else EXIT_UNWELL

    guarded(work)


@app.command()
def down(stack: StackName = "dev") -> None:
    """Take the stack away, with what a crash may have left, its images and its state."""

    def work() -> int:
        opened = open_stack(stack)
        settings = read_settings(opened)
        client = preflight.connect(settings)
        if settings.production:
            opened.workspace.pulumi_command.run(
                ["state", "unprotect", "--all", "--yes", "--stack", stack],
                str(ROOT),
                opened.workspace.env_vars,
            )
        opened.destroy(refresh=True, on_output=line, color="auto")
        sweep(client, stack)
        opened.workspace.remove_stack(stack, preserve_config=True)
        say(f"Stack {stack} is gone.")
        return 0

    guarded(work)


def sweep(client: docker.DockerClient, stack: str) -> None:
    """Remove what carries the stack's labels and is in no state any more, and unused images."""
    for container in containers(client, PROJECT, stack):
        say(f"removing the left-over container {container['Names'][0].lstrip('/')}")
        client.api.remove_container(container["Id"], force=True, v=True)
    filters = {"label": [f"{LABEL_PROJECT}={PROJECT}", f"{LABEL_STACK}={stack}"]}
    for network in client.api.networks(filters=filters):
        client.api.remove_network(network["Id"])
    for volume in client.api.volumes(filters=filters)["Volumes"] or []:
        client.api.remove_volume(volume["Name"])
    used = {c["ImageID"] for c in client.api.containers(all=True)}
    for image in client.api.images(filters={"label": "ape.image"}):
        if image["Id"] not in used:
            client.api.remove_image(image["Id"], force=True)


if __name__ == "__main__":
    app()
