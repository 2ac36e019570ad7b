"""Reading documents: JSON by a JSON parser, YAML by version 1.2, and what is neither."""

from __future__ import annotations

import time

import pytest

from ape_contracts.operations import encode
from ape_infra.config.openapi import OpenApiError, yaml12
from ape_infra.config.openapi.loader import load
from tests.support.openapi_documents import body_of_operation, lines, read_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "x\x7fy"}', {"a": "x\x7fy"}),
        (b'{"a": "x\ty"}', {"a": "x\ty"}),
        (rb'{"\/a": "\ud83d\ude80"}', {"/a": "\U0001f680"}),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
        (b"{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        (b"a: &x [1]\nb: *x\n", {"a": [1], "b": [1]}),
        (b"a: &k b\n*k : 1\n", {"a": "b", "b": 1}),
        (b"a: {<<: {x: 1, y: 1}, y: 2}", {"a": {"x": 1, "y": 2}}),
        (b"200: x\nnull: y\non: z\n=: w", {"200": "x", "null": "y", "on": "z", "=": "w"}),
        (
            b"a: '1'\nb: !!str 2\nc: 0x1f\nd: 0o17\ne: 1e3\nf: .inf",
            {"a": "1", "b": "2", "c": 31, "d": 15, "e": 1000.0, "f": ".inf"},
        ),
        (
            b"a: yes\nb: 1_000\nc: 2001-12-14\nd: ~",
            {"a": "yes", "b": "1_000", "c": "2001-12-14", "d": None},
        ),
    ],
)
def test_json_and_yaml_are_read_as_they_are_written(raw: bytes, content: object) -> None:
    assert load(raw).content == content


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "is empty."),
        (b" \n", "is empty."),
        (b"<!doctype html><html></html>", "is an HTML or XML page"),
        (b'{"a": 1,\n "b" 2}', "line 2: is neither JSON nor YAML (Expecting ':' delimiter)."),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not JSON"),
        (b'{"a":' * 100_000, "is nested too deeply."),
        (b"a:\n\tb: 1", "line 2: is neither JSON nor YAML"),
        (b"a: [", "line 1: is neither JSON nor YAML"),
        (b"a: 1\n---\nb: 2", "line 2: has a second YAML document (---)."),
        (b"a: *nowhere", "line 1: has no anchor &nowhere."),
        (b"[a, b]: 1\n? [c]\n: 2", "line 1: has a key that is not a text."),
        ("a: caf\xe9".encode("latin-1"), "line 1: is not UTF-8 text."),
    ],
)
def test_anything_but_a_document_is_rejected_with_line_and_reason(
    raw: bytes, sentence: str
) -> None:
    with pytest.raises(OpenApiError) as caught:
        load(raw)
    assert str(caught.value).startswith(sentence)


def test_aliases_and_depth_cost_nothing() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
    )
    content = "{application/json: {example: *a39}}"
    paths = f"openapi: 3.0.0\npaths: {{/f: {{post: {{requestBody: {{content: {content}}}}}}}}}\n"
    started = time.monotonic()
    found = read_text(bomb + paths)
    assert len(encode(found.operations)) < 10_000
    assert time.monotonic() - started < 1
    assert yaml12.load("[" * 5000 + "]" * 5000)


def test_a_schema_that_is_in_itself_is_cut() -> None:
    found = read_text(
        "openapi: 3.0.0\npaths: {/f: {post: {requestBody: {content: {application/json: "
        "{schema: &a {type: object, properties: {x: *a, y: {example: 1}}}}}}}}}"
    )
    assert body_of_operation(found.operations.operations[0]) == {"y": 1}


def test_a_key_that_is_there_twice_is_reported() -> None:
    found = read_text("openapi: 3.0.0\npaths:\n  /a: {get: {}}\n  /a: {put: {}}\n")
    assert [o.method for o in found.operations.operations] == ["PUT"]
    assert lines(found) == ["1 key is twice in one object: the last value counts (line 4: /a)."]
    assert load(b'{"a": 1, "a": 2}').duplicates == ["a"]
