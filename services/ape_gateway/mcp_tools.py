"""Tools of an MCP server as operations, and their results as answers of HTTP: pure.

The tool NAME is the operation `POST /tools/NAME`, whose JSON body has its arguments. All that a
server says is somebody else's: it is bounded, and never an error of the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

import mcp_types as types

from ape_contracts import paths
from ape_contracts.operations import Body, Operation, Operations, Schema

MAX_TOOLS = 2000
PREFIX = "/tools/"
_MAX_NAME_CHARS, _MAX_SUMMARY_CHARS = 128, 1000
# Of one schema: what agents are shown of it is less.
_MAX_SCHEMA_BYTES, _MAX_NODES, _MAX_DEPTH = 32 << 10, 2000, 12
# Beside its text, a result has parts such as images, which agents cannot look at.
_MAX_PARTS = 1000
_JSON = "application/json"
# The arguments break the tool's schema; and the tool called itself failed.
INVALID, UNKNOWN, FAILED, TOOL_FAILED = 400, 404, 502, 422


def path_of(name: str) -> str:
    return PREFIX + quote(name, safe="")


def name_of(path: str) -> str | None:
    """The name of the tool that a path calls; None: the path is of no tool."""
    plain = path.partition("?")[0]
    name = plain.removeprefix(PREFIX)
    if name == plain or not name or "/" in name:
        return None
    return unquote(name)


def operations_of(tools: Iterable[types.Tool]) -> Operations:
    """The tools as operations; those whose names cannot stand in a path are left out."""
    made: dict[str, Operation] = {}
    for tool in tools:
        path = path_of(tool.name)
        # The specification has letters, digits and _ - . in names; others match no condition.
        fits = 0 < len(tool.name) <= _MAX_NAME_CHARS and "%" not in path
        if not fits or paths.problem(path) is not None or tool.name in made:
            continue
        schema = schema_of(tool.input_schema)
        needed = bool(schema.get("required"))
        made[tool.name] = Operation(
            id=tool.name,
            method="POST",
            path=path,
            summary=_line(tool.description or tool.title or "")[:_MAX_SUMMARY_CHARS],
            body=Body(content_type=_JSON, required=needed, schema=schema, arguments=True),
        )
        if len(made) == MAX_TOOLS:
            break
    return Operations(operations=tuple(made.values()))


def repeatable(tools: Iterable[types.Tool]) -> frozenset[str]:
    """The names of the tools that their server calls harmless to repeat."""
    return frozenset(
        tool.name
        for tool in tools
        if tool.annotations
        and (tool.annotations.read_only_hint or tool.annotations.idempotent_hint)
    )


def is_in_headers(tool: types.Tool) -> bool:
    """Whether a call has some of the tool's arguments in headers too, as of 2026-07-28."""
    return "x-mcp-header" in repr(tool.input_schema)


def _line(text: str) -> str:
    return " ".join(text[: 4 * _MAX_SUMMARY_CHARS].split())


def schema_of(given: Schema) -> Schema:
    """The schema of a tool's arguments without references, or of any object if it is too large."""
    try:
        made = _Inlined(given).whole()
        if len(json.dumps(made)) <= _MAX_SCHEMA_BYTES:
            return made
    except (ValueError, RecursionError):
        pass
    return {"type": "object"}


class _Inlined:
    """A schema with what its local references name in their place."""

    def __init__(self, root: Schema) -> None:
        self._root, self._left = root, _MAX_NODES

    def whole(self) -> Schema:
        plain = {
            k: v for k, v in self._root.items() if k not in ("$defs", "definitions", "$schema")
        }
        made = self._of(plain, 0)
        return {"type": "object"} | made if isinstance(made, dict) else {"type": "object"}

    def _of(self, value: Any, depth: int) -> Any:
        """Raises ValueError if there is too much of it."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("too large")
        if depth > _MAX_DEPTH:
            return {}
        if isinstance(value, list):
            return [self._of(each, depth + 1) for each in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str):
            beside = {k: v for k, v in value.items() if k != "$ref"}
            found = self._target(reference)
            return self._of({**found, **beside}, depth + 1) if found is not None else beside
        return {key: self._of(each, depth + 1) for key, each in value.items()}

    def _target(self, reference: str) -> Schema | None:
        found: Any = self._root
        if not reference.startswith("#/"):
            return found if reference == "#" else None
        for part in reference[2:].split("/"):
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else None


def result_of(result: types.CallToolResult) -> tuple[int, bytes, str]:
    """(status, body, content type) of a result: its structured content, or else its parts."""
    status = TOOL_FAILED if result.is_error else 200
    if result.structured_content is not None and not result.is_error:
        return status, encoded(result.structured_content), _JSON
    parts = [_part(each) for each in result.content[:_MAX_PARTS]]
    if not parts:
        content = result.structured_content
        return status, b"" if content is None else encoded(content), _JSON
    if len(parts) > 1:
        return status, encoded(parts), _JSON
    if isinstance(parts[0], str):
        text = parts[0]
        content_type = _JSON if text.lstrip()[:1] in ("{", "[") and is_json(text) else "text/plain"
        return status, text.encode("utf-8", "replace"), content_type
    return status, encoded(parts[0]), _JSON


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _part(part: types.ContentBlock) -> Any:
    """A part as agents get it: a text, or an object with the type and the size of what it has."""
    if isinstance(part, types.TextContent):
        return part.text
    if isinstance(part, types.ImageContent | types.AudioContent):
        return {"type": part.type, "content_type": part.mime_type, "bytes": _size(part.data)}
    if isinstance(part, types.ResourceLink):
        made = {"type": part.type, "uri": str(part.uri), "name": part.name}
        return {key: value for key, value in made.items() if value}
    resource = part.resource
    made = {"type": part.type, "uri": str(resource.uri), "content_type": resource.mime_type or ""}
    if isinstance(resource, types.TextResourceContents):
        return made | {"text": resource.text}
    return made | {"bytes": _size(resource.blob)}


def _size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def encoded(value: Any) -> bytes:
    """A value of a server as JSON; Python's JSON knows larger numbers than others do."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def status_of(code: int, is_known: bool) -> int:
    """The status for a JSON-RPC error of a call; `is_known`: whether its tool was listed."""
    if code == types.METHOD_NOT_FOUND:
        return UNKNOWN
    if code == types.INVALID_PARAMS:
        return INVALID if is_known else UNKNOWN
    return FAILED
