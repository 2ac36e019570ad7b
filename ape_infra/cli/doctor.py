"""`ape-load doctor`: what is on this machine, and what is missing."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ape_contracts import VERSION
from ape_contracts.text import plain
from ape_infra.automation import stack_file
from ape_infra.checks import docker_daemon, installation, registries
from ape_infra.checks.check import Check, failed
from ape_infra.checks.facts import Facts
from ape_infra.checks.host import Host
from ape_infra.checks.redaction import Private, redact, secrets_of
from ape_infra.cli.common import (
    EXIT_NOT_HEALTHY,
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    StackName,
    app,
    run_command,
    show,
)
from ape_infra.cli.plan import STYLES
from ape_infra.config.errors import SettingsError
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import ProjectError, current
from ape_infra.config.settings import Settings

INSTALLATION = (
    installation.python,
    installation.project,
    installation.pulumi,
    installation.login,
    installation.plugin,
)


def settings_of(stack: str) -> tuple[Settings, Check]:
    """The settings of the stack, and the check of them; where they are wrong, the defaults."""
    try:
        root = current().root
        given = stack_file.read(root, stack)
        found = parse_config(given)
    except (ProjectError, SettingsError) as error:
        first, *more = str(error).splitlines()
        others = f" {len(more)} more: ape-load config." if more else ""
        return Settings(), Check("settings", "fail", f"{first}{others}")
    file = stack_file.file_of(root, stack)
    source = str(file) if file.is_file() else f"{file} does not exist: the defaults"
    return found, Check("settings", "ok", f"{source}, {found.fleet.agents} agents.")


def checks(host: Host, stack: str) -> Iterator[Check]:
    """Every check, whatever is missing."""
    for check in INSTALLATION:
        yield from check(host)
    settings, found = settings_of(stack)
    yield found
    yield from docker_daemon.context(host, settings.platform.docker_host)
    facts = Facts(settings, "", stack)
    connected, found = docker_daemon.reached(facts, host)
    yield found
    if connected:
        yield from docker_daemon.cgroups(connected)
        yield from docker_daemon.capacity(connected)
    else:
        yield from docker_daemon.capacity_here(facts.plan, host.sources)
    yield from registries.reached(registries.needed(settings), clone=host.is_clone)


def lines(found: list[Check]) -> list[tuple[str, str]]:
    """(status, text) of each check."""
    return [(c.status, plain(f"{c.name:<9} {c.observed} {c.remedy}".rstrip())) for c in found]


def table(found: list[Check]) -> Table:
    """The checks for people: the remedy below what was observed."""
    made = Table.grid(padding=(0, 1))
    for check in found:
        text = Text(plain(check.observed))
        if check.remedy:
            text.append(f"\n> {plain(check.remedy)}", style="bold")
        made.add_row(Text(check.status.upper(), style=STYLES[check.status]), check.name, text)
    return made


def summary(found: list[Check]) -> str:
    warnings = sum(check.status == "warn" for check in found)
    failures = len(failed(found))
    if not failures and not warnings:
        return "Nothing is missing."
    return f"{failures} of {len(found)} checks failed, {warnings} warned."


def private_of(host: Host) -> Private:
    """The names and paths of this user and machine."""
    known = host.json(host.pulumi_home / "credentials.json").get("accounts")
    accounts = [a for a in (known or {}).values() if isinstance(a, dict)]
    names = [str(account.get("username") or "") for account in accounts]
    tokens = [str(account.get("accessToken") or "") for account in accounts]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    remote = urlsplit(host.env.get("DOCKER_HOST", "")).hostname or ""
    name = socket.gethostname()
    return Private(
        users=(user, *names),
        hosts=tuple({name, name.partition(".")[0], remote} - {"localhost", "127.0.0.1"}),
        paths={
            str(host.sources): "[project]",
            str(Path.cwd()): "[folder]",
            str(host.home): "~",
        },
        secrets=(*secrets_of(host.env), *tokens),
    )


def report(found: list[Check], private: Private) -> str:
    """The checks as Markdown for an issue."""
    head = f"ape-load {VERSION}, {platform.system()} {platform.release()}, {platform.machine()}"
    body = [f"{status.upper():<7} {text}" for status, text in lines(found)]
    text = redact("\n".join([f"{head}, {os.cpu_count()} cores", "", *body]), private)
    return f"```\n{text}\n```"


@app.command()
def doctor(
    as_report: Annotated[
        bool,
        typer.Option(
            "--report", help="Print a text for an issue, without secrets, names and home paths."
        ),
    ] = False,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Check this machine: Python, Pulumi, Docker, plugin, registries, disk and memory."""

    def work() -> int:
        if as_report and json:
            raise PreconditionFailed("--report and --json: add one of them.")
        host = Host()
        found = list(checks(host, stack))

        def text(to: Console) -> None:
            del to
            # One that wraps at words.
            console = Console(highlight=False)
            console.print(table(found))
            console.print(f"\n{summary(found)}")

        if as_report:
            typer.echo(report(found, private_of(host)))
        else:
            data = {"passed": not failed(found), "checks": [check.data() for check in found]}
            show(data, as_json=json, text=text)
        return EXIT_NOT_HEALTHY if failed(found) else EXIT_OK

    run_command(work)
