"""All that a run needs, read and checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ape_contracts.gateway_config import load as load_gateway_config
from ape_infra.checks.check import Check
from ape_infra.checks.settings import broken
from ape_infra.config import files
from ape_infra.config.document import read as read_operations
from ape_infra.config.durations import words
from ape_infra.config.errors import SettingsError
from ape_infra.config.openapi.selection import Candidate
from ape_infra.config.run import RunSettings
from ape_infra.config.settings import Settings
from ape_infra.runs import thresholds
from ape_infra.runs.document import document
from ape_infra.runs.thresholds import Threshold

# Of a run that is only checked.
_CHECKED_ID = "checked"
# Of an endpoint in results.
MAX_PATH = 200


@dataclass(frozen=True)
class Prepared:
    """`endpoints`: the names of what agents can call, such as GET /products/{id}."""

    document: dict[str, Any]
    thresholds: tuple[Threshold, ...]
    endpoints: tuple[str, ...]


def prepare(settings: Settings, root: Path, run_id: str) -> Prepared:
    """Return the run of the settings; paths are relative to `root`. Raises SettingsError."""
    found = files.users(settings, root)
    operations, endpoints = operations_of(settings, root)
    made = document(settings, run_id=run_id, operations=operations, users=found)
    conditions = thresholds.of_settings(settings.run)
    scenarios = [row.name for row in settings.run.scenario_rows]
    if wrong := [
        (f"thresholds[{at}]", str(error))
        for at, error in thresholds.unknown(conditions, scenarios, endpoints)
    ]:
        raise SettingsError.of(wrong)
    return Prepared(made, conditions, endpoints)


def operations_of(settings: Settings, root: Path) -> tuple[list[Candidate], tuple[str, ...]]:
    """Return what agents can call, and the names of endpoints as the gateway's results have them.

    Raises SettingsError.
    """
    text, api = files.gateway_config(settings, root)
    routes = load_gateway_config(text).routes
    allowed = {
        name: [Candidate(m, each.path, {}) for each in route.endpoints for m in each.methods]
        for name, route in routes.items()
    }
    if settings.target.openapi:
        found = read_operations(settings, root)
        listed = [
            Candidate(
                each.method,
                each.path,
                {"operationId": each.id, "tags": list(each.tags), "deprecated": each.deprecated},
                found.paths[each.id],
            )
            for each in found.operations.operations
        ]
    else:
        scenario = files.Scenario.of(settings, root, api)
        listed = [Candidate(each.method, each.path, {}) for each in scenario.endpoints]
    names = [
        _name(each, "" if name == api else f"{name}:")
        for name, candidates in allowed.items()
        for each in candidates
    ]
    names += map(_name, listed)
    return listed or allowed[api], tuple(dict.fromkeys(names))


def _name(candidate: Candidate, prefix: str = "") -> str:
    return f"{candidate.method} {prefix}{candidate.path.partition('?')[0][:MAX_PATH]}"


def checks(settings: Settings, root: Path) -> Iterator[Check]:
    """The settings of a run must describe one, and its files must be readable and valid."""
    try:
        found = prepare(settings, root, _CHECKED_ID)
    except SettingsError as error:
        yield from broken("run", error)
        return
    yield Check("run", "ok", f"{summary(settings, found.document)}.")


def summary(settings: Settings, made: dict[str, Any]) -> str:
    """A run in a line, such as: closed, up to 5 agents for 5m, scenario default, 2 thresholds."""
    run = settings.run
    parts = [
        f"{run.executor}, {_load(run, settings.fleet.agents)}",
        _counted([each["name"] for each in made["scenarios"]], "scenario"),
    ]
    if made["users"]:
        rows = len(made["users"]["rows"])
        parts.append(f"{rows} row{'s' if rows > 1 else ''} of users ({run.users_mode})")
    if run.thresholds:
        count = len(run.thresholds)
        parts.append(f"{count} threshold{'s' if count > 1 else ''}")
    return ", ".join(parts)


def _load(run: RunSettings, agents: int) -> str:
    stages = run.planned(agents)
    most = max(max(stage.start, stage.end) for stage in stages)
    unit = "agents" if run.executor == "closed" else "sessions per second"
    up_to = "up to " if len(stages) > 1 or stages[0].start != stages[0].end else ""
    return f"{up_to}{most:g} {unit} for {words(run.planned_seconds(agents))}"


def _counted(names: list[str], word: str) -> str:
    return f"{word} {names[0]}" if len(names) == 1 else f"{len(names)} {word}s"
