"""`ape-load logs`: one stream over all containers of the stack."""

from __future__ import annotations

import json as jsonlib
import queue
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import docker
import typer
from docker.errors import DockerException
from rich.console import Console
from rich.text import Text

from ape_contracts import labels
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
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.observability import alloy
from ape_infra.planning.plan import CONTAINERS_PER_NETWORK, Plan
from ape_infra.program.components.agents import SERVICE as AGENT
from ape_infra.reporting.loki import Entry, Loki, LokiError
from ape_infra.reporting.summary import containers

# The seed's names of the services, and what people type.
ALIASES = {
    "llama_agent": AGENT,
    "agents": AGENT,
    "mcp_gateway": "gateway",
    "cerebras_proxy": "proxy",
    "demo": "target",
    "shop": "target",
}
# Loki answers no question about more.
MAX_DAYS = 30
COLORS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
_PLAIN = ("ts", "level", "service", "msg")


@dataclass(frozen=True)
class Line:
    """`ts`: when it was written, as RFC 3339 in UTC, which sorts; `said`: the JSON object, if any.

    The time is the writer's own; where it gives none, Docker's, which is when the line arrived.
    """

    ts: str
    name: str
    text: str
    said: Mapping[str, Any] | None

    @classmethod
    def of(cls, name: str, raw: bytes) -> Line:
        ts, _, text = raw.decode(errors="replace").rstrip("\r\n").partition(" ")
        said = None
        if text.startswith("{"):
            try:
                said = jsonlib.loads(text)
            except ValueError:
                said = None
        own = str((said or {}).get("ts", ""))
        return cls(own if _TIME.fullmatch(own) else ts, name, text, said)

    @property
    def pretty(self) -> str:
        if self.said is None:
            return self.text
        more = " ".join(f"{k}={v}" for k, v in self.said.items() if k not in _PLAIN)
        level = str(self.said.get("level", "")).upper()
        return f"{level:<7} {self.said.get('msg', '')} {more}".rstrip()


class Filter:
    """What passes: a pattern, and the lines of one session wherever they are.

    A session's lines carry its id or its trace id; the trace id is learnt on the way.
    """

    def __init__(self, grep: str | None, session: str | None) -> None:
        self._grep = re.compile(grep) if grep else None
        self._ids = {session} if session else set()

    @property
    def ids(self) -> frozenset[str]:
        """The session's id, and the traces that are known to be of it."""
        return frozenset(self._ids)

    def learn(self, line: Line) -> None:
        said = line.said
        if said and said.get("session") in self._ids:
            if trace := said.get("trace_id"):
                self._ids.add(str(trace))

    def passes(self, line: Line) -> bool:
        self.learn(line)
        if self._ids and not any(i in line.text for i in self._ids):
            return False
        return self._grep is None or bool(self._grep.search(line.text))


def place(agent: int, plan: Plan) -> re.Pattern[str]:
    """Finds the name of the container that holds the agent, on either runtime.

    ape-dev-agent-0017, or a Swarm's ape-dev-agents-00.17.ID; the last container of a dense fleet
    may be ape-dev-agents-00-rest.1.ID.
    """
    each = plan.agents_per_container
    number = (agent - 1) // each
    shard, task = divmod(number, CONTAINERS_PER_NETWORK)
    of_shard = f"-agents-{shard:02d}"
    rest = plan.agents % each and number == plan.agents // each
    on_swarm = rf"{of_shard}-rest\.1\." if rest else rf"{of_shard}\.{task + 1}\."
    return re.compile(rf"-agent-{number * each + 1:04d}$|{on_swarm}")


def short(name: str, stack: str) -> str:
    """The name without project and stack, and without a Swarm task's id."""
    plain = name.lstrip("/").removeprefix(f"{current().name}-{stack}-")
    return re.sub(r"\.[0-9a-z]{25}$", "", plain)


def chosen(
    found: list[dict[str, Any]], stack: str, plan: Plan, service: str | None, agent: int | None
) -> dict[str, str]:
    """Id -> short name of the requested containers. Raises PreconditionFailed, NotRunning."""
    there = [c for c in found if c["State"] != "created"]
    services = {c["Labels"][labels.SERVICE] for c in there}
    if not there:
        raise NotRunning(
            f"Stack {stack} has no container. Start it with: ape-load up --stack {stack}"
        )
    if agent is not None:
        name = place(agent, plan)
        there = [c for c in there if name.search(c["Names"][0])]
        if not there:
            raise PreconditionFailed(
                f"--agent {agent}: no such agent on this machine. See `ape-load status`."
            )
    elif service is not None:
        wanted = ALIASES.get(service, service)
        if wanted not in services:
            names = ", ".join(sorted(services))
            raise PreconditionFailed(
                f"--service {service}: there is none here. There are: {names}."
            )
        there = [c for c in there if c["Labels"][labels.SERVICE] == wanted]
    return {c["Id"]: short(c["Names"][0], stack) for c in there}


def tasks(client: docker.DockerClient, stack: str) -> list[dict[str, Any]]:
    """The tasks of a Swarm's services on all nodes, in the shape of a list of containers."""
    filters = labels.stack_filter(current().name, stack)
    found = []
    for service in client.api.services(filters=filters):  # type: ignore[no-untyped-call]
        spec = service["Spec"]
        of_it = {"service": service["ID"]}
        for task in client.api.tasks(filters=of_it):  # type: ignore[no-untyped-call]
            if task["Status"].get("ContainerStatus"):
                name = f"{spec['Name']}.{task.get('Slot', 0)}.{task['ID']}"
                state = task["Status"]["State"]
                found.append(
                    {"Id": task["ID"], "Names": [name], "State": state, "Labels": spec["Labels"]}
                )
    return found


def raw(
    client: docker.DockerClient, identity: str, tail: int, *, swarm: bool, follow: bool
) -> Iterator[bytes]:
    """Pieces of one log, each line with its time. docker-py knows no logs of a task."""
    api: Any = client.api
    if not swarm:
        got = api.logs(identity, stream=True, follow=follow, timestamps=True, tail=tail)
        yield from got
        return
    params = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow), "tail": tail}
    answer = api._get(
        api._url("/tasks/{0}/logs", identity), params=params, stream=True, timeout=None
    )
    yield from api._get_result_tty(True, answer, False)


def lines(
    client: docker.DockerClient, names: Mapping[str, str], tail: int, *, swarm: bool
) -> list[Line]:
    """What there is, in the order of time: `tail` lines of each container."""
    found = []
    for identity, name in names.items():
        text = b"".join(raw(client, identity, tail, swarm=swarm, follow=False))
        found += [Line.of(name, line) for line in text.splitlines() if line]
    return sorted(found, key=lambda line: line.ts)


def follow(
    client: docker.DockerClient, names: Mapping[str, str], tail: int, *, swarm: bool
) -> Iterator[Line]:
    """Lines as they come, until every container has ended."""
    arrived: queue.Queue[Line | None] = queue.Queue(maxsize=10_000)

    def read(identity: str, name: str) -> None:
        try:
            rest = b""
            for chunk in raw(client, identity, tail, swarm=swarm, follow=True):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    arrived.put(Line.of(name, line))
        except (DockerException, OSError):
            pass
        arrived.put(None)

    for identity, name in names.items():
        threading.Thread(target=read, args=(identity, name), daemon=True).start()
    left = len(names)
    while left:
        try:
            line = arrived.get(timeout=0.5)
        except queue.Empty:
            continue
        if line is None:
            left -= 1
        else:
            yield line


def question(
    stack: str,
    service: str | None = None,
    container: re.Pattern[str] | None = None,
    ids: frozenset[str] = frozenset(),
    grep: str | None = None,
) -> str:
    """LogQL of the lines that are asked for; `ids` are of sessions and traces."""
    selector = {"project": current().name, "stack": stack} | (
        {"service": service} if service else {}
    )
    parts = ["{" + ", ".join(f"{k}={jsonlib.dumps(v)}" for k, v in selector.items()) + "}"]
    if grep:
        parts.append(f"|~ {jsonlib.dumps(grep)}")
    if container:
        # LogQL's patterns are of the whole value.
        whole = jsonlib.dumps(f".*(?:{container.pattern}).*")
        parts.append(f"| {alloy.CONTAINER}=~{whole}")
    if ids:
        any_of = jsonlib.dumps("|".join(map(re.escape, sorted(ids))))
        parts.append(f"| session_id=~{any_of} or trace_id=~{any_of}")
    return " ".join(parts)


def of_entry(entry: Entry, stack: str) -> Line:
    stamp = datetime.fromtimestamp(entry.at / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    name = entry.labels.get(alloy.CONTAINER) or entry.labels.get("service", "")
    return Line.of(short(name, stack), f"{stamp} {entry.line}".encode())


def recalled(ask: Callable[[frozenset[str]], list[Line]], passing: Filter) -> list[Line]:
    """What `ask` finds by the ids of a session and its traces, in the order of time."""
    asked: frozenset[str] | None = None
    found: list[Line] = []
    # The first answer about a session tells its traces.
    while asked != passing.ids:
        asked = passing.ids
        found = ask(asked)
        for line in found:
            passing.learn(line)
    return sorted(found, key=lambda line: line.ts)


def last(found: list[Line], tail: int) -> list[Line]:
    """The last `tail` lines of each container."""
    left: dict[str, int] = {}
    those = []
    for line in reversed(found):
        left[line.name] = left.get(line.name, tail) - 1
        if left[line.name] >= 0:
            those.append(line)
    return those[::-1]


def printer(width: int, as_json: bool) -> Callable[[Line], None]:
    to = Console(highlight=False, soft_wrap=True)

    def put(line: Line) -> None:
        if as_json:
            said = line.said or {"msg": line.text}
            print(jsonlib.dumps({"container": line.name, "ts": line.ts, **said}), flush=True)
            return
        colour = COLORS[zlib.crc32(line.name.encode()) % len(COLORS)]
        to.print(
            Text.assemble((f"{line.name:<{width}} ", colour), f"{line.ts[11:23]} ", line.pretty)
        )

    return put


@app.command()
def logs(
    service: Annotated[
        str | None, typer.Option("--service", help="agents, gateway, proxy, target, ...")
    ] = None,
    agent: Annotated[int | None, typer.Option("--agent", min=1, help="Number of an agent.")] = None,
    tail: Annotated[int, typer.Option("--tail", min=0, help="Lines of each container.")] = 20,
    following: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they come.")] = False,
    grep: Annotated[str | None, typer.Option("--grep", help="A regular expression.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="All lines of one session, by its id.")
    ] = None,
    from_loki: Annotated[
        bool, typer.Option("--loki", help="Ask Loki, which knows containers that are gone, too.")
    ] = False,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """The logs of all containers as one stream, in the order of time."""

    def kept(engine: PulumiEngine, settings: Settings, passing: Filter) -> list[Line]:
        """Out of Loki."""
        if following:
            raise PreconditionFailed("--loki has what was; leave -f or --loki out.")
        base = (running_outputs(engine).get("endpoints") or {}).get("loki")
        if not base:
            raise PreconditionFailed(
                "--loki: no Loki is published here. Set ape:observability to full."
            )
        loki, end = Loki(base), time.time()
        start = end - 86400 * min(settings.observability.logs_retention_days, MAX_DAYS)
        place_of = None if agent is None else place(agent, settings.plan(stack))

        def ask(ids: frozenset[str]) -> list[Line]:
            wanted = ALIASES.get(service, service) if service else None
            asked = question(stack, wanted, place_of, ids, grep if not ids else None)
            return [of_entry(entry, stack) for entry in loki.newest(asked, start, end)]

        try:
            return [line for line in recalled(ask, passing) if passing.passes(line)]
        except LokiError as error:
            raise NotRunning(f"Loki does not tell: {error}") from None

    def work() -> int:
        try:
            passing = Filter(grep, session)
        except re.error as error:
            raise PreconditionFailed(f"--grep {grep}: no regular expression ({error}).") from None
        engine = PulumiEngine(stack, log, create=False)
        settings = engine.settings()
        if from_loki:
            found = last(kept(engine, settings, passing), tail)
            put = printer(max((len(line.name) for line in found), default=0), json)
            for line in found:
                put(line)
            return EXIT_OK
        client, swarm = connect(settings), settings.platform.runtime == "swarm"
        there = tasks(client, stack) if swarm else containers(client, current().name, stack)
        names = chosen(there, stack, settings.plan(stack), service, agent)
        # A filter looks for its lines in all there is; the tail is of what passes.
        searched = grep is not None or session is not None
        put = printer(max(map(len, names.values())), json)
        if following:
            try:
                for line in follow(client, names, tail, swarm=swarm):
                    if passing.passes(line):
                        put(line)
            except KeyboardInterrupt:
                pass
            return EXIT_OK
        found = lines(client, names, 1_000_000 if searched else tail, swarm=swarm)
        if searched:
            for line in found:
                passing.learn(line)
            found = last([line for line in found if passing.passes(line)], tail)
        for line in found:
            put(line)
        return EXIT_OK

    run_command(work)
