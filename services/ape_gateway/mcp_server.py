"""The gateway as an MCP server: streamable HTTP, stateless, by the official SDK."""

from __future__ import annotations

from functools import partial
from typing import Any

import mcp_types as types
import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.requests import Request

from ape_gateway import tools, wire
from ape_gateway.engine import Engine, Reply
from ape_gateway.limits import MemoryPermit, Overloaded
from ape_service import logs, trace

# Key of the request's MemoryPermit in its ASGI scope.
MEMORY_PERMIT = "ape.memory_permit"
_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_REPEATABLE = _READS | {"PUT", "DELETE"}


def make_server(engine: Engine, version: str = "1") -> Server[Any]:
    """tools/list and tools/call over the routes of the engine's config."""
    offered = tools.tools(engine.config)
    validators = {name: Draft202012Validator(tool.schema) for name, tool in offered.items()}
    listed = types.ListToolsResult(tools=[_described(tool) for tool in offered.values()])

    async def list_tools(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listed

    async def call_tool(
        context: ServerRequestContext[Any, Request], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = offered.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, "There is no such tool; tools/list names them.")
        given = params.arguments or {}
        assert context.request is not None
        permit: MemoryPermit = context.request.scope[MEMORY_PERMIT]
        # The place that the MCP specification defines; the HTTP headers have been read before.
        parent = (context.meta or {}).get("traceparent")
        if trace_id := trace.from_headers({"traceparent": str(parent)}):
            logs.trace_id.set(trace_id)

        def checked() -> wire.Call:
            _check(validators[tool.name], given)
            return tool.call(given)

        try:
            if tool.name != tools.BATCH:
                with engine.admission.admit(1):
                    return _result(await engine.call(checked, permit))
            requests = given.get("requests")
            try:
                # First the number: the schema's own limit is looked at after every item.
                if not isinstance(requests, list) or not 0 < len(requests) <= wire.MAX_BATCH:
                    raise wire.WireError(
                        f"requests: must be a list of 1 to {wire.MAX_BATCH} requests."
                    )
                _check(validators[tool.name], given)
            except wire.WireError as problem:
                return _result(engine.reject(422, "bad_request", str(problem)))
            with engine.admission.admit(len(requests)):
                replies = await engine.batch([partial(tool.call, one) for one in requests], permit)
            return _results(replies)
        except Overloaded:
            return _result(engine.overloaded())

    return Server(
        "ape-gateway",
        version=version,
        title="Agentic Protocol Engine gateway",
        instructions="Every tool sends HTTP requests to an application under test.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=lambda name: offered[name].schema if name in offered else None,
    )


def make_manager(server: Server[Any]) -> StreamableHTTPSessionManager:
    """The handler of POST /mcp; it works while its run() is entered.

    It does not check the Host header: agents use names of their own for the gateway. app.py bounds
    bodies and rejects requests of pages in a browser.
    """
    return StreamableHTTPSessionManager(server, stateless=True, json_response=True)


def _check(validator: Draft202012Validator, given: dict[str, Any]) -> None:
    if problem := best_match(validator.iter_errors(given)):
        where = ".".join(str(part) for part in problem.absolute_path) or "arguments"
        # The message quotes the value, which may be megabytes.
        raise wire.WireError(f"{where}: {problem.message[:200]}.")


def _described(tool: tools.Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.schema,
        output_schema=tools.ANSWERS if tool.name == tools.BATCH else tools.ANSWER,
        annotations=types.ToolAnnotations(
            read_only_hint=tool.method in _READS,
            idempotent_hint=tool.method in _REPEATABLE,
            open_world_hint=True,
        ),
    )


def _result(reply: Reply) -> types.CallToolResult:
    text = wire.encode(reply.answer)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text.decode())],
        structured_content=msgspec.json.decode(text),
        is_error=reply.answer.error is not None,
    )


def _results(replies: list[Reply]) -> types.CallToolResult:
    text = b'{"answers":' + wire.encode([reply.answer for reply in replies]) + b"}"
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text.decode())],
        structured_content=msgspec.json.decode(text),
        is_error=all(reply.answer.error is not None for reply in replies),
    )
