"""ape-offline: a deterministic stand-in for a language model.

It calls the endpoints of the system message, or the operations of typed tools, one tool call per
answer, in their order. It fills them with values of earlier answers by name, and what no answer can
have with values made for the schema, always the same for a session. It stops when an endpoint
fails, when a value is missing, or when everything was called. Where a target has too many
operations for that, it searches for those of the goal first.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from ape_proxy.offline import search
from ape_proxy.offline.answers import Done, Known, Missing, collection_of
from ape_proxy.offline.messages import (
    Exchange,
    ToolCall,
    brief,
    count_tokens,
    exchanges,
    text_of,
)
from ape_proxy.offline.names import PLACEHOLDER
from ape_proxy.offline.schemas import Filler, named
from ape_proxy.offline.tasks import Task, chosen, matched, path_with, tasks_of

__all__ = ["NAME", "ToolCall", "count_tokens", "next_decision", "text_of"]
NAME = "ape-offline"
_MAX_MISSING, _MAX_SAID = 3, 120


def next_decision(messages: list[Any], tools: list[Any]) -> ToolCall | str:
    """The model's next decision: a call of a tool, or its last words."""
    given = brief(messages)
    values = given.get("values")
    context = values if isinstance(values, dict) else {}
    tasks = tasks_of(tools, given)
    if not tasks and (tool := search.caller(tools)):
        return _searching(list(exchanges(messages)), tool, given.get("goal", ""), context)
    if not tasks:
        return (
            f"I am {NAME}, a deterministic stand-in for a language model. I need tools whose "
            "descriptions begin with a method and a path, or a system message with a JSON object "
            "that holds `endpoints`, and one tool."
        )
    done, left = matched(tasks, list(exchanges(messages)))
    return _Turn(tasks, done, context).decision(left)


def _searching(
    made: list[Exchange], tool: str, goal: Any, context: dict[str, Any]
) -> ToolCall | str:
    """The next search, or the next call of what was found."""
    asked = search.searched(made)
    open_ = [text for text in search.texts(goal) if text not in asked]
    if open_ and len(asked) < search.MAX_SEARCHES:
        return _search(open_[0])
    tasks = search.found(made, tool)
    if not tasks:
        return "I cannot continue: no operation was found for the goal."
    done, left = matched(tasks, [each for each in made if each.tool != search.FIND])
    turn = _Turn(tasks, done, context)
    decision = turn.decision(left)
    if isinstance(decision, ToolCall) or turn.has_failed:
        return decision
    wanted = [search.text_for(task, turn.lacks(task)) for task in left if turn.lacks(task)]
    more = [text for text in wanted if text and text not in asked]
    return _search(more[0]) if more and len(asked) < search.MAX_SEARCHES else decision


def _search(text: str) -> ToolCall:
    return ToolCall(search.FIND, json.dumps({"text": text}))


class _Turn:
    """One decision. What a task needs is looked up once."""

    def __init__(self, tasks: list[Task], done: list[Done], context: dict[str, Any]) -> None:
        self._tasks, self._done = tasks, done
        self._known = Known(done, context)
        self._referred = frozenset(name for task in tasks for name in named(task.path))
        listed = {name for task in tasks for name in task.lists}
        self._objects = {name: name in listed for task in tasks for name in task.objects}
        self._filled: dict[int, dict[str, Any] | Missing] = {}

    def decision(self, left: list[Task]) -> ToolCall | str:
        is_typed = self._tasks[0].schema is not None
        logged_in = any(done.worked and task.is_login for task, done in self._pairs())
        if self._done and not self._done[-1].worked and not self._is_other_login(left):
            return self._failed(left)
        if not left:
            return "Every endpoint was called; there is nothing left to do."
        for group in self._groups(left, logged_in) if is_typed else [left]:
            task = chosen(group, self._can, self.lacks)
            if task is not None:
                return ToolCall(task.tool, json.dumps(self._fill(task)))
        return self._missing(left)

    @property
    def has_failed(self) -> bool:
        return bool(self._done) and not self._done[-1].worked

    def _pairs(self) -> list[tuple[Task, Done]]:
        by_name = {task.name: task for task in self._tasks}
        found = [(by_name.get(f"{each.method} {each.path}"), each) for each in self._done]
        return [(task, each) for task, each in found if task is not None]

    def _is_other_login(self, left: list[Task]) -> bool:
        """Whether a log-in failed, and a document has another."""
        last = self._done[-1]
        failed = any(each is last and task.is_login and task.schema for task, each in self._pairs())
        return failed and any(task.is_login and self._can(task) for task in left)

    def _failed(self, left: list[Task]) -> str:
        last = self._done[-1]
        status, error = last.exchange.status, last.exchange.answer.get("error")
        words = f"I cannot continue: {last.sent} answered {status}."
        said = last.exchange.answer.get("body")
        if said and isinstance(said, dict | list):
            words += f" {json.dumps(said, ensure_ascii=False)[:_MAX_SAID]}"
        if not isinstance(status, int) and isinstance(error, str):
            words = f"I cannot continue: {last.sent} was not sent: {error}"
        without = [task for task in left if task.is_login and not self._can(task)]
        if status in (401, 403) and without:
            return f"{self._missing(without)} {words}"
        return words

    def _missing(self, left: list[Task]) -> str:
        """Name the values that are missing, and where."""
        found: dict[str, str] = {}
        for task in left:
            problem = self._filled_of(task)
            if isinstance(problem, Missing) and problem.name not in found:
                why = problem.why or "no answer so far has a value for it"
                found[problem.name] = (
                    f"No value for {problem.name}: {task.name} needs one, and {why}."
                )
        return " ".join(list(found.values())[:_MAX_MISSING])

    def _groups(self, left: list[Task], logged_in: bool) -> list[list[Task]]:
        """The tasks as a user orders them: log in, or sign up and log in, before the rest.

        A log-in that lacks a value delays nothing: the agent may have signed in.
        """
        logins = [task for task in left if task.is_login]
        last = [task for task in left if task.is_last]
        later = [task for task in logins if logged_in and self._can(task)]
        rest = [task for task in left if task in later or task not in (*logins, *last)]
        if logged_in or not logins:
            return [rest, last]
        return [logins, [task for task in left if task.is_sign_up], rest, last]

    def _can(self, task: Task) -> bool:
        return not isinstance(self._filled_of(task), Missing)

    def lacks(self, task: Task) -> str:
        """The name of the value that the task lacks; empty: it can be called."""
        found = self._filled_of(task)
        return found.name if isinstance(found, Missing) else ""

    def _fill(self, task: Task) -> dict[str, Any]:
        found = self._filled_of(task)
        return found if isinstance(found, dict) else {}

    def _filled_of(self, task: Task) -> dict[str, Any] | Missing:
        if id(task) not in self._filled:
            try:
                self._filled[id(task)] = self._arguments(task)
            except Missing as missing:
                self._filled[id(task)] = missing
        return self._filled[id(task)]

    def _arguments(self, task: Task) -> dict[str, Any]:
        if task.schema is not None:
            found = Filler(self._known, task, self._referred, self._objects).arguments()
            if task.places is None:
                return found
            return search.call_of(task, path_with(task.path, found), found)
        made: dict[str, Any] = {"method": task.method, "path": self._path(task.path)}
        for key in ("query", "headers", "body"):
            if task.endpoint.get(key) is not None:
                made[key] = self._of_template(task.endpoint[key])
        if isinstance(task.endpoint.get("content_type"), str):
            made["content_type"] = task.endpoint["content_type"]
        return made

    def _path(self, template: str) -> str:
        def fill(match: re.Match[str]) -> str:
            before = collection_of(template[: match.start()])
            return quote(str(self._known.find(match[1], before)), safe="", errors="replace")

        return PLACEHOLDER.sub(fill, template)

    def _of_template(self, template: Any) -> Any:
        """The template with each "{name}" replaced; a text with nothing else becomes the value."""
        if isinstance(template, dict):
            return {key: self._of_template(value) for key, value in template.items()}
        if isinstance(template, list):
            return [self._of_template(value) for value in template]
        if not isinstance(template, str):
            return template
        if whole := PLACEHOLDER.fullmatch(template):
            return self._known.find(whole[1])
        return PLACEHOLDER.sub(lambda m: str(self._known.find(m[1])), template)
