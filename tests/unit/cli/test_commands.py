"""The table of commands, their examples and suggestions, and the state without a command."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import typer
from typer.testing import CliRunner

from ape_contracts import VERSION
from ape_contracts.suggestions import did_you_mean
from ape_infra.automation.errors import NoStackError
from ape_infra.cli import app, standing
from ape_infra.cli.commands import COMMANDS, EXAMPLES, LazyGroup, whole
from ape_infra.cli.reference import EXITS, commands_page
from ape_infra.cli.standing import Standing, described
from ape_infra.runs.client import active_run
from ape_infra.runs.snapshots import Status

pytestmark = pytest.mark.unit


def every(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        full = f"{above} {name}".strip()
        yield full, command
        if hasattr(command, "commands"):
            yield from every(command, full)


def test_table_of_commands_has_each_command_with_its_summary() -> None:
    found = whole().commands
    assert set(found) == set(COMMANDS)
    for name, entry in COMMANDS.items():
        first = " ".join(found[name].help.partition("\n\n")[0].split())
        assert entry.summary == first
        assert {*entry.exits} <= {*EXITS}


def test_help_of_every_command_ends_with_an_example_of_that_command() -> None:
    commands = dict(every(whole()))
    # Its help is that of `python -m monitoring`.
    del commands["monitor"]
    for name, command in commands.items():
        assert command.epilog == f"Example: {EXAMPLES[name]}"
        assert EXAMPLES[name].startswith(f"ape-load {name}")
    assert {*EXAMPLES} == {"", *commands}


def test_page_of_commands_has_options_and_exit_codes() -> None:
    page = commands_page()
    assert "| `--strategy` `gradual`, `immediate` | `gradual` |" in page
    assert "### `ape-load config set`" in page
    assert "Exit codes: 0, 1, 2, 3, 4, 130" in page


@pytest.mark.parametrize(("arguments", "meant"), [(["scal"], "scale"), (["config", "sett"], "set")])
def test_wrong_command_names_the_similar_one(arguments: list[str], meant: str) -> None:
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2
    assert f"Did you mean '{meant}'" in found.output


def test_commands_that_are_not_imported_are_suggested() -> None:
    group = LazyGroup(name="ape-load")
    with pytest.raises(Exception, match=r"Did you mean 'scale'\?"):
        group.resolve_command(typer.Context(group), ["scal"])


def test_version_is_printed_alone() -> None:
    found = CliRunner().invoke(app, ["--version"])
    assert (found.exit_code, found.output) == (0, f"ape-load {VERSION}\n")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("agnts", "agents"), ("AGENTS", "agents"), ("modelApikey", "modelApiKey"), ("xyz", "")],
)
def test_suggestion_is_the_most_similar_name(word: str, meant: str) -> None:
    known = ["agents", "agentToken", "modelApiKey"]
    assert did_you_mean(word, known) == (f" Did you mean {meant}?" if meant else "")


def run(state: str) -> Status:
    return Status.of(
        {"id": "dev-1", "state": state, "elapsed_seconds": 133, "active": 3, "agents": 5}
        | {"stage": 0, "target": 5, "idle": 2, "started": 9, "ended": 7, "dropped": 0}
        | {"next_session": 10}
    )


@pytest.mark.parametrize(
    ("found", "state", "command"),
    [
        (Standing("ape", "dev", has_pulumi=False), "Nothing is set up", "make setup"),
        (
            Standing("ape", "dev", has_pulumi=False, is_clone=False),
            "Nothing is set up",
            "ape-load doctor",
        ),
        (Standing("ape", "dev"), "dev of project ape is down", "ape-load up"),
        (Standing("ape", "prod"), "prod of project ape is down", "ape-load up --stack prod"),
        (Standing("ape", "dev", agents=5), "gateway does not answer", "ape-load status"),
        (
            Standing("ape", "dev", agents=5, run=run("none")),
            "up with 5 agents, and no run is going on.",
            "ape-load run",
        ),
        (
            Standing("ape", "dev", agents=5, run=run("ended"), last=("dev-0", "passed")),
            "The last run, dev-0, is passed.",
            "ape-load run",
        ),
        (
            Standing("ape", "dev", agents=5, run=run("running")),
            "Run dev-1 has run for 2 min 13 s: 3 of 5 agents are active, 7 sessions have ended.",
            "ape-load status --watch",
        ),
        (Standing("ape", "dev", agents=5, run=run("draining")), "waits", "ape-load status --watch"),
    ],
)
def test_state_without_a_command_comes_with_the_next_command(
    found: Standing, state: str, command: str
) -> None:
    text, commands = described(found)
    assert state in text
    assert commands[0][0] == command


class Answer:
    """Of a gateway without a run."""

    ok, status_code = True, 200

    def json(self) -> Any:
        return {"id": None, "state": "none", "active": 0, "idle": 5, "agents": 5}


def test_state_of_a_run_is_read_without_a_token_or_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def request(self: requests.Session, method: str, url: str, **more: Any) -> Answer:
        asked.append((method, url, more["headers"]))
        return Answer()

    monkeypatch.setattr(requests.Session, "request", request)
    assert active_run("http://gateway/").state == "none"
    assert asked == [("GET", "http://gateway/run", {})]


class Engine:
    """Of a stack with these outputs; None: there is no such stack."""

    def __init__(self, found: dict[str, Any] | None) -> None:
        self._found = found

    def __call__(self, *_: object, create: bool) -> "Engine":
        assert not create
        if self._found is None:
            raise NoStackError
        return self

    def outputs(self) -> dict[str, Any]:
        return self._found or {}


@pytest.mark.parametrize(
    ("outputs", "command"),
    [
        (None, "ape-load up"),
        ({}, "ape-load up"),
        ({"agents": 5, "endpoints": {"gateway": "http://127.0.0.1:9"}}, "ape-load status"),
    ],
)
def test_without_a_command_the_next_one_is_shown(
    monkeypatch: pytest.MonkeyPatch, outputs: dict[str, Any] | None, command: str
) -> None:
    monkeypatch.setattr(standing, "PulumiEngine", Engine(outputs))
    monkeypatch.setattr(standing, "_last_run", lambda: None)
    monkeypatch.setattr(standing, "has_pulumi", lambda host: True)
    found = CliRunner().invoke(app, [])
    assert found.exit_code == 0
    assert f"Next  {command} " in found.output
