"""Answers of a target are never a failure of the gateway or the agent, on any way in."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ape_agent.peers import Peer
from ape_contracts.gateway_config import load
from ape_gateway.answers import MAX_CONTAINERS, MAX_DEPTH
from ape_gateway.app import make_app
from tests.support.toxic import Toxic, writes

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
_MCP = {"Accept": "application/json, text/event-stream"}
ASK = {"api_name": "shop", "method": "GET", "path": "/x"}
Ask = Callable[[Any], Awaitable[dict[str, Any]]]


async def by_request(client: Any) -> dict[str, Any]:
    answer = await client.post("/mcp/request", json=ASK)
    assert answer.status == 200
    return dict(json.loads(await answer.read()))


async def by_agent(client: Any) -> dict[str, Any]:
    peer = Peer(str(client.make_url("")).rstrip("/"), 5)
    try:
        return (await peer.post("/mcp/request", ASK, "ab" * 16)).body
    finally:
        peer.close()


async def by_list(client: Any) -> dict[str, Any]:
    answer = await client.post("/mcp/request", json=[ASK])
    assert answer.status == 200
    return dict(json.loads(await answer.read())[0])


async def by_tool(client: Any) -> dict[str, Any]:
    return await _called(client, "http_get", {"path": "/x"})


async def by_batch_tool(client: Any) -> dict[str, Any]:
    result = await _called(client, "http_batch", {"requests": [ASK]})
    return dict(result["answers"][0])


async def _called(client: Any, name: str, arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = await client.post("/mcp", json=message, headers=_MCP)
    assert answer.status == 200
    result = json.loads(await answer.read())["result"]
    assert not result["isError"], result
    return dict(result["structuredContent"])


WAYS: list[Ask] = [by_request, by_agent, by_list, by_tool, by_batch_tool]


@pytest.fixture
def gateway(serve: Any) -> Any:
    target = Toxic()

    async def start(*answers: bytes) -> Any:
        target.behaviors = [writes(answer) for answer in answers]
        given = {"base_url": await target.start(), "timeout": 2}
        return await serve(make_app(load(json.dumps({"routes": {"shop": given}}))))

    yield start
    target.close()


def http(body: bytes, kind: str = "application/json", *headers: bytes) -> bytes:
    lines = [
        b"HTTP/1.1 200 OK",
        b"Content-Type: " + kind.encode(),
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


ODD_JSON = {
    "integer of 5000 digits": b"[%s]" % (b"1" * 5000),
    "depth of 500": b"[" * 500 + b"]" * 500,
    "depth in objects": b'{"a":' * 300 + b"1" + b"}" * 300,
    "depth of 100000": b"[" * 100_000,
    "infinite number": b'{"price":1e999}',
    "not a number": b'{"price":NaN}',
    "half a surrogate": b'{"name":"\\ud800x"}',
    "bytes that are not UTF-8": b'{"name":"\xff"}',
    "very many lists": b"[" + b"[]," * MAX_CONTAINERS + b"[]]",
}


@pytest.mark.parametrize("way", WAYS)
async def test_json_that_parsers_reject_arrives_as_text_with_the_targets_status(
    gateway: Any, way: Ask
) -> None:
    client = await gateway(*(http(body) for body in ODD_JSON.values()))
    for name, body in ODD_JSON.items():
        found = await way(client)
        assert (found["status_code"], found["error"]) == (200, None), name
        assert found["body_encoding"] == "text", name
        assert found["body"] == body.decode("utf-8", "replace"), name
    client = await gateway(http(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH))
    assert (await way(client))["body_encoding"] == "json"


@pytest.mark.parametrize("way", WAYS)
async def test_bytes_of_a_header_that_are_not_utf8_are_replaced(gateway: Any, way: Ask) -> None:
    odd = (
        b"X-Name: Andr\xe9",
        b"Set-Cookie: n=\xe9",
        b"X-Good: Andr\xc3\xa9",
        b"Retry-After: \xb2",
    )
    client = await gateway(http(b"{}", "application/json", *odd))
    found = await way(client)
    assert (found["status_code"], found["error"]) == (200, None)
    headers = found["headers"]
    assert (headers["x-name"], headers["x-good"]) == ("Andr\ufffd", "André")
    assert headers["set-cookie"] == ["n=\ufffd"]


ODD_KINDS = [
    "text/plain; charset=\xff",
    "text/plain; charset=no-such",
    "text/plain; charset=base64",
    "text/plain; charset=idna",
    "text/plain; charset=utf-7",
    "text/plain; charset=utf-16",
    "text/plain; charset=undefined",
    "text/plain; charset*=utf-8''x",
    "text/plain; charset=a\x00b".replace("\x00", "%00"),
    ";;;=",
    "application/json; charset=utf-32",
]


async def test_any_content_type_is_answered_with_the_targets_status(gateway: Any) -> None:
    client = await gateway(*(_head(kind) for kind in ODD_KINDS))
    for kind in ODD_KINDS:
        found = await by_request(client)
        assert (found["status_code"], found["error"]) == (200, None), kind


def _head(kind: str) -> bytes:
    body = b"+AGEAYg-2AA- \xed\xa0\x80\xff"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: " % len(body)
    return head + kind.encode("latin-1") + b"\r\n\r\n" + body


async def test_encoding_that_cannot_be_read_keeps_the_targets_status(gateway: Any) -> None:
    whole = gzip.compress(b'{"a": 1}' * 1000)
    answers = [
        http(b"no gzip at all", "application/json", b"Content-Encoding: gzip"),
        http(whole[:-20], "application/json", b"Content-Encoding: gzip"),
        http(whole[:10] + b"\xff" * 50, "application/json", b"Content-Encoding: gzip"),
        http(b"xyz", "application/json", b"Content-Encoding: br"),
        http(b"xyz", "application/json", b"Content-Encoding: no-such"),
    ]
    client = await gateway(*answers)
    for number in range(len(answers)):
        found = await by_request(client)
        assert (found["status_code"], found["error"]) == (200, None), number


async def test_headers_named_by_connection_end_at_the_gateway(gateway: Any) -> None:
    client = await gateway(http(b"{}", "application/json", b"Connection: X-Hop", b"X-Hop: 1"))
    assert "x-hop" not in (await by_request(client))["headers"]


async def test_header_or_path_that_cannot_be_sent_gets_422(gateway: Any) -> None:
    client = await gateway()
    bad: list[dict[str, Any]] = [
        {"headers": {"X-A": "\ud800"}},
        {"headers": {"X-A": "a\x01b"}},
        {"headers": {"X-A": "a\x7f"}},
        {"headers": {"X\u00e9": "a"}},
        {"headers": {"": "a"}},
        {"headers": {"X-A": "a" * 9000}},
        {"headers": {f"X-{n}": "a" for n in range(100)}},
        {"path": "/\ud800"},
        {"path": "/%" + "25" * 9 + "41"},
        {"data": {"n": "1e999"}},
        {"data": {"n": "1" * 5000}},
        {"data": "x"},
    ]
    for change in bad:
        # Numbers of the query, which Python would not write.
        text = re.sub(r'"(1e999|1{5000})"', r"\1", json.dumps(ASK | change))
        answer = await client.post("/mcp/request", data=text)
        found = await answer.json()
        assert (answer.status, found["error"]) == (422, "bad_request"), change
