"""The gateway to the official MCP client, in both eras of the protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from mcp import Client
from mcp.shared.exceptions import MCPError

from ape_contracts.gateway_config import load
from ape_gateway import wire
from ape_gateway.app import make_app
from ape_gateway.limits import Limits
from ape_gateway.tools import tools
from ape_service import trace

pytestmark = pytest.mark.unit
TWO_OPEN = {
    "shop": {"base_url": "http://s", "description": "Sells lamps."},
    "bank": {"base_url": "http://b"},
}
PRODUCT = {"path": "/products/{id}", "methods": ["GET", "PUT"], "description": "One product."}


def made(routes: dict[str, Any]) -> Any:
    return tools(load(json.dumps({"routes": routes})))


def test_routes_without_endpoints_share_five_tools_that_name_them() -> None:
    offered = made(TWO_OPEN)
    methods = ("get", "post", "put", "patch", "delete")
    assert list(offered) == [*(f"http_{m}" for m in methods), "http_batch"]
    schema = offered["http_post"].schema
    assert schema["properties"]["api_name"]["enum"] == ["shop", "bank"]
    assert schema["required"] == ["api_name", "path"]
    assert "Sells lamps." in offered["http_post"].description
    alone = made({"shop": TWO_OPEN["shop"]})["http_get"]
    assert alone.schema["required"] == ["path"]
    assert alone.call({"path": "/x", "data": {"q": 1}}) == wire.Call(
        "shop", "GET", "/x", {}, query=(("q", "1"),)
    )


def test_each_endpoint_and_method_becomes_a_tool() -> None:
    offered = made({"shop": {"base_url": "http://s", "endpoints": [PRODUCT]}})
    assert list(offered) == ["shop_get_products_id", "shop_put_products_id", "http_batch"]
    put = offered["shop_put_products_id"]
    assert put.schema["required"] == ["id"]
    assert put.description.startswith("One product. (PUT /products/{id} of shop")
    call = put.call({"id": "a b/c", "data": [None]})
    assert (call.method, call.path, call.payload) == ("PUT", "/products/a%20b%2Fc", b"[null]")


def test_tool_names_are_unique_short_and_plain() -> None:
    endpoints = [
        {"path": "/a/{data}/{data}/{}", "methods": ["POST"]},
        {"path": "/a-{data}/{data}/{}", "methods": ["POST"]},
        {"path": "/" + "long/" * 40 + "{x.y}", "methods": ["POST"]},
        {"path": "/" + "long/" * 40 + "{x.y}/z", "methods": ["POST"]},
        {"path": "/", "methods": ["GET"]},
    ]
    routes = {
        "s.h": {"base_url": "http://s", "endpoints": endpoints},
        "s_h": {"base_url": "http://s", "endpoints": endpoints},
    }
    offered = made(routes)
    assert len(offered) == 2 * len(endpoints) + 1
    for name, tool in offered.items():
        for word in (name, *tool.schema["properties"]):
            assert 0 < len(word) <= 64
            assert word.replace("_", "a").replace("-", "a").isalnum()
    first = next(iter(offered.values()))
    assert first.placeholders == ("data_2", "data_3", "part3")
    given = {"data_2": 1, "data_3": 2, "part3": 3}
    assert first.call(given).path == "/a/1/2/3"


class Shop:
    """Answers with what it was sent."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        body = await request.text()
        return web.json_response({"got": json.loads(body) if body else None, "at": request.path_qs})


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture(params=["auto", "legacy"])
def gateway(serve: Any, shop: Shop, request: pytest.FixtureRequest) -> Any:
    @asynccontextmanager
    async def connect(limits: Limits | None = None, **route: Any) -> AsyncIterator[Client]:
        target = await serve(shop.app)
        given = {"base_url": str(target.make_url("")).rstrip("/")} | route
        server = await serve(make_app(load(json.dumps({"routes": {"shop": given}})), limits=limits))
        async with Client(str(server.make_url("/mcp")), mode=request.param) as client:
            connect.http = server  # type: ignore[attr-defined]
            yield client

    return connect


async def test_client_lists_and_calls_tools(gateway: Any, shop: Shop) -> None:
    async with gateway() as client:
        listed = {t.name: t for t in (await client.list_tools()).tools}
        assert listed["http_get"].input_schema["required"] == ["path"]
        assert listed["http_get"].annotations.read_only_hint
        assert not listed["http_post"].annotations.read_only_hint
        result = await client.call_tool(
            "http_post", {"path": "/items?x=1", "data": [1, None], "headers": {"X-A": "b"}}
        )
        assert not result.is_error
        assert result.structured_content["status_code"] == 200
        assert result.structured_content["body"] == {"got": [1, None], "at": "/items?x=1"}
        assert json.loads(result.content[0].text) == result.structured_content
        assert shop.seen[0].headers["X-A"] == "b"


async def test_tool_takes_a_path_without_its_first_slash_but_no_url(
    gateway: Any, shop: Shop
) -> None:
    async with gateway() as client:
        got = await client.call_tool("http_get", {"path": "items?x=1"})
        assert got.structured_content["body"]["at"] == "/items?x=1"
        one = {"api_name": "shop", "method": "GET", "path": "http://evil.example/"}
        refused = await client.call_tool("http_batch", {"requests": [one]})
        assert refused.structured_content["answers"][0]["status_code"] == 422
        assert len(shop.seen) == 1


async def test_endpoint_tools_obey_the_allowlist_and_the_rate_limit(
    gateway: Any, shop: Shop
) -> None:
    async with gateway(endpoints=[PRODUCT | {"rateLimit": 1}]) as client:
        got = await client.call_tool("shop_get_products_id", {"id": 7, "data": {"full": True}})
        assert got.structured_content["body"]["at"] == "/products/7?full=true"
        limited = await client.call_tool("shop_get_products_id", {"id": 7})
        assert limited.is_error
        assert limited.structured_content["status_code"] == 429
        escaped = await client.call_tool("shop_get_products_id", {"id": "../admin"})
        assert escaped.structured_content["status_code"] == 422
        wrong = await client.call_tool("shop_get_products_id", {"id": [1]})
        assert wrong.is_error
        assert "id: " in wrong.structured_content["error_message"]
        with pytest.raises(MCPError, match="no such tool"):
            await client.call_tool("http_get", {"path": "/admin"})
        assert len(shop.seen) == 1


async def test_batch_tool_answers_in_order(gateway: Any) -> None:
    async with gateway(endpoints=[PRODUCT]) as client:
        asked = [
            {"api_name": "shop", "method": "GET", "path": "/products/1"},
            {"api_name": "shop", "method": "GET", "path": "/admin"},
            {"api_name": "shop", "method": "PUT", "path": "/products/2", "data": {"n": 2}},
        ]
        result = await client.call_tool("http_batch", {"requests": asked})
        answers = result.structured_content["answers"]
        assert [a["status_code"] for a in answers] == [200, 403, 200]
        assert answers[2]["body"] == {"got": {"n": 2}, "at": "/products/2"}
        assert not result.is_error
        many = [asked[0]] * (wire.MAX_BATCH + 1)
        assert (await client.call_tool("http_batch", {"requests": many})).is_error


async def test_trace_id_of_an_mcp_call_reaches_the_target(gateway: Any, shop: Shop) -> None:
    async with gateway() as client:
        made_here = trace.new_trace_id()
        meta = {"traceparent": trace.headers(made_here)["traceparent"]}
        result = await client.call_tool("http_get", {"path": "/"}, meta=meta)
        assert result.structured_content["trace_id"] == made_here
        assert shop.seen[0].headers["X-Trace-ID"] == made_here
        plain = await client.call_tool("http_get", {"path": "/"})
        assert plain.structured_content["trace_id"] not in ("", made_here)


async def test_tool_call_beyond_the_limits_reports_gateway_busy(gateway: Any) -> None:
    async with gateway(limits=Limits(in_flight=1, queue=1)) as client:
        asked = [{"api_name": "shop", "method": "GET", "path": "/"}] * 3
        result = await client.call_tool("http_batch", {"requests": asked})
        assert result.is_error
        assert result.structured_content["status_code"] == 503


async def test_mcp_rejects_other_methods_and_pages_of_other_sites(gateway: Any) -> None:
    async with gateway():
        http = gateway.http
        assert (await http.get("/mcp")).status == 405
        for path in ("/mcp", "/mcp/request"):
            answer = await http.post(path, json={}, headers={"Origin": "http://evil.example"})
            assert answer.status == 403
        answer = await http.post("/mcp/request", json={}, headers={"Origin": "http://localhost:1"})
        assert answer.status == 422
