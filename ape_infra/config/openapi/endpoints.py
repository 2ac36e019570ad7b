"""Endpoints as agents get them today, from operations: {method, path, description, body}.

An endpoint carries a path with its required query, and a JSON body. The report gets the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ape_contracts.operation_request import RequestError, build, kind_of
from ape_contracts.operations import Operation, Operations, Parameter, arguments
from ape_infra.config.openapi.report import Report
from ape_infra.config.openapi.samples import placeholder, sample, stated
from ape_infra.config.openapi.schemas import shortened, types_of

MAX_HINTS = 10
MAX_DESCRIPTION = 600
_PLACEHOLDER = re.compile(r"\{[^{}]+\}")
_PLAIN_JSON = ("application/json", "*/*", "application/*", "text/json")


def endpoints(operations: Operations, report: Report) -> list[dict[str, Any]]:
    """Return the endpoints, in the order of the operations; what they lack is reported."""
    listed = {operation.path.partition("?")[0] for operation in operations.operations}
    made = []
    for operation in operations.operations:
        name = f"{operation.method} {operation.path}"
        _report_missing(operation, operations, name, report)
        body, is_sent = _body(operation, name, report)
        if not is_sent:
            continue
        endpoint: dict[str, Any] = {
            "method": operation.method,
            "path": _path(operation, listed),
            "description": _description(operation, body),
        }
        made.append(endpoint if body is None else endpoint | {"body": body})
    return made


def _body(operation: Operation, name: str, report: Report) -> tuple[Any, bool]:
    """Return (the JSON body or None, whether agents can call the operation)."""
    body = operation.body
    if body is None:
        return None, True
    kind = body.content_type.partition(";")[0].strip().lower()
    if kind_of(body.content_type) != "json" or operation.method == "GET":
        if operation.method == "GET":
            report.add("get_body", name)
            return None, True
        report.add("body_type" if body.required else "optional_body_type", name, kind)
        return None, not body.required
    if kind not in _PLAIN_JSON:
        report.add("json_type", name, kind)
    value = body.example if body.example is not None else sample(body.schema, "body")
    return (None if value == placeholder("body") else value), True


def _report_missing(
    operation: Operation, operations: Operations, name: str, report: Report
) -> None:
    schemes = operations.schemes
    for parameter in operation.parameters:
        if parameter.required and parameter.location in ("header", "cookie"):
            report.add(parameter.location, name, parameter.name)
    if operation.security and () not in operation.security:
        for scheme in operation.security[0]:
            report.add("security", name, _scheme(scheme, schemes.get(scheme, {})))


def _scheme(name: str, scheme: dict[str, Any]) -> str:
    kind, where = scheme.get("type"), scheme.get("in")
    if kind == "apiKey":
        return shortened(f"{name} (key {scheme.get('name')} in {where})")
    return shortened(f"{name} ({scheme.get('scheme') or kind})") if kind else name


def _path(operation: Operation, listed: set[str]) -> str:
    """The path with its required query, encoded; a placeholder where no value is known."""
    tokens: dict[str, str] = {}

    def marked(value: Any) -> Any:
        """Stand in for placeholders by words that no encoding changes."""
        if isinstance(value, dict):
            return {key: marked(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [marked(inner) for inner in value]
        if isinstance(value, str) and _PLACEHOLDER.fullmatch(value):
            return tokens.setdefault(value, f"apePlaceholder{len(tokens)}End")
        return value

    kept = [p for p in operation.parameters if p.location == "path"]
    kept += [p for p in operation.parameters if p.location == "query" and p.required]
    bare = Operation(
        id=operation.id, method=operation.method, path=operation.path, parameters=tuple(kept)
    )
    values = {
        argument: marked(_value(parameter, operation.path, listed))
        for argument, parameter in arguments(bare).items()
    }
    try:
        path = build(bare, values).path
    except RequestError:
        # An example that cannot be sent, such as an empty segment.
        plain = {a: marked(placeholder(p.name)) for a, p in arguments(bare).items()}
        path = build(bare, plain).path
    for text, token in tokens.items():
        path = path.replace(token, text)
    return path


def _value(parameter: Parameter, path: str, listed: set[str]) -> Any:
    if parameter.location == "path":
        # Where another operation lists or makes such things, an answer has a better value.
        before = path.partition("{" + parameter.name + "}")[0].rstrip("/")
        if before in listed or f"{before}/" in listed:
            return placeholder(parameter.name)
        value = parameter.example if parameter.example is not None else stated(parameter.schema)
        return placeholder(parameter.name) if value is None else value
    value = parameter.example if parameter.example is not None else None
    return sample(parameter.schema, parameter.name) if value is None else value


def _description(operation: Operation, body: Any) -> str:
    """The summary, and what the model may or must send beside path and body."""
    parts = []
    groups = (
        ("Optional query", _named(operation, "query", required=False)),
        ("Required headers", _named(operation, "header", required=True)),
        ("Optional headers", _named(operation, "header", required=False)),
        ("Path values", _path_values(operation)),
        ("Optional in the body", _optional_fields(operation, body)),
    )
    for title, names in groups:
        found = list(names)
        if found:
            more = ", …" if len(found) > MAX_HINTS else ""
            parts.append(f"{title}: {', '.join(found[:MAX_HINTS])}{more}.")
    summary = operation.summary
    if parts and summary and summary[-1] not in ".!?…":
        summary += "."
    return shortened(" ".join([summary, *parts]), MAX_DESCRIPTION)


def _named(operation: Operation, location: str, *, required: bool) -> Iterator[str]:
    for parameter in operation.parameters:
        if parameter.location == location and parameter.required == required:
            yield _typed(parameter.name, parameter.schema, parameter.example)


def _path_values(operation: Operation) -> Iterator[str]:
    for parameter in operation.parameters:
        example = parameter.example
        if parameter.location == "path" and isinstance(example, str | int | float):
            yield f"{parameter.name} such as {shortened(example, 40)}"


def _optional_fields(operation: Operation, body: Any) -> Iterable[str]:
    if operation.body is None or not isinstance(body, dict):
        return
    properties = operation.body.schema.get("properties", {})
    for name, schema in properties.items():
        if name not in body:
            yield _typed(name, schema, None)


def _typed(name: str, schema: dict[str, Any], example: Any) -> str:
    values = schema.get("enum")
    if isinstance(values, list) and values and len(values) <= MAX_HINTS:
        kind = " or ".join(shortened(value, 30) for value in values)
    else:
        types = [t for t in types_of(schema) if t != "null"]
        kind = shortened(schema.get("format"), 30) or (types[0] if types else "")
        if kind == "array" and (inner := types_of(schema.get("items"))):
            kind = f"list of {inner[0]}"
    such = shortened(example, 40) if isinstance(example, str | int | float) else ""
    kind = (
        f"{kind}, such as {such}" if kind and such else kind or (f"such as {such}" if such else "")
    )
    return f"{name} ({kind})" if kind else name
