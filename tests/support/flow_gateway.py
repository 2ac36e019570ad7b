"""A gateway for tests of agents: its wire of requests, and its operations.

Requests go through the real gateway's wire where that knows content types; else they are sent here
by the same rules.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp import web

from ape_contracts import operations, paths
from ape_contracts.gateway_config import load
from ape_contracts.operation_request import File, encode_body
from ape_contracts.operations import Body, Operation, Operations
from ape_gateway import wire
from ape_gateway.app import make_app

API = "shop"
MAX_LISTED, MAX_FOUND = 64, 8
HAS_WIRE = "content_type" in wire._WireRequest.__struct_fields__


def real_app(target: str, allowed: Sequence[str] = ()) -> Any:
    """The real gateway before `target`; `allowed`: templates of its paths, or none for all."""
    endpoints = [{"path": path, "methods": ["GET", "POST", "PUT"]} for path in allowed]
    route: dict[str, Any] = {"name": "Shop", "description": "", "base_url": target}
    if endpoints:
        route["endpoints"] = endpoints
    return make_app(load(json.dumps({"routes": {API: route}})), declared=1)


def operations_app(known: Sequence[Operation], forward: Any) -> web.Application:
    """GET /operations and its search; `forward(request)` answers POST /mcp/request."""
    plain = operations.plain(Operations(operations=tuple(known)))["operations"]

    async def listed(_: web.Request) -> web.Response:
        if not plain:
            return web.json_response({"error": "not_found"}, status=404)
        few = {"operations": plain} if len(plain) <= MAX_LISTED else {}
        return web.json_response({"count": len(plain), **few})

    async def search(request: web.Request) -> web.Response:
        asked = set(request.query["q"].lower().split())
        words = [
            (len(asked & set(f"{o['id']} {o.get('summary', '')}".lower().split())), n)
            for n, o in enumerate(plain)
        ]
        best = [plain[n] for score, n in sorted(words, reverse=True)[:MAX_FOUND] if score]
        return web.json_response({"count": len(best), "operations": best})

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/operations", listed)
    app.router.add_get("/operations/search", search)
    app.router.add_get("/health", healthy)
    app.router.add_post("/agents/report", healthy)
    app.router.add_post("/mcp/request", forward)
    return app


def to_gateway(gateway: str) -> Any:
    """Pass a request on to the real gateway as it is."""

    async def forward(request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{gateway}/mcp/request", data=await request.read()) as answer,
        ):
            return web.json_response(await answer.json(), status=answer.status)

    return forward


def to_target(target: str, allowed: Sequence[str] = ()) -> Any:
    """Send a request to the target, as the gateway's wire has it."""

    async def forward(request: web.Request) -> web.Response:
        asked = await request.json()
        if allowed and not any(paths.matches(each, asked["endpoint_path"]) for each in allowed):
            refused = {"error": "not_allowed", "error_message": "This path is not allowed."}
            return web.json_response({"status_code": 403, "body": None, **refused}, status=403)
        headers = dict(asked.get("session_headers") or {})
        query = _pairs(asked.get("query") or {})
        payload, kind, content = asked.get("request_payload"), asked.get("content_type"), None
        if payload is not None and asked["http_method"] == "GET" and not kind:
            query += _pairs(payload)
        elif payload is not None:
            made = Body(content_type=kind or "application/json", encoding=asked.get("encoding", {}))
            headers["Content-Type"], content = encode_body(made, _with_files(payload))
        async with (
            aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as client,
            client.request(
                asked["http_method"],
                target + asked["endpoint_path"],
                params=query or None,
                headers=headers,
                data=content,
                allow_redirects=False,
            ) as answer,
        ):
            return web.json_response(await _answer(answer))

    return forward


def _pairs(query: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(each))
        for name, value in query.items()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    ]


def _with_files(payload: Any) -> Any:
    if not isinstance(payload, dict):
        return payload
    files = {
        name: File(b"x" * 1024, value["$file"].get("name", "file.png"), "image/png")
        for name, value in payload.items()
        if isinstance(value, dict) and "$file" in value
    }
    return {**payload, **files}


async def _answer(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    headers: dict[str, Any] = {key.lower(): value for key, value in answer.headers.items()}
    if cookies := answer.headers.getall("Set-Cookie", []):
        headers["set-cookie"] = cookies
    content, body, encoding = await answer.read(), None, "none"
    if content and answer.content_type == "application/json":
        body, encoding = json.loads(content), "json"
    elif content and answer.content_type.startswith("text/"):
        body, encoding = content.decode(), "text"
    elif content:
        body, encoding = base64.b64encode(content).decode(), "base64"
    return {
        "status_code": answer.status,
        "headers": headers,
        "body": body,
        "body_encoding": encoding,
        "truncated": False,
        "error": None,
    }
