from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from ape_demo_target import shop
from ape_demo_target.app import COOKIE, make_app
from ape_service.connections import Runner

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


async def login(client: Any) -> dict[str, str]:
    answer = await client.post("/login", json={"username": "u", "password": "p"})
    client.session.cookie_jar.clear()
    token = (await answer.json())["token"]
    assert answer.cookies[COOKIE].value == token
    return {"Authorization": f"Bearer {token}"}


async def test_purchase_succeeds_with_a_token_and_with_a_cookie(serve: Any) -> None:
    client = await serve(make_app())
    bearer = await login(client)
    cookie = {"Cookie": f"{COOKIE}={bearer['Authorization'].removeprefix('Bearer ')}"}
    products = (await (await client.get("/products", headers=bearer)).json())["products"]
    one = await (await client.get(f"/products/{products[0]['id']}", headers=cookie)).json()
    added = await client.post(
        "/cart/items", json={"product_id": one["id"], "quantity": 2}, headers=cookie
    )
    assert added.status == 201
    cart = await (await client.get("/cart", headers=bearer)).json()
    assert cart["total_cents"] == 2 * one["price_cents"]
    bought = await client.post("/checkout", headers=bearer)
    assert bought.status == 201
    assert (await bought.json())["order_id"]
    assert (await client.post("/checkout", headers=bearer)).status == 409
    assert await (await client.get("/orders/stats")).json() == {"orders": 1}
    assert "ape_demo_orders_total 1.0" in await (await client.get("/metrics")).text()
    assert "1 orders" in await (await client.get("/")).text()


async def test_requests_without_login_or_with_bad_bodies_are_rejected(serve: Any) -> None:
    client = await serve(make_app())
    for method, path in [
        ("GET", "/products"),
        ("GET", "/products/1"),
        ("POST", "/cart/items"),
        ("GET", "/cart"),
        ("POST", "/checkout"),
    ]:
        assert (await client.request(method, path)).status == 401
    bearer = await login(client)
    assert (await client.post("/login", json={"username": "u"})).status == 422
    assert (await client.get("/products/99", headers=bearer)).status == 404
    assert (await client.get("/nowhere")).status == 404
    for item, status in [({"product_id": 99}, 404), ({"product_id": "1"}, 422), ([], 422)]:
        assert (await client.post("/cart/items", json=item, headers=bearer)).status == status


async def test_faults_break_endpoints_until_they_are_removed(serve: Any) -> None:
    client = await serve(make_app(faults=True))
    assert (await client.put("/_faults", json={"checkout": 503})).status == 200
    assert (await client.post("/checkout")).status == 503
    assert (await client.put("/_faults", json={"chekout": 503})).status == 422
    assert (await client.put("/_faults", json={})).status == 200
    assert (await client.post("/checkout")).status == 401
    closed = await serve(make_app())
    assert (await closed.put("/_faults", json={"checkout": 503})).status in (404, 405)


async def test_least_recently_used_session_is_removed_beyond_the_maximum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shop, "MAX_SESSIONS", 2)
    made = shop.Shop()
    first, second = made.login("a"), made.login("b")
    assert made.session(first) is not None
    made.login("c")
    assert made.session(second) is None
    assert made.session(first) is not None


@pytest.mark.parametrize("rest", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
async def test_a_caller_that_leaves_within_a_body_is_not_a_failure_of_the_service(
    rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    # Unlike the servers of other tests, it does not cancel the request of a caller that left.
    runner = Runner(make_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"POST /login HTTP/1.1\r\nHost: x\r\n" + rest + b"\r\n\r\n5")
    await asyncio.sleep(0.02)
    writer.close()
    await asyncio.sleep(0.02)
    await runner.cleanup()
    assert not caplog.messages


async def test_mcp_server_needs_a_session_of_its_own(serve: Any) -> None:
    client = await serve(make_app())

    async def send(method: str, session: str = "", **params: Any) -> tuple[int, dict[str, Any]]:
        headers = {"Mcp-Session-Id": session} if session else {}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await client.post("/mcp", json=message, headers=headers)
        return answer.status, {**await answer.json(), **answer.headers}

    _, opened = await send("initialize", protocolVersion="2025-06-18")
    assert opened["result"]["protocolVersion"] == "2025-06-18"
    session = opened["Mcp-Session-Id"]
    assert (await send("tools/list"))[0] == 400
    assert (await send("tools/list", "another"))[0] == 404
    _, bought = await send("tools/call", session, name="checkout")
    assert bought["result"]["isError"]
    assert (await send("tools/call", session, name="steal"))[1]["error"]["code"] == -32602
    assert (await client.get("/mcp")).status == 405
    ended = await client.delete("/mcp", headers={"Mcp-Session-Id": session})
    assert ended.status == 204
    assert (await send("ping", session))[0] == 404
    for wrong in (b"", b"[]", b"[" * 9999, b'{"method": 1}'):
        assert (await client.post("/mcp", data=wrong)).status == 400
