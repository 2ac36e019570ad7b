"""From the arguments of an operation's tool, as the model wrote them, to a request.

Near misses are put right, and named by their kind (metrics.REPAIR_KINDS).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ape_agent import loose, parts
from ape_agent.calls import BODYLESS, Request, decoded
from ape_agent.parts import Repairs, Unreadable
from ape_agent.tool_schemas import DETAILS, OperationTool, plain
from ape_contracts.operation_request import RequestError, build, kind_of
from ape_contracts.operations import BODY, Schema

_WRAPPERS = ("arguments", "parameters", "input", "args", "kwargs", "tool_input", "action_input")
_BESIDE_A_WRAPPER = ("name", "id", "type", "tool", "tool_name", "function", "action")
_GROUPS = (
    *("path", "query", "cookies", "params", "pathparams", "path_params", "path_parameters"),
    *("queryparams", "query_params", "query_parameters"),
)
_HEADER_GROUPS = ("headers", "header")
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]")
_UNFILLED = re.compile(r"\{[\w-]+\}")
_WRAPPED, _MAX_GIVEN = 4, 200
_MAX_TOLD_CHARS = 1500
_FILE, _ANY = "$file", "application/octet-stream"


def request_of(tool: OperationTool, raw: Any, repairs: Repairs) -> tuple[Request, dict[str, Any]]:
    """(the request, the arguments for the history). Raises Unreadable."""
    given = _unwrapped(tool, raw, repairs)
    values, headers = ({BODY: given}, {}) if tool.takes_body else _values(tool, given, repairs)
    operation, body = tool.operation, tool.operation.body
    content, content_type = values.get(BODY), ""
    if body is not None and content is not None:
        content_type = body.content_type
        content = parts.body_of(content, content_type, repairs)
        kind = kind_of(content_type)
        if kind in ("form", "multipart"):
            content = _with_files(content, body.schema)
        elif kind == "binary" and isinstance(content, str):
            content_type = content_type.replace("image/*", "image/png")
            content_type = _ANY if "*" in content_type else content_type
            content = _file(content)
    shown = {key: values[name] for key, name in tool.arguments.items() if name in values}
    if tool.takes_body:
        shown = content if isinstance(content, dict) else {}
    _check(tool, shown, content)
    try:
        made = build(replace(operation, body=None), values)
        loose.dumps(values)
    except RequestError as problem:
        raise Unreadable(str(problem)) from None
    except loose.NotJson as problem:
        raise Unreadable(f"{tool.name}: the arguments cannot be sent: {problem}.") from None
    plainly_json = content_type.partition(";")[0].strip().lower() == parts.JSON_TYPE or (
        "*" in content_type and kind_of(content_type) == "json"
    )
    # Of a GET without a content type, the body is the query.
    is_default = plainly_json and operation.method not in BODYLESS
    content_type = parts.JSON_TYPE if plainly_json else content_type
    return (
        Request(
            operation.method,
            loose.clean(made.path),
            loose.cleaned(content),
            {**headers, **made.headers},
            made.cookies,
            content_type="" if is_default or content is None else content_type,
            encoding={} if plainly_json or body is None else body.encoding,
            documented=operation.response_headers,
        ),
        shown,
    )


def _unwrapped(tool: OperationTool, raw: Any, repairs: Repairs) -> dict[str, Any]:
    """The object of arguments, in whatever form it came. Raises Unreadable."""
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return {}
    given = decoded(raw, repairs)
    for _ in range(_WRAPPED):
        if isinstance(given, list) and len(given) == 1 and isinstance(given[0], dict):
            repairs.add("nested")
            given = given[0]
        if not isinstance(given, dict):
            raise Unreadable(_told(tool, "The arguments are not a JSON object."))
        wrapper = next((k for k in _WRAPPERS if k in given and k not in tool.arguments), None)
        if wrapper is None and isinstance(given.get("function"), dict):
            wrapper = "function" if "function" not in tool.arguments else None
        if wrapper is None:
            break
        inner = given[wrapper]
        if isinstance(inner, str):
            inner = decoded(inner, repairs) if inner.strip() else {}
        if not isinstance(inner, dict | list):
            break
        repairs.add("nested")
        beside = {
            key: value
            for key, value in given.items()
            if key != wrapper and key not in _BESIDE_A_WRAPPER
        }
        given = {**beside, **inner} if isinstance(inner, dict) else inner
    if not isinstance(given, dict):
        raise Unreadable(_told(tool, "The arguments are not a JSON object."))
    return given


def _values(
    tool: OperationTool, given: dict[str, Any], repairs: Repairs
) -> tuple[dict[str, Any], dict[str, str]]:
    """(value by argument of ape_contracts.operations, further headers). Raises Unreadable."""
    flat: dict[str, Any] = {}
    for key, value in list(given.items())[:_MAX_GIVEN]:
        if isinstance(value, dict) and _argument(tool, key) is None:
            if key.lower() in (*_GROUPS, *_HEADER_GROUPS):
                repairs.add("nested")
                named = [(k, v) for k, v in value.items() if _argument(tool, k)]
                flat |= dict(named)
                rest = {k: v for k, v in value.items() if k not in dict(named)}
                key, value = key.lower(), rest
                if not rest:
                    continue
        flat[key] = value
    headers = parts.headers_of(flat.pop("headers")) if _has_headers(tool, flat) else {}
    parts.content_type_of(None, headers)
    values: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for key, value in flat.items():
        name = _argument(tool, key)
        if name is None:
            unknown[key] = value
            continue
        if key not in tool.arguments:
            repairs.add("nested")
        if value is not None:
            values[name] = _listed(tool, key, value, repairs)
    if unknown:
        if not _goes_into_body(tool, unknown, values):
            names = ", ".join(plain(name, 40) for name in list(unknown)[:8])
            raise Unreadable(_told(tool, f"{tool.name} has no argument {names}."))
        repairs.add("nested")
        values[BODY] = {**values.get(BODY, {}), **unknown}
    return values, headers


def _has_headers(tool: OperationTool, flat: Mapping[str, Any]) -> bool:
    return isinstance(flat.get("headers"), dict) and _argument(tool, "headers") is None


def _argument(tool: OperationTool, key: str) -> str | None:
    """The argument that a key means: written as it is, or with other cases and separators."""
    if key in tool.arguments:
        return tool.arguments[key]
    wanted = _NOT_IN_A_KEY.sub("", key.lower()[:100])
    found = {
        name
        for shown, name in tool.arguments.items()
        if wanted in (_NOT_IN_A_KEY.sub("", each.lower()) for each in (shown, name))
    }
    return found.pop() if wanted and len(found) == 1 else None


def _listed(tool: OperationTool, key: str, value: Any, repairs: Repairs) -> Any:
    """The value; a list or an object that came as JSON text becomes it."""
    parameter = tool.parameters.get(key)
    kind = parameter.schema.get("type") if parameter else None
    if kind in ("array", "object") and isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            inner = loose.loads(value[: loose.MAX_CHARS])
        except loose.NotJson:
            return value
        repairs.add("encoded_twice")
        return inner
    return value


def _goes_into_body(tool: OperationTool, unknown: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether arguments that no parameter has are fields of the body."""
    body = tool.operation.body
    if body is None or not isinstance(values.get(BODY, {}), dict):
        return False
    if kind_of(body.content_type) not in ("json", "form", "multipart"):
        return False
    known = _fields(body.schema)
    if known:
        return all(name in known for name in unknown)
    return BODY not in values and body.schema.get("type", "object") == "object"


def _fields(schema: Schema) -> dict[str, Any]:
    """A schema's properties, also those of its alternatives."""
    alternatives = (schema.get(key) for key in ("allOf", "oneOf", "anyOf"))
    listed = [each for found in alternatives if isinstance(found, list) for each in found]
    found: dict[str, Any] = {}
    for each in (*listed, schema):
        properties = each.get("properties") if isinstance(each, dict) else None
        found |= properties if isinstance(properties, dict) else {}
    return found


def _check(tool: OperationTool, shown: Mapping[str, Any], content: Any) -> None:
    """Raises Unreadable if an argument is missing that the operation needs."""
    needed = tool.schema(DETAILS[-1] if not tool.takes_body else DETAILS[3]).get("required", [])
    missing = [name for name in needed if name not in shown]
    if content is None and BODY not in missing:
        missing += [key for key in needed if tool.arguments[key] == BODY]
    if missing:
        names = ", ".join(missing)
        raise Unreadable(_told(tool, f"{tool.name} needs a value for {names}."))
    for name, value in shown.items():
        if name in tool.parameters and isinstance(value, str) and _UNFILLED.fullmatch(value):
            raise Unreadable(f"{tool.name}: {value[:80]} is not a value for {name}. Fill it in.")


def _told(tool: OperationTool, problem: str) -> str:
    """The problem, with what the arguments are."""
    for detail in DETAILS[3:]:
        text = loose.dumps(tool.schema(detail))
        if len(text) <= _MAX_TOLD_CHARS:
            return f"{problem} Its arguments are: {text}"
    return f"{problem} Its arguments are: {', '.join(tool.arguments)[:_MAX_TOLD_CHARS]}"


def _with_files(content: Any, schema: Schema) -> Any:
    """The fields of a form, with the gateway's mark in place of each file."""
    if not isinstance(content, dict):
        return content
    properties = _fields(schema)
    made = dict(content)
    for name, value in content.items():
        given = properties.get(name)
        if not isinstance(given, dict) or value is None:
            continue
        if given.get("format") == "binary":
            made[name] = _file(value)
        elif isinstance(items := given.get("items"), dict) and items.get("format") == "binary":
            made[name] = [_file(each) for each in (value if isinstance(value, list) else [value])]
    return made


def _file(value: Any) -> Any:
    if isinstance(value, dict) and _FILE in value:
        return value
    name = value if isinstance(value, str) else ""
    # A long text is rather the file's content than its name.
    named = 0 < len(name) <= 100 and name.isprintable() and not set("/\\") & set(name)
    return {_FILE: {"name": name} if named else {}}
