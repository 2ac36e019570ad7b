"""One step with the target through the gateway: a request, and the redirects that it leads to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ape_agent.calls import Request, Target
from ape_agent.parts import with_cookies
from ape_agent.peers import Peer, PeerError, Reply
from ape_agent.redirects import MAX_HOPS, next_request
from ape_agent.results import SessionFailed, Step
from ape_agent.sign_in import SignIn
from ape_agent.user_row import UserRow
from ape_contracts.conditions import Condition
from ape_contracts.service_settings import AgentSettings
from ape_contracts.sign_in import SignInError

# A session with an MCP server is that of the agent.
SESSION_HEADER = "X-APE-Session"
_TARGET_FAILED = ("target_unreachable", "target_timeout")


@dataclass(frozen=True)
class Exchanged:
    """The gateway's last answer that counts. `request`: what it answers, after redirects.

    `result`: one of metrics.STEP_RESULTS; `status`: the target's.
    """

    request: Request
    reply: Reply
    result: str
    status: int

    @property
    def is_targets(self) -> bool:
        """Whether the target answered, and not the gateway itself."""
        return self.reply.body.get("error") is None


class Exchange:
    """The requests of one session, and the success conditions that are unmet."""

    def __init__(
        self,
        slot: int,
        settings: AgentSettings,
        target: Target,
        sign_in: SignIn,
        gateway: Peer,
        trace_id: str,
        unmet: Sequence[Condition],
        on_step: Callable[[Step], None],
        user: UserRow,
        headers: Mapping[str, str],
    ) -> None:
        """`headers`: of its requests to the gateway."""
        self._slot, self._settings, self._target = slot, settings, target
        self._gateway, self._trace_id, self._on_step = gateway, trace_id, on_step
        # A target may hold a session of its own for each session of an agent.
        self._headers = {**headers, SESSION_HEADER: trace_id}
        self._sign_in, self._user = sign_in, user
        self._unmet = list(unmet)
        self._answered: float | None = None

    @property
    def goal_met(self) -> bool:
        return not self._unmet

    def call_without_request(self, result: str) -> None:
        """Count a step that sent no request."""
        self._on_step(Step(self._slot, result, None, None))

    async def send(self, request: Request) -> Exchanged:
        """The answer to a request, or where it redirects to. Raises SessionFailed.

        All of it is one step. A redirect that the gateway does not allow is the answer itself.
        """
        started = time.monotonic()
        since = None if self._answered is None else started - self._answered
        result = "gateway_error"
        try:
            found = await self._signed_in(request)
            result = found.result
            for _ in range(MAX_HOPS):
                following = self._next(found)
                if following is None:
                    break
                result = "gateway_error"
                hop = await self._once(following)
                if not hop.is_targets and hop.reply.status < 500:
                    result = found.result
                    break
                found, result = hop, hop.result
        except SessionFailed:
            self._finish(result, started, since)
            raise
        self._finish(result, started, since)
        return found

    async def _signed_in(self, request: Request) -> Exchanged:
        """The answer to one request, sent again if the session had to be signed in again."""
        found = await self._once(request)
        headers = found.reply.body.get("headers")
        if not found.is_targets or self.goal_met:
            return found
        if self._sign_in.is_over(request.path, found.status, headers):
            await self._sign_in.renew(self.send_apart, found.status)
            return await self._once(request)
        return found

    def _finish(self, result: str, started: float, since: float | None) -> None:
        self._answered = time.monotonic()
        self._on_step(Step(self._slot, result, self._answered - started, since))

    def _next(self, found: Exchanged) -> Request | None:
        headers = found.reply.body.get("headers")
        follows = self._settings.redirects == "follow" and not self.goal_met
        if not follows or not found.is_targets or not isinstance(headers, dict):
            return None
        return next_request(found.request, found.status, headers, self._target)

    async def _once(self, request: Request) -> Exchanged:
        """The answer to one request; the target's is stored. Raises SessionFailed."""
        status, why, reached = None, "", True
        try:
            reply = await self._post(self._asked(request))
            status, body = reply.body["status_code"], reply.body["body"]
        except PeerError as problem:
            why, reached = str(problem), problem.reached
        except KeyError as missing:
            why = f"{missing} is missing"
        if not isinstance(status, int):
            detail = f"The gateway did not answer: {why or 'not its form'}."
            raise SessionFailed("gateway_error", detail, unreachable=not reached)
        found = Exchanged(request, reply, _result(reply, status), status)
        if found.is_targets:
            self._store(request, status, reply.body.get("headers"), body)
        return found

    async def _post(self, asked: dict[str, Any]) -> Reply:
        """Raises PeerError."""
        return await self._gateway.post(
            "/mcp/request", asked, self._trace_id, headers=self._headers
        )

    def _asked(self, request: Request) -> dict[str, Any]:
        """The request as the gateway's wire has it, with what a browser would add."""
        own, query = self._sign_in.added(request.path)
        taken = {name.lower() for name in own}
        given = {k: v for k, v in request.headers.items() if k.lower() not in (*taken, "cookie")}
        filled = self._user.filled
        asked: dict[str, Any] = {
            "target_api_name": self._settings.api,
            "http_method": request.method,
            "endpoint_path": self._user.path(request.path),
            "session_headers": with_cookies({**filled(given), **own}, filled(_cookies(request))),
            "request_payload": filled(request.body),
            "trace_id": self._trace_id,
        }
        more = {
            "query": {**filled(request.query), **query},
            "content_type": request.content_type,
            "encoding": request.encoding,
        }
        return asked | {key: value for key, value in more.items() if value}

    def _store(self, request: Request, status: int, headers: Any, body: Any) -> None:
        """Keep what a browser would, and strike off the conditions that hold."""
        method, path = request.method, request.path
        self._sign_in.store(method, path, status, headers, body)
        self._unmet = [c for c in self._unmet if not c.holds(method, path, status, body)]

    async def send_apart(self, asked: dict[str, Any]) -> tuple[int, Any, Any]:
        """Send a request of the sign-in, which is not a step; the answer's status, headers, body.

        Raises SignInError, or SessionFailed.
        """
        route = {"target_api_name": self._settings.api, "trace_id": self._trace_id}
        try:
            reply = await self._post(route | asked)
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


def _cookies(request: Request) -> dict[str, str]:
    """The cookies that a request has itself, as a parameter or as a header of the model's."""
    made: dict[str, str] = {}
    for name, value in request.headers.items():
        if name.lower() == "cookie":
            pairs = (pair.partition("=") for pair in value.split(";"))
            made |= {key.strip(): text.strip() for key, _, text in pairs if key.strip()}
    return made | request.cookies


def _result(reply: Reply, status: int) -> str:
    """One of metrics.STEP_RESULTS, for the answer of the gateway."""
    if reply.body.get("error") is None:
        return "target_error" if status >= 400 else "ok"
    if reply.body.get("error") in _TARGET_FAILED:
        return "target_error"
    return "refused" if reply.status < 500 else "gateway_error"
