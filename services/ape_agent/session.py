"""One session: ask the model, call the target through the gateway, show the answer, repeat."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from ape_agent.answers import shown
from ape_agent.calls import Request
from ape_agent.conversation import Conversation, Result
from ape_agent.decisions import Call, Decision, decide
from ape_agent.digests import digest
from ape_agent.exchange import Exchange, Exchanged
from ape_agent.logins import is_login
from ape_agent.model import Model
from ape_agent.orders import Grant
from ape_agent.peers import Peer, PeerError
from ape_agent.results import SessionFailed, SessionResult, Step, quoted
from ape_agent.sign_in import NOTE, SignIn
from ape_agent.tools import Toolbox
from ape_agent.user_row import NOBODY, UserRow
from ape_contracts import conditions, metrics, operations, paths
from ape_contracts.service_settings import AgentSettings
from ape_contracts.sign_in import SignInError
from ape_service import logs, trace

# The proxy queues fairly by it, also for many agents with one address.
AGENT_HEADER = "X-APE-Agent"
_log = logging.getLogger(__name__)
_SIGNED_IN = "You are signed in. "
_LOG_OUT_SECONDS = 5.0
_END_SESSION = {"http_method": "DELETE", "endpoint_path": "/session"}
_REMINDER = (
    "The goal is not reached yet, and your answer had no tool call. Call the tool {tool} to "
    "continue. If you cannot continue, answer with one short sentence."
)
_CUT = " The answer was cut at its limit of tokens; write a shorter one."
_RAISE_LIMIT = "The answer ended at its limit of tokens; raise modelMaxTokens."


def _id_of(seed: str) -> str:
    """32 hex digits, the same for a seed."""
    return hashlib.sha256(seed.encode()).hexdigest()[:32]


class Session:
    """`tools`: what the model may do; `on_step` gets each step when it is finished.

    `credentials`: of this agent, for its sign-in. `grant`: of a session of a run, whose settings
    are `settings`.
    """

    def __init__(
        self,
        slot: int,
        settings: AgentSettings,
        tools: Toolbox,
        gateway: Peer,
        proxy: Peer,
        on_step: Callable[[Step], None],
        credentials: Mapping[str, str] | None = None,
        grant: Grant | None = None,
    ) -> None:
        self._slot, self._settings, self._tools = slot, settings, tools
        self._grant = grant
        # Whether only the log-out is left.
        self.is_over = False
        self._gateway = gateway
        self._agent = metrics.agent(slot)
        seed = grant.seed if grant else None
        self._random = random.Random(seed) if seed is not None else random  # noqa: S311
        # The offline model's choices follow from it.
        self._id = secrets.token_hex(16) if seed is None else _id_of(seed)
        self._trace_id = trace.new_trace_id()
        of_run = grant.headers if grant else {}
        headers = {AGENT_HEADER: self._agent, **of_run}
        self._model = Model(settings, tools.definitions, proxy, self._trace_id, headers)
        user = UserRow(grant.user, grant.secret) if grant and grant.user else NOBODY
        values = {**user.shown, "agent": self._agent, "slot": slot, "session": self._id}
        self._sign_in = SignIn(
            settings.sign_in,
            credentials or {},
            {name: str(value) for name, value in values.items()},
            tools.target,
            is_https=settings.target_https,
            user=user,
        )
        around = (tools.target, self._sign_in, gateway, self._trace_id)
        unmet = conditions.parse(settings.success)
        self._exchange = Exchange(slot, settings, *around, unmet, on_step, user, of_run)
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
        # The reason of the failure if the model stops now, and whether only the target is at fault.
        self._failure, self._broken = "gave_up", False
        self._conversation = self._begun(user, values)

    def _begun(self, user: UserRow, values: Mapping[str, Any]) -> Conversation:
        """The conversation, as `user` begins it."""
        note = _SIGNED_IN if self._sign_in.is_declared else ""
        own = self._settings
        goal, persona = user.described(own.goal), user.described(own.persona)
        own = replace(own, goal=goal, persona=persona)
        return Conversation(self._tools.prompt(own, values, note=note), goal)

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
            str(self._sign_in.redacted(failed.detail)) if failed else "",
            self._repaired,
            acted=self._acted,
            unreachable=failed is not None and failed.unreachable,
            wait_seconds=failed.wait_seconds if failed else None,
            of_run=self._grant.report() if self._grant else {},
        )
        self.is_over = True
        # An exception that is kept keeps this frame, and the frame keeps the exception.
        failed = None
        # The number in a run is not the session's id.
        shown = {**result.report(), "agent": self._agent, "session": self._id}
        fields = logs.fields(**shown)
        _log.info("session", extra=fields)
        if result.reason != "aborted":
            with suppress(SessionFailed, SignInError, TimeoutError):
                async with asyncio.timeout(_LOG_OUT_SECONDS):
                    await self._sign_in.end(self._exchange.send_apart)
                    if self._tools.sessions and self._acted:
                        await self._exchange.send_apart(_END_SESSION)
        return result

    def transcript(self) -> list[dict[str, Any]]:
        """The conversation, as far as it is kept, without secrets."""
        found: list[dict[str, Any]] = self._sign_in.redacted(self._conversation.messages)
        return found

    def _may(self, request: Request) -> bool:
        """Whether the scenario has the operation of the request."""
        allowed = self._grant.scenario.get("operations") if self._grant else None
        return not allowed or any(
            method == request.method and paths.matches(path.partition("?")[0], request.path)
            for method, path in allowed
        )

    async def _run_steps(self) -> None:
        """Returns when the goal is met; raises SessionFailed."""
        await self._sign_in.begin(self._exchange.send_apart)
        while True:
            if self._steps >= self._settings.session_max_steps:
                raise SessionFailed("step_limit", self._last)
            answer = await self._model.ask(self._conversation, required=not self._called)
            decision = decide(answer.message, self._tools, self._new_id)
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
                seconds = self._settings.think_time_seconds
                await asyncio.sleep(seconds * self._random.uniform(0.5, 1.5))

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
        reminder = _REMINDER.format(tool=self._tools.main)
        self._conversation.words(decision.words[:1000], reminder)

    def _new_id(self, given: str) -> str:
        """The id of a call, if it is not used yet; else one that every provider accepts."""
        if not given or given in self._ids:
            given = f"c{len(self._ids):08d}"
            while given in self._ids:
                given = f"c{self._random.getrandbits(32):08x}"
        self._ids.add(given)
        return given

    async def _act(self, call: Call, is_cut: bool) -> bool:
        """Send the request of a call, and append its answer; whether the goal is met."""
        if call.search:
            label = self._last = f"find_operations {call.search[:60]}"
            self._conversation.result(Result(call.id, await self._find(call.search), label))
            return False
        if call.request is None:
            problem = self._last = call.problem + (_CUT if is_cut else "")
            self._conversation.result(Result(call.id, {"error": problem}))
            self._exchange.call_without_request("bad_call")
            return False
        request = call.request
        if not self._may(request):
            self._last = f"{request.method} {request.path[:100]} is not one of the operations."
            self._conversation.result(Result(call.id, {"error": self._last}))
            self._exchange.call_without_request("refused")
            return False
        found = await self._exchange.send(request)
        status, result = found.status, found.result
        self._acted = self._acted or result != "gateway_error"
        self._broken = False
        label = f"{request.method} {request.path[:100]} {status}"
        label = self._last = str(self._sign_in.redacted(label))
        if not found.is_targets:
            # An answer of the gateway itself. With a 4xx the model can still correct its request.
            self._failure = "target_error" if result == "target_error" else "gateway_error"
            why = self._sign_in.redacted(found.reply.body.get("error_message"))
            if found.reply.status >= 500:
                raise SessionFailed(self._failure, f"{label}: {why or 'no message'}")
            self._conversation.result(Result(call.id, {"status": status, "error": why}, label))
            return False
        self._failure = "target_error" if result == "target_error" else "gave_up"
        self._broken = status >= 500
        if self._exchange.goal_met:
            return True
        ids = digest(self._body(request, found)) if status < 400 else None
        made = self._shown(request, found)
        keep = is_login(request.method, request.path, status)
        self._conversation.result(Result(call.id, made, label, ids, keep))
        return False

    def _body(self, request: Request, found: Exchanged) -> Any:
        """The body of an answer, without what is not for the model."""
        hides = self._sign_in.hides
        asked = (request, found.request)
        if found.status < 400 and any(hides(each.method, each.path) for each in asked):
            return NOTE
        return self._sign_in.redacted(found.reply.body["body"])

    def _shown(self, request: Request, found: Exchanged) -> dict[str, Any]:
        """What the model is shown of an answer, and where it came from after redirects."""
        answer = found.reply.body
        made = shown(
            found.status,
            self._body(request, found),
            self._sign_in.redacted(answer.get("headers")),
            encoding=str(answer.get("body_encoding")),
            truncated=answer.get("truncated") is True,
            documented=request.documented,
            hidden=("location",) if self._settings.redirects == "off" else (),
        )
        if found.request is not request:
            where = f"{found.request.method} {found.request.path[:400]}"
            made["redirected_to"] = self._sign_in.redacted(where)
        return made

    async def _find(self, text: str) -> dict[str, Any]:
        """The operations of the target that a text finds. Raises SessionFailed."""
        asked = urlencode({"api": self._settings.api, "q": text})
        try:
            reply = await self._gateway.get(f"/operations/search?{asked}")
            found = operations.of({"operations": reply.body.get("operations") or []}).operations
        except PeerError as problem:
            detail = f"The gateway did not answer: {problem}."
            raise SessionFailed("gateway_error", detail, unreachable=not problem.reached) from None
        except operations.OperationsError:
            found = ()
        if not found:
            return {"error": "No operation was found. Use other words."}
        return self._tools.found(found)
