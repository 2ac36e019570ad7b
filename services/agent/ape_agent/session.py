"""One session: ask the model, call the target through the gateway, read, go on."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from ape_common import logs, names, paths, trace

from ape_agent.peers import Peer, PeerError
from ape_agent.settings import Settings, Success

# What the model is shown of one answer: more fills its context, not its understanding.
MAX_SHOWN_CHARS = 6000
MAX_COMPLETION_TOKENS = 400
_LOGIN = re.compile(r"log-?in|sign-?in|auth|token|session", re.IGNORECASE)
_TOKENS = ("access_token", "token", "jwt", "id_token")
_TARGET_FAILED = ("target_unreachable", "target_timeout")
_RULES = (
    "You are a user of a web application, and test it. Reach the goal by calling the tool "
    "call_api, one call at a time; only the endpoints below exist. A {name} in a path or a body "
    "stands for a value of `values` or of an earlier answer. Cookies and tokens are sent for you. "
    "When you have reached the goal, or cannot, answer with a short sentence and no tool call."
)
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "call_api",
            "description": "Send one request to the application; answers its status and body.",
            "parameters": {
                "type": "object",
                "properties": {
                    "method": {"type": "string", "description": "HTTP method, such as GET"},
                    "path": {"type": "string", "description": "Path such as /products/1"},
                    "body": {"type": "object", "description": "JSON body, where there is one"},
                },
                "required": ["method", "path"],
            },
        },
    }
]


@dataclass(frozen=True)
class Outcome:
    """A finished session. `reason`: goal_met, or one of names.FAILURE_REASONS."""

    id: str
    trace_id: str
    result: str
    reason: str
    steps: int
    seconds: float

    def report(self) -> dict[str, Any]:
        return asdict(self)


class Jar:
    """The session's cookies and bearer token, as a browser would keep them for one site."""

    def __init__(self) -> None:
        self._cookies: dict[str, str] = {}
        self._token: str | None = None

    def headers(self) -> dict[str, str]:
        made = {}
        if self._cookies:
            made["Cookie"] = "; ".join(f"{k}={v}" for k, v in self._cookies.items())
        if self._token:
            made["Authorization"] = f"Bearer {self._token}"
        return made

    def take(self, method: str, path: str, status: int, headers: Any, body: Any) -> None:
        """Learn from an answer of the target: Set-Cookie, and the token of a login."""
        given = headers.get("set-cookie", []) if isinstance(headers, dict) else []
        for line in [given] if isinstance(given, str) else given:
            pair, *attributes = str(line).split(";")
            name, equals, value = pair.strip().partition("=")
            gone = any(a.strip().lower() in ("max-age=0", "max-age=-1") for a in attributes)
            if gone or not value:
                self._cookies.pop(name, None)
            elif equals and name:
                self._cookies[name] = value
        if method == "POST" and 200 <= status < 300 and _LOGIN.search(path):
            for place in (body, body.get("data") if isinstance(body, dict) else None):
                if isinstance(place, dict):
                    found = next((place[k] for k in _TOKENS if isinstance(place.get(k), str)), None)
                    if found and found.isprintable():
                        self._token = found
                        return


def present(body: Any, json_path: str) -> bool:
    """Whether the body has a value, not null, at names and indices such as orders.0.id."""
    for part in json_path.removeprefix("$.").split("."):
        if isinstance(body, dict) and part in body:
            body = body[part]
        elif isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        else:
            return False
    return body is not None


def meets(success: Success, method: str, path: str, status: int, body: Any) -> bool:
    return (
        method == success.method
        and status == success.status
        and paths.matches(success.path, path)
        and (success.json_path is None or present(body, success.json_path))
    )


class _Failed(Exception):
    """The session is over; `args[0]` is the reason."""


class Session:
    def __init__(self, settings: Settings, gateway: Peer, proxy: Peer) -> None:
        self._settings, self._gateway, self._proxy = settings, gateway, proxy
        self._id = uuid.uuid4().hex
        self._trace_id = trace.new_trace_id()
        self._jar = Jar()
        self._steps = 0
        # Why the session fails if the model stops now.
        self._standing = "gave_up"
        brief = {
            "goal": settings.goal,
            "endpoints": settings.endpoints,
            "values": {
                "agent": settings.name,
                "slot": settings.slot,
                "session": self._id,
            },
        }
        self._messages: list[dict[str, Any]] = [
            {"role": "system", "content": f"{_RULES}\n\n{json.dumps(brief)}"},
            {"role": "user", "content": settings.goal},
        ]

    async def run(self) -> Outcome:
        """Hold the session. Never raises; cancelled, it is over as `aborted`."""
        logs.trace_id.set(self._trace_id)
        started = time.monotonic()
        reason = names.GOAL_MET
        try:
            async with asyncio.timeout(self._settings.session_max_seconds):
                await self._hold()
        except _Failed as failed:
            reason = str(failed.args[0])
        except TimeoutError:
            reason = "time_limit"
        except asyncio.CancelledError:
            reason = "aborted"
        return Outcome(
            self._id,
            self._trace_id,
            names.SUCCESS if reason == names.GOAL_MET else names.FAILURE,
            reason,
            self._steps,
            round(time.monotonic() - started, 3),
        )

    async def _hold(self) -> None:
        """Returns when the goal is met; raises _Failed."""
        while True:
            message = await self._ask()
            calls = message.get("tool_calls")
            if not isinstance(calls, list) or not calls:
                raise _Failed(self._standing)
            self._messages.append(
                {"role": "assistant", "content": message.get("content"), "tool_calls": calls}
            )
            for call in calls:
                if self._steps >= self._settings.session_max_steps:
                    raise _Failed("step_limit")
                self._steps += 1
                if await self._act(call):
                    return
                await asyncio.sleep(
                    self._settings.think_time * random.uniform(0.5, 1.5)  # noqa: S311
                )

    async def _ask(self) -> dict[str, Any]:
        """The model's next message."""
        asked = {
            "model": self._settings.model_name,
            "messages": self._messages,
            "tools": _TOOLS,
            "max_completion_tokens": MAX_COMPLETION_TOKENS,
            "temperature": 0,
        }
        try:
            reply = await self._proxy.post("/v1/chat/completions", asked, self._trace_id)
            message = reply.body["choices"][0]["message"]
        except (PeerError, KeyError, IndexError, TypeError):
            raise _Failed("model_error") from None
        if reply.status != 200 or not isinstance(message, dict):
            raise _Failed("model_error")
        return message

    async def _act(self, call: Any) -> bool:
        """Do a tool call and tell the model what came back; whether the goal is met."""
        try:
            call_id = str(call["id"])
            arguments = json.loads(call["function"]["arguments"])
            method, path = arguments["method"].upper(), arguments["path"]
            payload = arguments.get("body")
        except (KeyError, TypeError, ValueError, AttributeError):
            call_id = str(call.get("id", "")) if isinstance(call, dict) else ""
            self._tell(call_id, {"error": "call_api needs method and path."})
            return False
        asked = {
            "target_api_name": self._settings.api,
            "http_method": method,
            "endpoint_path": path,
            "session_headers": self._jar.headers(),
            "request_payload": payload,
            "trace_id": self._trace_id,
        }
        try:
            reply = await self._gateway.post("/mcp/request", asked, self._trace_id)
            status, body = reply.body["status_code"], reply.body["body"]
        except (PeerError, KeyError):
            raise _Failed("gateway_error") from None
        if not isinstance(status, int):
            raise _Failed("gateway_error")
        if reply.status != 200:
            # The gateway speaks for itself. The model may have asked for what is not there (4xx).
            code = reply.body.get("error")
            self._standing = "target_error" if code in _TARGET_FAILED else "gateway_error"
            if reply.status >= 500:
                raise _Failed(self._standing)
            self._tell(call_id, {"status": status, "error": reply.body.get("error_message")})
            return False
        self._standing = "target_error" if status >= 400 else "gave_up"
        self._jar.take(method, path, status, reply.body.get("headers"), body)
        if meets(self._settings.success, method, path, status, body):
            return True
        shown: dict[str, Any] = {"status": status, "body": body}
        text = body if isinstance(body, str) else json.dumps(body)
        if len(text) > MAX_SHOWN_CHARS:
            shown |= {"body": text[:MAX_SHOWN_CHARS], "truncated": True}
        self._tell(call_id, shown)
        return False

    def _tell(self, call_id: str, result: dict[str, Any]) -> None:
        self._messages.append(
            {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)}
        )
