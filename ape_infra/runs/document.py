"""The document of a run, which is all that the gateway gets to know of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ape_infra.config.durations import seconds
from ape_infra.config.errors import Problem, SettingsError
from ape_infra.config.openapi.selection import Candidate, Selector
from ape_infra.config.run import RunSettings, ScenarioRow
from ape_infra.config.settings import Settings
from ape_infra.config.thresholds import did_you_mean
from ape_infra.config.users import RESERVED, Users

MAX_BYTES = 4 << 20
# From a plan to its first session agents may have to end what they are at; after the last stage
# they end it within gracefulStop.
DRAIN_SECONDS = 30.0
# `ape-load run` renews it every few seconds.
LEASE_SECONDS = 60.0
_PLACEHOLDER = re.compile(r"\{(\w{1,64})\}")


def document(
    settings: Settings,
    *,
    run_id: str,
    operations: Sequence[Candidate] = (),
    users: Users | None = None,
) -> dict[str, Any]:
    """Return the document of the run that the settings describe, as JSON data.

    `operations`: those that agents can call. Raises SettingsError with every broken rule.
    """
    run = settings.run
    found = [
        *_selections(run, operations),
        *_placeholders(settings, users),
        *_columns(run, users),
        *_rows(settings, users),
    ]
    if found:
        raise SettingsError.of(found)
    made = {
        "id": run_id,
        "executor": run.executor,
        "arrivals": run.arrivals,
        "stages": [stage._asdict() for stage in run.planned(settings.fleet.agents)],
        "max_late_seconds": seconds(run.max_late),
        "warm_up_seconds": seconds(run.warm_up),
        "ramp_down_seconds": seconds(run.ramp_down),
        "graceful_stop_seconds": seconds(run.graceful_stop),
        "drain_seconds": DRAIN_SECONDS,
        "lease_seconds": LEASE_SECONDS,
        "seed": run.seed or None,
        "scenarios": [_scenario(row, operations) for row in run.scenario_rows],
        "users": _users(run, users),
        "transcripts": run.transcripts,
        "elapsed_seconds": 0,
        "next_session": 0,
    }
    _check_size(made)
    return made


def _scenario(row: ScenarioRow, operations: Sequence[Candidate]) -> dict[str, Any]:
    """The scenario, without the keys for which the settings of the stack count."""
    success, pause = row.success, row.think_time
    made = {
        "name": row.name,
        "weight": row.weight,
        "goal": row.goal,
        "persona": row.persona,
        "success": success
        and success.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "operations": None if row.operations is None else _selected(row.operations, operations),
        "think_time_seconds": None if pause is None else seconds(pause),
        "session_max_steps": row.max_steps,
        "session_max_seconds": row.max_seconds,
    }
    return {key: value for key, value in made.items() if value is not None}


def _selected(selectors: Sequence[str], operations: Sequence[Candidate]) -> list[list[str]]:
    chosen = [Selector(text) for text in selectors]
    return [
        [each.method, each.path]
        for each in operations
        if any(selector.matches(each) for selector in chosen)
    ]


def _selections(run: RunSettings, operations: Sequence[Candidate]) -> Iterator[Problem]:
    """Selectors of scenarios that select nothing."""
    names = [each.name for each in operations]
    for at, row in enumerate(run.scenarios):
        for index, text in enumerate(row.operations or ()):
            if not any(Selector(text).matches(each) for each in operations):
                yield (
                    f"scenarios[{at}].operations[{index}]",
                    f'is "{text}", which selects none of the {len(names)} operations of the '
                    f"target. {did_you_mean(text, names)}",
                )


def _placeholders(settings: Settings, users: Users | None) -> Iterator[Problem]:
    """Goals and personas with a {column} that no users file has."""
    texts = {
        f"scenarios[{at}].{key}": text
        for at, row in enumerate(settings.run.scenarios)
        for key, text in (("goal", row.goal), ("persona", row.persona))
    }
    if users is not None:
        # Without users, braces in them had no meaning before there were runs.
        texts |= {"targetGoal": settings.target.goal, "persona": settings.fleet.persona}
    columns = users.columns if users else ()
    for path, text in texts.items():
        for name in dict.fromkeys(_PLACEHOLDER.findall(text or "")):
            if name in columns or name in RESERVED:
                continue
            if users is None:
                yield path, f"has {{{name}}}, but users is not set. Set a users file with it."
            else:
                remedy = did_you_mean(name, columns)
                yield path, f"has {{{name}}}, which is not a column of users. {remedy}"


def _columns(run: RunSettings, users: Users | None) -> Iterator[Problem]:
    columns = users.columns if users else ()
    for at, name in enumerate(run.users_secret):
        if users and name not in columns:
            yield (
                f"usersSecret[{at}]",
                f'is "{name}", which is not a column of users. {did_you_mean(name, columns)}',
            )


def _rows(settings: Settings, users: Users | None) -> Iterator[Problem]:
    """Fewer rows than agents that need one of their own."""
    run, agents = settings.run, settings.fleet.agents
    if users is None or run.users_mode != "unique":
        return
    if run.executor == "closed":
        agents = int(max(max(stage.start, stage.end) for stage in run.planned(agents)))
    if len(users.rows) < agents:
        yield (
            "users",
            f"has {len(users.rows)} rows, fewer than the {agents} agents, but usersMode is unique. "
            "Add rows, run fewer agents, or set usersMode to shared or random.",
        )


def _users(run: RunSettings, users: Users | None) -> dict[str, Any] | None:
    if users is None:
        return None
    return {
        "columns": list(users.columns),
        "rows": [list(row) for row in users.rows],
        "secret": list(dict.fromkeys(run.users_secret)),
        "mode": run.users_mode,
        "when_used_up": run.users_when_used_up,
    }


def encode(made: dict[str, Any]) -> bytes:
    """The document as it is sent."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def _check_size(made: dict[str, Any]) -> None:
    """Raises SettingsError if the gateway would refuse the document."""
    size = len(encode(made))
    if size <= MAX_BYTES:
        return
    of_users = len(encode({"users": made["users"]}))
    if of_users > size // 2:
        path, remedy = "users", "Remove rows or columns."
    else:
        path, remedy = "scenarios", "Shorten their goals, or remove some."
    raise SettingsError.at(
        path,
        f"would make a run of {size / (1 << 20):.1f} MiB, above the maximum of "
        f"{MAX_BYTES >> 20} MiB. {remedy}",
    )
