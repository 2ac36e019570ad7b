"""Documents that are nearly right: they are read or rejected, never a crash."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_contracts.operation_request import RequestError, build
from ape_contracts.operations import BODY, arguments, decode, encode
from ape_infra.config.openapi import OpenApiError, Read, Wanted, read
from tests.support.openapi_documents import document, swagger
from tests.support.samples import sample

pytestmark = pytest.mark.unit
# More by hand: APE_MUTATIONS=2000 pytest tests/unit/openapi/test_mutations.py
EXAMPLES = int(os.environ.get("APE_MUTATIONS", "60"))
USER = {
    "type": "object",
    "required": ["name", "id"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string", "example": "n", "minLength": 1},
        "age": {"type": ["integer", "null"], "exclusiveMinimum": 17, "multipleOf": 1},
        "boss": {"$ref": "#/components/schemas/User"},
        "pet": {
            "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"type": "null"}],
            "discriminator": {"propertyName": "kind", "mapping": {"c": "Cat"}},
        },
        "tags": {"type": "array", "prefixItems": [{"const": 1}], "items": {"enum": ["a", None]}},
    },
    "additionalProperties": {"type": "string"},
}
CAT = {"allOf": [{"$anchor": "cat", "properties": {"kind": {"type": "string"}}}, {"minItems": 2}]}
NEW = document(
    {
        "/users/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "example": 7}],
            "servers": [{"url": "/{v}", "variables": {"v": {"default": "v1", "enum": ["v1"]}}}],
            "get": {
                "operationId": "user",
                "tags": ["users"],
                "summary": "A user.",
                "parameters": [
                    {"$ref": "#/components/parameters/Filter"},
                    {
                        "name": "ids",
                        "in": "query",
                        "required": True,
                        "explode": False,
                        "style": "pipeDelimited",
                        "schema": {"type": "array", "minItems": 2},
                    },
                    {"name": "j", "in": "query", "content": {"application/json": {"schema": {}}}},
                    {"name": "X-Key", "in": "header", "required": True, "schema": {"default": 1}},
                    {"name": "c", "in": "cookie", "examples": {"e": {"value": "x"}}},
                ],
                "security": [{"key": []}, {}],
                "responses": {"200": {"headers": {"ETag": {"schema": {}}}}},
            },
            "put": {
                "deprecated": False,
                "requestBody": {
                    "required": True,
                    "content": {
                        "multipart/form-data": {
                            "schema": {"$ref": "#cat"},
                            "encoding": {"kind": {"contentType": "text/plain", "style": "form"}},
                        },
                        "application/json": {"schema": {"$ref": "#/components/schemas/User"}},
                    },
                },
            },
        },
        "/form?x=1": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "properties": {"a": {"type": "array"}, "b": {"example": {}}}
                            },
                            "encoding": {"b": {"style": "deepObject", "explode": True}},
                        }
                    }
                }
            }
        },
    },
    servers=[{"url": "https://h.example/api"}],
    components={
        "schemas": {"User": USER, "Cat": CAT},
        "parameters": {
            "Filter": {
                "name": "f",
                "in": "query",
                "style": "deepObject",
                "required": True,
                "schema": {"properties": {"a": {"default": 1}}},
            }
        },
        "securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "k"}},
    },
)
OLD = swagger(
    {
        "/a/{x}": {
            "post": {
                "consumes": ["application/x-www-form-urlencoded"],
                "parameters": [
                    {"in": "formData", "name": "f", "type": "file", "required": True},
                    {"in": "formData", "name": "l", "type": "array", "collectionFormat": "multi"},
                    {
                        "in": "query",
                        "name": "q",
                        "type": "array",
                        "collectionFormat": "tsv",
                        "items": {"type": "integer", "minimum": 1},
                        "required": True,
                    },
                ],
            },
            "put": {
                "parameters": [{"in": "body", "name": "b", "schema": {"$ref": "#/definitions/U"}}]
            },
        }
    },
    basePath="/v2",
    host="h.example",
    definitions={"U": {"type": "object", "properties": {"u": {"$ref": "#/definitions/U"}}}},
    securityDefinitions={"b": {"type": "basic"}},
)
KEYS = [
    "$ref",
    "type",
    "properties",
    "items",
    "required",
    "example",
    "examples",
    "in",
    "schema",
    "style",
    "explode",
    "servers",
    "content",
    "get",
    "allOf",
    "oneOf",
    "enum",
    "default",
    "$anchor",
    "nullable",
    "readOnly",
    "/",
    "//",
    "{}",
    "",
    "x",
]
WORDS = [
    "",
    "#",
    "#/",
    "#/paths",
    "#cat",
    "#/components/schemas/User",
    "other.yaml",
    "http://h/",
    "query",
    "path",
    "body",
    "formData",
    "object",
    "array",
    "file",
    "deepObject",
    "matrix",
    "text/plain",
    "multipart/form-data",
    "/{",
    "}",
    "..",
    "\ud800",
    "\0",
    "é",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=5,
)
MUTATION = st.tuples(
    st.integers(0, 10_000),
    st.sampled_from(["set", "drop", "wrap", "copy", "rename"]),
    VALUES,
    st.sampled_from(KEYS),
    st.integers(0, 10_000),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of every value in a document."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def mutate(data: Any, mutation: tuple[int, str, Any, str, int]) -> None:
    at, action, value, name, other = mutation
    found = list(places(data))
    if not found:
        return
    holder, key = found[at % len(found)]
    if action == "set":
        holder[key] = value
    elif action == "drop":
        del holder[key]
    elif action == "wrap":
        holder[key] = [holder[key]] if value else {name: holder[key]}
    elif action == "copy":
        source, where = found[other % len(found)]
        holder[key] = copy.deepcopy(source[where])
    elif isinstance(holder, dict):
        holder[name] = holder.pop(key)


def requests_are_text(found: Read) -> None:
    """Every operation gives a request of plain text, or the reason why not."""
    assert decode(encode(found.operations)) == found.operations
    encode(found.operations).encode()
    for operation in found.operations.operations:
        values = {name: sample(p.schema, p.name) for name, p in arguments(operation).items()}
        if operation.body is not None:
            values[BODY] = sample(operation.body.schema, "body")
        try:
            request = build(operation, values)
        except RequestError:
            continue
        request.path.encode("ascii")
        assert not {" ", chr(34), "\n", "{", "}"} & set(request.path)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([NEW, OLD]), st.lists(MUTATION, min_size=1, max_size=4), st.booleans())
def test_a_mutated_document_is_read_or_rejected(
    base: Any, mutations: list[tuple[int, str, Any, str, int]], as_yaml: bool
) -> None:
    data = copy.deepcopy(base)
    for mutation in mutations:
        mutate(data, mutation)
    # A JSON text is a YAML text.
    raw = json.dumps(data).encode()
    wanted = Wanted(target_url="http://shop:8080/api")
    try:
        found = read(b"--- " + raw if as_yaml else raw, wanted=wanted)
    except OpenApiError:
        return
    requests_are_text(found)


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_rejected(raw: bytes) -> None:
    with pytest.raises(OpenApiError):
        read(raw)


def test_the_documents_that_are_mutated_are_read_whole() -> None:
    for base in (NEW, OLD):
        found = read(json.dumps(base).encode())
        assert len(found.operations.operations) == sum(
            key in ("get", "put", "post") for item in base["paths"].values() for key in item
        )
        requests_are_text(found)
