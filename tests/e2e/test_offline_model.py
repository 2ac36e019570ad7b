"""The offline model buys straight from an OpenAPI document, by typed tools."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ape_contracts import operation_request, operations
from ape_infra.config import openapi
from ape_proxy import offline

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]
TEXT = {"type": "string"}


def body(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def given(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": TEXT}


PAYMENT = {
    "oneOf": [
        {"required": ["kind", key], "properties": {"kind": {"const": kind}, key: TEXT}}
        for kind, key in (("card", "number"), ("iban", "iban"))
    ]
}
LINE = body(sku=TEXT, qty={"type": "integer", "minimum": 2, "maximum": 9})
PATHS: dict[str, Any] = {
    "/items": {"get": {}},
    "/items/{sku}": {"get": {"parameters": [given("sku", "path")]}},
    "/carts/{cart_id}/lines": {
        "post": {"parameters": [given("cart_id", "path")], "requestBody": LINE}
    },
    "/carts": {"post": {}},
    "/login": {"post": {"requestBody": body(username=TEXT, password=TEXT)}},
    "/orders": {
        "post": {
            "parameters": [given("Idempotency-Key", "header")],
            "requestBody": body(cart_id=TEXT, payment=PAYMENT),
        }
    },
}
DOCUMENT = {"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "paths": PATHS}


def shop() -> web.Application:
    lines: list[str] = []

    async def login(request: web.Request) -> web.Response:
        wrong = (await request.json())["password"] != "secret"
        return web.json_response({"access_token": "t1"}, status=400 if wrong else 200)

    async def items(_: web.Request) -> web.Response:
        return web.json_response({"items": [{"sku": f"S{n}", "price": n} for n in range(9)]})

    async def item(request: web.Request) -> web.Response:
        return web.json_response({"sku": request.match_info["sku"], "maker": {"id": "m1"}})

    async def cart(request: web.Request) -> web.Response:
        wrong = request.headers.get("Authorization") != "Bearer t1"
        return web.json_response({"id": "c1", "lines": []}, status=401 if wrong else 201)

    async def line(request: web.Request) -> web.Response:
        sent = await request.json()
        right = request.match_info["cart_id"] == "c1" and sent["sku"][0] == "S" and sent["qty"] > 1
        lines.append(sent["sku"])
        return web.json_response(
            {"id": "c1", "lines": [{"id": "l1"}]}, status=201 if right else 422
        )

    async def order(request: web.Request) -> web.Response:
        sent = await request.json()
        paid = sent["payment"].keys() in ({"kind", "number"}, {"kind", "iban"})
        right = sent["cart_id"] == "c1" and paid and lines and request.headers["Idempotency-Key"]
        return web.json_response({"order_id": "o1"}, status=201 if right else 422)

    app = web.Application()
    app.add_routes(
        [
            web.post("/login", login),
            web.get("/items", items),
            web.get("/items/{sku}", item),
            web.post("/carts", cart),
            web.post("/carts/{cart_id}/lines", line),
            web.post("/orders", order),
        ]
    )
    return app


async def session(client: Any, number: int, values: dict[str, Any]) -> tuple[list[Any], str]:
    """The requests with their statuses, and the model's last words."""
    found = openapi.read(json.dumps(DOCUMENT).encode()).operations.operations
    known = {f"tool_{n}": each for n, each in enumerate(found)}
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": f"{each.method} {each.path}. {each.summary}",
                "parameters": operations.arguments_schema(each),
            },
        }
        for name, each in known.items()
    ]
    brief = {"goal": "Order.", "values": {"session": f"s{number}", "agent": "a"} | values}
    messages: list[Any] = [{"role": "system", "content": json.dumps(brief)}]
    made: list[Any] = []
    headers: dict[str, str] = {}
    while isinstance(turn := offline.next_decision(messages, tools), offline.ToolCall):
        request = operation_request.build(known[turn.name], json.loads(turn.arguments))
        answer = await client.request(
            request.method, request.path, headers=request.headers | headers, data=request.body
        )
        content = await answer.json()
        if "access_token" in content:
            headers = {"Authorization": f"Bearer {content['access_token']}"}
        made.append((request.method, request.path.partition("?")[0], answer.status))
        function = {"name": turn.name, "arguments": turn.arguments}
        call = {"id": str(len(made)), "type": "function", "function": function}
        shown = json.dumps({"status": answer.status, "body": content})
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": str(len(made)), "content": shown})
    return made, str(turn)


async def test_offline_model_orders_in_each_session_from_the_document() -> None:
    async with TestClient(TestServer(shop())) as client:
        for number in range(20):
            made, words = await session(client, number, {"username": "a", "password": "secret"})
            assert made[0] == ("POST", "/login", 200), words
            assert ("POST", "/orders", 201) in made, words


async def test_offline_model_without_a_password_reports_that_it_is_missing() -> None:
    async with TestClient(TestServer(shop())) as client:
        made, words = await session(client, 1, {})
        assert made[-1] == ("POST", "/carts", 401)
        assert words.startswith("No value for password:")
