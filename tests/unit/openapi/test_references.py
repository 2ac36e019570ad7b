"""References inside a document, and into files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ape_contracts.operations import Body
from ape_infra.config import document as documents
from ape_infra.config.parsing import parse
from tests.support.openapi_documents import (
    body_of,
    body_of_operation,
    document,
    lines,
    read_data,
    with_body,
)

pytestmark = pytest.mark.unit
OWN = {
    "target": "https://shop.example",
    "targetGoal": "Order.",
    "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
    "targetOpenapi": "api/openapi.yaml",
}
ONE = {"type": "object", "properties": {"a": {"example": 1}}}


@pytest.mark.parametrize(
    ("reference", "components"),
    [
        ("#/components/schemas/A%20B", {"schemas": {"A B": ONE}}),
        ("#/components/schemas/a~1b~0c", {"schemas": {"a/b~c": ONE}}),
        ("#/components/x-list/1", {"x-list": [{}, ONE]}),
        ("#one", {"schemas": {"A": {"$anchor": "one", **ONE}}}),
        (
            "#/components/schemas/A",
            {"schemas": {"A": {"$ref": "#/components/schemas/B"}, "B": ONE}},
        ),
    ],
)
def test_a_reference_is_followed_to_its_end(reference: str, components: dict[str, Any]) -> None:
    assert body_of({"$ref": reference}, components=components) == {"a": 1}


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("#/components/schemas/Nope", "which the document does not have"),
        ("#/paths/9", "which the document does not have"),
        ("#/components/schemas/A", "leads to itself"),
        ("http://h.example/x.json", "which is not a file: references to URLs are not followed"),
        ("../x.json", "which is outside of the document's folder"),
        ("x/%2e%2e/%2e%2e/y.json", "which is outside of the document's folder"),
        ("/etc/passwd", "which is outside of the document's folder"),
        ("http://[x", "which is not a reference"),
    ],
)
def test_a_reference_that_is_not_followed_is_reported(reference: str, reason: str) -> None:
    found = read_data(
        with_body({"$ref": reference})
        | {"components": {"schemas": {"A": {"$ref": "#/components/schemas/A"}}}}
    )
    assert found.operations.operations[0].body == Body(
        content_type="application/json", required=True
    )
    (line,) = lines(found)
    assert reason in line
    assert line.endswith("what it describes is not sent (POST /x).")


def test_cyclic_schemas_are_cut_where_they_repeat() -> None:
    node = {
        "allOf": [{"$ref": "#/components/schemas/Base"}],
        "properties": {"child": {"$ref": "#/components/schemas/Node"}},
    }
    base = {"type": "object", "properties": {"name": {"type": "string"}}}
    found = body_of(
        {"$ref": "#/components/schemas/Node"}, components={"schemas": {"Node": node, "Base": base}}
    )
    assert found == {"name": "{name}"}


def test_a_required_property_that_repeats_its_schema_is_an_empty_object() -> None:
    node = {"required": ["next"], "properties": {"next": {"$ref": "#/components/schemas/N"}}}
    found = body_of({"$ref": "#/components/schemas/N"}, components={"schemas": {"N": node}})
    assert found == {"next": "{next}"}


def test_keys_beside_a_reference_take_precedence() -> None:
    components = {"schemas": {"A": {"type": "string", "example": "far"}}}
    near = {"$ref": "#/components/schemas/A", "example": "near"}
    assert body_of({"properties": {"a": near}}, components=components) == {"a": "near"}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_files_beside_the_document_are_read_and_refer_to_each_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "api/openapi.yaml": "openapi: 3.0.0\npaths:\n"
            "  /x: {$ref: paths/x.yaml}\n"
            "  /z: {get: {$ref: 'paths/ops.json#/z'}}\n",
            "api/paths/x.yaml": "post: {requestBody: {$ref: '../bodies.json#/Login'}}\n",
            "api/paths/ops.json": '{"z": {"summary": "Z"}}',
            "api/bodies.json": '{"Login": {"content": {"application/json": {"schema": '
            '{"$ref": "#/User"}}}}, "User": {"properties": {"name": {"example": "n"}}}}',
        },
    )
    found = documents.read(parse(OWN), tmp_path)
    post, get = found.operations.operations
    assert (post.path, body_of_operation(post)) == ("/x", {"name": "n"})
    assert (get.path, get.summary) == ("/z", "Z")
    assert lines(found) == []


def test_a_file_that_cannot_be_read_leaves_out_what_it_describes(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "secret.json": '{"get": {"summary": "secret"}}',
            "api/openapi.yaml": "openapi: 3.0.0\npaths:\n  /x: {$ref: paths/y.yaml}\n"
            "  /ok: {get: {}}\n  /s: {$ref: link.json}\n  /b: {$ref: broken.json}\n",
            "api/broken.json": "{",
        },
    )
    (tmp_path / "api/link.json").symlink_to(tmp_path / "secret.json")
    found = documents.read(parse(OWN), tmp_path)
    assert [o.path for o in found.operations.operations] == ["/ok"]
    assert lines(found) == [
        "1 path or operation is left out: paths/y.yaml, which does not exist, or is not a file "
        "(/x).",
        "1 path or operation is left out: link.json, which is outside of the document's folder "
        "(/s).",
        "1 path or operation is left out: broken.json, which line 1: is neither JSON nor YAML "
        "(Expecting property name enclosed in double quotes). Correct the file there. (/b).",
    ]


def test_an_operation_without_its_shared_parameters_is_still_read() -> None:
    item = {"parameters": [{"$ref": "#/nope"}], "get": {}}
    found = read_data(document({"/x": item}))
    assert [o.path for o in found.operations.operations] == ["/x"]
    assert "refers to #/nope" in lines(found)[0]
