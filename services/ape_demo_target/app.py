"""The shop's HTTP interface. Errors are {"error", "message"}."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from typing import Any

from aiohttp import web

from ape_contracts import metrics
from ape_demo_target.mcp import McpShop
from ape_demo_target.shop import MAX_QUANTITY, PRODUCTS, Session, Shop
from ape_service import prom
from ape_service.answers import error
from ape_service.web import Handler, application, read_body

COOKIE = "shop_session"
MAX_BODY_BYTES = 64 << 10
# The endpoints that PUT /_faults can break: name -> (method, path).
ENDPOINTS = {
    "login": ("POST", "/login"),
    "products": ("GET", "/products"),
    "product": ("GET", "/products/{id}"),
    "cart_items": ("POST", "/cart/items"),
    "cart": ("GET", "/cart"),
    "checkout": ("POST", "/checkout"),
    "orders_stats": ("GET", "/orders/stats"),
}


async def _object(request: web.Request) -> dict[str, Any] | None:
    try:
        raw = json.loads(await read_body(request, MAX_BODY_BYTES))
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


class _Handlers:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def _session(self, request: web.Request) -> Session | None:
        bearer = request.headers.get("Authorization", "")
        token = bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None
        return self.shop.session(token or request.cookies.get(COOKIE))

    @staticmethod
    def _login_first() -> web.Response:
        return error(401, "login_first", "POST /login, then send its token or its cookie.")

    async def page(self, _: web.Request) -> web.Response:
        rows = "".join(
            f"<li>{html.escape(p.name)}, {p.price_cents / 100:.2f}</li>" for p in PRODUCTS.values()
        )
        text = (
            "<!doctype html><title>Demo shop</title><h1>Demo shop</h1>"
            f"<p>{self.shop.orders} orders so far.</p><ul>{rows}</ul>"
        )
        return web.Response(text=text, content_type="text/html")

    async def login(self, request: web.Request) -> web.Response:
        raw = await _object(request) or {}
        username, password = raw.get("username"), raw.get("password")
        if not (isinstance(username, str) and isinstance(password, str) and username and password):
            return error(422, "bad_request", "username and password: texts, not empty.")
        token = self.shop.login(username[:128])
        answer = web.json_response({"token": token})
        answer.set_cookie(COOKIE, token, httponly=True, samesite="Lax")
        return answer

    async def products(self, request: web.Request) -> web.Response:
        if self._session(request) is None:
            return self._login_first()
        return web.json_response({"products": [asdict(p) for p in PRODUCTS.values()]})

    async def product(self, request: web.Request) -> web.Response:
        if self._session(request) is None:
            return self._login_first()
        number = request.match_info["id"]
        found = PRODUCTS.get(int(number)) if number.isdecimal() and len(number) < 10 else None
        if found is None:
            return error(404, "no_such_product", "GET /products lists the products.")
        return web.json_response(asdict(found))

    async def cart_items(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            return self._login_first()
        raw = await _object(request) or {}
        number, quantity = raw.get("product_id"), raw.get("quantity", 1)
        if type(number) is not int or type(quantity) is not int or quantity < 1:
            return error(422, "bad_request", "product_id, quantity: whole numbers from 1.")
        if number not in PRODUCTS:
            return error(404, "no_such_product", "GET /products lists the products.")
        session.cart[number] = min(session.cart.get(number, 0) + quantity, MAX_QUANTITY)
        return web.json_response(self._cart(session), status=201)

    async def cart(self, request: web.Request) -> web.Response:
        session = self._session(request)
        return self._login_first() if session is None else web.json_response(self._cart(session))

    @staticmethod
    def _cart(session: Session) -> dict[str, Any]:
        items = [{"product_id": number, "quantity": n} for number, n in session.cart.items()]
        return {"items": items, "total_cents": session.total_cents}

    async def checkout(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            return self._login_first()
        if not session.cart:
            return error(409, "cart_empty", "POST /cart/items first.")
        order_id, total = self.shop.checkout(session)
        return web.json_response({"order_id": order_id, "total_cents": total}, status=201)

    async def orders_stats(self, _: web.Request) -> web.Response:
        return web.json_response({"orders": self.shop.orders})


def make_app(*, faults: bool = False) -> web.Application:
    """The shop. `faults`: allow PUT /_faults {endpoint name: status} to break endpoints."""
    registry = prom.registry()
    app = application("demo_target", registry, MAX_BODY_BYTES)
    shop = Shop()
    handlers = _Handlers(shop)
    broken: dict[str, int] = {}
    requests = prom.counter(metrics.DEMO_REQUESTS, registry)
    orders = prom.counter(metrics.DEMO_ORDERS, registry)

    def endpoint(name: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            answer: web.StreamResponse
            if name in broken:
                answer = error(broken[name], "fault", "Broken on purpose by PUT /_faults.")
            else:
                answer = await handler(request)
                if name == "checkout" and answer.status == 201:
                    orders.inc()
            requests.labels(name, answer.status).inc()
            return answer

        return handle

    async def set_faults(request: web.Request) -> web.Response:
        raw = await _object(request)
        if raw is None or any(
            name not in ENDPOINTS or type(status) is not int or not 400 <= status <= 599
            for name, status in raw.items()
        ):
            known = ", ".join(ENDPOINTS)
            return error(422, "bad_request", f"Send {{name: 400 to 599}}; names: {known}.")
        broken.clear()
        broken.update(raw)
        return web.json_response(broken)

    def called(tool: str, result: str) -> None:
        requests.labels(f"mcp_{tool}", 200 if result == "ok" else 422).inc()
        if (tool, result) == ("checkout", "ok"):
            orders.inc()

    app.router.add_get("/", handlers.page)
    for method, handler in McpShop(shop, called).handlers.items():
        app.router.add_route(method, "/mcp", handler)
    for name, (method, path) in ENDPOINTS.items():
        app.router.add_route(method, path, endpoint(name, getattr(handlers, name)))
    if faults:
        app.router.add_put("/_faults", set_faults)
    return app
