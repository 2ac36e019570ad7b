"""What agents can send of an operation. The report gets what they cannot, or send otherwise."""

from __future__ import annotations

from dataclasses import replace

from ape_contracts.operation_request import kind_of
from ape_contracts.operations import Body, Operation, Schema
from ape_infra.config.openapi.report import Report
from ape_infra.config.openapi.schemas import types_of

# Kinds of bodies (see `kind_of`) that are a text whatever their schema says.
_TEXT = {
    "text": "The text of the body, of type {}.",
    "binary": "The content of the body, of type {}, as a text.",
}


def sendable(operation: Operation, name: str, report: Report) -> Operation | None:
    """Return the operation as agents call it; None: they cannot. `name`: that in the report."""
    body = operation.body
    if body is not None:
        if operation.method == "GET":
            # Many generators write an empty one.
            if body.required or body.schema.get("properties"):
                report.add("get_body", name)
            body = None
        elif not (kind := kind_of(body.content_type)):
            plain = body.content_type.partition(";")[0].strip().lower()
            report.add("body_type" if body.required else "optional_body_type", name, plain)
            if body.required:
                return None
            body = None
        elif kind in _TEXT:
            body = _as_text(body, kind, name, report)
    return replace(operation, body=body)


def _as_text(body: Body, kind: str, name: str, report: Report) -> Body:
    """The body with a schema of a text, as a model writes it: XML from an object is not made."""
    types = types_of(body.schema)
    if kind == "text" and types and not {"object", "array"} & set(types):
        return body
    plain = body.content_type.partition(";")[0].strip().lower()
    report.add(f"{kind}_type", name, plain)
    schema: Schema = {"type": "string", "description": _TEXT[kind].format(plain)}
    example = body.example if isinstance(body.example, str) else None
    return replace(body, schema=schema, example=example)
