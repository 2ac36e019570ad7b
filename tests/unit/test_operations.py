"""Operations as data, and the requests that are built from them."""

from __future__ import annotations

import json
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.operation_request import (
    File,
    Request,
    RequestError,
    build,
    encode_body,
    kind_of,
)
from ape_contracts.operations import (
    BODY,
    LOCATIONS,
    STYLES,
    Body,
    Operation,
    Operations,
    OperationsError,
    Parameter,
    arguments,
    arguments_schema,
    decode,
    encode,
)

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.text("abcxyz_-", min_size=1, max_size=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SCHEMAS = st.dictionaries(NAMES, JSON, max_size=2)


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    location = draw(st.sampled_from(LOCATIONS))
    return Parameter(
        name=draw(NAMES),
        location=location,
        required=draw(st.booleans()),
        schema=draw(SCHEMAS),
        example=draw(JSON),
        style=draw(st.sampled_from(["", *STYLES[location]])),
        explode=draw(st.none() | st.booleans()),
        allow_reserved=draw(st.booleans()),
        content_type=draw(st.sampled_from(["", "application/json"])),
        description=draw(TEXT),
    )


OPERATIONS = st.builds(
    Operation,
    id=NAMES,
    method=st.sampled_from(["GET", "POST"]),
    path=st.just("/x"),
    summary=TEXT,
    tags=st.lists(TEXT, max_size=2).map(tuple),
    deprecated=st.booleans(),
    parameters=st.lists(parameters(), max_size=3).map(tuple),
    body=st.none()
    | st.builds(Body, content_type=TEXT, required=st.booleans(), schema=SCHEMAS, example=JSON),
    security=st.lists(st.lists(NAMES, max_size=2).map(tuple), max_size=2).map(tuple),
    response_headers=st.lists(NAMES, max_size=2).map(tuple),
)


@given(st.lists(OPERATIONS, max_size=3))
def test_operations_are_the_same_after_encoding(found: list[Operation]) -> None:
    operations = Operations(operations=tuple(found), schemes={"k": {"type": "http"}})
    assert decode(encode(operations)) == operations


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"operations": [{}]}',
        '{"operations": [{"id": 1, "method": "GET", "path": "/"}]}',
        '{"operations": [{"id": "a", "method": "GET", "path": "/", "parameters": '
        '[{"name": "n", "in": "nowhere"}]}]}',
        '{"operations": [{"id": "a", "method": "GET", "path": "/", "body": {"x": 1}}]}',
    ],
)
def test_anything_but_operations_is_rejected(text: str) -> None:
    with pytest.raises(OperationsError):
        decode(text)


def of(*parameters: Parameter, path: str = "/x", **more: Any) -> Operation:
    return Operation(id="op", method="POST", path=path, parameters=parameters, **more)


def sent(value: Any, location: str = "query", **parameter: Any) -> Request:
    path = "/x/{p}" if location == "path" else "/x"
    return build(of(Parameter(name="p", location=location, **parameter), path=path), {"p": value})


OBJECT, LIST = {"R": 100, "G": 200}, ["blue", "black"]


@pytest.mark.parametrize(
    ("style", "explode", "value", "path"),
    [
        ("form", True, LIST, "/x?p=blue&p=black"),
        ("form", False, LIST, "/x?p=blue,black"),
        ("form", True, OBJECT, "/x?R=100&G=200"),
        ("form", False, OBJECT, "/x?p=R,100,G,200"),
        ("spaceDelimited", False, LIST, "/x?p=blue%20black"),
        ("pipeDelimited", False, LIST, "/x?p=blue%7Cblack"),
        ("tabDelimited", False, LIST, "/x?p=blue%09black"),
        ("spaceDelimited", True, LIST, "/x?p=blue&p=black"),
        ("deepObject", True, OBJECT, "/x?p%5BR%5D=100&p%5BG%5D=200"),
        ("deepObject", True, {"a": {"b": [1, 2]}}, "/x?p%5Ba%5D%5Bb%5D=1&p%5Ba%5D%5Bb%5D=2"),
        ("form", False, ["a,b", "c"], "/x?p=a%2Cb,c"),
        ("form", True, True, "/x?p=true"),
        ("form", True, 1.5, "/x?p=1.5"),
        ("form", True, "R&D=1+1", "/x?p=R%26D%3D1%2B1"),
        ("form", True, [], "/x"),
        ("form", True, None, "/x"),
    ],
)
def test_a_query_parameter_is_encoded_by_its_style(
    style: str, explode: bool, value: Any, path: str
) -> None:
    assert sent(value, style=style, explode=explode).path == path


@pytest.mark.parametrize(
    ("style", "explode", "value", "path"),
    [
        ("simple", False, LIST, "/x/blue,black"),
        ("simple", False, OBJECT, "/x/R,100,G,200"),
        ("simple", True, OBJECT, "/x/R=100,G=200"),
        ("label", False, LIST, "/x/.blue,black"),
        ("label", True, LIST, "/x/.blue.black"),
        ("label", True, OBJECT, "/x/.R=100.G=200"),
        ("matrix", False, LIST, "/x/;p=blue,black"),
        ("matrix", True, LIST, "/x/;p=blue;p=black"),
        ("matrix", True, OBJECT, "/x/;R=100;G=200"),
        ("simple", False, "a/../b?c#d", "/x/a%2F..%2Fb%3Fc%23d"),
    ],
)
def test_a_path_parameter_is_encoded_by_its_style(
    style: str, explode: bool, value: Any, path: str
) -> None:
    assert sent(value, "path", style=style, explode=explode).path == path


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_path_parameter_stays_in_its_segment(value: str) -> None:
    with pytest.raises(RequestError, match="path parameter p is empty or only dots"):
        sent(value, "path")


def test_headers_and_cookies_are_sent_as_text() -> None:
    assert sent(OBJECT, "header").headers == {"p": "R,100,G,200"}
    assert sent(OBJECT, "header", explode=True).headers == {"p": "R=100,G=200"}
    assert sent(LIST, "header").headers == {"p": "blue,black"}
    assert sent("a b;c", "cookie").cookies == {"p": "a%20b%3Bc"}
    assert sent(7, "cookie").cookies == {"p": "7"}
    with pytest.raises(RequestError, match="Header p has a control character"):
        sent("a\r\nHost: x", "header")


def test_a_parameter_with_a_content_type_is_json() -> None:
    found = sent({"a": [1, True]}, content_type="application/json")
    assert found.path == "/x?p=%7B%22a%22%3A%5B1%2Ctrue%5D%7D"


def test_what_is_required_must_be_given() -> None:
    operation = of(
        Parameter(name="q", location="query", required=True),
        Parameter(name="h", location="header"),
        body=Body(content_type="application/json", required=True),
    )
    with pytest.raises(RequestError, match="op needs a value for q, body"):
        build(operation, {"q": None})
    found = build(operation, {"q": 0, BODY: [], "unknown": 1})
    assert found == Request("POST", "/x?q=0", {"Content-Type": "application/json"}, {}, b"[]")


def test_a_request_without_a_body_has_no_content_type() -> None:
    operation = of(body=Body(content_type="application/json"))
    assert build(operation, {}) == Request("POST", "/x")


def test_arguments_have_one_name_each() -> None:
    operation = of(
        Parameter(name="id", location="path", required=True),
        Parameter(name="id", location="query", schema={"type": "integer"}, example=7),
        Parameter(name="body", location="query", description="Not the body."),
        path="/x/{id}",
        body=Body(content_type="text/plain", schema={"type": "string"}),
    )
    assert list(arguments(operation)) == ["id", "id_in_query", "body_in_query"]
    assert arguments_schema(operation) == {
        "type": "object",
        "properties": {
            "id": {},
            "id_in_query": {"type": "integer", "examples": [7]},
            "body_in_query": {"description": "Not the body."},
            "body": {"type": "string"},
        },
        "required": ["id"],
    }
    found = build(operation, {"id": 1, "id_in_query": 2, "body_in_query": 3, "body": "x"})
    assert (found.path, found.body) == ("/x/1?id=2&body=3", b"x")


@pytest.mark.parametrize(
    ("kind", "value", "content"),
    [
        ("application/json", {"ü": [True, None, 1.0]}, '{"ü": [true, null, 1.0]}'.encode()),
        ("application/json", "text", b'"text"'),
        ("application/x-ndjson", [{"a": 1}, 2], b'{"a": 1}\n2\n'),
        (
            "application/x-www-form-urlencoded",
            {"a": "x y&z", "b": [1, True], "c": {"d": 1}, "e": None},
            b"a=x+y%26z&b=1&b=true&c=%7B%22d%22%3A1%7D",
        ),
        ("text/plain; charset=utf-8", "hé", "hé".encode()),
        ("application/octet-stream", b"\0\xff", b"\0\xff"),
        ("application/cbor", b"\x01", b"\x01"),
    ],
)
def test_a_body_is_encoded_by_its_content_type(kind: str, value: Any, content: bytes) -> None:
    assert encode_body(Body(content_type=kind), value) == (kind, content)


def test_a_form_has_the_encoding_of_its_fields() -> None:
    encoding = {
        "card": {"style": "deepObject", "explode": True},
        "ids": {"style": "form", "explode": False},
    }
    body = Body(content_type="application/x-www-form-urlencoded", encoding=encoding)
    _, content = encode_body(body, {"card": {"number": "4 2"}, "ids": [1, 2]})
    assert content == b"card%5Bnumber%5D=4+2&ids=1,2"


def test_a_multipart_body_has_files_fields_and_json() -> None:
    body = Body(
        content_type="multipart/form-data", encoding={"photo": {"contentType": "image/png"}}
    )
    value = {
        "name": "é\n",
        "photo": b"\x89PNG\r\n--ape",
        "note": File(b"hi", 'a"\r\n.txt', "text/plain"),
        "tags": ["a", 1],
        "meta": {"a": True},
    }
    kind, content = encode_body(body, value)
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
    parts: Any = message.get_payload()
    found = [
        (p.get_param("name", header="content-disposition"), p.get_filename(), p["Content-Type"])
        for p in parts
    ]
    assert found == [
        ("name", None, None),
        ("photo", "file.bin", "image/png"),
        ("note", "a%22%0D%0A.txt", "text/plain"),
        ("tags", None, None),
        ("tags", None, None),
        ("meta", None, "application/json"),
    ]
    contents = [p.get_payload(decode=True) for p in parts]
    assert contents[1:] == [b"\x89PNG\r\n--ape", b"hi", b"a", b"1", b'{"a":true}']
    assert encode_body(body, value) == (kind, content)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("application/cbor", {"a": 1}),
        ("text/plain", {"a": 1}),
        ("multipart/form-data", "x"),
        ("application/json", {"a": float("nan")}),
        ("application/json", {1, 2}),
    ],
)
def test_a_body_that_cannot_be_encoded_is_rejected(kind: str, value: Any) -> None:
    with pytest.raises(RequestError):
        encode_body(Body(content_type=kind), value)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/JSON ; charset=utf-8", "json"),
        ("application/merge-patch+json", "json"),
        ("*/*", "json"),
        ("application/jsonl", "lines"),
        ("Multipart/Form-Data", "multipart"),
        ("application/soap+xml", "text"),
        ("image/png", "binary"),
        ("application/msgpack", ""),
        ("", ""),
    ],
)
def test_the_kind_of_a_body_follows_from_its_content_type(kind: str, expected: str) -> None:
    assert kind_of(kind) == expected


@given(parameters(), JSON)
def test_no_value_is_sent_as_python_writes_it(parameter: Parameter, value: Any) -> None:
    path = "/x/{" + parameter.name + "}" if parameter.location == "path" else "/x"
    operation = of(parameter, path=path)
    try:
        found = build(operation, {parameter.name: value})
    except RequestError:
        return
    texts = [unquote(found.path), *found.headers.values(), *map(unquote, found.cookies.values())]
    written = json.dumps(value)
    for word in ("None", "True", "False", "{'"):
        if word not in written and word not in parameter.name:
            assert not any(word in text for text in texts)
    found.path.encode("ascii")
    assert not {" ", "#", "\n", "{", "}"} & set(found.path)


@given(st.lists(TEXT, min_size=1, max_size=5), st.sampled_from(STYLES["query"]), st.booleans())
def test_each_item_of_a_list_is_sent_once(items: list[str], style: str, explode: bool) -> None:
    found = sent(items, style=style, explode=explode).path.partition("?")[2]
    if explode:
        assert parse_qs(found, keep_blank_values=True)["p"] == items
    else:
        delimiter = {"spaceDelimited": "%20", "pipeDelimited": "%7C", "tabDelimited": "%09"}
        parts = found.removeprefix("p=").split(delimiter.get(style, ","))
        if not any({" ", "|", "\t"} & set(item) for item in items):
            assert [unquote(part) for part in parts] == items


@given(st.dictionaries(NAMES, TEXT, max_size=4))
def test_a_form_is_read_back_as_it_was(fields: dict[str, str]) -> None:
    body = Body(content_type="application/x-www-form-urlencoded")
    _, content = encode_body(body, fields)
    assert parse_qsl(content.decode(), keep_blank_values=True) == list(fields.items())
