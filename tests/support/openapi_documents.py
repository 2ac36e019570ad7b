"""Small OpenAPI documents for tests."""

from __future__ import annotations

import json
from typing import Any

from ape_contracts.operations import Operation
from ape_infra.config.openapi import Read, Wanted, read


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
    """The body of the endpoint of a document with this schema."""
    return read_data(with_body(schema) | more).endpoints[0].get("body")


def with_query(**parameter: Any) -> dict[str, Any]:
    """A document whose only operation has one required parameter."""
    given = {"name": "q", "in": "query", "required": True, **parameter}
    return document({"/s": {"get": {"parameters": [given]}}})
