"""A small application with what real ones ask for, and its OpenAPI document.

Login by JSON and by form, a required header, a cookie session with CSRF, a redirect after POST, an
upload, pages by cursor, arrays in the query, answers with headers, and a picture.
"""

from __future__ import annotations

import secrets
from typing import Any

from aiohttp import web

from ape_contracts.operations import Operation
from tests.support.openapi_documents import document
from tests.support.openapi_documents import operations as operations_of

ITEMS = [{"sku": f"SKU-{n:03d}", "title": f"Lamp {n}"} for n in range(1, 13)]
PAGE = 5
TEXT: dict[str, Any] = {"type": "string"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


def _body(schema: Any, content_type: str = "application/json") -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {content_type: {"schema": schema}}}}


def _parameter(name: str, place: str = "query", *, required: bool = True, **schema: Any) -> Any:
    return {"name": name, "in": place, "required": required, "schema": schema or TEXT}


FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
LOGIN = _object(["username", "password"], username=TEXT, password=TEXT)
PAGES = {"in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10}}
DOCUMENT = document(
    {
        "/auth/token": {"post": {"operationId": "login_form", **_body(LOGIN, FORM)}},
        "/auth/login": {"post": {"operationId": "login_json", **_body(LOGIN)}},
        "/items": {
            "get": {
                "operationId": "items",
                "summary": "Items, a page",
                "parameters": [
                    {"name": "limit", **PAGES},
                    _parameter("cursor", required=False),
                ],
                "responses": {"200": {"headers": {"X-Total": {"schema": TEXT}}}},
            }
        },
        "/items/{sku}": {"get": {"operationId": "item", "parameters": [_parameter("sku", "path")]}},
        "/items/{sku}/picture": {
            "get": {"operationId": "picture", "parameters": [_parameter("sku", "path")]}
        },
        "/orders": {
            "post": {
                "operationId": "order",
                "parameters": [_parameter("idempotency-key", "header")],
                **_body(_object(["skus"], skus={"type": "array", "items": TEXT}, note=TEXT)),
            }
        },
        "/orders/search": {
            "get": {
                "operationId": "search",
                "parameters": [
                    _parameter("state", type="string", enum=["paid", "open"]),
                    _parameter("tags", type="array", items=TEXT),
                ],
            }
        },
        "/me/avatar": {
            "put": {
                "operationId": "avatar",
                **_body(_object(["file"], file={"type": "string", "format": "binary"}), MULTIPART),
            }
        },
        "/web/login": {
            "get": {"operationId": "web_login"},
            "post": {
                "operationId": "web_login_post",
                "summary": "Log in by the form",
                **_body(
                    _object(
                        ["username", "password", "csrf_token"],
                        username=TEXT,
                        password=TEXT,
                        csrf_token=TEXT,
                    ),
                    FORM,
                ),
            },
        },
        "/web/account": {"get": {"operationId": "account"}},
        "/web/profile": {
            "post": {
                "operationId": "profile",
                "parameters": [_parameter("x-csrf-token", "header")],
                **_body({"type": "object"}),
            }
        },
    }
)
OPERATIONS: tuple[Operation, ...] = operations_of(DOCUMENT)


class FlowTarget:
    """`seen`: (method, path with query, content type or None) of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []
        self.uploads: list[tuple[str, str, int]] = []
        self._tokens: set[str] = set()
        self._sessions: dict[str, dict[str, str]] = {}

    def end_sessions(self) -> None:
        self._tokens.clear()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.add_routes(
            [
                web.post("/auth/token", self._login_form),
                web.post("/auth/login", self._login_json),
                web.get("/items", self._items),
                web.get("/items/{sku}", self._item),
                web.get("/items/{sku}/picture", self._picture),
                web.post("/orders", self._order),
                web.get("/orders/search", self._search),
                web.put("/me/avatar", self._avatar),
                web.get("/web/login", self._web_login),
                web.post("/web/login", self._web_login_post),
                web.get("/web/account", self._account),
                web.post("/web/profile", self._profile),
                web.get("/away", self._away),
                web.get("/loop", self._loop),
            ]
        )
        return app

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, request.headers.get("Content-Type")))
        answer: web.StreamResponse = await handler(request)
        return answer

    def _token(self, name: object, password: object) -> web.Response:
        if password != "secret" or not name:
            return web.json_response({"detail": "wrong password"}, status=400)
        token = secrets.token_hex(8)
        self._tokens.add(f"Bearer {token}")
        return web.json_response({"access_token": token, "token_type": "bearer"})

    async def _login_form(self, request: web.Request) -> web.Response:
        if request.content_type != FORM:
            return web.json_response({"detail": "not a form"}, status=422)
        form = await request.post()
        return self._token(form.get("username"), form.get("password"))

    async def _login_json(self, request: web.Request) -> web.Response:
        body = await request.json()
        return self._token(body.get("username"), body.get("password"))

    def _check(self, request: web.Request) -> None:
        if request.headers.get("Authorization") not in self._tokens:
            raise web.HTTPUnauthorized(text='{"detail": "no token"}')

    async def _items(self, request: web.Request) -> web.Response:
        start = int(request.query.get("cursor", "0"))
        more = start + PAGE < len(ITEMS)
        headers = {"X-Total": str(len(ITEMS)), "X-Internal": "x", "ETag": '"1"'}
        if more:
            headers["Link"] = f'</items?cursor={start + PAGE}>; rel="next"'
        return web.json_response({"items": ITEMS[start : start + PAGE]}, headers=headers)

    async def _item(self, request: web.Request) -> web.Response:
        found = [i for i in ITEMS if i["sku"] == request.match_info["sku"]]
        return web.json_response(
            found[0] if found else {"detail": "none"}, status=200 if found else 404
        )

    async def _picture(self, _: web.Request) -> web.Response:
        return web.Response(body=b"\x89PNG\xff\x00" * 100, content_type="image/png")

    async def _order(self, request: web.Request) -> web.Response:
        self._check(request)
        if not request.headers.get("Idempotency-Key"):
            return web.json_response({"detail": "idempotency-key is missing"}, status=422)
        skus = (await request.json())["skus"]
        return web.json_response({"order_id": "o1", "skus": skus}, status=201)

    async def _search(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"tags": request.query.getall("tags", []), **{"orders": []}})

    async def _avatar(self, request: web.Request) -> web.Response:
        self._check(request)
        part = (await request.post())["file"]
        if not isinstance(part, web.FileField):
            return web.json_response({"detail": "file must be a file"}, status=422)
        content = part.file.read()
        self.uploads.append((part.filename, part.content_type, len(content)))
        return web.json_response({"bytes": len(content)})

    def _session(self, request: web.Request) -> dict[str, str]:
        return self._sessions.setdefault(request.cookies.get("sid", ""), {})

    async def _web_login(self, _: web.Request) -> web.Response:
        sid, csrf = secrets.token_hex(4), secrets.token_hex(8)
        self._sessions[sid] = {"csrf": csrf}
        page = f'<form method="post"><input type="hidden" name="csrf_token" value="{csrf}"></form>'
        answer = web.Response(text=page, content_type="text/html")
        answer.set_cookie("sid", sid)
        return answer

    async def _web_login_post(self, request: web.Request) -> web.Response:
        form, session = await request.post(), self._session(request)
        if not form.get("csrf_token") or form["csrf_token"] != session.get("csrf"):
            return web.json_response({"detail": "CSRF"}, status=403)
        session["user"] = str(form["username"])
        answer = web.Response(status=303, headers={"Location": "/web/account"})
        # Only the answer that redirects has it.
        answer.set_cookie("signed", "yes")
        return answer

    async def _account(self, request: web.Request) -> web.Response:
        user = self._session(request).get("user")
        if user is None or request.cookies.get("signed") != "yes":
            return web.Response(status=302, headers={"Location": "/web/login"})
        return web.Response(text=f"<h1>Hello {user}</h1>", content_type="text/html")

    async def _profile(self, request: web.Request) -> web.Response:
        if request.headers.get("X-CSRF-Token") != self._session(request).get("csrf"):
            return web.json_response({"detail": "CSRF"}, status=403)
        return web.json_response({"saved": await request.json()})

    async def _away(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://elsewhere.example/items"})

    async def _loop(self, request: web.Request) -> web.Response:
        step = int(request.query.get("n", "0")) + 1
        return web.Response(status=302, headers={"Location": f"/loop?n={step}"})
