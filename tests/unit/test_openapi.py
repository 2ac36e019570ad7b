"""Endpoints from OpenAPI documents such as applications serve."""

from __future__ import annotations

from typing import Any

import pytest

from ape_infra.config.openapi import OpenApiError, endpoints

pytestmark = pytest.mark.unit


def document(paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths, **more}


def body_of(schema: dict[str, Any], **more: Any) -> Any:
    content = {"application/json": {"schema": schema}}
    found = endpoints(
        document({"/x": {"post": {"requestBody": {"content": content}}}}, components=more)
    )
    return found[0].get("body")


def test_endpoints_have_the_order_and_descriptions_of_the_operations() -> None:
    found = endpoints(
        document(
            {
                "/login": {"post": {"summary": "Log in."}},
                "/lamps": {
                    "parameters": [{"name": "page", "in": "query", "required": True}],
                    "get": {
                        "description": "All lamps. ",
                        "parameters": [
                            {"name": "q", "in": "query", "required": True, "example": "desk"},
                            {"name": "sort", "in": "query"},
                            {"name": "X-Key", "in": "header", "required": True},
                        ],
                    },
                    "delete": {"deprecated": True},
                    "head": {},
                },
                "/lamps/{id}": {"get": {}},
                "x-internal": {"get": {}},
            }
        )
    )
    assert found == [
        {"method": "POST", "path": "/login", "description": "Log in."},
        {"method": "GET", "path": "/lamps?page={page}&q=desk", "description": "All lamps."},
        {"method": "GET", "path": "/lamps/{id}", "description": ""},
    ]


def test_a_body_has_the_values_of_the_document_and_placeholders_for_the_others() -> None:
    schema = {
        "type": "object",
        "required": ["lamp_id", "count", "color", "gift", "size", "tags"],
        "properties": {
            "lamp_id": {"type": "integer"},
            "count": {"type": "integer", "default": 1},
            "color": {"type": "string", "enum": ["red", "blue"]},
            "gift": {"type": "boolean", "example": False},
            "size": {"anyOf": [{"const": "small"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string", "examples": ["new"]}},
            "note": {"type": "string"},
        },
    }
    assert body_of(schema) == {
        "lamp_id": "{lamp_id}",
        "count": 1,
        "color": "red",
        "gift": False,
        "size": "small",
        "tags": ["new"],
    }


def test_references_are_resolved_also_in_cycles() -> None:
    node = {
        "allOf": [{"$ref": "#/components/schemas/Base"}],
        "properties": {"child": {"$ref": "#/components/schemas/Node"}},
    }
    base = {"type": "object", "properties": {"name": {"type": "string"}}}
    found = body_of({"$ref": "#/components/schemas/Node"}, schemas={"Node": node, "Base": base})
    assert found["name"] == "{name}"
    assert found["child"]["child"]["name"] == "{name}"
    assert body_of({"$ref": "#/nowhere"}) is None
    assert body_of({"$ref": "#/components/schemas/A"}, schemas={"A": {"$ref": "#/"}}) is None


def test_a_swagger_2_document_is_read() -> None:
    parameters = [{"in": "body", "name": "b", "schema": {"example": {"user": "u"}}}]
    found = endpoints({"swagger": "2.0", "paths": {"/a": {"put": {"parameters": parameters}}}})
    assert found == [{"method": "PUT", "path": "/a", "description": "", "body": {"user": "u"}}]


@pytest.mark.parametrize(
    "bad", [None, [], "x", {}, {"openapi": "3"}, {"openapi": "3", "paths": {"/": {"get": 1}}}]
)
def test_anything_but_an_openapi_document_is_rejected(bad: Any) -> None:
    with pytest.raises(OpenApiError):
        endpoints(bad)
