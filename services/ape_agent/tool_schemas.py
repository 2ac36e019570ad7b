"""The tools of operations, as the model gets them, within a number of bytes.

Names, descriptions and schemas come from the target's document: somebody else's words. They are
cut, and their control characters escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ape_contracts.operations import BODY, Operation, Parameter, arguments, arguments_schema

MAX_NAME = 64
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NOT_IN_AN_ARGUMENT = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_FIELD_CHARS, _MAX_PATTERN_CHARS = 64, 100
_KEYS = ("format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
_CHOICES = ("anyOf", "oneOf", "allOf")
_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
_FILE = 'A file: the text is its name, or "" for any.'


class Detail(NamedTuple):
    """How much of a schema is kept; `optional`: also what is not required."""

    depth: int
    text: int
    example: int
    fields: int
    values: int
    optional: bool
    summary: int


# From the one that keeps most.
DETAILS = (
    Detail(6, 200, 300, 40, 24, True, 200),
    Detail(5, 100, 100, 24, 12, True, 120),
    Detail(4, 0, 40, 16, 8, True, 80),
    Detail(4, 0, 0, 12, 6, False, 60),
    Detail(3, 0, 0, 8, 4, False, 30),
    Detail(2, 0, 0, 6, 0, False, 0),
    Detail(1, 0, 0, 0, 0, False, 0),
)


@dataclass(frozen=True)
class OperationTool:
    """An operation as a tool. `parameters`: argument as the model writes it -> parameter."""

    name: str
    operation: Operation
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    # Argument as the model writes it -> argument of ape_contracts.operations.
    arguments: Mapping[str, str] = field(default_factory=dict)

    def definition(self, detail: Detail) -> dict[str, Any]:
        operation = self.operation
        summary = plain(operation.summary, detail.summary)
        path = plain(operation.path, 200)
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": f"{operation.method} {path}. {summary}".rstrip(),
                "parameters": self.schema(detail),
            },
        }

    @property
    def takes_body(self) -> bool:
        """Whether the arguments are the fields of the body."""
        return self.operation.body is not None and self.operation.body.arguments

    def schema(self, detail: Detail) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        if self.takes_body:
            # One level is that of the arguments.
            fields = bounded(arguments_schema(self.operation), detail, "object")
            return {"type": "object", "properties": {}} | fields
        whole = arguments_schema(self.operation)
        required = set(whole.get("required", ())) | {
            name for name, each in arguments(self.operation).items() if each.location == "path"
        }
        made: dict[str, Any] = {"type": "object", "properties": {}}
        names = []
        for shown, name in self.arguments.items():
            if name in required or detail.optional:
                given = whole["properties"][name]
                untyped = "object" if name == BODY else "string"
                made["properties"][shown] = bounded(given, detail, untyped)
            if name in required:
                names.append(shown)
        return {**made, "required": names} if names else made


def tools_of(operations: Iterable[Operation], reserved: Container[str]) -> list[OperationTool]:
    """A tool for each operation, with a name that every provider takes."""
    made: list[OperationTool] = []
    used: set[str] = set()
    for operation in operations:
        wanted = _NOT_IN_A_NAME.sub("_", operation.id).strip("_")
        wanted = wanted or _NOT_IN_A_NAME.sub("_", f"{operation.method}{operation.path}").strip("_")
        name = _unique(wanted, used, MAX_NAME, reserved)
        used.add(name)
        known = arguments(operation)
        shown: dict[str, str] = {}
        if operation.body is not None and operation.body.arguments:
            properties = arguments_schema(operation).get("properties")
            shown = dict.fromkeys(properties if isinstance(properties, dict) else (), BODY)
            made.append(OperationTool(name, operation, {}, shown))
            continue
        for argument in (*known, *([BODY] if operation.body is not None else [])):
            valid = _NOT_IN_AN_ARGUMENT.sub("_", argument).strip("_") or "argument"
            shown[_unique(valid, shown, MAX_NAME, ())] = argument
        parameters = {key: known[name] for key, name in shown.items() if name in known}
        made.append(OperationTool(name, operation, parameters, shown))
    return made


def _unique(wanted: str, used: Container[str], most: int, reserved: Container[str]) -> str:
    name, number = wanted[:most], 2
    while name in used or name in reserved or not name:
        end = f"_{number}"
        name, number = wanted[: most - len(end)] + end, number + 1
    return name


def definitions_within(tools: list[OperationTool], most: float) -> list[dict[str, Any]] | None:
    """The definitions with as much detail as fits into `most` bytes; None if nothing fits.

    The largest lose detail first, so that small ones stay whole.
    """
    levels = [0] * len(tools)
    made = [tool.definition(DETAILS[0]) for tool in tools]
    sizes = [size_of(each) for each in made]
    while sum(sizes) > most:
        left = [i for i, level in enumerate(levels) if level + 1 < len(DETAILS)]
        if not left:
            return None
        largest = max(left, key=sizes.__getitem__)
        levels[largest] += 1
        made[largest] = tools[largest].definition(DETAILS[levels[largest]])
        sizes[largest] = size_of(made[largest])
    return made


def size_of(value: Any) -> int:
    """Bytes of the JSON text as it is sent, with a separator."""
    return len(json.dumps(value, separators=(",", ":"))) + 1


def plain(text: Any, most: int) -> str:
    """The beginning of a text of the document, on one line, control characters escaped."""
    if not isinstance(text, str) or most <= 0:
        return ""
    words = " ".join(text[: 4 * most].split())
    made = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in words)
    return made if len(made) <= most else made[: most - 1] + "…"


def bounded(schema: Any, detail: Detail, untyped: str = "string") -> dict[str, Any]:
    """The parts of a schema that help to fill it in; `untyped`: its type if it names none."""
    return _bounded(schema, detail, detail.depth, untyped)


def _bounded(schema: Any, detail: Detail, depth: int, untyped: str) -> dict[str, Any]:
    given = schema if isinstance(schema, dict) else {}
    choices = {
        key: [_bounded(each, detail, depth - 1, untyped) for each in given[key][:4]]
        for key in _CHOICES
        if isinstance(given.get(key), list) and given[key] and depth > 1
    }
    kind = _type_of(given, untyped)
    made: dict[str, Any] = {} if choices and "type" not in given else {"type": kind}
    if kind == "string" and given.get("format") == "binary":
        return made | {"description": _FILE}
    if text := plain(given.get("description"), detail.text):
        made["description"] = text
    made |= _values(given, detail)
    if detail.values:
        limits = {k: given[k] for k in _KEYS if isinstance(given.get(k), str | int | float)}
        made |= {k: value for k, value in limits.items() if _fits(value, _MAX_FIELD_CHARS)}
        pattern = given.get("pattern")
        if isinstance(pattern, str) and len(pattern) <= _MAX_PATTERN_CHARS:
            made["pattern"] = plain(pattern, _MAX_PATTERN_CHARS)
    if depth > 1:
        made |= choices
        made |= _fields(given, detail, depth) if kind == "object" else {}
    if kind == "array" and depth > 0:
        made["items"] = _bounded(given.get("items"), detail, depth - 1, "string")
    return made


def _type_of(given: dict[str, Any], untyped: str) -> str:
    kinds = given.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind in _TYPES:
            return str(kind)
    if "properties" in given:
        return "object"
    if "items" in given:
        return "array"
    examples = given.get("examples")
    for value in [given.get("default"), *(examples if isinstance(examples, list) else [])]:
        if type(value) in _TYPE_OF:
            return _TYPE_OF[type(value)]
    return untyped


def _values(given: dict[str, Any], detail: Detail) -> dict[str, Any]:
    """What values a schema names: enum, const, default and examples."""
    made: dict[str, Any] = {}
    if isinstance(values := given.get("enum"), list) and detail.values:
        scalars = [v for v in values if isinstance(v, str | int | float | bool)]
        kept = [v for v in scalars[: detail.values] if _fits(v, _MAX_FIELD_CHARS)]
        # Part of an enum would forbid its other values.
        if kept and len(kept) == len(values):
            made["enum"] = kept
        elif kept:
            made["examples"] = kept
    if "const" in given and _fits(given["const"], _MAX_FIELD_CHARS):
        made["enum"] = [given["const"]]
    examples = given.get("examples")
    each = examples if isinstance(examples, list) else [given.get("example")]
    found = [e for e in each[:2] if e is not None and _fits(e, detail.example)]
    if found:
        made["examples"] = found
    if detail.example and _fits(given.get("default"), detail.example):
        made["default"] = given["default"]
    return made


def _fits(value: Any, most: int) -> bool:
    """Whether a value is short, and has no characters that nobody sees."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return value is not None and len(text) <= most and text.isprintable()


def _fields(given: dict[str, Any], detail: Detail, depth: int) -> dict[str, Any]:
    """The properties of an object: the required ones, and the others while there is room."""
    properties = given.get("properties")
    if not isinstance(properties, dict):
        return {}
    wanted = given.get("required")
    required = [n for n in wanted if n in properties] if isinstance(wanted, list) else []
    others = [n for n in properties if n not in required] if detail.optional or not required else []
    names = [n for n in (*required, *others) if n.isprintable() and len(n) <= _MAX_FIELD_CHARS]
    kept = names[: detail.fields]
    made: dict[str, Any] = {
        "properties": {n: _bounded(properties[n], detail, depth - 1, "string") for n in kept}
    }
    if needed := [n for n in required if n in kept]:
        made["required"] = needed
    return made
