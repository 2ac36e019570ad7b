"""Operations of documents as agents and the gateway will get them, and the requests they give."""

from __future__ import annotations

from typing import Any

import pytest

from ape_contracts.operation_request import File, Request, build
from ape_contracts.operations import BODY, Body, Parameter
from tests.support.openapi_documents import (
    document,
    lines,
    operation,
    operations,
    read_data,
    swagger,
    with_body,
)

pytestmark = pytest.mark.unit
FORM = "application/x-www-form-urlencoded"


def test_a_form_body_is_encoded_as_a_form() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    found = operation(with_body(schema, FORM))
    assert found.body == Body(content_type=FORM, required=True, schema=schema)
    assert build(found, {BODY: {"a": 1}}) == Request(
        "POST", "/x", {"Content-Type": FORM}, {}, b"a=1"
    )


def test_form_fields_of_swagger_2_are_a_form() -> None:
    fields = [
        {"in": "formData", "name": "user", "type": "string", "required": True, "x-example": "u"},
        {"in": "formData", "name": "roles", "type": "array", "collectionFormat": "multi"},
    ]
    found = operation(
        swagger({"/login": {"post": {"parameters": fields}}}, basePath="/api/v2", consumes=[FORM])
    )
    assert found.path == "/api/v2/login"
    assert found.parameters == ()
    assert found.body is not None
    assert (found.body.required, found.body.schema["required"]) == (True, ["user"])
    request = build(found, {BODY: {"user": "a b", "roles": [1, 2]}})
    assert request.body == b"user=a+b&roles=1&roles=2"


def test_a_file_of_swagger_2_makes_the_body_multipart() -> None:
    fields = [{"in": "formData", "name": "f", "type": "file", "required": True}]
    found = operation(swagger({"/up": {"post": {"parameters": fields}}}))
    assert found.body is not None
    assert found.body.content_type == "multipart/form-data"
    assert found.body.schema["properties"] == {"f": {"type": "string", "format": "binary"}}
    request = build(found, {BODY: {"f": File(b"x", "x.png", "image/png")}})
    assert b'filename="x.png"\r\nContent-Type: image/png\r\n\r\nx' in (request.body or b"")


def test_parameters_have_their_place_style_schema_and_example() -> None:
    given = [
        {"name": "Idempotency-Key", "in": "header", "required": True, "example": "k1"},
        {"name": "Authorization", "in": "header", "required": True},
        {"name": "sid", "in": "cookie", "schema": {"type": "string"}},
        {"name": "f", "in": "query", "style": "deepObject", "explode": True, "schema": {}},
        {
            "name": "j",
            "in": "query",
            "content": {"application/json": {"schema": {"type": "array"}}},
        },
        {
            "name": "since",
            "in": "query",
            "description": "From this\nday on.",
            "schema": {"type": "string", "format": "date", "nullable": True},
            "examples": {"new": {"value": "2024-02-03"}},
        },
        {"name": "id", "in": "path", "schema": {"type": "integer", "minimum": 1}},
    ]
    found = operation(document({"/s/{id}/{other}": {"get": {"parameters": given}}}))
    assert found.parameters == (
        Parameter(
            name="id", location="path", required=True, schema={"type": "integer", "minimum": 1}
        ),
        Parameter(name="other", location="path", required=True),
        Parameter(name="Idempotency-Key", location="header", required=True, example="k1"),
        Parameter(name="sid", location="cookie", schema={"type": "string"}),
        Parameter(name="f", location="query", style="deepObject", explode=True),
        Parameter(
            name="j", location="query", schema={"type": "array"}, content_type="application/json"
        ),
        Parameter(
            name="since",
            location="query",
            schema={"type": ["string", "null"], "format": "date"},
            example="2024-02-03",
            description="From this day on.",
        ),
    )
    values = {"id": 1, "other": "a/b", "Idempotency-Key": "k1", "sid": "c", "j": [1]}
    assert build(found, values) == Request(
        "GET", "/s/1/a%2Fb?j=%5B1%5D", {"Idempotency-Key": "k1"}, {"sid": "c"}
    )


def test_an_operation_has_its_id_tags_security_and_response_headers() -> None:
    responses = {
        "201": {"headers": {"Location": {}, "ETag": {}}},
        "default": {"$ref": "#/components/responses/Error"},
        "x-note": "ignored",
    }
    data = document(
        {
            "/a": {
                "get": {"operationId": "same", "tags": ["t", 5], "responses": responses},
                "post": {"operationId": "same", "security": [{"k": []}, {"a": [], "b": []}, {}]},
                "put": {},
            }
        },
        components={
            "responses": {"Error": {"headers": {"Retry-After": {}}}},
            "securitySchemes": {"k": {"type": "http", "scheme": "bearer", "description": "x"}},
        },
    )
    found = operations(data)
    assert [each.id for each in found] == ["same", "same_", "PUT /a"]
    assert found[0].tags == ("t",)
    assert found[0].response_headers == ("Location", "ETag", "Retry-After")
    assert found[1].security == (("k",), ("a", "b"), ())
    assert read_data(data).operations.schemes == {"k": {"type": "http", "scheme": "bearer"}}
    assert "security scheme" not in " ".join(lines(read_data(data)))


def test_braces_in_an_example_are_its_own() -> None:
    example = {"tpl": "Hello {customer}", "id": "{id}"}
    found = operation(with_body({"type": "object"}, example=example))
    assert found.body is not None
    assert found.body.example == example


def test_a_delete_operation_that_is_named_has_its_body() -> None:
    content = {"application/json": {"example": {"ids": [1]}}}
    data = document({"/x": {"delete": {"requestBody": {"content": content}}}})
    found = operation(data, include=["DELETE"])
    assert found.body is not None
    assert (found.method, found.body.example) == ("DELETE", {"ids": [1]})


def test_a_merge_patch_keeps_its_content_type() -> None:
    kind = "application/merge-patch+json"
    data = document({"/x": {"patch": {"requestBody": {"content": {kind: {"schema": {}}}}}}})
    request = build(operation(data), {BODY: {"a": None}})
    assert (request.headers, request.body) == ({"Content-Type": kind}, b'{"a": null}')


def test_a_document_of_version_3_2_is_read() -> None:
    item = {
        "query": {},
        "additionalOperations": {"COPY": {}},
        "post": {
            "parameters": [{"name": "q", "in": "querystring", "content": {}}],
            "requestBody": {
                "content": {
                    "application/jsonl": {
                        "itemSchema": {"properties": {"a": {"type": "integer"}}},
                        "examples": {"e": {"dataValue": [{"a": 1}]}},
                    }
                }
            },
        },
    }
    found = read_data(document({"/x": item}) | {"openapi": "3.2.0"})
    body = found.operations.operations[0].body
    assert body is not None
    assert (body.content_type, body.example) == ("application/jsonl", [{"a": 1}])
    assert lines(found)[:3] == [
        "1 operation has method QUERY, which agents do not call: left out (QUERY /x).",
        "1 operation has method COPY, which agents do not call: left out (COPY /x).",
        "1 operation has a parameter in `querystring`: it is not sent (POST /x).",
    ]


@pytest.mark.parametrize(
    ("schema", "small"),
    [
        (
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True, "x-extra": 1},
            {"type": "integer", "minimum": 1, "exclusiveMinimum": 1},
        ),
        (
            {"allOf": [{"required": ["a"], "properties": {"a": {}}}, {"properties": {"b": {}}}]},
            {"type": "object", "required": ["a"], "properties": {"a": {}, "b": {}}},
        ),
        (
            {"anyOf": [{"type": "string", "pattern": "^a$"}, {"type": "null"}], "title": "T"},
            {"type": ["string", "null"], "pattern": "^a$"},
        ),
        ({"type": "string", "pattern": "^a  b|c "}, {"type": "string", "pattern": "^a  b|c "}),
        ({"enum": ["a", None], "example": "a"}, {"enum": ["a", None], "examples": ["a"]}),
        ({"$ref": "#/components/schemas/Nope"}, {}),
        (True, {}),
    ],
)
def test_a_schema_is_small_and_of_one_form(schema: Any, small: dict[str, Any]) -> None:
    found = operation(with_body(schema)).body
    assert found is not None
    assert found.schema == small


def test_a_large_schema_is_cut_to_what_is_required() -> None:
    many = {f"p{n}": {"type": "object", "properties": {"x": {}, "y": {}}} for n in range(500)}
    schema = {"type": "object", "required": ["p499"], "properties": many}
    found = operation(with_body(schema)).body
    assert found is not None
    assert len(found.schema["properties"]) < 100
    assert found.schema["properties"]["p499"]["properties"] == {"x": {}, "y": {}}


def test_what_is_wrong_in_a_shared_schema_is_reported_for_each_operation() -> None:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}
    call = {"requestBody": {"content": content}}
    data = document(
        {"/x": {"post": call, "put": call}},
        components={"schemas": {"A": {"properties": {"b": {"$ref": "#/nope"}}}}},
    )
    found = read_data(data)
    assert lines(found) == [
        "2 operations refer to #/nope, which the document does not have: what it describes is "
        "not sent (POST /x, PUT /x)."
    ]
