"""`ape-load logs`: one stream over all containers of the stack."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks.preflight import connect
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    NotRunning,
    PreconditionFailed,
    StackName,
    app,
    log,
    run_command,
    running_outputs,
)
from ape_infra.cli.logs import from_docker
from ape_infra.cli.logs.from_store import log_query, of_entry, of_session
from ape_infra.cli.logs.lines import Filter, Line, last, printer
from ape_infra.cli.logs.names import ALIASES, chosen, container_pattern
from ape_infra.config.project import config_key, current
from ape_infra.config.settings import Settings
from ape_infra.reporting.log_stores import CLIENTS, LogStoreError
from ape_infra.reporting.summary import containers

# With a filter all lines are searched, and `tail` counts those that pass.
ALL_LINES = 1_000_000


@dataclass(frozen=True)
class Request:
    """The options of one command."""

    stack: str
    service: str | None
    agent: int | None
    tail: int
    grep: str | None
    session: str | None
    json: bool

    def filter(self) -> Filter:
        """Raises PreconditionFailed where `grep` is not a regular expression."""
        try:
            return Filter(self.grep, self.session)
        except re.error as error:
            raise PreconditionFailed(
                f"--grep {self.grep}: is not a regular expression ({error})."
            ) from None

    def print(self, found: list[Line]) -> int:
        put = printer(max((len(line.name) for line in found), default=0), self.json)
        for line in found:
            put(line)
        return EXIT_OK


def _from_store(request: Request, engine: PulumiEngine, settings: Settings) -> int:
    name = settings.observability.log_store
    base = (running_outputs(engine).get("endpoints") or {}).get(name)
    if not base:
        raise PreconditionFailed(
            f"--stored: the stack publishes no {CLIENTS[name].name}. Set "
            f"{config_key('observability')} to full, and run: ape-load up"
        )
    passing, store, end = request.filter(), CLIENTS[name](base), time.time()
    days = settings.observability.logs_retention_days
    start = end - 86400 * min(days, store.max_days or days)
    service = ALIASES.get(request.service, request.service) if request.service else None
    container = (
        None
        if request.agent is None
        else container_pattern(request.agent, settings.plan(request.stack))
    )

    def ask(ids: frozenset[str]) -> list[Line]:
        query = log_query(request.stack, service, container, ids, None if ids else request.grep)
        return [of_entry(entry, request.stack) for entry in store.newest(query, start, end)]

    try:
        found = [line for line in of_session(ask, passing) if passing.passes(line)]
    except LogStoreError as error:
        raise NotRunning(f"{store.name} query failed: {error}") from None
    return request.print(last(found, request.tail))


def _from_docker(request: Request, settings: Settings, *, follow: bool) -> int:
    passing = request.filter()
    client, swarm = connect(settings), settings.platform.runtime == "swarm"
    listed = (
        from_docker.tasks(client, request.stack)
        if swarm
        else containers(client, current().name, request.stack)
    )
    plan = settings.plan(request.stack)
    names = chosen(listed, request.stack, plan, request.service, request.agent)
    if follow:
        put = printer(max(map(len, names.values())), request.json)
        try:
            for line in from_docker.follow(client, names, request.tail, swarm=swarm):
                if passing.passes(line):
                    put(line)
        except KeyboardInterrupt:
            pass
        return EXIT_OK
    searched = request.grep is not None or request.session is not None
    tail = ALL_LINES if searched else request.tail
    found = from_docker.written(client, names, tail, swarm=swarm)
    if searched:
        for line in found:
            passing.learn(line)
        found = last([line for line in found if passing.passes(line)], request.tail)
    return request.print(found)


@app.command()
def logs(
    service: Annotated[
        str | None,
        typer.Option("--service", help="Show one service: agents, gateway, proxy, target, ..."),
    ] = None,
    agent: Annotated[
        int | None, typer.Option("--agent", min=1, help="Show the agent with this number.")
    ] = None,
    tail: Annotated[
        int, typer.Option("--tail", min=0, help="Show at most this many lines per container.")
    ] = 20,
    following: Annotated[
        bool, typer.Option("-f", "--follow", help="Show new lines as they arrive.")
    ] = False,
    grep: Annotated[
        str | None, typer.Option("--grep", help="Show lines that match this regular expression.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="Show all lines of the session with this id.")
    ] = None,
    stored: Annotated[
        bool,
        typer.Option(
            "--stored",
            "--loki",
            help="Query the log store (Loki or VictoriaLogs), which also has removed containers.",
        ),
    ] = False,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Show the logs of all containers as one stream, in order of time."""
    request = Request(stack, service, agent, tail, grep, session, json)

    def work() -> int:
        request.filter()
        if stored and following:
            raise PreconditionFailed("--stored has past lines only. Leave out -f or --stored.")
        engine = PulumiEngine(stack, log, create=False)
        settings = engine.settings()
        if stored:
            return _from_store(request, engine, settings)
        return _from_docker(request, settings, follow=following)

    run_command(work)
