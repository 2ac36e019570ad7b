"""Asks the model through the proxy, and reads its answer or the reason of its failure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ape_agent.conversation import Conversation, room
from ape_agent.peers import Peer, PeerError, Reply
from ape_agent.results import MAX_WORDS_CHARS, SessionFailed, printable
from ape_contracts.service_settings import AgentSettings
from ape_service.retry_after import retry_after

# Requests for one answer while the provider finds the conversation too long.
_FIT_ATTEMPTS = 6
# Of its size: what is sent next, and what is sent later in the session.
_FIT_PART, _REFUSED_PART = 0.7, 0.8
_TOO_LONG = re.compile(
    r"context.{0,20}(?:length|window|size)|reduce the length|prompt is too long|too many tokens"
    r"|(?:input|prompt|request) (?:is )?too (?:long|large)|token count.{0,40}exceed",
    re.IGNORECASE,
)
_TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")
_REFUSED_CODES = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")
# Where errors have their words: OpenAI's form, FastAPI's, Cloudflare's and Mistral's.
_MESSAGES = ("message", "msg", "error", "detail", "errors")


class Answer(NamedTuple):
    message: dict[str, Any]
    finish_reason: str


class Problem(NamedTuple):
    """What a body says of an error, in any of the forms of providers; texts may be empty."""

    code: str
    message: str


class Model:
    """The model for one session; `tools`: what it may call; `headers`: of each request."""

    def __init__(
        self,
        settings: AgentSettings,
        tools: list[dict[str, Any]],
        proxy: Peer,
        trace_id: str,
        headers: Mapping[str, str],
    ) -> None:
        self._name, self._tools, self._proxy = settings.model_name, tools, proxy
        self._trace_id, self._headers = trace_id, headers
        self._stream = settings.stream
        self._room = room(settings.context_tokens, tools)

    async def ask(self, conversation: Conversation, *, required: bool) -> Answer:
        """The next message; `required`: it must have a call. Raises SessionFailed.

        A conversation that the provider finds too long loses its least needed parts.
        """
        for attempt in range(_FIT_ATTEMPTS):
            conversation.fit(self._room)
            reply = await self._post(conversation, required)
            if reply.status == 200:
                return _answer(reply)
            problem = problem_of(reply.body)
            if generated := _generated(reply, problem):
                return generated
            if not is_too_long(reply.status, problem):
                raise failure_of(reply, problem)
            self._room = min(self._room, conversation.size * _REFUSED_PART)
            attempts_left = _FIT_ATTEMPTS - 1 - attempt
            wanted = conversation.size * _FIT_PART if attempts_left > 1 else 0.0
            if not attempts_left or not conversation.fit(wanted):
                break
        raise SessionFailed("context_full", words(reply.status, problem))

    async def _post(self, conversation: Conversation, required: bool) -> Reply:
        asked: dict[str, Any] = {
            "model": self._name,
            "messages": conversation.messages,
            "tools": self._tools,
        }
        if required:
            asked["tool_choice"] = "required"
        if self._stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            return await self._proxy.post(
                "/v1/chat/completions",
                asked,
                self._trace_id,
                headers=self._headers,
                stream=self._stream,
            )
        except PeerError as problem:
            who = (
                "The model's answer cannot be used"
                if problem.reached
                else "The proxy did not answer"
            )
            detail = f"{who}: {problem}."
            raise SessionFailed("model_error", detail, unreachable=not problem.reached) from None


def _answer(reply: Reply) -> Answer:
    """Raises SessionFailed."""
    try:
        choice = reply.body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        message, finish = None, None
    if not isinstance(message, dict):
        problem = problem_of(reply.body)
        detail = words(200, problem) if any(problem) else "The model's answer has no message."
        raise SessionFailed("model_error", detail)
    return Answer(message, finish[:40] if isinstance(finish, str) else "")


def _generated(reply: Reply, problem: Problem) -> Answer | None:
    """The model's text, where the provider found a call in it that it could not read itself."""
    error = reply.body.get("error")
    text = error.get("failed_generation") if isinstance(error, dict) else None
    if problem.code == "tool_use_failed" and isinstance(text, str) and text.strip():
        return Answer({"role": "assistant", "content": text}, "")
    return None


def problem_of(body: Mapping[str, Any]) -> Problem:
    """OpenAI's form, or whichever words an error of another form has."""
    error = body.get("error") or body.get("detail") or body
    if isinstance(error, str):
        return Problem("", error)
    if isinstance(error, list):
        error = error[0] if error else {}
    if not isinstance(error, dict):
        return Problem("", "")
    code = error.get("code") or error.get("type") or ""
    message = _message(error, 4) or _message(body, 4)
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str):
        # OpenRouter's: the words of the provider behind it.
        message = f"{message} {raw}"
    return Problem(str(code) if isinstance(code, str | int) else "", message)


def _message(value: Any, depth: int) -> str:
    """The first words in an error, however deep providers put them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        value = dict(enumerate(value[:1]))
    if not isinstance(value, dict) or not depth:
        return ""
    inside = (value.get(key) for key in (*_MESSAGES, 0))
    return next(filter(None, (_message(each, depth - 1) for each in inside)), "")


def words(status: int, problem: Problem) -> str:
    """Status and code of an error, and the beginning of its message."""
    code = f" {printable(problem.code, 60)}" if problem.code else ""
    return f"{status}{code}: {printable(problem.message, MAX_WORDS_CHARS) or 'no message'}"


def is_too_long(status: int, problem: Problem) -> bool:
    """Whether the provider rejected the conversation for its length."""
    if not 400 <= status < 500 or status == 429:
        return False
    known = problem.code.lower() in _TOO_LONG_CODES or status == 413
    return known or bool(_TOO_LONG.search(problem.message[:2000]))


def failure_of(reply: Reply, problem: Problem) -> SessionFailed:
    detail = words(reply.status, problem)
    if problem.code in ("quota_exhausted", "budget_exhausted"):
        wait = retry_after(reply.headers)
        return SessionFailed("model_quota", detail, wait_seconds=wait)
    if problem.code.lower() in _REFUSED_CODES:
        return SessionFailed("model_refused", detail)
    return SessionFailed("model_error", detail)
