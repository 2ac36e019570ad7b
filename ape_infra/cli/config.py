"""`ape-load config`: list, get, set and unset the settings of a stack."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ape_contracts.text import plain
from ape_infra.automation import edit_config, stack_file
from ape_infra.automation.engine import PulumiEngine
from ape_infra.cli.commands import COMMANDS
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    StackName,
    app,
    log,
    run_command,
    show,
)
from ape_infra.config.errors import SettingsError
from ape_infra.config.listing import UNKNOWN_GROUP, Listed, check_form, listed, own_key, root_of
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import current
from ape_infra.config.secrets import SECRETS

# A longer value is cut in the list; `get` prints it whole.
LONGEST = 60

settings_app = typer.Typer(help=COMMANDS["config"].summary, invoke_without_command=True)
app.add_typer(settings_app, name="config")
Key = Annotated[str, typer.Argument(metavar="KEY", help="The setting, such as agents.")]


def read(stack: str) -> list[Listed]:
    """The settings of the stack, from its files. Raises ProjectError."""
    root = current().root
    return listed(stack_file.read(root, stack), stack_file.of_project(root))


def problems(found: list[Listed]) -> tuple[str, ...]:
    """The rules that the settings break."""
    try:
        parse_config({item.key: item.value for item in found if item.is_changed})
    except SettingsError as error:
        return error.lines
    return ()


def _short(text: str) -> str:
    text = plain(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def table(found: list[Listed]) -> Table:
    """The settings for people, in their groups."""
    made = Table(box=None, pad_edge=False, show_header=True)
    for name in ("setting", "value", "from", "default"):
        made.add_column(name, overflow="fold")
    for group, items in groupby(found, key=lambda item: item.group):
        made.add_row(f"[bold]{group}[/bold]")
        for item in items:
            style = None if item.is_changed else "dim"
            default = _short(item.default) or "-"
            made.add_row(
                f"  {_escaped(item.key)}",
                _escaped(_short(item.value) or "-"),
                item.source,
                _escaped(default) if item.is_changed and item.group != UNKNOWN_GROUP else "",
                style=style,
            )
    return made


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@settings_app.callback()
def config(
    context: typer.Context,
    changed: Annotated[
        bool, typer.Option("--changed", help="List those only that are not at their default.")
    ] = False,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """List the settings of a stack, and change them."""
    if context.invoked_subcommand is not None:
        return

    def work() -> int:
        found = read(stack)
        broken = problems(found)
        shown = [item for item in found if item.is_changed or not changed]

        def text(to: Console) -> None:
            Console(highlight=False).print(table(shown))
            if not shown:
                to.print("Every setting has its default.")
            for line in broken:
                to.print(f"Not valid: {plain(line)}", style="red", markup=False)

        data = {"settings": [item.data() for item in shown], "problems": list(broken)}
        show(data, as_json=json, text=text)
        return EXIT_OK

    run_command(work)


@settings_app.command()
def get(key: Key, stack: StackName = "dev", json: AsJson = False) -> None:
    """Print the value of a setting; `[secret]` stands for that of a secret."""

    def work() -> int:
        root = root_of(own_key(key))
        if root != own_key(key):
            raise PreconditionFailed(
                f"{key}: leads into a setting. Get it whole: ape-load config get {root}"
            )
        found = next(item for item in read(stack) if item.key == root)
        show(
            found.data(),
            as_json=json,
            text=lambda to: to.print(found.value, markup=False),
        )
        return EXIT_OK

    run_command(work)


def open_engine(stack: str) -> PulumiEngine:
    """The stack, which is created where it has a stack config. Raises NoStackError."""
    return PulumiEngine(
        stack, log, create=stack_file.file_of(current().root, stack).exists(), verbose=False
    )


def given_secret(key: str) -> str:
    """The value from stdin, or from a prompt without echo. Raises PreconditionFailed."""
    if sys.stdin.isatty():
        value = str(typer.prompt(f"Value of {key}", hide_input=True, default="", err=True))
    else:
        value = sys.stdin.read().rstrip("\n")
    if not value:
        raise PreconditionFailed(
            f"{key}: the value is empty. To remove it: ape-load config unset {key}"
        )
    return value


def check_part(name: str, root: str, stack: str) -> None:
    """Raise PreconditionFailed where `name` is a part of a list that is stored as one text."""
    if name != root and stack_file.is_one_text(current().root, stack, root):
        raise PreconditionFailed(
            f"{name}: the stack config has {root} as one text. Set it whole: "
            f"ape-load config set {root} '{_value(root, stack)}'"
        )


def _written(key: str, before: str, after: str, stack: str) -> int:
    file = stack_file.file_of(current().root, stack).name
    typer.echo(f"{key}: {_short(before) or '-'} -> {_short(after) or '-'} in {file}.")
    typer.echo(f"Apply it: ape-load up --stack {stack}")
    return EXIT_OK


def _value(key: str, stack: str) -> str:
    return next((item.value for item in read(stack) if item.key == key), "")


@settings_app.command("set")
def set_(
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="VALUE", help="The value; a list is JSON. Not for a secret: stdin or a prompt."
        ),
    ] = None,
    stack: StackName = "dev",
) -> None:
    """Check a value with all other settings, and write it into the stack config.

    A secret is read from stdin, or asked for, and encrypted.
    """

    def work() -> int:
        name = own_key(key)
        root = root_of(name)
        if root in SECRETS:
            return set_secret(name, value, stack)
        if value is None:
            raise PreconditionFailed(f"{name}: the value is missing. Add it after the setting.")
        check_form(name, value)
        check_part(name, root, stack)
        before = _value(root, stack)
        edit_config.change(open_engine(stack), {name: value})
        return _written(root, before, _value(root, stack), stack)

    run_command(work)


def set_secret(name: str, value: str | None, stack: str) -> int:
    if value is not None:
        raise PreconditionFailed(
            f"{name}: is a secret, which an argument would leave in the shell's history. "
            f"Leave the value out, or pipe it in: ape-load config set {name} <FILE"
        )
    if name not in SECRETS:
        raise PreconditionFailed(f"{name}: a secret has no parts. Set it whole.")
    before = _value(name, stack)
    edit_config.change_secret(open_engine(stack), name, given_secret(name))
    return _written(name, before, _value(name, stack), stack)


@settings_app.command()
def unset(key: Key, stack: StackName = "dev") -> None:
    """Remove a setting from the stack config, so that its default counts."""

    def work() -> int:
        name = own_key(key)
        root = root_of(name)
        if root not in stack_file.read(current().root, stack):
            typer.echo(f"{root}: is not in the stack config. Nothing was changed.")
            return EXIT_OK
        check_part(name, root, stack)
        before = _value(root, stack)
        edit_config.change(open_engine(stack), {name: None})
        return _written(root, before, _value(root, stack), stack)

    run_command(work)
