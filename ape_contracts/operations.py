"""Operations of a target, as an OpenAPI document describes them: plain data, as JSON.

The infrastructure makes them of a document; agents and the gateway build requests from them (see
`ape_contracts.operation_request`). Dataclasses and Python's own JSON, as an agent stays small.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LOCATIONS = ("path", "query", "header", "cookie")
STYLES: dict[str, tuple[str, ...]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "tabDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
# The argument that holds the body, beside those of the parameters.
BODY = "body"
Schema = dict[str, Any]


class OperationsError(Exception):
    """A document without valid operations: path, rule and remedy."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter. `location`: one of LOCATIONS, the key `in` of the JSON.

    `schema` is a small JSON schema without references. `example` None: the document has none.
    `content_type`: the value is encoded as this type, such as JSON, in place of a style.
    """

    name: str
    location: str
    required: bool = False
    schema: Schema = field(default_factory=dict)
    example: Any = None
    style: str = ""
    explode: bool | None = None
    allow_reserved: bool = False
    content_type: str = ""
    description: str = ""

    @property
    def encoding(self) -> tuple[str, bool]:
        """The style and whether it explodes; what the document leaves open has its default."""
        style = self.style or STYLES.get(self.location, ("form",))[0]
        return style, style == "form" if self.explode is None else self.explode


@dataclass(frozen=True, kw_only=True)
class Body:
    """The body of a request. `encoding`: field -> {contentType, style, explode} of a form.

    `arguments`: its fields are the arguments of the operation, and there are no others.
    """

    content_type: str
    required: bool = False
    schema: Schema = field(default_factory=dict)
    example: Any = None
    encoding: dict[str, dict[str, Any]] = field(default_factory=dict)
    arguments: bool = False


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation. `path` begins with the base path; {x} stands for the path parameter x.

    `id` is unique in its document. `security` has alternatives, each the names of schemes that are
    needed together; an empty alternative needs none, and so does an operation without alternatives.
    `response_headers`: the headers of answers that the document describes.
    """

    id: str
    method: str
    path: str
    summary: str = ""
    tags: tuple[str, ...] = ()
    deprecated: bool = False
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    security: tuple[tuple[str, ...], ...] = ()
    response_headers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations of a target, and its security schemes as the document has them."""

    operations: tuple[Operation, ...] = ()
    schemes: dict[str, dict[str, Any]] = field(default_factory=dict)


def arguments(operation: Operation) -> dict[str, Parameter]:
    """Return argument -> parameter. An argument is the name of its parameter, made unique.

    Two parameters of one name, or one named as the body is, have the location in their argument.
    """
    found: dict[str, Parameter] = {}
    for parameter in operation.parameters:
        name = parameter.name
        if name in found or name == BODY:
            name = f"{name}_in_{parameter.location}"
        while name in found:
            name += "_"
        found[name] = parameter
    return found


def arguments_schema(operation: Operation) -> Schema:
    """Return the JSON schema of all arguments, as a typed tool has it."""
    if operation.body is not None and operation.body.arguments:
        return {"type": "object", "properties": {}} | operation.body.schema
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in arguments(operation).items():
        properties[name] = _described(parameter.schema, parameter.description, parameter.example)
        if parameter.required:
            required.append(name)
    if operation.body is not None:
        body = operation.body
        properties[BODY] = _described(body.schema, "", body.example)
        if body.required:
            required.append(BODY)
    schema: Schema = {"type": "object", "properties": properties}
    return schema | {"required": required} if required else schema


def _described(schema: Schema, description: str, example: Any) -> Schema:
    more: Schema = {"description": description} if description else {}
    if example is not None and "examples" not in schema:
        more["examples"] = [example]
    return schema | more


def plain(operations: Operations) -> dict[str, Any]:
    """Return the operations as JSON data, without what has its default."""
    return {
        "operations": [_operation_data(each) for each in operations.operations],
        "schemes": operations.schemes,
    }


def encode(operations: Operations) -> str:
    return json.dumps(plain(operations), ensure_ascii=False, allow_nan=False)


def _operation_data(operation: Operation) -> dict[str, Any]:
    data = _without_defaults(
        operation, ("summary", "tags", "deprecated", "security", "response_headers")
    )
    made: dict[str, Any] = {"id": operation.id, "method": operation.method, "path": operation.path}
    made |= {k: _listed(v) for k, v in data.items()}
    if operation.parameters:
        made["parameters"] = [_parameter_data(each) for each in operation.parameters]
    if operation.body is not None:
        body = operation.body
        made["body"] = {"content_type": body.content_type} | _without_defaults(
            body, ("required", "schema", "example", "encoding", "arguments")
        )
    return made


def _parameter_data(parameter: Parameter) -> dict[str, Any]:
    keys = ("required", "schema", "example", "style", "explode", "allow_reserved", "content_type")
    data = _without_defaults(parameter, (*keys, "description"))
    return {"name": parameter.name, "in": parameter.location} | data


def _without_defaults(holder: Any, keys: Iterable[str]) -> dict[str, Any]:
    made = {}
    for key in keys:
        value = getattr(holder, key)
        # False is a value of `explode`, and an empty text one of an example.
        empty = value is None if key in ("explode", "example") else not value
        if not empty:
            made[key] = value
    return made


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def decode(text: str) -> Operations:
    """Return the operations of a document. Raises OperationsError."""
    try:
        return of(json.loads(text))
    except (ValueError, RecursionError):
        raise OperationsError("The operations are not JSON. Correct them.") from None


def of(data: Any) -> Operations:
    """Return the operations of JSON data, as `plain` makes it. Raises OperationsError."""
    try:
        found = tuple(_operation_of(each) for each in data["operations"])
        return Operations(operations=found, schemes=dict(data.get("schemes") or {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OperationsError(
            f"The operations are not as `ape_contracts.operations` has them ({error!r}). "
            "Make them by its `encode`."
        ) from None


def _operation_of(data: Mapping[str, Any]) -> Operation:
    body = data.get("body")
    return Operation(
        id=_text(data["id"]),
        method=_text(data["method"]),
        path=_text(data["path"]),
        summary=_text(data.get("summary", "")),
        tags=tuple(map(_text, data.get("tags", ()))),
        deprecated=bool(data.get("deprecated", False)),
        parameters=tuple(_parameter_of(each) for each in data.get("parameters", ())),
        body=None if body is None else Body(**body),
        security=tuple(tuple(map(_text, each)) for each in data.get("security", ())),
        response_headers=tuple(map(_text, data.get("response_headers", ()))),
    )


def _parameter_of(data: Mapping[str, Any]) -> Parameter:
    given = {key: value for key, value in data.items() if key != "in"}
    if data["in"] not in LOCATIONS:
        raise ValueError(f"`in` of parameter {data['name']} is not one of {LOCATIONS}")
    return Parameter(location=data["in"], **given)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value
