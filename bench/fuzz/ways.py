"""The ways into each service, with bodies that are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ape_contracts import report_token
from bench.fuzz.requests import Way

DEMO = Path(__file__).resolve().parents[2] / "services/ape_demo_target"
TOKEN = "fuzz"
# Of the reports of the slots 1 and 2.
REPORT_KEY = "fuzz-reports"
_JSON = (b"Content-Type", b"application/json")
_BOTH = (b"Accept", b"application/json, text/event-stream")
_BEARER = (b"Authorization", f"Bearer {TOKEN}".encode())
_SIGNED = (b"Authorization", f"Bearer {report_token.sign(REPORT_KEY, 1, 2, 2)}".encode())
_CONTROL = (b"Authorization", f"Bearer {report_token.control(REPORT_KEY)}".encode())
_LOGIN = {"username": "u", "password": "p"}
_CALLS: tuple[Any, ...] = (
    {
        "target_api_name": "shop",
        "http_method": "POST",
        "endpoint_path": "/login",
        "session_headers": {"Cookie": "a=b", "X-A": "é"},
        "request_payload": _LOGIN,
        "trace_id": "0" * 32,
    },
    {"api_name": "open", "method": "GET", "path": "/products?full=1", "data": {"q": 1, "r": "é"}},
    {"api_name": "open", "method": "PUT", "path": "/x", "headers": {}, "data": [None, 1.5, {}]},
    {"api_name": "shop", "method": "GET", "path": "/products/7"},
    {
        "api_name": "open",
        "method": "POST",
        "path": "/x",
        "query": {"a": [1, True, None], "b": "é"},
        "content_type": "multipart/form-data",
        "data": {"a": {"$file": {"name": "a.png", "type": "image/png", "bytes": 9}}, "b": [1, {}]},
        "encoding": {"a": {"contentType": "image/*", "style": "form", "explode": True}},
    },
    {
        "target_api_name": "shop",
        "http_method": "POST",
        "endpoint_path": "/login",
        "session_headers": {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        "request_payload": {"a b": {"c": ["é"]}, "d": None},
        "encoding": {"a b": {"style": "deepObject"}},
    },
)
_BATCH = [{"api_name": "shop", "method": "POST", "path": "/login", "data": _LOGIN}] * 3
_META = {"io.modelcontextprotocol/protocolVersion": "2025-06-18", "traceparent": "00-1-2-03"}
_INIT = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "fuzz", "version": "1"},
}


def _rpc(method: str, params: Any, number: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _tool(name: str, arguments: Any) -> dict[str, Any]:
    return _rpc("tools/call", {"name": name, "arguments": arguments, "_meta": _META})


_MCP: tuple[Any, ...] = (
    _rpc("initialize", _INIT),
    _rpc("tools/list", {"cursor": "x"}),
    _rpc("ping", None, "a"),
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    _tool("shop_post_login", {"data": _LOGIN, "headers": {"X-A": "b"}}),
    _tool("shop_get_products_id", {"id": 7}),
    _tool("http_get", {"path": "/products", "data": {"q": 1}, "headers": {"Cookie": "a=b"}}),
    _tool("http_batch", {"requests": _BATCH}),
    _tool(
        "http_post", {"path": "/x", "data": "a", "content_type": "text/csv", "query": {"q": [1]}}
    ),
    [_rpc("ping", {})],
)
_REPORTS: tuple[Any, ...] = (
    {
        "source": "s",
        "number": 1,
        "agents": [[1, "running"], [2, "waiting"]],
        "memory_bytes": 3e7,
        "steps": [["ok", 0.1, None], ["target_error", None, 1.0]],
        "sessions": [
            {"slot": 1, "result": "success", "reason": "goal_met", "steps": 6, "seconds": 1.5},
            {
                "slot": 2,
                "result": "failure",
                "reason": "model_error",
                "steps": 1,
                "seconds": 0,
                "detail": "é\x1b[31m",
                "repaired": {},
                "run": "r1",
                "session": 3,
                "scenario": "default",
                "phase": "main",
                "late": 0.5,
            },
        ],
        "lost": 0,
    },
    {"source": "t", "number": 1, "agents": []},
)
_TRANSCRIPTS: tuple[Any, ...] = (
    {
        "slot": 1,
        "run": "r1",
        "session": 3,
        "scenario": "default",
        "reason": "gave_up",
        "detail": "é\x1b[31m",
        "messages": [{"role": "user", "content": "é"}],
    },
)
_TOOL = {
    "type": "function",
    "function": {"name": "call_api", "parameters": {"type": "object", "properties": {}}},
}
_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "call_api", "arguments": '{"method":"GET","path":"/x"}'},
}
_SCENARIO = json.loads((DEMO / "scenario.json").read_text())
_COMPLETIONS: tuple[Any, ...] = (
    {
        "model": "ape-offline",
        "messages": [
            {"role": "system", "content": json.dumps(_SCENARIO | {"slot": 1})},
            {"role": "user", "content": "Begin."},
        ],
        "tools": [_TOOL],
        "tool_choice": "required",
        "max_tokens": 100,
        "temperature": 0.5,
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "é"}]},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"status_code": 200}'},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 1,
        "max_completion_tokens": 64,
        "service_tier": "auto",
        "user": "agent-0001",
    },
)
GATEWAY = (
    Way("POST", "/mcp/request", (*_CALLS, _BATCH), (_JSON,)),
    Way("POST", "/mcp", _MCP, (_JSON, _BOTH)),
    Way("POST", "/agents/report", _REPORTS, (_JSON, _SIGNED)),
    Way("POST", "/agents/transcript", _TRANSCRIPTS, (_JSON, _SIGNED)),
    Way("GET", "/results", headers=(_CONTROL,)),
    Way("GET", "/results/sessions?after=0", headers=(_CONTROL,)),
    Way("GET", "/results/transcripts", headers=(_CONTROL,)),
    Way("GET", "/tools"),
    Way("GET", "/operations?api=shop"),
    Way("GET", "/operations?api=shop&id=GET%20%2Fproducts"),
    Way("GET", "/operations/search?api=shop&q=list%20products"),
    Way("GET", "/fleet"),
    Way("GET", "/metrics"),
    Way("GET", "/health"),
)
PROXY = (
    Way("POST", "/v1/chat/completions", _COMPLETIONS, (_JSON, _BEARER)),
    Way("POST", "/v1/chat/completions", _COMPLETIONS, (_JSON, _BEARER, (b"X-APE-Agent", b"a"))),
    Way("GET", "/v1/models", headers=(_BEARER,)),
    Way("GET", "/recording", headers=(_BEARER,)),
    Way("GET", "/metrics"),
    Way("GET", "/health"),
)
# The demo target has no session but those of /login, so most requests stop there.
DEMO_TARGET = (
    Way("POST", "/login", (_LOGIN,), (_JSON,)),
    Way("POST", "/cart/items", ({"product_id": 1, "quantity": 2},), (_JSON,)),
    Way("POST", "/checkout", ({},), (_JSON,)),
    Way("PUT", "/_faults", ({"no_such_name": 404},), (_JSON,)),
    Way("GET", "/products/7"),
    Way("GET", "/orders/stats"),
    Way("GET", "/"),
    Way("GET", "/metrics"),
)
_LABELS = "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"
SOCKET_PROXY = (
    Way("GET", "/_ping"),
    Way("GET", "/version"),
    Way("GET", "/info"),
    Way("GET", "/v1.41/containers/json?all=1"),
    Way("GET", f"/containers/json?filters={_LABELS}"),
    Way("GET", "/containers/json?filters=%5B%5B%5B1e999"),
    Way("GET", "/containers/json?filters=" + "%5B" * 3000),
    Way("GET", "/v1.41/containers/c1/json"),
    Way("GET", "/containers/c1/logs?stdout=1"),
    Way("GET", "/networks"),
    Way("GET", f"/events?filters={_LABELS}", endless=True),
)
