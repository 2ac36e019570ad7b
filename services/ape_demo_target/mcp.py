"""The shop as an MCP server: streamable HTTP, JSON answers, and a session that holds the cart.

Without the SDK, which is larger than all of the demo target; the tests use the SDK's client.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from ape_contracts import VERSION
from ape_demo_target.shop import MAX_QUANTITY, PRODUCTS, Session, Shop
from ape_service.web import Handler, read_body

VERSIONS = ("2025-11-25", "2025-06-18")
SESSION = "Mcp-Session-Id"
MAX_BODY_BYTES = 64 << 10
_INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS = -32600, -32601, -32602
_ID = {"type": "integer", "minimum": 1, "description": "The id of a product."}
_QUANTITY = {"type": "integer", "minimum": 1, "maximum": MAX_QUANTITY, "default": 1}


class _ToolError(Exception):
    """The arguments cannot be used; the text is for the model."""


def _cart(session: Session) -> dict[str, Any]:
    items = [{"product_id": number, "quantity": n} for number, n in session.cart.items()]
    return {"items": items, "total_cents": session.total_cents}


def _product(given: dict[str, Any]) -> int:
    """Raises _ToolError."""
    number = given.get("product_id")
    if type(number) is not int or number not in PRODUCTS:
        raise _ToolError("product_id: is not the id of a product; list_products has them.")
    return number


class McpShop:
    """The handlers of /mcp, and `called`, which gets the name and result of each call."""

    def __init__(self, shop: Shop, called: Callable[[str, str], None]) -> None:
        self._shop, self._called = shop, called
        self._tools: dict[str, tuple[str, dict[str, Any], Callable[..., dict[str, Any]]]] = {
            "list_products": ("The catalog: products with their ids.", {}, self._list),
            "get_product": ("One product.", {"product_id": _ID}, self._get),
            "add_to_cart": (
                "Put a product into the cart.",
                {"product_id": _ID, "quantity": _QUANTITY},
                self._add,
            ),
            "view_cart": ("The items in the cart, and their total.", {}, self._view),
            "checkout": ("Buy the items in the cart; answers an order_id.", {}, self._checkout),
        }

    @property
    def handlers(self) -> dict[str, Handler]:
        return {"POST": self.post, "GET": self.get, "DELETE": self.delete}

    async def get(self, _: web.Request) -> web.StreamResponse:
        """No stream: the server has no notifications."""
        return web.Response(status=405, headers={"Allow": "POST, DELETE"})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        self._shop.end(request.headers.get(SESSION))
        return web.Response(status=204)

    async def post(self, request: web.Request) -> web.StreamResponse:
        try:
            message = json.loads(await read_body(request, MAX_BODY_BYTES))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            return _error(None, _INVALID_REQUEST, "Send one JSON-RPC message.", 400)
        number, method = message.get("id"), message["method"]
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "initialize":
            return self._initialize(number, params)
        token = request.headers.get(SESSION)
        session = self._shop.session(token)
        if session is None:
            status, which = (404, "This") if token else (400, "No")
            return _error(number, _INVALID_REQUEST, f"{which} session: initialize first.", status)
        if number is None:
            return web.Response(status=202)
        if method == "ping":
            return _result(number, {})
        if method == "tools/list":
            return _result(number, {"tools": [self._described(name) for name in self._tools]})
        if method == "tools/call":
            return self._call(number, params, session)
        return _error(number, _UNKNOWN_METHOD, "There is no such method.")

    def _initialize(self, number: Any, params: dict[str, Any]) -> web.Response:
        asked = params.get("protocolVersion")
        result: dict[str, Any] = {
            "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "demo-shop", "version": VERSION},
        }
        answer = _result(number, result)
        answer.headers[SESSION] = self._shop.login("mcp")
        return answer

    def _described(self, name: str) -> dict[str, Any]:
        words, properties, _ = self._tools[name]
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if "product_id" in properties:
            schema["required"] = ["product_id"]
        hints = {"readOnlyHint": name in ("list_products", "get_product", "view_cart")}
        return {"name": name, "description": words, "inputSchema": schema, "annotations": hints}

    def _call(self, number: Any, params: dict[str, Any], session: Session) -> web.Response:
        name, given = params.get("name"), params.get("arguments")
        if not isinstance(name, str) or name not in self._tools:
            return _error(number, _INVALID_PARAMS, "There is no such tool; tools/list names them.")
        try:
            made = self._tools[name][2](session, given if isinstance(given, dict) else {})
        except _ToolError as problem:
            self._called(name, "error")
            content = [{"type": "text", "text": str(problem)}]
            return _result(number, {"content": content, "isError": True})
        self._called(name, "ok")
        content = [{"type": "text", "text": json.dumps(made)}]
        return _result(number, {"content": content, "structuredContent": made})

    @staticmethod
    def _list(_: Session, __: dict[str, Any]) -> dict[str, Any]:
        return {"products": [asdict(product) for product in PRODUCTS.values()]}

    @staticmethod
    def _get(_: Session, given: dict[str, Any]) -> dict[str, Any]:
        return asdict(PRODUCTS[_product(given)])

    @staticmethod
    def _add(session: Session, given: dict[str, Any]) -> dict[str, Any]:
        product, quantity = _product(given), given.get("quantity", 1)
        if type(quantity) is not int or quantity < 1:
            raise _ToolError("quantity: is not a whole number from 1.")
        session.cart[product] = min(session.cart.get(product, 0) + quantity, MAX_QUANTITY)
        return _cart(session)

    @staticmethod
    def _view(session: Session, _: dict[str, Any]) -> dict[str, Any]:
        return _cart(session)

    def _checkout(self, session: Session, _: dict[str, Any]) -> dict[str, Any]:
        if not session.cart:
            raise _ToolError("The cart is empty: call add_to_cart first.")
        order_id, total = self._shop.checkout(session)
        return {"order_id": order_id, "total_cents": total}


def _result(number: Any, result: dict[str, Any]) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": number, "result": result})


def _error(number: Any, code: int, message: str, status: int = 200) -> web.Response:
    error = {"code": code, "message": message}
    return web.json_response({"jsonrpc": "2.0", "id": number, "error": error}, status=status)
