"""The tools of a session, and the part of the prompt that explains them.

With up to MAX_TYPED operations each is a tool of its own, beyond that call_api has a second tool
beside it that finds operations. Without operations call_api is alone, and the prompt lists the
endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ape_agent import calls, operation_calls
from ape_agent.calls import TOOL, Request, Target, target_of
from ape_agent.conversation import BYTES_PER_TOKEN
from ape_agent.parts import Repairs, Unreadable
from ape_agent.tool_schemas import (
    DETAILS,
    OperationTool,
    definitions_within,
    plain,
    size_of,
    tools_of,
)
from ape_contracts import paths
from ape_contracts.operations import BODY, Operation
from ape_contracts.service_settings import AgentSettings

FIND = "find_operations"
MAX_TYPED = 64
# Of all that is sent first; a part of it for the session's own values.
MAX_PROMPT_TOKENS, _RESERVED_BYTES = 4000, 700
MAX_FOUND, _MAX_REMEMBERED = 8, 256
_MAX_FOUND_CHARS, _MAX_SEARCH_CHARS = 6000, 200
_SENT = "Cookies and tokens are sent for you. "
_END = "When you have reached the goal, or cannot, answer with a short sentence and no tool call."
_USER = "You are a user of a web application, and test it. Reach the goal by calling the tool"
_RULES = (
    _USER + " call_api, one call at a time{only}. A {{name}} in a path or a body "
    "stands for a value of `values` or of an earlier answer. "
)
_ONLY = "; only the endpoints below exist"
_TYPED_RULES = (
    _USER + "s, one call at a time; there are no others. Values come from `values` and from "
    "earlier answers. "
)
_SEARCH_RULES = (
    _USER + " call_api, one call at a time. Find out with find_operations what the application "
    "offers. A {name} in a path stands for a value of `values` or of an earlier answer. "
)


def _tool(name: str, description: str, properties: dict[str, str], needed: list[str]) -> Any:
    """`properties`: name -> "type: description"."""
    made = {}
    for key, text in properties.items():
        kind, _, words = text.partition(": ")
        made[key] = {"type": kind, "description": words}
    parameters = {"type": "object", "properties": made, "required": needed}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


CALL_API = _tool(
    TOOL,
    "Send one request to the application; answers its status and body.",
    {
        "method": "string: HTTP method, such as GET",
        "path": "string: Path such as /products/1",
        "headers": "object: Further headers that the application asks for",
        "query": "object: Query: names and values, a list for a name that is repeated",
        "body": 'object: Body, any JSON value. In a form {"$file": {}} stands for a file',
        "content_type": "string: Type of the body if it is not JSON, such as "
        "application/x-www-form-urlencoded, multipart/form-data or text/plain",
    },
    ["method", "path"],
)
FIND_OPERATIONS = _tool(
    FIND,
    "Find operations of the application; answers the best matches.",
    {"text": "string: What to do, in a few words, such as: put an item into the cart"},
    ["text"],
)


@dataclass(frozen=True)
class Understood:
    """A call: `request`, or a search for `search`. `arguments`: of `tool`, for the history."""

    tool: str
    arguments: dict[str, Any]
    request: Request | None = None
    search: str = ""


class Toolbox:
    """What the agents of a container can do. `count`: of the operations that the gateway has;

    `operations` may be fewer. `supplied`: names, in lower case, of parameters that each request
    gets without the model, such as those of a sign-in. `sessions`: the target has sessions of its
    own, which DELETE /session ends.
    """

    def __init__(
        self,
        settings: AgentSettings,
        endpoints: Sequence[dict[str, Any]] = (),
        operations: Sequence[Operation] = (),
        count: int = 0,
        supplied: Collection[str] = (),
        *,
        sessions: bool = False,
    ) -> None:
        self.sessions = sessions
        operations = [_without(each, supplied) for each in operations]
        self._supplied = supplied
        self._typed: dict[str, OperationTool] = {}
        self._known = {(o.method, o.path): o for o in operations}
        self.endpoints: list[dict[str, Any]] | None = list(endpoints)
        self.definitions: list[dict[str, Any]] = [CALL_API]
        self.rules = _RULES.format(only=_ONLY if endpoints else "")
        if count or operations:
            self._choose(settings, operations, max(count, len(operations)))
        paths_known = [{"path": o.path} for o in operations]
        self.target: Target = target_of(settings.target_host, [*endpoints, *paths_known])
        self.names = frozenset((TOOL, FIND, *self._typed))

    @property
    def main(self) -> str:
        """Which tool a model is reminded of."""
        return "that is needed next" if self._typed else TOOL

    def _choose(self, settings: AgentSettings, operations: Sequence[Operation], count: int) -> None:
        """Typed tools if they fit into the prompt, else call_api with a search."""
        own = len(json.dumps([settings.goal, settings.goal, settings.persona, _SEARCH_RULES, _END]))
        most = MAX_PROMPT_TOKENS * BYTES_PER_TOKEN - _RESERVED_BYTES - own
        tools = tools_of(operations[:MAX_TYPED], (TOOL, FIND))
        listed = [
            {
                "method": o.method,
                "path": plain(o.path, 200),
                "description": plain(o.summary, DETAILS[0].summary),
            }
            for o in operations[:MAX_TYPED]
        ]
        room_for_tools = most - len(json.dumps(json.dumps(listed)))
        whole = [tool.definition(DETAILS[0]) for tool in tools]
        made: list[dict[str, Any]] | None
        if sum(map(size_of, whole)) <= room_for_tools:
            made, self.endpoints = whole, listed
        else:
            made, self.endpoints = definitions_within(tools, most), None
        if made is None or not operations or count > MAX_TYPED:
            self.definitions, self.rules = [CALL_API, FIND_OPERATIONS], _SEARCH_RULES
            self.endpoints = None
            return
        self._typed = {tool.name: tool for tool in tools}
        self.definitions, self.rules = made, _TYPED_RULES

    def prompt(self, settings: AgentSettings, values: Mapping[str, Any], note: str = "") -> str:
        """The rules, with a note of the session's own, and what it is about, as JSON."""
        brief: dict[str, Any] = {"goal": settings.goal}
        if settings.persona:
            brief["persona"] = settings.persona
        if self.endpoints is not None:
            brief["endpoints"] = self.endpoints
        brief["values"] = dict(values)
        return f"{self.rules}{note}{_SENT}{_END}\n\n{json.dumps(brief)}"

    def understand(self, name: str, raw: Any, repairs: Repairs) -> Understood:
        """The call of a tool, as the model wrote it. Raises Unreadable."""
        tool = self._tool_of(name)
        if tool is not None and not self._is_generic(tool, raw):
            if name != tool.name:
                repairs.add("tool_name")
            request, arguments = operation_calls.request_of(tool, raw, repairs)
            return Understood(tool.name, arguments, request)
        if FIND in _bare(name) and (text := _search_of(raw)):
            return Understood(FIND, {"text": text}, search=text)
        try:
            request = calls.request_of(raw, self.target, repairs, self.operation_of)
        except Unreadable as problem:
            if not self._typed:
                raise
            known = ", ".join(self._typed)
            raise Unreadable(
                f"There is no tool {name[:64] or 'without a name'}. {problem} "
                f"Or call one of the tools: {known[:2000]}."
            ) from None
        if name and name != TOOL:
            repairs.add("tool_name")
        return Understood(TOOL, request.arguments(), request)

    def _tool_of(self, name: str) -> OperationTool | None:
        """The typed tool that a name means; models add prefixes, and change cases."""
        if name in self._typed:
            return self._typed[name]
        wanted = _bare(name)
        return next((t for key, t in self._typed.items() if key.lower() == wanted), None)

    def _is_generic(self, tool: OperationTool, raw: Any) -> bool:
        """Whether the arguments are those of call_api, and cannot be the tool's own."""
        if {"method", "path"} & tool.arguments.keys():
            return False
        try:
            given = calls.decoded(raw, Repairs())
        except Unreadable:
            return False
        path = given.get("path") if isinstance(given, dict) else None
        return isinstance(path, str) and isinstance(given.get("method"), str)

    def operation_of(self, method: str, path: str) -> Operation | None:
        """The known operation of a request; a path without placeholders counts first."""
        found = [
            each
            for (m, template), each in self._known.items()
            if m == method and paths.matches(template.partition("?")[0], path)
        ]
        return min(found, key=lambda each: each.path.count("{"), default=None)

    def found(self, operations: Sequence[Operation]) -> dict[str, Any]:
        """What a search is answered; later calls of these operations are sent as they need it."""
        chosen = [_without(each, self._supplied) for each in operations[:MAX_FOUND]]
        for each in chosen:
            self._known.pop((each.method, each.path), None)
            self._known[each.method, each.path] = each
        while len(self._known) > _MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        made: dict[str, Any] = {}
        for detail in DETAILS[1:]:
            tools = tools_of(chosen, ())
            made = {"operations": [_explained(tool, detail) for tool in tools]}
            if len(json.dumps(made)) <= _MAX_FOUND_CHARS:
                break
        return made


def _without(operation: Operation, supplied: Collection[str]) -> Operation:
    """The operation without the parameters that the model need not give."""
    kept = tuple(
        each
        for each in operation.parameters
        if each.location == "path" or each.name.lower() not in supplied
    )
    return replace(operation, parameters=kept) if supplied else operation


def _bare(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _search_of(raw: Any) -> str:
    """The text of a search, in whatever form it came; empty: none."""
    if isinstance(raw, str):
        try:
            raw = calls.decoded(raw, Repairs())
        except Unreadable:
            return plain(raw, _MAX_SEARCH_CHARS)
    if isinstance(raw, dict):
        texts = [raw.get("text"), raw.get("query"), raw.get("q"), *raw.values()]
        raw = next((text for text in texts if isinstance(text, str) and text), "")
    return plain(raw, _MAX_SEARCH_CHARS)


def _explained(tool: OperationTool, detail: Any) -> dict[str, Any]:
    """An operation, as call_api has to be called for it."""
    operation = tool.operation
    made: dict[str, Any] = {
        "method": operation.method,
        "path": plain(operation.path, 200),
        "summary": plain(operation.summary, detail.summary),
    }
    schema = tool.schema(detail)
    places = {"query": "query", "header": "headers", "path": "path_values"}
    for shown, each in schema["properties"].items():
        parameter = tool.parameters.get(shown)
        if parameter is not None and parameter.location in places:
            made.setdefault(places[parameter.location], {})[plain(parameter.name, 64)] = each
    if tool.takes_body:
        made["body"] = schema
        return made
    if operation.body is not None and operation.body.content_type:
        key = next(key for key, name in tool.arguments.items() if name == BODY)
        made["body"] = schema["properties"].get(key, {})
        made["content_type"] = plain(operation.body.content_type, 100)
    if needed := schema.get("required"):
        made["required"] = needed
    return made
