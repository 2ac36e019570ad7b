"""One session: ask the model, call the target through the gateway, show the answer, repeat."""

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
from ape_contracts import conditions, metrics
from ape_contracts.service_settings import AgentSettings
from ape_service import logs, trace

# The part of an answer that the model is shown; more would fill its context.
MAX_SHOWN_CHARS = 6000
MAX_COMPLETION_TOKENS = 400
# The proxy queues fairly by it, also for many agents with one address.
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
    """One decision of the model and its request. `result`: one of metrics.STEP_RESULTS.

    `seconds`: until the answer; None if no request was sent. `since`: seconds from the answer
    before it to its start, for the model and the pause; None for the first step.
    """

    slot: int
    result: str
    seconds: float | None
    since: float | None


@dataclass(frozen=True)
class SessionResult:
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

    def store(self, method: str, path: str, status: int, headers: Any, body: Any) -> None:
        """Store the cookies of the target's answer, and the token of a login."""
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
    """The values that are named as tokens, the outermost first."""
    if isinstance(body, dict):
        yield from (body[key] for key in _TOKENS if isinstance(body.get(key), str))
        if depth > 1:
            for inner in body.values():
                yield from _tokens(inner, depth - 1)


def _expires_now(attribute: str) -> bool:
    """Whether this attribute removes the cookie: servers send an age or a date in 1970."""
    name, _, value = attribute.strip().lower().partition("=")
    if name == "max-age":
        return value.startswith("-") or value.strip() == "0"
    return name == "expires" and " 1970 " in value.replace("-", " ")


class _Failed(Exception):
    """The session has failed; `args[0]` is the reason."""


class Session:
    """`endpoints`: shown to the model; `on_step` gets each step when it is finished."""

    def __init__(
        self,
        slot: int,
        settings: AgentSettings,
        endpoints: list[dict[str, Any]],
        gateway: Peer,
        proxy: Peer,
        on_step: Callable[[Step], None],
    ) -> None:
        self._slot, self._settings, self._on_step = slot, settings, on_step
        self._gateway, self._proxy = gateway, proxy
        self._agent = metrics.agent(slot)
        self._id = secrets.token_hex(16)
        self._trace_id = trace.new_trace_id()
        self._jar = CookieJar()
        self._steps = 0
        self._unmet = list(conditions.parse(settings.success))
        self._answered: float | None = None
        # The reason of the failure if the model stops now.
        self._failure = "gave_up"
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

    async def run(self) -> SessionResult:
        """Run the session. Never raises; a cancelled session ends as `aborted`."""
        logs.trace_id.set(self._trace_id)
        started = time.monotonic()
        reason = metrics.GOAL_MET
        try:
            async with asyncio.timeout(self._settings.session_max_seconds):
                await self._run_steps()
        except _Failed as failed:
            reason = str(failed.args[0])
        except TimeoutError:
            reason = "time_limit"
        except asyncio.CancelledError:
            reason = "aborted"
        result = SessionResult(
            self._slot,
            metrics.SUCCESS if reason == metrics.GOAL_MET else metrics.FAILURE,
            reason,
            self._steps,
            round(time.monotonic() - started, 3),
        )
        fields = logs.fields(agent=self._agent, session=self._id, **result.report())
        _log.info("session", extra=fields)
        return result

    async def _run_steps(self) -> None:
        """Returns when the goal is met; raises _Failed."""
        while True:
            message = await self._ask()
            calls = message.get("tool_calls")
            if not isinstance(calls, list) or not calls:
                raise _Failed(self._failure)
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
                    self._settings.think_time_seconds * random.uniform(0.5, 1.5)  # noqa: S311
                )

    async def _ask(self) -> dict[str, Any]:
        """The model's next message. Raises _Failed."""
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
            _log.warning("the model did not answer", extra=logs.fields(error=str(problem)))
            raise _Failed("model_error") from None
        try:
            message = reply.body["choices"][0]["message"] if reply.status == 200 else None
        except (KeyError, IndexError, TypeError):
            message = None
        if not isinstance(message, dict):
            _log.warning(
                "the model's answer has no message", extra=logs.fields(status=reply.status)
            )
            raise _Failed("model_error")
        return message

    async def _act(self, call: Any) -> bool:
        """Send the request of a tool call, and append its answer; whether the goal is met."""
        try:
            call_id = str(call["id"])
            arguments = json.loads(call["function"]["arguments"])
            method, path = arguments["method"].upper(), arguments["path"]
            payload = arguments.get("body")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            call_id = str(call.get("id", "")) if isinstance(call, dict) else ""
            self._append_tool_result(call_id, {"error": "call_api needs method and path."})
            self._on_step(Step(self._slot, "bad_call", None, None))
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
        self._on_step(Step(self._slot, result, self._answered - started, since))
        if not isinstance(status, int):
            raise _Failed("gateway_error")
        if reply.body.get("error") is not None:
            # An answer of the gateway itself. With a 4xx the model can still correct its request.
            self._failure = "target_error" if result == "target_error" else "gateway_error"
            if reply.status >= 500:
                raise _Failed(self._failure)
            self._append_tool_result(
                call_id, {"status": status, "error": reply.body.get("error_message")}
            )
            return False
        self._failure = "target_error" if result == "target_error" else "gave_up"
        self._jar.store(method, path, status, reply.body.get("headers"), body)
        self._unmet = [c for c in self._unmet if not c.holds(method, path, status, body)]
        if not self._unmet:
            return True
        self._append_tool_result(call_id, _shown(status, body))
        return False

    def _append_tool_result(self, call_id: str, result: dict[str, Any]) -> None:
        self._messages.append(
            {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)}
        )


def _result(reply: Reply, status: int) -> str:
    """One of metrics.STEP_RESULTS, for the answer of the gateway."""
    if reply.body.get("error") is None:
        return "target_error" if status >= 400 else "ok"
    if reply.body.get("error") in _TARGET_FAILED:
        return "target_error"
    return "refused" if reply.status < 500 else "gateway_error"


def _shown(status: int, body: Any) -> dict[str, Any]:
    """The part of an answer that the model is shown."""
    try:
        text = body if isinstance(body, str) else json.dumps(body)
    except RecursionError:
        return {"status": status, "error": "The body is nested too deeply to be shown."}
    if len(text) > MAX_SHOWN_CHARS:
        return {"status": status, "body": text[:MAX_SHOWN_CHARS], "truncated": True}
    return {"status": status, "body": body}
