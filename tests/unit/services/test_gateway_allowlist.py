"""What a route allows cannot be walked around, and no input of a caller is a 500."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from aiohttp import web

from ape_contracts.gateway_config import load
from ape_gateway.app import make_app

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
_MCP = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
ENDPOINTS = [
    {"path": "/products/{id}", "methods": ["GET", "POST"]},
    {"path": "/files/{a}/{b}", "methods": ["GET"]},
]


class Target:
    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        return web.json_response({})


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def gateway(serve: Any, target: Target) -> Any:
    async def start(**route: Any) -> Any:
        upstream = await serve(target.app)
        given = {"base_url": str(upstream.make_url("")).rstrip("/")} | route
        return await serve(make_app(load(json.dumps({"routes": {"shop": given}}))))

    return start


def ask(method: str = "GET", path: str = "/products/1", **more: Any) -> dict[str, Any]:
    return {"api_name": "shop", "method": method, "path": path} | more


async def outcome(client: Any, body: dict[str, Any]) -> tuple[int, str | None]:
    answer = await client.post("/mcp/request", json=body)
    return answer.status, (await answer.json())["error"]


OVERRIDES: list[dict[str, Any]] = [
    *(
        ask("POST", headers={name: value})
        for name, value in (
            ("X-HTTP-Method-Override", "DELETE"),
            ("x_http_method_override", "DELETE"),
            ("X-HTTP-Method", "DELETE"),
            ("X-Method-Override", "DELETE"),
            ("X-Original-URL", "/admin"),
            ("X-Rewrite-URL", "/admin"),
            ("X.Rewrite.URL", "/admin"),
        )
    ),
    ask("POST", "/products/1?_method=DELETE"),
    ask("POST", "/products/1?a=b&%5fmethod=DELETE"),
    ask("GET", data={"_method": "DELETE"}),
    ask("POST", data={"_method": "DELETE"}),
    ask("POST", data="&_method=DELETE&", headers={"Content-Type": "application/x-www-form"}),
]


async def test_request_that_asks_for_another_method_or_path_is_not_allowed(
    gateway: Any, target: Target
) -> None:
    client = await gateway(endpoints=ENDPOINTS)
    for body in OVERRIDES:
        assert await outcome(client, body) == (403, "not_allowed"), body
    assert target.seen == []


async def test_words_that_only_look_like_an_override_pass(gateway: Any) -> None:
    client = await gateway(endpoints=ENDPOINTS)
    for body in (
        ask("POST", data={"payment_method": "card", "note": "the_method = x & y"}),
        ask("POST", "/products/1?payment_method=card"),
        ask("POST", data={"a": {"_method": 1}}),
        ask("POST", headers={"X-Method-Of-Mine": "1"}),
    ):
        assert await outcome(client, body) == (200, None), body
    assert await outcome(await gateway(), OVERRIDES[0]) == (200, None), "a route without endpoints"


LEAVING = [
    "/products/..;/admin",
    "/products/..;x=1/admin",
    "/products/.;/x",
    "/products/%2e%2e",
    "/products/%252e%252e",
    "/products/%25252e%25252e",
    "/products/..%3b",
    "/products/..%253b",
    "/products/..%20",
    "/products/%5c..",
    "/products/%255c",
    "/products/x%00",
    "/products/x%0d%0aA:%20b",
    "/%252fadmin",
]


@pytest.mark.parametrize("route", [{"endpoints": ENDPOINTS}, {}], ids=["endpoints", "open"])
async def test_path_that_leaves_its_place_when_decoded_is_rejected_on_every_route(
    gateway: Any, target: Target, route: dict[str, Any]
) -> None:
    client = await gateway(**route)
    for path in LEAVING:
        assert await outcome(client, ask(path=path)) == (422, "bad_request"), path
    assert target.seen == []


async def test_encoded_slash_is_not_allowed_where_endpoints_are_named(
    gateway: Any, target: Target
) -> None:
    client = await gateway(endpoints=ENDPOINTS)
    for path in (
        "/files/a%2fb",
        "/products/a%2fb",
        "/products/a%252fb",
        "/products/a%25252fb",
        "/products/%c0%ae",
        "/files/a%2fb/c",
    ):
        assert await outcome(client, ask(path=path)) == (403, "not_allowed"), path
    assert target.seen == []
    assert await outcome(client, ask(path="/products/a%20b%3f%25")) == (200, None)


async def test_twins_of_the_routes_credentials_do_not_reach_the_target(
    gateway: Any, target: Target
) -> None:
    client = await gateway(auth={"headers": {"X-Api-Key": "own", "Authorization": "own"}})
    twins = {"X_Api_Key": "a", "x-api_key": "b", "X.Api.Key": "c", "X-API-KEY": "d"}
    others = {"Transfer_Encoding": "chunked", "Content_Length": "5", "X-Fine": "1"}
    assert await outcome(client, ask(headers=twins | others)) == (200, None)
    found = {k.lower(): v for k, v in target.seen[0].headers.items()}
    assert found["x-api-key"] == found["authorization"] == "own"
    assert found.keys() & {"x_api_key", "x-api_key", "x.api.key"} == set()
    assert found.keys() & {"transfer_encoding", "content_length"} == set()
    assert found["x-fine"] == "1"


async def test_headers_named_by_connection_are_not_forwarded(gateway: Any, target: Target) -> None:
    client = await gateway(auth={"headers": {"X-Api-Key": "own"}})
    headers = {"Connection": "close, X-Api-Key, X-Hop", "X-Hop": "1", "X-Fine": "1"}
    assert await outcome(client, ask(headers=headers)) == (200, None)
    found = target.seen[0].headers
    assert found["X-Api-Key"] == "own"
    assert "X-Hop" not in found
    assert "x-api-key" not in found.get("Connection", "").lower()


HOSTS = [
    ("gateway:8080", 200),
    ("127.0.0.1:1", 200),
    ("[::1]:80", 200),
    ("LOCALHOST", 200),
    ("10.1.2.3", 200),
    ("host.docker.internal", 200),
    ("rebind.example", 403),
    ("127.0.0.1.rebind.example:8080", 403),
    ("localhost.", 403),
    ("[", 403),
    ("a b", 403),
    ("", 403),
]


async def test_host_that_a_page_could_have_chosen_is_refused(gateway: Any) -> None:
    client = await gateway()
    for host, status in HOSTS:
        answer = await client.post("/mcp", data="{}", headers=_MCP | {"Host": host})
        assert answer.status == (400 if status == 200 else 403), host
        for path in ("/tools", "/fleet"):
            assert (await client.get(path, headers={"Host": host})).status == status, host


async def raw(client: Any, data: bytes) -> int:
    """The status that bytes get; 0: the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        writer.write(data)
        line = await asyncio.wait_for(reader.readline(), 2)
        return int(line.split()[1]) if line else 0
    finally:
        writer.close()


HEADERS = [
    b"Origin: http://[",
    b"Origin: \xff\xfe",
    b"Origin: http://\xe2\x84\x80",
    b"Host: http://[",
    b"Authorization: Bearer \xff\xfe",
    b"Authorization: Bearer 1-1/1.\xe9",
    b"traceparent: \xff",
    b"Content-Encoding: gzip",
    b"Content-Type: \xff",
    b"Accept: \xff",
    b"Content-Type: application/json; charset=no-such",
    b"Mcp-Session-Id: \xff",
    b"Mcp-Protocol-Version: \xff",
    b"Last-Event-ID: \xff",
    b"Cookie: \xff=\xff",
    b"Upgrade: h2c\r\nConnection: Upgrade",
    b"Expect: 100-continue",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: gzip, chunked",
]
BODIES = [
    b"",
    b"\xff",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    gzip.compress(b"{}")[:10],
    b"1" * 5000,
    b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % (b"9" * 5000),
    b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"http_get","arguments":1}}',
    b'{"source":"a","number":1,"agents":[[1,"running"]],"lost":1e400}',
    b'{"source":"a","number":1,"agents":[[1,"running"]],"lost":%s}' % (b"1" * 400),
    b'{"source":"a","number":1,"agents":[[1,["running"]]]}',
    b'{"source":"a","number":1,"agents":[[1,"running"]],"steps":[[{},1,1]]}',
    b'{"source":"a","number":1,"agents":[[1,"running"]],"sessions":[{"slot":1,"result":{}}]}',
    b'{"target_api_name":"shop","http_method":{},"tool_calls":1}',
    b'{"target_api_name":"shop","http_method":"GET","endpoint_path":"/x","request_payload":[[]]}',
    b'{"target_api_name":"shop","http_method":"GET","endpoint_path":"/\\ud800"}',
]
PATHS = [b"/mcp", b"/mcp/request", b"/agents/report"]


async def test_no_header_of_a_caller_is_an_error_of_the_gateway(
    gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await gateway()
    for header in HEADERS:
        for path in PATHS:
            head = b"POST %s HTTP/1.1\r\n%s\r\nContent-Length: 2\r\n\r\n{}" % (path, header)
            assert await raw(client, head) < 500, (header, path)
        assert await raw(client, b"GET /health HTTP/1.1\r\n%s\r\n\r\n" % header) < 500, header
    for line in (
        b"GET * HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"G\0 / HTTP/1.1",
    ):
        assert await raw(client, line + b"\r\n\r\n") < 500, line
    assert "unhandled" not in caplog.text
    assert "Exception in ASGI" not in caplog.text


async def test_no_body_of_a_caller_is_an_error_of_the_gateway(
    gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await gateway()
    for path in PATHS:
        for body in BODIES:
            answer = await client.post(path.decode(), data=body, headers=_MCP)
            assert answer.status < 500, (path, body[:60])
    tools: list[tuple[str, Any]] = [
        ("http_post", {"path": "/x", "data": 10**30}),
        ("http_post", {"path": "/x", "data": {"a": 1e308}}),
        ("http_get", {"path": "/x", "data": {"a": 10**400}}),
        ("http_get", {"path": "/x", "headers": {"X": "\ud800"}}),
        ("http_get", {"path": 7}),
        ("http_batch", {"requests": [{"data": 10**4000}] * 32}),
        ("http_batch", {"requests": {}}),
        ("http_batch", {}),
    ]
    for name, arguments in tools:
        params = {"name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = await client.post("/mcp", json=message, headers=_MCP)
        assert answer.status < 500, (name, arguments)
        text = await answer.text()
        assert "internal" not in text.lower(), text
    assert "unhandled" not in caplog.text
