"""MCP servers that answer anything: never an error of the gateway, nor more than its bounds."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ape_gateway import mcp_tools
from tests.support.mcp_target import gateway
from tests.support.model_world import address

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]
Answer = web.StreamResponse | dict[str, Any] | str
TEXT = {"content": [{"type": "text", "text": "x"}]}


def server(called: Callable[[web.Request], Any], **own: Any) -> web.Application:
    """A server whose answer to tools/call is `called`'s; `own`: results of other methods."""

    async def post(request: web.Request) -> web.StreamResponse:
        message = await request.json()
        method, number = message["method"], message.get("id")
        if number is None:
            return web.Response(status=202)
        if method == "tools/call":
            found: Answer = called(request)
            if asyncio.iscoroutine(found):
                found = await found
        elif method in own:
            found = own[method](message) if callable(own[method]) else own[method]
        elif method == "initialize":
            info = {"name": "x", "version": "1"}
            found = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info}
        elif method == "tools/list":
            found = {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}
        else:
            return web.json_response({"jsonrpc": "2.0", "id": number, "error": _NO}, status=400)
        if isinstance(found, dict):
            return web.json_response({"jsonrpc": "2.0", "id": number, "result": found})
        if isinstance(found, str):
            text = found.replace("ID", json.dumps(number))
            return web.Response(text=text, content_type="application/json")
        return found

    app = web.Application()
    app.router.add_post("/mcp", post)
    return app


_NO = {"code": -32601, "message": "No."}
DEEP = "[" * 5000 + "]" * 5000
RESULT = '{"jsonrpc":"2.0","id":ID,"result":%s}'
STRUCTURED = RESULT % '{"content":[],"structuredContent":{"x":%s}}'


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"x": "y" * 999}}
    try:
        while True:
            await answer.write(f"data: {json.dumps(progress)}\n\n".encode())
    except ConnectionError:
        return answer


def one_event(size: int) -> Callable[[web.Request], web.Response]:
    text = "data: " + "x" * size
    return lambda _: web.Response(text=text, content_type="text/event-stream")


CASES: dict[str, tuple[Any, set[int]]] = {
    "not JSON": ("nonsense", {502}),
    "empty": ("", {502}),
    "not JSON-RPC": ('{"a": 1}', {502}),
    "no content": (RESULT % "{}", {502}),
    "wrong content": (RESULT % '{"content": [{"type": "hologram"}]}', {502}),
    "deep": (STRUCTURED % DEEP, {200, 502}),
    "huge number": (STRUCTURED % ("9" * 5000), {200, 502}),
    "not a number": (STRUCTURED % "NaN", {200, 502}),
    "surrogate": (STRUCTURED % '"\\ud800"', {200, 502}),
    "another id": ('{"jsonrpc":"2.0","id":"zz","result":{"content":[]}}', {504, 502, 200}),
    "accepted": (web.Response, {502}),
    "moved": (lambda _: web.Response(status=307, headers={"Location": "http://x.example/"}), {502}),
    "page": (lambda _: web.Response(text="<html>", content_type="text/html"), {502}),
    "endless": (endless, {502}),
    "large event": (one_event(3 << 20), {502}),
    "events without an answer": (one_event(10), {502, 504}),
    "asks for input": (RESULT % '{"resultType": "input_required", "inputRequests": {}}', {502}),
}


@pytest.mark.parametrize("name", CASES)
async def test_answer_without_a_result_is_the_targets_fault(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    given, statuses = CASES[name]
    turns = [0]

    def called(request: web.Request) -> Any:
        turns[0] += 1
        if turns[0] > 1:
            return TEXT
        if given is web.Response:
            return web.Response(status=202)
        return given if isinstance(given, str) else given(request)

    async with (
        TestServer(server(called)) as target,
        gateway(f"{address(target)}/mcp", timeout=1.5) as gate,
    ):
        answer = await gate.call("t", session="s")
        assert answer["status_code"] in statuses, answer
        assert len(json.dumps(answer)) < 1 << 20
        assert (await gate.call("t", session="s"))["body"] == "x"
    own = [r for r in caplog.records if r.name.startswith(("ape", "asyncio"))]
    assert [r.getMessage() for r in own if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"initialize": {"protocolVersion": "2024-11-05", "capabilities": {}}}, "not"),
        (
            {
                "initialize": {
                    "protocolVersion": "2024-11-05",
                    "capabilities": {},
                    "serverInfo": {"name": "x", "version": "1"},
                }
            },
            "older than 2025-06-18",
        ),
        ({"initialize": "nonsense"}, "not"),
        ({"initialize": {"protocolVersion": "9", "capabilities": {}, "serverInfo": {}}}, "not"),
    ],
)
async def test_server_of_no_version_that_is_known_is_named_as_such(own: Any, words: str) -> None:
    async with (
        TestServer(server(lambda _: TEXT, **own)) as target,
        gateway(f"{address(target)}/mcp", timeout=2) as gate,
    ):
        answer = await gate.call("t", session="s")
        assert answer["status_code"] == 502
        status, listed = await gate.get("/operations")
        assert (status, listed["error"]) == (503, "target_unreachable")
        assert words in listed["message"]


async def test_list_without_an_end_is_cut() -> None:
    pages = [0]

    def listed(_: Any) -> dict[str, Any]:
        pages[0] += 1
        tools = [{"name": f"t{pages[0]}", "inputSchema": {"type": "object"}}]
        return {"tools": tools, "nextCursor": str(pages[0])}

    async with (
        TestServer(server(lambda _: TEXT, **{"tools/list": listed})) as target,
        gateway(f"{address(target)}/mcp") as gate,
    ):
        status, found = await gate.get("/operations")
        assert (status, found["count"]) == (200, 100)
        assert pages[0] == 100
        assert mcp_tools.MAX_TOOLS > 100
        _, best = await gate.get("/operations/search?q=t7")
        assert best["operations"]
