"""An MCP server made with the SDK, with tools of every kind, and the gateway before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from mcp.server.mcpserver import Image, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, ToolAnnotations
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from ape_contracts.gateway_config import load
from ape_gateway.app import make_app
from tests.support.model_world import address
from tests.unit.services.conftest import AsgiServer

API = "tools"


class Item(BaseModel):
    sku: str
    quantity: int = 1


class Order(BaseModel):
    order_id: str
    total: int


def server() -> MCPServer[Any]:
    made: MCPServer[Any] = MCPServer("cases", log_level="CRITICAL")

    @made.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @made.tool()
    def put(item: Item) -> Order:
        """Put an item into the cart."""
        return Order(order_id=item.sku, total=item.quantity)

    @made.tool(structured_output=False)
    def say(text: str) -> str:
        """Say a text."""
        return text

    @made.tool(structured_output=False)
    def picture() -> list[Any]:
        """A text and a picture."""
        return ["A picture", Image(data=b"x" * 100, format="png")]

    @made.tool(structured_output=False)
    def fail(why: str) -> str:
        """Fail."""
        raise ValueError(why)

    @made.tool(structured_output=False)
    def broken() -> str:
        """Break the protocol."""
        raise MCPError(INTERNAL_ERROR, "out of order")

    @made.tool(structured_output=False, annotations=ToolAnnotations(read_only_hint=True))
    async def slow(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "done"

    @made.tool(structured_output=False)
    def large(size: int) -> str:
        """A text of that size."""
        return "x" * size

    return made


@dataclass
class Target:
    """The requests to the server: (method, headers, JSON-RPC method); faults of its HTTP.

    `statuses`: what the next requests with that JSON-RPC method are answered in place of the SDK.
    `is_old`: of a version with sessions. `token`: what requests must carry, if any.
    """

    seen: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    is_old: bool = False
    token: str = ""

    def methods(self) -> list[str]:
        return [rpc or method for method, _, rpc in self.seen]

    def headers(self, rpc: str) -> list[dict[str, str]]:
        return [headers for _, headers, each in self.seen if each == rpc]

    def around(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body, messages = b"", []
            while scope["method"] == "POST":
                message = await receive()
                messages.append(message)
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            rpc = str(json.loads(body).get("method", "")) if body else ""
            headers = {k.decode(): v.decode() for k, v in scope["headers"]}
            self.seen.append((scope["method"], headers, rpc))
            refused = self.is_old and rpc == "server/discover"
            unknown = self.token and headers.get("authorization") != f"Bearer {self.token}"
            if refused or unknown or self.statuses.get(rpc):
                status = 401 if unknown else 400 if refused else self.statuses[rpc].pop(0)
                start = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
                await send({"type": "http.response.start", "status": status, "headers": start})
                await send({"type": "http.response.body", "body": b"No session."})
                return

            async def again() -> Any:
                return messages.pop(0) if messages else await receive()

            await app(scope, again, send)

        return counted


class Gateway:
    """The gateway before a target, as agents call it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url, self._http = url, http

    async def call(
        self, tool: str, arguments: Any = None, *, session: str = "", **more: Any
    ) -> dict[str, Any]:
        return await self.send("POST", f"/tools/{tool}", arguments or {}, session=session, **more)

    async def send(
        self,
        method: str,
        path: str,
        payload: Any = None,
        *,
        session: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        asked = {"api_name": API, "method": method, "path": path, "data": payload}
        asked["headers"] = dict(headers or {})
        own = {"X-APE-Session": session} if session else {}
        async with self._http.post(f"{self.url}/mcp/request", json=asked, headers=own) as answer:
            found: dict[str, Any] = await answer.json()
        return found

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self._http.get(self.url + path, headers=headers) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    running = AsgiServer(app)
    await running.start_server()
    try:
        yield address(running)
    finally:
        await running.close()


@asynccontextmanager
async def gateway(url: str, **route: Any) -> AsyncIterator[Gateway]:
    config = {"routes": {API: {"base_url": url, "mcp": True, **route}}}
    async with (
        served(make_app(load(json.dumps(config)), declared=1)) as own,
        aiohttp.ClientSession() as http,
    ):
        yield Gateway(own, http)


@asynccontextmanager
async def target(*, is_old: bool = True, **options: Any) -> AsyncIterator[tuple[Target, str]]:
    """(the target, its URL). `options`: of the SDK's app."""
    found = Target(is_old=is_old)
    app = server().streamable_http_app(**options)
    async with served(found.around(app)) as url:
        yield found, f"{url}/mcp"
