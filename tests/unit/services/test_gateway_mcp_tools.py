from __future__ import annotations

import json
from typing import Any

import mcp_types as types
import pytest

from ape_contracts.operations import arguments_schema
from ape_gateway import mcp_tools

pytestmark = pytest.mark.unit
INTEGER = {"type": "integer"}


def tool(name: str, schema: dict[str, Any] | None = None, **more: Any) -> types.Tool:
    return types.Tool(name=name, input_schema=schema or {"type": "object"}, **more)


def result(*parts: Any, structured: Any = None, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(
        content=list(parts), structured_content=structured, is_error=is_error
    )


def text(words: str) -> types.TextContent:
    return types.TextContent(type="text", text=words)


def test_tool_is_an_operation_whose_arguments_are_its_schema() -> None:
    schema = {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}
    [made] = mcp_tools.operations_of(
        [tool("files.read", schema, description="Read\n a file.")]
    ).operations
    assert (made.id, made.method, made.path) == ("files.read", "POST", "/tools/files.read")
    assert made.summary == "Read a file."
    assert arguments_schema(made) == schema


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a\\b", "x" * 129, "a\nb", "%2e%2e", "a b", "a{b}", "Größe"]
)
def test_tool_whose_name_cannot_stand_in_a_path_is_left_out(name: str) -> None:
    found = mcp_tools.operations_of([tool(name), tool("add"), tool("add")]).operations
    assert [each.id for each in found] == ["add"]


@pytest.mark.parametrize("name", ["add", "get-sum", "files.read_2", "~x"])
def test_path_of_a_tool_leads_back_to_its_name(name: str) -> None:
    path = mcp_tools.path_of(name)
    assert mcp_tools.name_of(path) == name
    assert mcp_tools.operations_of([tool(name)]).operations[0].path == path


@pytest.mark.parametrize("path", ["/tools", "/tools/", "/tool/add", "/tools/a/b", "/session", "/"])
def test_other_path_is_of_no_tool(path: str) -> None:
    assert mcp_tools.name_of(path) is None


def test_references_of_a_schema_stand_in_their_place() -> None:
    item = {"type": "object", "properties": {"sku": {"type": "string"}}}
    found = mcp_tools.schema_of(
        {
            "$defs": {"Item": item, "Loop": {"properties": {"next": {"$ref": "#/$defs/Loop"}}}},
            "properties": {
                "item": {"$ref": "#/$defs/Item", "description": "One."},
                "other": {"$ref": "https://example.com/x.json", "type": "string"},
            },
        }
    )
    assert found == {
        "type": "object",
        "properties": {"item": item | {"description": "One."}, "other": {"type": "string"}},
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 9}}, "$ref": "#/$defs/a"},
        {"properties": {f"p{n}": {"description": "x" * 99} for n in range(900)}},
        {"$ref": "#"},
    ],
)
def test_schema_that_is_endless_or_too_large_becomes_any_object(schema: dict[str, Any]) -> None:
    assert len(json.dumps(mcp_tools.schema_of(schema))) < 33_000


@pytest.mark.parametrize(
    ("given", "status", "body", "kind"),
    [
        (result(text("x"), structured={"id": 7}), 200, b'{"id": 7}', "application/json"),
        (result(text('{"id": 7}')), 200, b'{"id": 7}', "application/json"),
        (result(text("{no")), 200, b"{no", "text/plain"),
        (result(text("7")), 200, b"7", "text/plain"),
        (result(text("a"), text("b")), 200, b'["a", "b"]', "application/json"),
        (result(), 200, b"", "application/json"),
        (result(text("no stock"), is_error=True), 422, b"no stock", "text/plain"),
        (result(structured={"why": 1}, is_error=True), 422, b'{"why": 1}', "application/json"),
    ],
)
def test_result_of_a_tool_is_a_status_and_a_body(
    given: types.CallToolResult, status: int, body: bytes, kind: str
) -> None:
    assert mcp_tools.result_of(given) == (status, body, kind)


def test_parts_beside_text_have_their_type_and_size() -> None:
    blob = types.BlobResourceContents(uri="file:///b", blob="AAAA")
    note = types.TextResourceContents(uri="file:///n", text="hi", mime_type="text/plain")
    _, body, _ = mcp_tools.result_of(
        result(
            types.AudioContent(type="audio", data="AAA=", mime_type="audio/wav"),
            types.EmbeddedResource(type="resource", resource=blob),
            types.EmbeddedResource(type="resource", resource=note),
            types.ResourceLink(type="resource_link", uri="file:///l", name="l"),
        )
    )
    assert json.loads(body) == [
        {"type": "audio", "content_type": "audio/wav", "bytes": 2},
        {"type": "resource", "uri": "file:///b", "content_type": "", "bytes": 3},
        {"type": "resource", "uri": "file:///n", "content_type": "text/plain", "text": "hi"},
        {"type": "resource_link", "uri": "file:///l", "name": "l"},
    ]


@pytest.mark.parametrize(
    ("code", "is_known", "status"),
    [(-32602, True, 400), (-32602, False, 404), (-32601, True, 404), (-32603, True, 502)],
)
def test_error_of_the_protocol_is_a_status(code: int, is_known: bool, status: int) -> None:
    assert mcp_tools.status_of(code, is_known) == status


def test_only_tools_that_are_called_harmless_may_be_repeated() -> None:
    hints = types.ToolAnnotations(read_only_hint=True), types.ToolAnnotations(idempotent_hint=True)
    tools = [tool(str(n), annotations=each) for n, each in enumerate((*hints, None))]
    assert mcp_tools.repeatable(tools) == {"0", "1"}
