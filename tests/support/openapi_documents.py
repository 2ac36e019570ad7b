"""Small OpenAPI documents for tests."""

from __future__ import annotations

import json
from typing import Any

from ape_contracts.operation_request import build
from ape_contracts.operations import Operation, Parameter, arguments
from ape_infra.config.openapi import Read, Wanted, read
from tests.support.samples import sample


def document(paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths, **more}


def swagger(paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"swagger": "2.0", "info": {"title": "t", "version": "1"}, "paths": paths, **more}


def read_data(data: Any, **wanted: Any) -> Read:
    """Read a document as it would stand in a file."""
    return read(json.dumps(data).encode(), wanted=Wanted(**wanted))


def read_text(text: str) -> Read:
    return read(text.encode(), "openapi.yaml")


def operations(data: Any, **wanted: Any) -> tuple[Operation, ...]:
    return read_data(data, **wanted).operations.operations


def operation(data: Any, **wanted: Any) -> Operation:
    (found,) = operations(data, **wanted)
    return found


def lines(found: Read) -> list[str]:
    return [line.text for line in found.report.lines()]


def with_body(schema: Any, content_type: str = "application/json", **media: Any) -> dict[str, Any]:
    """A document whose only operation needs a body."""
    content = {content_type: {"schema": schema, **media}}
    return document({"/x": {"post": {"requestBody": {"required": True, "content": content}}}})


def body_of(schema: Any, **more: Any) -> Any:
    """A body of the operation of a document with this schema."""
    return body_of_operation(operation(with_body(schema) | more))


def body_of_operation(found: Operation) -> Any:
    """The example of its body, or a sample of its schema."""
    assert found.body is not None
    return sample(found.body.schema, "body") if found.body.example is None else found.body.example


def path_of(data: Any, **wanted: Any) -> str:
    """The path of the operation, with its required query."""

    def value(parameter: Parameter) -> Any:
        given = parameter.example
        return sample(parameter.schema, parameter.name) if given is None else given

    found = operation(data, **wanted)
    needed = {n: p for n, p in arguments(found).items() if p.required and p.location == "query"}
    return build(found, {name: value(p) for name, p in needed.items()}).path


def with_query(**parameter: Any) -> dict[str, Any]:
    """A document whose only operation has one required parameter."""
    given = {"name": "q", "in": "query", "required": True, **parameter}
    return document({"/s": {"get": {"parameters": [given]}}})
