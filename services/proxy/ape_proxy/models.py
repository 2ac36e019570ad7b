"""The two models behind the proxy. Both speak OpenAI's wire, errors included."""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from ape_common import logs, trace

from ape_proxy import offline
from ape_proxy.metrics import Measured

_log = logging.getLogger(__name__)
MAX_ANSWER_BYTES = 8 << 20
# Of the provider's headers, those that tell a client when to come back.
_KEPT = ("retry-after", "x-request-id")
_KEPT_PREFIX = "x-ratelimit-"


def openai_error(status: int, kind: str, message: str) -> web.Response:
    """OpenAI's error body."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return web.json_response(body, status=status)


class Model(Protocol):
    name: str

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def models(self) -> web.StreamResponse: ...
    async def complete(
        self, request: web.Request, body: dict[str, Any], measured: Measured
    ) -> web.StreamResponse: ...


class Offline:
    """See `offline`."""

    name = offline.NAME

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def models(self) -> web.StreamResponse:
        listed = {"id": self.name, "object": "model", "created": 0, "owned_by": "ape"}
        return web.json_response({"object": "list", "data": [listed]})

    async def complete(
        self, request: web.Request, body: dict[str, Any], measured: Measured
    ) -> web.StreamResponse:
        tools = body.get("tools")
        turn = offline.next_turn(body["messages"], tools if isinstance(tools, list) else [])
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if isinstance(turn, str):
            message["content"], finish = turn, "stop"
        else:
            function = {"name": turn.name, "arguments": turn.arguments}
            call = {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}
            message["tool_calls"], finish = [call], "tool_calls"
        said = turn if isinstance(turn, str) else turn.arguments
        asked = sum(
            offline.count_tokens(offline.text_of(m.get("content")))
            for m in body["messages"]
            if isinstance(m, dict)
        )
        answered = offline.count_tokens(said)
        usage = {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        }
        measured.usage(usage)
        head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": self.name,
        }
        if not body.get("stream"):
            measured.first_token()
            choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
            answer = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(answer)
        head["object"] = "chat.completion.chunk"
        if "tool_calls" in message:
            message["tool_calls"] = [{"index": 0} | message["tool_calls"][0]]
        chunks: list[dict[str, Any]] = [
            head | {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            head | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append(head | {"choices": [], "usage": usage})
        stream = await _open_stream(request, 200, {})
        for chunk in chunks:
            await stream.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            measured.first_token()
        await stream.write(b"data: [DONE]\n\n")
        await stream.write_eof()
        return stream


async def _open_stream(
    request: web.Request, status: int, headers: dict[str, str]
) -> web.StreamResponse:
    stream = web.StreamResponse(status=status, headers=headers)
    stream.headers["Content-Type"] = "text/event-stream"
    stream.headers["Cache-Control"] = "no-cache"
    await stream.prepare(request)
    return stream


class IncompleteError(Exception):
    """The provider's stream broke after its beginning had been passed on."""


class _Events:
    """Watches a stream of server-sent events as it passes: first token, usage."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._rest = b""
        self._started = False

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_ANSWER_BYTES:
            self._rest = b""
        for line in lines:
            if not line.startswith(b"data:") or (self._started and b'"usage"' not in line):
                continue
            try:
                event = json.loads(line[5:])
                deltas = [choice["delta"] for choice in event["choices"]]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if any(d.get(k) for d in deltas for k in ("content", "tool_calls", "reasoning")):
                self._started = True
                self._measured.first_token()
            self._measured.usage(event.get("usage"))


class Upstream:
    """A provider with OpenAI's API, such as Cerebras. Statuses and bodies pass as they are."""

    def __init__(self, name: str, base_url: str, key: str, timeout: float) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=5),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _request(self, method: str, path: str, body: Any, stream: bool) -> Any:
        if self._session is None:
            raise RuntimeError("open() comes first")
        return self._session.request(
            method,
            self._base_url + path,
            json=body,
            headers={"Authorization": f"Bearer {self._key}"} | trace.headers(logs.trace_id.get()),
            # A stream may go on for long, as long as it goes on.
            timeout=aiohttp.ClientTimeout(
                total=None if stream else self._timeout,
                connect=self._timeout,
                sock_read=self._timeout,
            ),
            allow_redirects=False,
        )

    async def models(self) -> web.StreamResponse:
        try:
            async with self._request("GET", "/models", None, False) as response:
                return await _whole(response, None)
        except TimeoutError:
            return self._too_slow()
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return self._unreachable(problem)

    async def complete(
        self, request: web.Request, body: dict[str, Any], measured: Measured
    ) -> web.StreamResponse:
        streaming = bool(body.get("stream"))
        stream: web.StreamResponse | None = None
        try:
            async with self._request(
                "POST", "/chat/completions", {"model": self.name} | body, streaming
            ) as response:
                if response.content_type != "text/event-stream":
                    return await _whole(response, measured)
                events = _Events(measured)
                stream = await _open_stream(request, response.status, _kept(response))
                async for chunk in response.content.iter_any():
                    await stream.write(chunk)
                    events.feed(chunk)
                await stream.write_eof()
                return stream
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as problem:
            if stream is not None:
                # Its beginning is with the client: only a broken connection is honest now.
                if request.transport is not None:
                    request.transport.abort()
                raise IncompleteError from problem
            if isinstance(problem, TimeoutError):
                return self._too_slow()
            return self._unreachable(problem)

    def _too_slow(self) -> web.Response:
        message = f"The model did not answer within {self._timeout:g} s."
        return openai_error(504, "upstream_timeout", message)

    def _unreachable(self, problem: Exception) -> web.Response:
        _log.warning("model unreachable", extra=logs.fields(error=type(problem).__name__))
        message = f"The model's API cannot be reached ({type(problem).__name__})."
        return openai_error(502, "upstream_unreachable", message)


def _kept(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {
        name: value
        for name, value in response.headers.items()
        if name.lower() in _KEPT or name.lower().startswith(_KEPT_PREFIX)
    }


async def _whole(response: aiohttp.ClientResponse, measured: Measured | None) -> web.Response:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            response.close()
            message = f"The model's answer is larger than {MAX_ANSWER_BYTES} bytes."
            return openai_error(502, "upstream_too_large", message)
    if measured is not None and response.status == 200:
        measured.first_token()
        try:
            measured.usage(json.loads(content).get("usage"))
        except (ValueError, AttributeError, RecursionError):
            pass
    headers = _kept(response)
    headers["Content-Type"] = response.headers.get("Content-Type", "application/json")
    return web.Response(body=bytes(content), status=response.status, headers=headers)
