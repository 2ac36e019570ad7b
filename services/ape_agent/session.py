"""One session: ask the model, call the target through the gateway, read, go on."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ape_agent.peers import Peer, PeerError, Reply
from ape_agent.settings import Settings
from ape_contracts import metrics
from ape_service import logs, trace

# What the model is shown of one answer: more fills its context, not its understanding.
MAX_SHOWN_CHARS = 6000
MAX_COMPLETION_TOKENS = 400
# By it the proxy is fair to every agent, also to many behind one address.
AGENT_HEADER = "X-APE-Agent"
_LOGIN = re.compile(r"log-?in|sign-?in|auth|token|session", re.IGNORECASE)
_TOKENS = ("access_token", "token", "jwt", "id_token")
_TOKEN_DEPTH = 3
_TARGET_FAILED = ("target_unreachable", "target_timeout")
_log = logging.getLogger(__name__)
_RULES = (
    "You are a user of a web application, and test it. Reach the goal by calling the tool "
    "call_api, one call at a time{only}. A {{name}} in a path or a body "
    "stands for a value of `values` or of an earlier answer. Cookies and tokens are sent for you. "
    "When you have reached the goal, or cannot, answer with a short sentence and no tool call."
)
_ONLY = "; only the endpoints below exist"
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
                    "body": {"type": "object", "description": "JSON body; of a GET, the query"},
                },
                "required": ["method", "path"],
            },
        },
    }
]


@dataclass(frozen=True)
class Step:
    """One action. `result`: one of metrics.STEP_RESULTS.

    `seconds`: how long its answer took; None where nothing was sent. `since`: seconds between the
    answer before it and its start, which the model and the pause took; None of the first.
    """

    slot: int
    result: str
    seconds: float | None
    since: float | None


@dataclass(frozen=True)
class Outcome:
    """A finished session. `reason`: goal_met, or one of metrics.FAILURE_REASONS."""

    slot: int
    result: str
    reason: str
    steps: int
    seconds: float

    def report(self) -> dict[str, Any]:
        return asdict(self)


class CookieJar:
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
            gone = any(map(_expires_now, attributes))
            if gone or not value:
                self._cookies.pop(name, None)
            elif equals and name:
                self._cookies[name] = value
        if method == "POST" and 200 <= status < 300 and _LOGIN.search(path):
            found = next(_tokens(body, _TOKEN_DEPTH), None)
            if found and found.isprintable():
                self._token = found


def _tokens(body: Any, depth: int) -> Iterator[str]:
    """What is named as a token, the outermost first."""
    if isinstance(body, dict):
        yield from (body[key] for key in _TOKENS if isinstance(body.get(key), str))
        if depth > 1:
            for inner in body.values():
                yield from _tokens(inner, depth - 1)


def _expires_now(attribute: str) -> bool:
    """Whether this attribute of a cookie takes it back: servers say so by an age or by 1970."""
    name, _, value = attribute.strip().lower().partition("=")
    if name == "max-age":
        return value.startswith("-") or value.strip() == "0"
    return name == "expires" and " 1970 " in value.replace("-", " ")


class _Failed(Exception):
    """The session is over; `args[0]` is the reason."""


class Session:
    """`endpoints`: what the model is told there is; `note` gets each step as it is done."""

    def __init__(
        self,
        slot: int,
        settings: Settings,
        endpoints: list[dict[str, Any]],
        gateway: Peer,
        proxy: Peer,
        note: Callable[[Step], None],
    ) -> None:
        self._slot, self._settings, self._note = slot, settings, note
        self._gateway, self._proxy = gateway, proxy
        self._agent = metrics.agent(slot)
        self._id = secrets.token_hex(16)
        self._trace_id = trace.new_trace_id()
        self._jar = CookieJar()
        self._steps = 0
        self._unmet = list(settings.success)
        self._answered: float | None = None
        # Why the session fails if the model stops now.
        self._standing = "gave_up"
        brief = {
            "goal": settings.goal,
            **({"persona": settings.persona} if settings.persona else {}),
            "endpoints": endpoints,
            "values": {"agent": self._agent, "slot": slot, "session": self._id},
        }
        rules = _RULES.format(only=_ONLY if endpoints else "")
        self._messages: list[dict[str, Any]] = [
            {"role": "system", "content": f"{rules}\n\n{json.dumps(brief)}"},
            {"role": "user", "content": settings.goal},
        ]

    async def run(self) -> Outcome:
        """Hold the session. Never raises; cancelled, it is over as `aborted`."""
        logs.trace_id.set(self._trace_id)
        started = time.monotonic()
        reason = metrics.GOAL_MET
        try:
            async with asyncio.timeout(self._settings.session_max_seconds):
                await self._hold()
        except _Failed as failed:
            reason = str(failed.args[0])
        except TimeoutError:
            reason = "time_limit"
        except asyncio.CancelledError:
            reason = "aborted"
        outcome = Outcome(
            self._slot,
            metrics.SUCCESS if reason == metrics.GOAL_MET else metrics.FAILURE,
            reason,
            self._steps,
            round(time.monotonic() - started, 3),
        )
        fields = logs.fields(agent=self._agent, session=self._id, **outcome.report())
        _log.info("session", extra=fields)
        return outcome

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
            reply = await self._proxy.post(
                "/v1/chat/completions", asked, self._trace_id, headers={AGENT_HEADER: self._agent}
            )
        except PeerError as problem:
            _log.warning("no answer of the model", extra=logs.fields(error=str(problem)))
            raise _Failed("model_error") from None
        try:
            message = reply.body["choices"][0]["message"] if reply.status == 200 else None
        except (KeyError, IndexError, TypeError):
            message = None
        if not isinstance(message, dict):
            _log.warning("no message of the model", extra=logs.fields(status=reply.status))
            raise _Failed("model_error")
        return message

    async def _act(self, call: Any) -> bool:
        """Do a tool call and tell the model what came back; whether the goal is met."""
        try:
            call_id = str(call["id"])
            arguments = json.loads(call["function"]["arguments"])
            method, path = arguments["method"].upper(), arguments["path"]
            payload = arguments.get("body")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            call_id = str(call.get("id", "")) if isinstance(call, dict) else ""
            self._tell(call_id, {"error": "call_api needs method and path."})
            self._note(Step(self._slot, "bad_call", None, None))
            return False
        asked = {
            "target_api_name": self._settings.api,
            "http_method": method,
            "endpoint_path": path,
            "session_headers": self._jar.headers(),
            "request_payload": payload,
            "trace_id": self._trace_id,
        }
        started = time.monotonic()
        since = None if self._answered is None else started - self._answered
        result = "gateway_error"
        try:
            reply = await self._gateway.post("/mcp/request", asked, self._trace_id)
            status, body = reply.body["status_code"], reply.body["body"]
            if isinstance(status, int):
                result = _result(reply, status)
        except (PeerError, KeyError):
            status = None
        self._answered = time.monotonic()
        self._note(Step(self._slot, result, self._answered - started, since))
        if not isinstance(status, int):
            raise _Failed("gateway_error")
        if reply.status != 200:
            # The gateway speaks for itself. The model may have asked for what is not there (4xx).
            self._standing = "target_error" if result == "target_error" else "gateway_error"
            if reply.status >= 500:
                raise _Failed(self._standing)
            self._tell(call_id, {"status": status, "error": reply.body.get("error_message")})
            return False
        self._standing = "target_error" if result == "target_error" else "gave_up"
        self._jar.take(method, path, status, reply.body.get("headers"), body)
        self._unmet = [c for c in self._unmet if not c.holds(method, path, status, body)]
        if not self._unmet:
            return True
        self._tell(call_id, _shown(status, body))
        return False

    def _tell(self, call_id: str, result: dict[str, Any]) -> None:
        self._messages.append(
            {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)}
        )


def _result(reply: Reply, status: int) -> str:
    """One of metrics.STEP_RESULTS, of what the gateway answered."""
    if reply.status == 200:
        return "target_error" if status >= 400 else "ok"
    if reply.body.get("error") in _TARGET_FAILED:
        return "target_error"
    return "refused" if reply.status < 500 else "gateway_error"


def _shown(status: int, body: Any) -> dict[str, Any]:
    """What the model is shown of an answer."""
    try:
        text = body if isinstance(body, str) else json.dumps(body)
    except RecursionError:
        return {"status": status, "error": "The body is nested too deeply to be shown."}
    if len(text) > MAX_SHOWN_CHARS:
        return {"status": status, "body": text[:MAX_SHOWN_CHARS], "truncated": True}
    return {"status": status, "body": body}
