"""What is to be called: the endpoints of the brief, or the operations of typed tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

from ape_proxy.offline.answers import Done
from ape_proxy.offline.messages import Exchange, functions
from ape_proxy.offline.names import (
    PARAMETER,
    is_login,
    is_logout,
    is_plural,
    is_secret,
    is_sign_up,
    plain,
    resource,
)

_DESCRIPTION = re.compile(r"([A-Z]+) (/\S*?)(?:\.(?:\s|$)|\s|$)")
_MAX_DEPTH = 4
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Task:
    """`schema`: of the arguments of a typed tool; `endpoint`: of the brief, for a generic tool.

    `places`: for a generic tool, which of its arguments each in `schema` belongs to (see `search`);
    `content_type`: of its body.
    """

    tool: str
    method: str
    path: str
    schema: dict[str, Any] | None = None
    endpoint: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] | None = None
    content_type: str = ""

    @property
    def is_typed(self) -> bool:
        return self.schema is not None and self.places is None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_safe(self) -> bool:
        return self.method in _SAFE

    @cached_property
    def is_login(self) -> bool:
        """Whether it logs in; an operation whose body is known has a secret in it."""
        found = self._fields
        return is_login(self.method, self.path) and (not found or any(map(is_secret, found)))

    @cached_property
    def _unanswered(self) -> Done:
        return Done(self.method, self.path, self.path, Exchange("", {}, {}))

    @property
    def lists(self) -> frozenset[str]:
        """The names of what the answer to a GET of a collection has ids of."""
        done = self._unanswered
        is_list = self.method == "GET" and is_plural(done.collection) and "{" not in self.path
        return done.names if is_list else frozenset()

    @property
    def objects(self) -> list[str]:
        """The names of the objects in the collections of the path."""
        return [resource(part) for part in self._unanswered.literals if is_plural(part)]

    @cached_property
    def is_sign_up(self) -> bool:
        return is_sign_up(self.method, self.path) or (
            self.method == "POST" and not self.is_login and any(map(is_secret, self._fields))
        )

    @property
    def is_last(self) -> bool:
        """Whether it takes away what others need."""
        return self.method == "DELETE" or is_logout(self.path)

    @cached_property
    def _fields(self) -> list[str]:
        """The names of the body's fields."""
        properties = (self.schema or {}).get("properties")
        return list(_names_in(properties.get("body"))) if isinstance(properties, dict) else []

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        path = self.path.partition("?")[0].strip("/")
        return re.compile("[^/]+".join(map(re.escape, PARAMETER.split(path)[::2])))

    def fits(self, exchange: Exchange) -> bool:
        """Whether this call of a generic tool may be of the task."""
        method = str(exchange.arguments.get("method") or self.method).upper()
        path = exchange.path.partition("?")[0].strip("/")
        return method == self.method and self._pattern.fullmatch(path) is not None

    def made(self, exchange: Exchange) -> Done:
        if exchange.tool == self.tool and self.is_typed:
            sent = path_with(self.path, exchange.arguments)
            return Done(self.method, self.path, sent, exchange)
        return Done(self.method, self.path, exchange.path, exchange)


def _names_in(schema: Any, depth: int = 0) -> Iterator[str]:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return
    if isinstance(found := schema.get("properties"), dict):
        yield from found
    for key in ("allOf", "oneOf", "anyOf"):
        for part in found if isinstance(found := schema.get(key), list) else ():
            yield from _names_in(part, depth + 1)


def tasks_of(tools: list[Any], brief: dict[str, Any]) -> list[Task]:
    """Return the tasks: those of typed tools if there are some, else the brief's endpoints.

    Empty: there is nothing to call.
    """
    known = functions(tools)
    listed = brief.get("endpoints")
    endpoints = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    if typed := [task for function in known if (task := _typed(function))]:
        order = {_name(e): n for n, e in reversed(list(enumerate(endpoints)))}
        chosen = [task for task in typed if task.name in order]
        return sorted(chosen, key=lambda task: order[task.name]) if chosen else typed
    if not known:
        return []
    made = []
    for endpoint in endpoints:
        method, path = str(endpoint.get("method", "GET")), endpoint.get("path")
        if isinstance(path, str):
            made.append(Task(known[0]["name"], method, path, endpoint=endpoint))
    return made


def _name(endpoint: dict[str, Any]) -> str:
    return f"{endpoint.get('method', 'GET')} {endpoint.get('path')}"


def _typed(function: dict[str, Any]) -> Task | None:
    found = _DESCRIPTION.match(str(function.get("description", "")))
    schema = function.get("parameters")
    if found is None or not isinstance(schema, dict):
        return None
    return Task(function["name"], found[1], found[2], schema)


def matched(tasks: list[Task], exchanges: list[Exchange]) -> tuple[list[Done], list[Task]]:
    """Return the calls with their tasks, and the tasks that are left.

    A call that fits no task counts for the first that is left.
    """
    left, done = list(tasks), []
    for exchange in exchanges:
        typed = [t for t in tasks if t.is_typed and t.tool == exchange.tool]
        fitting = typed or [t for t in left if t.fits(exchange)]
        literal = [t for t in fitting if "{" not in t.path]
        task = next(iter(literal or fitting or left), None)
        if task is None:
            done.append(Done("", exchange.path, exchange.path, exchange))
            continue
        if task in left:
            left.remove(task)
        done.append(task.made(exchange))
    return done, left


def chosen(
    left: list[Task], can: Callable[[Task], bool], lacks: Callable[[Task], str]
) -> Task | None:
    """Return the next task: the first that has its values, but nothing of consequence too early.

    Past a task that lacks a value, tasks that only read come first, then one that can make the
    thing that is lacking. With typed tools, others follow, as a document has no order.
    """
    blocked: list[Task] = []
    for task in left:
        if can(task):
            if not blocked:
                return task
            break
        blocked.append(task)
    rest = [task for task in left[len(blocked) :] if can(task)]
    if safe := [task for task in rest if task.is_safe]:
        return safe[0]
    wanted = {plain(lacks(task)).removesuffix("_id") for task in blocked}
    wanted |= {resource(before) for task in blocked for before in parents(task, lacks(task))}
    for task in rest:
        if task.method == "POST" and resource(task.path.rstrip("/").rpartition("/")[2]) in wanted:
            return task
    return next((task for task in rest if task.schema is not None), None)


def path_with(template: str, values: dict[str, Any]) -> str:
    """The path with its values, of which each is one segment."""

    def value(found: re.Match[str]) -> str:
        return quote(str(values.get(found[1], "")), safe="", errors="replace")

    return PARAMETER.sub(value, template)


def parents(task: Task, name: str) -> list[str]:
    """The part of the path before {name}."""
    parts = task.path.split("/")
    return [parts[n - 1] for n, part in enumerate(parts) if n and part == f"{{{name}}}"]
