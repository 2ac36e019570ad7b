"""Where a target has too many operations for tools of their own: the model looks them up.

It searches for each part of the goal, and then for what makes a value that is missing. What the
best matches of a search are is what it calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ape_proxy.offline.messages import Exchange, functions
from ape_proxy.offline.names import IDS, resource, words
from ape_proxy.offline.tasks import Task, parents

FIND = "find_operations"
MAX_SEARCHES = 8
_MAX_PARTS, _BEST, _MAX_CHARS = 4, 3, 200
_PART = re.compile(r"[.,;:!?\n]+|\b(?:and|then)\b", re.IGNORECASE)
_PLACES = {"query": "query", "headers": "headers", "path_values": "path"}


def caller(tools: list[Any]) -> str:
    """The tool that calls what a search found; empty: there is no search."""
    names = [function["name"] for function in functions(tools)]
    return next((name for name in names if name != FIND), "") if FIND in names else ""


def texts(goal: Any) -> list[str]:
    """What to search for: the parts of the goal, in their order."""
    parts = [part.strip()[:_MAX_CHARS] for part in _PART.split(str(goal)[:2000])]
    found = list(dict.fromkeys(part for part in parts if len(part) > 2))
    return found[:_MAX_PARTS] or ["list"]


def text_for(task: Task, name: str) -> str:
    """What to search for where `task` lacks the value `name`: what makes or lists its object."""
    *before, leaf = words(name)
    if leaf in IDS:
        before = before or [resource(part) for part in parents(task, name)][:1]
    else:
        before = [*before, leaf]
    return f"create or list {' '.join(before)}" if before else ""


def searched(exchanges: list[Exchange]) -> list[str]:
    """The texts that were searched for."""
    return [str(each.arguments.get("text", "")) for each in exchanges if each.tool == FIND]


def found(exchanges: list[Exchange], tool: str) -> list[Task]:
    """The best operations of each search, as tasks of `tool`, each once."""
    made: dict[str, Task] = {}
    for exchange in exchanges:
        listed = exchange.answer.get("operations") if exchange.tool == FIND else None
        for each in (listed if isinstance(listed, list) else [])[:_BEST]:
            if isinstance(each, dict) and (task := _task(each, tool)) is not None:
                made.setdefault(task.name, task)
    return list(made.values())


def _task(given: dict[str, Any], tool: str) -> Task | None:
    method, path = given.get("method"), given.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    properties, places = {}, {}
    for key, name, schema in _arguments(given):
        if name not in properties:
            properties[name], places[name] = schema, key
    required = given.get("required")
    schema = {"properties": properties, "required": required if isinstance(required, list) else []}
    content_type = given.get("content_type")
    kind = content_type if isinstance(content_type, str) else ""
    return Task(tool, method, path, schema, places=places, content_type=kind)


def _arguments(given: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(argument of the tool, name, schema)."""
    for key, place in _PLACES.items():
        values = given.get(key)
        for name, schema in values.items() if isinstance(values, dict) else ():
            yield place, name, schema
    if isinstance(given.get("body"), dict):
        yield "body", "body", given["body"]


def call_of(task: Task, path: str, values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the tool for these values of the operation. `path`: with its values."""
    made: dict[str, Any] = {"method": task.method, "path": path}
    for name, value in values.items():
        place = (task.places or {}).get(name, "path")
        if place == "body":
            made["body"] = value
        elif place != "path":
            made.setdefault(place, {})[name] = value
    if "body" in made and task.content_type:
        made["content_type"] = task.content_type
    return made
