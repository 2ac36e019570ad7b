"""The agents of the original project, by what they send, with our gateway and proxy."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from aiohttp import web

from ape_contracts.gateway_config import load
from ape_gateway.app import make_app
from ape_infra.config.gateway_import import convert
from ape_proxy.app import Options
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from tests.support import original

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
TOKEN = "of-the-stack-0123456789"


class Shop:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any, str]] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        trace_id = request.headers["X-Trace-ID"]
        if request.path != "/health":
            self.seen.append((request.method, request.path_qs, body, trace_id))
        if request.path == "/api/cart" and "Authorization" not in request.headers:
            return web.json_response({"error": "log in"}, status=401)
        return web.json_response({"products": [1]})


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def gateway(serve: Any, shop: Shop) -> Any:
    target = await serve(shop.app)
    config = original.gateway_config(str(target.make_url("")).rstrip("/"))
    return await serve(make_app(load(convert(json.dumps(config)).text)))


async def call(
    gateway: Any, method: str, path: str, data: Any = None, headers: Any = None
) -> tuple[bool, dict[str, Any], str]:
    """As the original's tools do: whether it is a success for them, the answer, the trace id."""
    trace_id = str(uuid.uuid4())
    asked = {
        "target_api_name": "sut_api",
        "http_method": method,
        "endpoint_path": path,
        "request_payload": data,
        "session_headers": headers or {},
    }
    sent = {"Content-Type": "application/json", "X-Trace-ID": trace_id}
    async with gateway.post("/mcp/request", json=asked, headers=sent) as answer:
        return answer.status < 400, await answer.json(), trace_id.replace("-", "")


async def test_original_agent_reads_and_writes_through_the_imported_config(
    gateway: Any, shop: Shop
) -> None:
    assert (await gateway.get("/health")).status == 200
    success, answer, first = await call(gateway, "GET", "/api/products")
    assert success
    assert answer["status_code"] == 200
    assert answer["body"] == {"products": [1]}
    assert {"headers", "execution_time", "trace_id", "error_message"} <= answer.keys()
    login = {"Authorization": "Bearer abc"}
    success, _, second = await call(gateway, "POST", "/api/cart", {"productId": 1}, login)
    assert success
    success, _, third = await call(gateway, "DELETE", "/api/cart", None, login)
    assert success
    assert shop.seen == [
        ("GET", "/api/products", None, first),
        ("POST", "/api/cart", {"productId": 1}, second),
        ("DELETE", "/api/cart", None, third),
    ]


async def test_original_agent_takes_a_target_error_for_a_failure_with_the_imported_config(
    gateway: Any,
) -> None:
    success, answer, _ = await call(gateway, "POST", "/api/cart", {"productId": 1})
    assert not success
    assert (answer["status_code"], answer["body"]) == (401, {"error": "log in"})


async def test_original_agent_may_omit_the_first_slash_as_its_own_gateway_allows(
    gateway: Any, shop: Shop
) -> None:
    success, _, trace_id = await call(gateway, "GET", "api/products")
    assert success
    assert shop.seen == [("GET", "/api/products", None, trace_id)]


async def test_original_agent_asks_the_proxy_with_the_token_in_its_variable_for_the_key(
    serve: Any,
) -> None:
    proxy = await serve(proxy_app(Offline(), Options(token=TOKEN)))
    asked = {
        "model": "llama3.1-8b",
        "messages": [{"role": "user", "content": "Call http_get."}],
        "max_tokens": 1000,
        "temperature": 0.7,
    }
    for key, status in (("dummy-key", 401), (TOKEN, 200)):
        answer = await proxy.post(
            "/v1/chat/completions", json=asked, headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status == status
    message = (await answer.json())["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert isinstance(message["content"], str)
