"""The commands of `ape-load`: a table, so that help and completion import none of them."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from ape_contracts import VERSION


class Entry(NamedTuple):
    """`module`: in `ape_infra.cli`. `summary`: the first paragraph of the command's docstring.

    `exits`: its exit codes, besides 0, 1, 2 and 130, which every command has.
    """

    module: str
    summary: str
    exits: tuple[int, ...] = ()


COMMANDS = {
    "up": Entry("up", "Apply the stack config: preview, apply, measure what runs.", (3,)),
    "run": Entry(
        "run",
        "Run the load test of the settings: brings the stack up if it is not, ends with a result.",
        (3, 5, 6),
    ),
    "results": Entry("results", "List the runs, or show the results of one."),
    "compare": Entry(
        "compare",
        "Compare two runs: the changes, their 95 % intervals, and which are more than noise.",
        (5,),
    ),
    "report": Entry(
        "report",
        "Write the run report: one HTML page with results and the dashboards' main panels.",
        (3,),
    ),
    "status": Entry(
        "status",
        "Show agents, health, drift, rates, resources and alerts; exit with 3 if not healthy.",
        (3,),
    ),
    "logs": Entry("logs", "Show the logs of all containers as one stream, in order of time.", (3,)),
    "plan": Entry(
        "plan",
        "Show what a fleet needs, what the machine has, and the levels of a scale to it.",
    ),
    "scale": Entry(
        "scale",
        "Scale the fleet in levels; roll back to the last good level when a check fails.",
        (3, 4),
    ),
    "rollout": Entry(
        "rollout",
        "Bring new settings or images to the fleet in waves; roll back when a check fails.",
        (3, 4),
    ),
    "down": Entry(
        "down", "Remove the stack with its orphans, its data, its images and its state.", (3,)
    ),
    "config": Entry("config", "List the settings of a stack, and change them."),
    "validate": Entry(
        "validate",
        "Check settings, gateway config, target, API key and machine; exit code 1 if one fails.",
    ),
    "doctor": Entry(
        "doctor",
        "Check this machine: Python, Pulumi, Docker, plugin, registries, disk and memory.",
        (3,),
    ),
    "init": Entry(
        "init", "Create a project of your own: settings, scenario, gateway config and program."
    ),
    "import": Entry(
        "import_recording",
        "Convert recordings (Postman, HAR, curl), and a gateway config of the original project.",
    ),
    "backup": Entry(
        "backup",
        "Write config, state, the files they name, and Prometheus' data into one file (mode 600).",
        (3,),
    ),
    "restore": Entry(
        "restore",
        "Restore a stack from a backup, on this machine or an empty one, with the same passphrase.",
    ),
    "monitor": Entry(
        "monitor", "Watch containers and host; takes the arguments of `python -m monitoring`."
    ),
}
# Command -> one that a user could type.
EXAMPLES = {
    "": "ape-load up",
    "up": "ape-load up --stack prod",
    "run": "ape-load run --duration 10m --agents 20 --threshold 'session_success >= 0.95'",
    "results": "ape-load results latest --open",
    "compare": "ape-load compare RUN latest",
    "report": "ape-load report --stack dev",
    "status": "ape-load status --watch",
    "logs": "ape-load logs --service gateway --follow",
    "plan": "ape-load plan --agents 200",
    "scale": "ape-load scale --agents 50",
    "rollout": "ape-load rollout --set sessionMaxSteps=20",
    "down": "ape-load down --stack dev",
    "config": "ape-load config --changed",
    "config get": "ape-load config get agents",
    "config set": "ape-load config set agents 20",
    "config unset": "ape-load config unset agents",
    "validate": "ape-load validate --stack prod",
    "doctor": "ape-load doctor --report",
    "init": "ape-load init shop-test --target https://shop.example --openapi openapi.yaml",
    "import": "ape-load import files recording.har",
    "import files": "ape-load import files recording.har",
    "import gateway": "ape-load import gateway mcp_gateway.json",
    "backup": "ape-load backup --stack prod",
    "restore": "ape-load restore backup-dev-20261127T120000Z.tar.gz",
}


def _with_examples(command: Any, name: str) -> None:
    """Give the command and those below it the example that ends their help."""
    if example := EXAMPLES.get(name):
        command.epilog = f"Example: {example}"
    for child, each in getattr(command, "commands", {}).items():
        _with_examples(each, f"{name} {child}".lstrip())


class LazyGroup(TyperGroup):
    """Imports a command when it is run, or when its own options are asked for."""

    def load(self, name: str) -> None:
        """Import the command of the table, and add what its module registers."""
        if name in COMMANDS:
            importlib.import_module(f"ape_infra.cli.{COMMANDS[name].module}")
            self.commands.update(typer.main.get_group(app).commands)
            _with_examples(self, "")

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *(name for name in self.commands if name not in COMMANDS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; one that is not imported yet has its name and summary only."""
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in COMMANDS:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].summary)
        return found

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.load(args[0])
        if args[0] not in self.commands:
            # Typer suggests names of these only.
            self.commands.update({name: self.get_command(ctx, name) for name in COMMANDS})
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="ape-load",
    cls=LazyGroup,
    help="Load tests by AI agents: scale the fleet in checked levels, and measure it. Without a "
    "command, show the state of the stack dev, and the next command.",
    epilog=f"Example: {EXAMPLES['']}",
    pretty_exceptions_enable=False,
)


def whole() -> Any:
    """The group with every command imported, for the reference page."""
    for entry in COMMANDS.values():
        importlib.import_module(f"ape_infra.cli.{entry.module}")
    group = typer.main.get_group(app)
    _with_examples(group, "")
    return group


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ape-load {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Without a command, show the state of the stack dev, and the next command."""
    del version
    if context.invoked_subcommand is None:
        importlib.import_module("ape_infra.cli.standing").show()
