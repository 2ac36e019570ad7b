"""Whether an MCP server answers, asked as its clients do, without the SDK of the gateway."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import requests

from ape_contracts.text import plain
from ape_infra.checks.check import Status

VERSION = "2025-11-25"
_MAX_BYTES = 256 << 10
_MAX_NAME = 80
_HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": VERSION,
        "capabilities": {},
        "clientInfo": {"name": "ape", "version": "1"},
    },
}


class Found(NamedTuple):
    status: Status
    observed: str
    remedy: str = ""


def initialized(url: str, seconds: float) -> Found:
    """What the server at `url` answers to `initialize`; its session is ended."""
    try:
        with requests.post(
            url,
            json=_INITIALIZE,
            headers=_HEADERS,
            timeout=seconds,
            stream=True,
            allow_redirects=False,
        ) as answer:
            message = message_of(answer)
            if session := answer.headers.get("Mcp-Session-Id"):
                ending = {"Mcp-Session-Id": session, "Mcp-Protocol-Version": VERSION}
                requests.delete(url, headers=_HEADERS | ending, timeout=seconds).close()
    except (requests.RequestException, OSError) as error:
        return Found(
            "fail", f"does not answer ({type(error).__name__})", "Start it, or correct its URL."
        )
    return judged(answer.status_code, message)


def judged(status: int, message: dict[str, Any] | None) -> Found:
    """Evaluate a status and a JSON-RPC message, or None if the answer has none."""
    if status in (401, 403):
        return Found("ok", f"answers {status}: it asks for credentials")
    if message is None:
        return Found(
            "fail",
            f"answers {status} to initialize, but not as an MCP server (streamable HTTP)",
            "Correct the path of the URL, such as /mcp, or start the server with that transport.",
        )
    result = message.get("result")
    if not isinstance(result, dict):
        # A server that has no sessions any more answers with an error.
        return Found("ok", "answers initialize with an error, as a server without sessions does")
    info = result.get("serverInfo")
    name = plain(str(info.get("name", ""))[:_MAX_NAME]) if isinstance(info, dict) else ""
    version = plain(str(result.get("protocolVersion", ""))[:_MAX_NAME])
    return Found("ok", f"the MCP server {name or 'without a name'} (protocol {version}) answers")


def message_of(answer: requests.Response) -> dict[str, Any] | None:
    """The first JSON-RPC message of an answer, which may be a stream of events."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_stream = kind == "text/event-stream"
    content = b""
    for chunk in answer.iter_content(None):
        content += chunk
        if len(content) > _MAX_BYTES:
            return None
        if is_stream and (found := _message(_data_of(content))):
            return found
    return None if is_stream else _message(content)


def _data_of(content: bytes) -> str:
    """The first data in a stream of events; some servers begin with an event without."""
    lines = content.decode("utf-8", "replace").splitlines()
    return next((line[5:] for line in lines if line.startswith("data:") and line[5:].strip()), "")


def _message(text: str | bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("jsonrpc") == "2.0" else None
