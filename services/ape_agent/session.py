"""One session: ask the model, call the target through the gateway, show the answer, repeat."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ape_agent.calls import Request, target_of
from ape_agent.conversation import Conversation, Result, shown
from ape_agent.decisions import Call, Decision, decide
from ape_agent.digests import digest
from ape_agent.logins import is_login
from ape_agent.model import Model
from ape_agent.peers import Peer, PeerError, Reply
from ape_agent.results import SessionFailed, SessionResult, Step, quoted
from ape_agent.sign_in import NOTE, SignIn
from ape_contracts import conditions, metrics
from ape_contracts.service_settings import AgentSettings
from ape_contracts.sign_in import SignInError
from ape_service import logs, trace

# The proxy queues fairly by it, also for many agents with one address.
AGENT_HEADER = "X-APE-Agent"
_TARGET_FAILED = ("target_unreachable", "target_timeout")
_log = logging.getLogger(__name__)
_RULES = (
    "You are a user of a web application, and test it. Reach the goal by calling the tool "
    "call_api, one call at a time{only}. A {{name}} in a path or a body "
    "stands for a value of `values` or of an earlier answer. "
    "{signed_in}Cookies and tokens are sent for you. "
    "When you have reached the goal, or cannot, answer with a short sentence and no tool call."
)
_ONLY = "; only the endpoints below exist"
_SIGNED_IN = "You are signed in. "
_LOG_OUT_SECONDS = 5.0
_REMINDER = (
    "The goal is not reached yet, and your answer had no tool call. Call the tool call_api to "
    "continue. If you cannot continue, answer with one short sentence."
)
_CUT = " The answer was cut at its limit of tokens; write a shorter one."
_RAISE_LIMIT = "The answer ended at its limit of tokens; raise modelMaxTokens."


class Session:
    """`endpoints`: shown to the model; `on_step` gets each step when it is finished.

    `credentials`: of this agent, for its sign-in.
    """

    def __init__(
        self,
        slot: int,
        settings: AgentSettings,
        endpoints: list[dict[str, Any]],
        gateway: Peer,
        proxy: Peer,
        on_step: Callable[[Step], None],
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self._slot, self._settings, self._on_step = slot, settings, on_step
        self._gateway = gateway
        self._agent = metrics.agent(slot)
        self._id = secrets.token_hex(16)
        self._trace_id = trace.new_trace_id()
        self._model = Model(settings, proxy, self._trace_id, {AGENT_HEADER: self._agent})
        self._target = target_of(settings.target_host, endpoints)
        values = {"agent": self._agent, "slot": slot, "session": self._id}
        self._sign_in = SignIn(
            settings.sign_in,
            credentials or {},
            {name: str(value) for name, value in values.items()},
            self._target,
            is_https=settings.target_https,
        )
        self._steps = 0
        self._repaired: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._acted = False
        # Whether the model has made a call, and has been reminded to.
        self._called = self._reminded = False
        # Answers in a row that were cut in the middle of their calls.
        self._cut = 0
        # The last request and its status, or the problem of the last call.
        self._last = ""
        self._unmet = list(conditions.parse(settings.success))
        self._answered: float | None = None
        # The reason of the failure if the model stops now, and whether only the target is at fault.
        self._failure, self._broken = "gave_up", False
        brief = {
            "goal": settings.goal,
            **({"persona": settings.persona} if settings.persona else {}),
            "endpoints": endpoints,
            "values": values,
        }
        rules = _RULES.format(
            only=_ONLY if endpoints else "",
            signed_in=_SIGNED_IN if self._sign_in.is_declared else "",
        )
        self._conversation = Conversation(f"{rules}\n\n{json.dumps(brief)}", settings.goal)

    async def run(self) -> SessionResult:
        """Run the session. Never raises; a cancelled session ends as `aborted`."""
        logs.trace_id.set(self._trace_id)
        started = time.monotonic()
        failed: SessionFailed | None = None
        try:
            async with asyncio.timeout(self._settings.session_max_seconds):
                await self._run_steps()
        except SessionFailed as problem:
            failed = problem
        except TimeoutError:
            failed = SessionFailed("time_limit", self._last)
        except asyncio.CancelledError:
            failed = SessionFailed("aborted")
        result = SessionResult(
            self._slot,
            metrics.FAILURE if failed else metrics.SUCCESS,
            failed.reason if failed else metrics.GOAL_MET,
            self._steps,
            round(time.monotonic() - started, 3),
            failed.detail if failed else "",
            self._repaired,
            acted=self._acted,
            unreachable=failed is not None and failed.unreachable,
            wait_seconds=failed.wait_seconds if failed else None,
        )
        # An exception that is kept keeps this frame, and the frame keeps the exception.
        failed = None
        fields = logs.fields(agent=self._agent, session=self._id, **result.report())
        _log.info("session", extra=fields)
        if result.reason != "aborted":
            with suppress(SessionFailed, SignInError, TimeoutError):
                async with asyncio.timeout(_LOG_OUT_SECONDS):
                    await self._sign_in.end(self._send_apart)
        return result

    async def _run_steps(self) -> None:
        """Returns when the goal is met; raises SessionFailed."""
        await self._sign_in.begin(self._send_apart)
        while True:
            if self._steps >= self._settings.session_max_steps:
                raise SessionFailed("step_limit", self._last)
            answer = await self._model.ask(self._conversation, required=not self._called)
            decision = decide(answer.message, self._target, self._new_id)
            if not decision.calls:
                self._without_call(decision, answer.finish_reason)
                continue
            self._called = True
            self._repaired.update(decision.repairs)
            is_cut = answer.finish_reason == "length"
            self._cut = self._cut + 1 if is_cut and decision.is_unreadable else 0
            if self._cut > 1:
                raise SessionFailed("model_truncated", f"{_RAISE_LIMIT} {quoted(decision.words)}")
            self._conversation.decision(decision.message)
            for call in decision.calls:
                if self._steps >= self._settings.session_max_steps:
                    raise SessionFailed("step_limit", self._last)
                self._steps += 1
                if await self._act(call, is_cut):
                    return
                await asyncio.sleep(
                    self._settings.think_time_seconds * random.uniform(0.5, 1.5)  # noqa: S311
                )

    def _without_call(self, decision: Decision, finish: str) -> None:
        """Remind the model of its tool, once. Raises SessionFailed if that does not help."""
        said = quoted(decision.refusal or decision.words)
        if decision.refusal or finish == "content_filter":
            raise SessionFailed("model_refused", f"Finish reason {finish or 'none'}. {said}")
        if finish == "length":
            raise SessionFailed("model_truncated", f"{_RAISE_LIMIT} {said}")
        # A target that is broken is a reason to stop.
        if self._reminded or self._broken:
            raise SessionFailed(self._failure, said)
        self._reminded = True
        self._conversation.words(decision.words[:1000], _REMINDER)

    def _new_id(self, given: str) -> str:
        """The id of a call, if it is not used yet; else one that every provider accepts."""
        if not given or given in self._ids:
            given = f"c{len(self._ids):08d}"
            while given in self._ids:
                given = f"c{secrets.token_hex(4)}"
        self._ids.add(given)
        return given

    async def _act(self, call: Call, is_cut: bool) -> bool:
        """Send the request of a call, and append its answer; whether the goal is met."""
        if call.request is None:
            problem = self._last = call.problem + (_CUT if is_cut else "")
            self._conversation.result(Result(call.id, {"error": problem}))
            self._on_step(Step(self._slot, "bad_call", None, None))
            return False
        request = call.request
        reply, result, status = await self._send(request)
        self._acted = self._acted or result != "gateway_error"
        self._broken = False
        label = f"{request.method} {request.path[:100]} {status}"
        label = self._last = str(self._sign_in.redacted(label))
        if reply.body.get("error") is not None:
            # An answer of the gateway itself. With a 4xx the model can still correct its request.
            self._failure = "target_error" if result == "target_error" else "gateway_error"
            why = reply.body.get("error_message")
            if reply.status >= 500:
                raise SessionFailed(self._failure, f"{label}: {why or 'no message'}")
            self._conversation.result(Result(call.id, {"status": status, "error": why}, label))
            return False
        body = reply.body["body"]
        self._failure = "target_error" if result == "target_error" else "gave_up"
        self._broken = status >= 500
        method, path = request.method, request.path
        self._sign_in.store(method, path, status, reply.body.get("headers"), body)
        self._unmet = [c for c in self._unmet if not c.holds(method, path, status, body)]
        if not self._unmet:
            return True
        hidden = status < 400 and self._sign_in.hides(method, path)
        body = NOTE if hidden else self._sign_in.redacted(body)
        ids = digest(body) if status < 400 else None
        keep = is_login(method, path, status)
        self._conversation.result(Result(call.id, shown(status, body), label, ids, keep))
        return False

    async def _send(self, request: Request) -> tuple[Reply, str, int]:
        """The gateway's reply, the result of the step, and the target's status.

        Raises SessionFailed.
        """
        headers, query = self._sign_in.added(request.path)
        asked = {
            "target_api_name": self._settings.api,
            "http_method": request.method,
            "endpoint_path": request.path,
            "session_headers": headers,
            "request_payload": request.body,
            "trace_id": self._trace_id,
            **({"query": query} if query else {}),
        }
        started = time.monotonic()
        since = None if self._answered is None else started - self._answered
        result, status, why, reached = "gateway_error", None, "", True
        try:
            reply = await self._gateway.post("/mcp/request", asked, self._trace_id)
            status, _ = reply.body["status_code"], reply.body["body"]
            if isinstance(status, int):
                result = _result(reply, status)
        except PeerError as problem:
            why, reached = str(problem), problem.reached
        except KeyError as missing:
            why = f"{missing} is missing"
        self._answered = time.monotonic()
        self._on_step(Step(self._slot, result, self._answered - started, since))
        if not isinstance(status, int):
            detail = f"The gateway did not answer: {why or 'not its form'}."
            raise SessionFailed("gateway_error", detail, unreachable=not reached)
        return reply, result, status

    async def _send_apart(self, asked: dict[str, Any]) -> tuple[int, Any, Any]:
        """Send a request of the sign-in, which is not a step; the answer's status, headers, body.

        Raises SignInError, or SessionFailed.
        """
        route = {"target_api_name": self._settings.api, "trace_id": self._trace_id}
        try:
            reply = await self._gateway.post("/mcp/request", route | asked, self._trace_id)
            status, body = reply.body["status_code"], reply.body["body"]
        except PeerError as problem:
            detail = f"Sign-in: the gateway did not answer: {problem}."
            raise SessionFailed("gateway_error", detail, unreachable=not problem.reached) from None
        except KeyError as missing:
            raise SessionFailed("gateway_error", f"Sign-in: {missing} is missing.") from None
        if reply.body.get("error") is not None:
            what = f"{asked['http_method']} {asked['endpoint_path']}"
            raise SignInError(f"{what}: {reply.body.get('error_message') or 'no message'}")
        return status, reply.body.get("headers"), body


def _result(reply: Reply, status: int) -> str:
    """One of metrics.STEP_RESULTS, for the answer of the gateway."""
    if reply.body.get("error") is None:
        return "target_error" if status >= 400 else "ok"
    if reply.body.get("error") in _TARGET_FAILED:
        return "target_error"
    return "refused" if reply.status < 500 else "gateway_error"
