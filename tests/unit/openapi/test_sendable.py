"""What agents get of OpenAPI documents such as applications serve."""

from __future__ import annotations

from typing import Any

import pytest

from ape_contracts.operation_request import build
from ape_contracts.operations import arguments
from ape_infra.config.openapi import OpenApiError, security
from tests.support.openapi_documents import (
    body_of,
    body_of_operation,
    document,
    lines,
    operation,
    path_of,
    read_data,
    read_text,
    swagger,
    with_body,
    with_query,
)

pytestmark = pytest.mark.unit


def test_operations_have_the_order_and_summaries_of_the_document() -> None:
    found = read_data(
        document(
            {
                "/login": {"post": {"summary": "Log in"}},
                "/lamps": {
                    "parameters": [{"name": "page", "in": "query", "required": True}],
                    "get": {
                        "description": "All\nlamps. ",
                        "parameters": [
                            {"name": "sort", "in": "query", "schema": {"enum": ["asc", "desc"]}},
                            {"name": "X-Key", "in": "header", "required": True},
                            {"name": "Authorization", "in": "header", "required": True},
                        ],
                    },
                },
                "x-internal": {"get": {}},
            }
        )
    )
    assert [(o.method, o.path, o.summary) for o in found.operations.operations] == [
        ("POST", "/login", "Log in"),
        ("GET", "/lamps", "All lamps."),
    ]
    assert list(arguments(found.operations.operations[1])) == ["page", "sort", "X-Key"]
    assert lines(found) == [
        "1 operation requires header Authorization, which only a sign-in sends (GET /lamps)."
    ]


def test_a_body_has_the_values_of_the_document_and_placeholders_for_the_others() -> None:
    schema = {
        "type": "object",
        "required": ["lamp_id", "count", "color", "gift", "size", "tags", "amount"],
        "properties": {
            "lamp_id": {"type": "integer", "minimum": 1},
            "count": {"type": "integer", "default": 1},
            "amount": {"type": "integer", "minimum": 2},
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
        "amount": 2,
        "color": "red",
        "gift": False,
        "size": "small",
        "tags": ["new"],
    }


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ({"type": "object", "additionalProperties": {"type": "string"}}, {}),
        (
            {
                "allOf": [{"properties": {"a": {"example": 1}}}],
                "oneOf": [{"properties": {"b": {"example": 2}}}],
            },
            {"a": 1, "b": 2},
        ),
        (
            {
                "required": ["a"],
                "properties": {
                    "a": {"anyOf": [{"type": "null"}, {"type": "string", "example": "s"}]}
                },
            },
            {"a": "s"},
        ),
        ({"type": "array", "items": {"properties": {"a": {"example": 1}}}}, [{"a": 1}]),
        ({"type": "object", "examples": [{"value": 5, "unit": "kg"}]}, {"value": 5, "unit": "kg"}),
        ({"properties": {"a": {"type": "string", "examples": "x"}}}, {"a": "x"}),
        (
            {
                "properties": {
                    "a": {"type": "array", "prefixItems": [{"example": 1}, {"example": 2}]}
                }
            },
            {"a": [1, 2]},
        ),
        (
            {
                "required": ["p", "l"],
                "properties": {
                    "p": {"type": ["object", "null"]},
                    "l": {"type": ["array", "null"], "items": {"example": 1}},
                },
            },
            {"p": {}, "l": [1]},
        ),
        (
            {
                "required": ["id", "n"],
                "properties": {"id": {"readOnly": True}, "n": {"example": "n"}},
            },
            {"n": "n"},
        ),
        ({"required": None, "properties": {"a": {"example": 1}}}, {"a": 1}),
        ({"required": True, "properties": {"a": {"example": 1}}}, {"a": 1}),
        ({"properties": {"m": {"example": "hi \U0001f600"}}}, {"m": "hi \U0001f600"}),
        ({"required": ["b"], "properties": {"b": {"type": "boolean"}}}, {"b": True}),
        ({"properties": {"zip": {"type": "string", "example": 1234}}}, {"zip": "1234"}),
    ],
)
def test_a_body_is_what_a_client_would_send(schema: dict[str, Any], body: Any) -> None:
    assert body_of(schema) == body


def test_properties_that_are_not_an_object_are_reported() -> None:
    found = read_data(with_body({"type": "object", "properties": [{"a": 1}]}))
    assert body_of_operation(found.operations.operations[0]) == {}
    assert lines(found) == [
        "1 part of the document is ignored: `properties` is not an object (POST /x)."
    ]


def test_a_property_nine_levels_deep_is_sent() -> None:
    schema: dict[str, Any] = {"type": "string", "example": "leaf"}
    for _ in range(9):
        schema = {"type": "object", "properties": {"n": schema}}
    found = body_of(schema)
    for _ in range(9):
        found = found["n"]
    assert found == "leaf"


def object_with(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "string"}}, **more}


@pytest.mark.parametrize(
    ("choices", "offered"),
    [
        ([object_with("card"), object_with("iban")], ["card", "iban"]),
        ([object_with("card"), {"type": "string"}], None),
        ([object_with("card"), {"type": "null"}], None),
        ([object_with(f"a{n}") for n in range(5)], None),
        ([object_with("a"), object_with("b", properties={f"p{n}": {} for n in range(70)})], None),
    ],
)
def test_a_few_small_objects_stay_a_choice_and_others_become_the_first(
    choices: list[Any], offered: list[str] | None
) -> None:
    schema = {"properties": {"pay": {"oneOf": choices}}, "required": ["pay"]}
    found = read_data(with_body(schema))
    (made,) = found.operations.operations
    assert made.body is not None
    pay = made.body.schema["properties"]["pay"]
    if offered:
        assert [each["required"] for each in pay["oneOf"]] == [[name] for name in offered]
        assert "properties" not in pay
        assert lines(found) == []
    else:
        assert "oneOf" not in pay
        assert pay["required"] == choices[0]["required"]


def test_each_object_of_a_choice_has_its_own_value_of_the_discriminator() -> None:
    references = [{"$ref": f"#/components/schemas/{name}"} for name in ("Cat", "Dog")]
    schemas = {"Cat": object_with("kind"), "Dog": object_with("kind")}
    choice = {"oneOf": references, "discriminator": {"propertyName": "kind"}}
    data = with_body(choice) | {"components": {"schemas": schemas}}
    body = operation(data).body
    assert body is not None
    kinds = [each["properties"]["kind"]["const"] for each in body.schema["oneOf"]]
    assert kinds == ["Cat", "Dog"]


def test_a_discriminator_names_the_chosen_schema() -> None:
    schemas = {
        "Cat": {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}}
    }
    choice = {
        "oneOf": [{"$ref": "#/components/schemas/Cat"}],
        "discriminator": {"propertyName": "kind", "mapping": {"c": "#/components/schemas/Cat"}},
    }
    assert body_of(choice, components={"schemas": schemas}) == {"kind": "c"}


def test_examples_of_the_content_come_before_those_of_its_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "example": "schema"}}}

    def sent(**media: Any) -> Any:
        return body_of_operation(operation(with_body(schema, **media)))

    assert sent(example={"a": "b"}) == {"a": "b"}
    assert sent(example='{"a": "b"}') == {"a": "b"}
    assert sent(examples={"e": {"value": {"a": "c"}}}) == {"a": "c"}
    elsewhere = read_data(with_body(schema, examples={"e": {"externalValue": "http://h/e.json"}}))
    assert body_of_operation(elsewhere.operations.operations[0]) == {"a": "schema"}
    assert lines(elsewhere) == ["1 example is in another place: not read (POST /x)."]


@pytest.mark.parametrize(
    "kind",
    [
        "application/JSON ; charset=utf-8",
        "*/*",
        "application/merge-patch+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/x-ndjson",
    ],
)
def test_a_body_is_sent_by_its_content_type(kind: str) -> None:
    found = read_data(with_body({"properties": {"a": {"example": 1}}}, kind))
    body = found.operations.operations[0].body
    assert body is not None
    assert (body.content_type, body.schema["properties"]["a"]["examples"]) == (kind, [1])
    assert lines(found) == []


@pytest.mark.parametrize(
    ("kind", "schema", "line"),
    [
        ("text/csv", {"type": "string"}, ""),
        ("application/xml", {"type": "object"}, "which agents write as text"),
        ("image/png", {"format": "binary"}, "of which agents send a text only"),
    ],
)
def test_a_model_writes_a_body_that_has_no_json_as_text(kind: str, schema: Any, line: str) -> None:
    found = read_data(with_body(schema, kind, example={"a": 1} if line else None))
    body = found.operations.operations[0].body
    assert body is not None
    assert (body.schema["type"], body.example) == ("string", None)
    said = [f"1 operation has bodies of type {kind}, {line} (POST /x)."] if line else []
    assert lines(found) == said


def test_an_operation_whose_body_cannot_be_encoded_is_left_out_or_sent_without() -> None:
    content = {"application/x-protobuf": {"schema": {"type": "object"}}}
    found = read_data(
        document(
            {
                "/x": {
                    "post": {"requestBody": {"required": True, "content": content}},
                    "put": {"requestBody": {"content": content}},
                    "get": {"requestBody": {"required": True, "content": content}},
                }
            }
        )
    )
    assert [(o.method, o.body) for o in found.operations.operations] == [
        ("PUT", None),
        ("GET", None),
    ]
    kind = "1 operation has bodies of type application/x-protobuf, which agents cannot send"
    assert lines(found) == [
        f"{kind}: left out (POST /x).",
        f"{kind}: sent without (PUT /x).",
        "1 GET operation has a body: it is not sent (GET /x).",
    ]


def test_what_agents_do_not_know_of_an_operation_is_said() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(14):
        deep = {"type": "object", "properties": {"n": deep}}
    choice = {"oneOf": [{"type": "object"}, {"type": "string"}]}
    parameters = [{"name": f"p{n}", "in": "query"} for n in range(201)]
    found = read_data(
        document(
            {
                "/deep": {"post": {"requestBody": {"content": {"a/json": {"schema": deep}}}}},
                "/choice": {"post": {"requestBody": {"content": {"a/json": {"schema": choice}}}}},
                "/many": {"get": {"parameters": parameters, "callbacks": {"done": {}}}},
            }
        )
    )
    assert lines(found) == [
        "1 operation has more than 200 parameters: 200 are known (GET /many).",
        "1 operation has schemas of more than 12 levels or 150 parts: agents know so much of them "
        "(POST /deep).",
        "1 operation has a choice of schemas, of which agents know the first alone (POST /choice).",
        "1 callback is left out, since the target sends them (GET /many done).",
    ]


def test_of_several_bodies_json_is_preferred() -> None:
    content = {
        "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
        "application/json": {"schema": {"properties": {"a": {"example": 1}}}},
    }
    found = operation(document({"/x": {"post": {"requestBody": {"content": content}}}}))
    assert body_of_operation(found) == {"a": 1}


@pytest.mark.parametrize(
    ("parameter", "path"),
    [
        ({"example": "R&D=1+1"}, "/s?q=R%26D%3D1%2B1"),
        ({"schema": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2}}, "/s?q=a&q=a"),
        ({"example": ["a b", "c"], "explode": False}, "/s?q=a%20b,c"),
        ({"example": ["a", "b"], "style": "pipeDelimited", "explode": False}, "/s?q=a%7Cb"),
        ({"style": "deepObject", "schema": {"properties": {"a": {"default": 1}}}}, "/s?q%5Ba%5D=1"),
        ({"example": True}, "/s?q=true"),
        (
            {"content": {"application/json": {"example": {"a": [1]}}}},
            "/s?q=%7B%22a%22%3A%5B1%5D%7D",
        ),
        ({"example": "a/b?c", "allowReserved": True}, "/s?q=a/b?c"),
    ],
)
def test_a_required_query_parameter_is_encoded_by_its_style(
    parameter: dict[str, Any], path: str
) -> None:
    assert path_of(with_query(**parameter)) == path


def test_the_parameter_of_an_operation_takes_the_place_of_the_path_items() -> None:
    shared = {"name": "v", "in": "query", "required": True, "example": "1"}
    item = {"parameters": [shared], "get": {"parameters": [shared | {"example": "2"}]}}
    assert path_of(document({"/s": item})) == "/s?v=2"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("pets", "/pets"),
        ("/pets/", "/pets/"),
        ("/größe/{id}", "/gr%C3%B6%C3%9Fe/{id}"),
        ("/s?type=a", "/s?type=a"),
        ("/a b", "/a%20b"),
    ],
)
def test_paths_are_sent_as_urls_have_them(path: str, sent: str) -> None:
    assert operation(document({path: {"get": {}}})).path == sent


@pytest.mark.parametrize("path", ["/#Action=List", "/a/../b", "//x"])
def test_a_path_that_the_gateway_would_reject_is_left_out_and_reported(path: str) -> None:
    found = read_data(document({path: {"post": {}}, "/ok": {"get": {}}}))
    assert [o.path for o in found.operations.operations] == ["/ok"]
    assert lines(found)[0].startswith("1 path is left out: a path must ")


def test_base_paths_count_of_the_nearest_server() -> None:
    server = {"url": "https://h.example/{base}", "variables": {"base": {"default": "api/v3"}}}
    item = {"servers": [{"url": "/item"}], "get": {}, "put": {"servers": [{"url": "/own/"}]}}
    found = read_data(
        document({"/s": {"get": {}}, "/t": item}, servers=[server]), target_url="http://shop:8080"
    )
    assert [o.path for o in found.operations.operations] == ["/api/v3/s", "/item/t", "/own/t"]
    assert lines(found) == [
        "1 operation has server h.example: only its path counts, the target is the setting "
        "(GET /s)."
    ]


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://h", "/api/v3/s"), ("http://h/api/v3/", "/s"), ("http://h/api", "/v3/s")],
)
def test_a_base_path_that_the_target_has_already_is_not_sent_twice(target: str, path: str) -> None:
    data = document({"/s": {"get": {}}}, servers=[{"url": "/api/v3"}])
    assert path_of(data, target_url=target) == path


def test_a_security_scheme_is_reported_with_the_place_of_its_key() -> None:
    scheme = {"type": "apiKey", "in": "query", "name": "api_key"}
    data = document(
        {"/s": {"get": {}}, "/open": {"get": {"security": []}}},
        security=[{"k": []}],
        components={"securitySchemes": {"k": scheme}},
    )
    found = read_data(data)
    assert found.operations.operations[0].security == (("k",),)
    assert found.operations.operations[1].security == ()
    assert found.operations.schemes == {"k": scheme}
    assert lines(found) == [
        "1 operation needs security scheme k (key api_key in query), whose credentials agents do "
        "not have (GET /s)."
    ]


def test_a_swagger_2_document_is_read() -> None:
    body = [{"in": "body", "name": "b", "schema": {"example": {"user": "u"}}}]
    query = {"in": "query", "name": "t", "type": "array", "items": {"enum": ["x"]}, "minItems": 2}
    found = read_data(
        swagger(
            {
                "/a": {"put": {"parameters": body}},
                "/b": {"get": {"parameters": [query | {"required": True}]}},
            },
            basePath="/v2/",
        )
    )
    put, get = found.operations.operations
    assert (put.path, body_of_operation(put)) == ("/v2/a", {"user": "u"})
    assert build(get, {"t": ["x", "x"]}).path == "/v2/b?t=x,x"


def test_a_yaml_document_is_of_yaml_1_2() -> None:
    found = read_text(
        """
openapi: 3.0.0
paths:
  /ship:
    post:
      requestBody: {content: {application/json: {schema: {type: object, properties: {
        country: {type: string, enum: [NO, SE]}, from: {type: string, example: 12:30},
        day: {type: string, example: 2024-02-03}, zip: {type: string, example: 01234},
        v: {type: string, default: 1.10}, n: {type: number, default: 1.10},
        on: {type: boolean, default: true}, y: {type: integer, default: 1},
        op: {type: string, enum: [=]}, raw: {type: string, example: !!binary aGVsbG8=}}}}}}
      responses: {200: {description: ok}}
"""
    )
    assert body_of_operation(found.operations.operations[0]) == {
        "country": "NO",
        "from": "12:30",
        "day": "2024-02-03",
        "zip": "01234",
        "v": "1.10",
        "n": 1.1,
        "on": True,
        "y": 1,
        "op": "=",
        "raw": "aGVsbG8=",
    }


def test_what_is_malformed_is_reported_and_the_rest_is_read() -> None:
    found = read_data(
        document(
            {
                "/s": {"get": {"summary": 5, "parameters": {"a": 1}}},
                "/t": {"get": {"parameters": [{"name": 1}]}, "post": []},
                "/u": [],
                "/v": {"head": {}, "get": {"summary": "\ud83d", "tags": 5}},
            }
        )
    )
    assert [o.summary for o in found.operations.operations] == ["5", "", "?"]
    assert lines(found) == [
        "1 part of the document is ignored: an operation is not an object (POST /t).",
        "1 part of the document is ignored: a path has no object (/u).",
        "1 operation has method HEAD, which agents do not call: left out (HEAD /v).",
        "1 part of the document is ignored: `parameters` is not a list (GET /s).",
        "1 part of the document is ignored: a parameter has no name or no `in` (GET /t).",
    ]


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (None, "has neither `openapi` nor"),
        ([], "has neither `openapi` nor"),
        ({}, "has neither `openapi` nor"),
        ({"openapi": "3"}, "no operation that agents can call. Add one below `paths`"),
        ({"openapi": "4.0.0", "paths": {"/": {"get": {}}}}, "has OpenAPI version 4.0.0"),
        ({"openapi": "3", "paths": {"/": {"get": 1}}}, "an operation is not an object"),
        ({"openapi": "3.0.0", "paths": []}, "has a `paths` that is not an object"),
        ({"openapi": "3.1.0", "webhooks": {"n": {"post": {}}}}, "has only webhooks"),
        ({"asyncapi": "2.0.0", "channels": {}}, "is an AsyncAPI document"),
        ({"info": {"schema": "https://schema.getpostman.com/x"}, "item": []}, "is a Postman coll"),
        (document({"/x": {"head": {}, "options": {}}}), "has method OPTIONS"),
        (document({"/s": {"get": {"deprecated": True}}}), "1 deprecated operation is off"),
    ],
)
def test_a_document_without_usable_operations_is_rejected_with_its_reason(
    bad: Any, part: str
) -> None:
    with pytest.raises(OpenApiError) as caught:
        read_data(bad)
    assert part in str(caught.value)


SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "session": {"type": "apiKey", "in": "cookie", "name": "sid"},
}
BY_TOKEN = {"kind": "oauth2", "path": "/t"}
BY_KEY = {"kind": "apiKey", "name": "x-key", "credential": "key"}


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([BY_TOKEN], ["/open", "/token", "/either"]),
        ([BY_TOKEN, BY_KEY], ["/open", "/token", "/either", "/both"]),
        ([{"kind": "form", "page": "/login"}], ["/open", "/either"]),
        # None of them: the document states it in another way.
        ([{"kind": "basic"}], ["/open", "/token", "/either", "/both"]),
    ],
)
def test_operations_that_need_another_scheme_than_the_sign_in_are_left_out(
    steps: list[dict[str, Any]], kept: list[str]
) -> None:
    needs: dict[str, list[dict[str, list[str]]]] = {
        "/open": [],
        "/token": [{"token": []}],
        "/either": [{"token": []}, {"session": []}],
        "/both": [{"token": [], "key": []}],
    }
    header = {"name": "Authorization", "in": "header", "required": True, "schema": {}}
    paths: dict[str, Any] = {path: {"get": {"security": each}} for path, each in needs.items()}
    paths["/open"]["get"]["parameters"] = [header]
    data = document(paths, components={"securitySchemes": SCHEMES})
    found = read_data(data, carried=security.carried(steps), is_signed_in=True)
    assert [each.path for each in found.operations.operations] == kept
    said = " ".join(lines(found))
    assert ("targetSignIn does not have: left out" in said) is (len(kept) < 4)
    assert ("whose credentials agents do not have" in said) is (steps == [{"kind": "basic"}])
    assert ("require header Authorization" in said) is False
    assert ("requires header Authorization" in said) is ("page" in steps[0])


@pytest.mark.parametrize(
    ("path", "names", "step"),
    [
        ("/login", ["username", "password"], {}),
        ("/api/token", ["email", "password"], {"email": "{email}", "password": "{password}"}),
        ("/users", ["username", "password"], None),
        ("/sign-in/code", ["email"], None),
    ],
)
def test_a_login_of_the_document_is_an_example_of_a_sign_in(
    path: str, names: list[str], step: dict[str, str] | None
) -> None:
    schema = {"type": "object", "required": names, "properties": {name: {} for name in names}}
    content = {"application/json": {"schema": schema}}
    found = read_data(document({path: {"post": {"requestBody": {"content": content}}}}))
    fields = {"fields": step} if step else {}
    expected = None if step is None else {"kind": "json", "path": path, **fields}
    assert security.login(found.operations) == expected
