"""Behaviors of real models and providers: from a request and its number to an answer.

The number counts the requests of one completion, from 1. Behaviors with a memory, such as a window
of rejections, are made afresh by `behaviors`.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any, Literal

from tests.support import model_answers as answers
from tests.support import model_forms as forms
from tests.support.model_answers import Answer, Headers, completion, openai_error
from tests.support.model_forms import Form, Message
from tests.support.model_step import next_step, turn

Behavior = Callable[[dict[str, Any], int], Answer]


def well_behaved(body: dict[str, Any], _: int = 1) -> Answer:
    step = next_step(body)
    made = forms.text(step) if isinstance(step, str) else forms.proper(step)
    return Answer(completion(made))


def each(form: Form, finish: str = "") -> Behavior:
    """Every step in this form."""

    def answer(body: dict[str, Any], count: int) -> Answer:
        step = next_step(body)
        if isinstance(step, str):
            return well_behaved(body, count)
        return Answer(completion(form(step), finish))

    return answer


def always(answer: Answer) -> Behavior:
    return lambda *_: answer


def says(message: Message, finish: str = "") -> Behavior:
    return lambda *_: Answer(completion(message, finish))


def first(behavior: Behavior) -> Behavior:
    """Only the first answer of the session."""

    def answer(body: dict[str, Any], count: int) -> Answer:
        begins = turn(body) == 0 and len(body["messages"]) <= 2 and count == 1
        return (behavior if begins else well_behaved)(body, count)

    return answer


def once(behavior: Behavior) -> Behavior:
    """The first attempt of each completion."""
    return lambda body, count: (behavior if count == 1 else well_behaved)(body, count)


def later(behavior: Behavior, turns: int) -> Behavior:
    """After this many answers."""
    return lambda body, n: (behavior if turn(body) >= turns else well_behaved)(body, n)


def window(seconds: float, headers: Headers, body: Any) -> Behavior:
    """429 for this long since the first request, to everybody."""
    ends: list[float] = []

    def answer(asked: dict[str, Any], count: int) -> Answer:
        now = time.monotonic()
        ends[:] = ends or [now + seconds]
        if (left := ends[0] - now) > 0:
            return Answer(body, 429, headers(left))
        return well_behaved(asked, count)

    return answer


def refuses(status: int, body: Any, *fields: str) -> Behavior:
    """An error for a request that has one of these fields."""

    def answer(asked: dict[str, Any], count: int) -> Answer:
        if any(name in asked for name in fields):
            return Answer(body, status)
        return well_behaved(asked, count)

    return answer


def tokens(body: dict[str, Any]) -> int:
    """The size of a request, at four bytes per token."""
    return sum(len(json.dumps(body.get(name) or [])) for name in ("messages", "tools")) // 4


def context(limit: int, refusal: Answer) -> Behavior:
    """A model with this many tokens of context."""
    return lambda body, n: refusal if tokens(body) > limit else well_behaved(body, n)


def wants_signature(body: dict[str, Any], count: int) -> Answer:
    """Gemini: each call comes back with its signature."""
    for message in body["messages"]:
        for made in message.get("tool_calls") or []:
            if "extra_content" not in made:
                text = "Function call is missing a thought_signature in functionCall parts."
                return Answer([{"error": {"code": 400, "message": text}}], 400)
    step = next_step(body)
    if isinstance(step, str):
        return well_behaved(body, count)
    signed = forms.call(json.dumps(step), extra_content={"google": {"thought_signature": "abc"}})
    return Answer(completion(forms.calls(signed)))


def wants_reasoning(body: dict[str, Any], count: int) -> Answer:
    """OpenRouter with a reasoning model: the details come back unchanged."""
    details = [{"type": "reasoning.encrypted", "data": "abc"}]
    for message in body["messages"]:
        if message["role"] == "assistant" and message.get("reasoning_details") != details:
            return Answer(openai_error("reasoning_details must be passed back"), 400)
    return each(lambda s: forms.proper(s, reasoning_details=details))(body, count)


def wants_short_ids(body: dict[str, Any], count: int) -> Answer:
    """Mistral, with a call in the text: ids that the client makes up have nine characters."""
    for message in body["messages"]:
        for made in message.get("tool_calls") or []:
            known = str(made.get("id"))
            if len(known) != 9 or not known.isalnum():
                text = f"Tool call id was {known} but must be a-z, A-Z, 0-9, with a length of 9."
                refusal = {"object": "error", "message": text, "type": "invalid_request_error"}
                return Answer(refusal, 400)
    return each(lambda s: forms.text(forms.TEXT_CALLS["text_mistral"](s)))(body, count)


def parallel(body: dict[str, Any], count: int) -> Answer:
    """Two calls in the second answer."""
    if turn(body) != 1:
        return well_behaved(body, count)
    asked = ({"method": "GET", "path": path} for path in ("/products", "/products/1"))
    return Answer(completion(forms.calls(*(forms.call(json.dumps(a)) for a in asked))))


def text_parallel(body: dict[str, Any], count: int) -> Answer:
    """The same as text."""
    if turn(body) != 1:
        return well_behaved(body, count)
    write = forms.TEXT_CALLS["text_hermes"]
    asked = ({"method": "GET", "path": path} for path in ("/products", "/products/1"))
    return Answer(completion(forms.text("\n".join(write(a) for a in asked))))


_BROKEN = '{"method": "POST", "path": "/login", "body": {"username": "a"'
_CHAT = "Sure! I will begin with the login."
CHAT_WITH_JSON = 'The shop answered {"token": "abc"} after POST /login, and I stop here.'


def _broken(arguments: Any, finish: str = "") -> Behavior:
    return lambda *_: Answer(completion(forms.raw(arguments), finish))


def _no_usage(body: dict[str, Any], count: int) -> Answer:
    made = dict(well_behaved(body, count).body)
    made.pop("usage")
    return Answer(made)


def _rich_usage(body: dict[str, Any], count: int) -> Answer:
    more = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": None}
    made = well_behaved(body, count).body
    return Answer(made | {"usage": made["usage"] | more, "time_info": {"queue_time": 0.01}})


def _mark(body: dict[str, Any], count: int) -> Answer:
    return Answer(b"\xef\xbb\xbf" + well_behaved(body, count).content)


def _gzip(body: dict[str, Any], count: int) -> Answer:
    content = gzip.compress(well_behaved(body, count).content)
    return Answer(content, headers={"Content-Encoding": "gzip"})


def slow(seconds: float, end: Literal["whole", "trickle"] = "whole") -> Behavior:
    return lambda body, n: Answer(well_behaved(body, n).body, delay=seconds, end=end)


def behaviors(target: str = "http://target:8080", seconds: float = 0.4) -> dict[str, Behavior]:
    """Every behavior by its name. `target`: the target's address; `seconds`: of a window."""
    made: dict[str, Behavior] = {
        name: each(form)
        for table in (forms.FINE, forms.NEAR_MISSES)
        for name, form in table.items()
    }
    made["fine_finish_stop"] = each(forms.proper, "stop")
    made["function_call"] = each(forms.NEAR_MISSES["function_call"], "function_call")
    made |= {
        name: each(lambda step, write=write: forms.text(write(step)))  # type: ignore[misc]
        for name, write in forms.TEXT_CALLS.items()
    }
    made |= {
        "own_host": each(forms.own_host(target)),
        "other_host_first": first(
            each(lambda s: forms.proper(s | {"path": "http://elsewhere.example/login"}))
        ),
        "query_in_path": each(
            lambda s: forms.proper(
                s | ({"path": s["path"] + "?page=1"} if s["method"] == "GET" else {})
            )
        ),
        "parallel": parallel,
        "text_parallel": text_parallel,
        "no_usage": _no_usage,
        "rich_usage": _rich_usage,
        "byte_order_mark": _mark,
        "gzip": _gzip,
        "wants_signature": wants_signature,
        "wants_reasoning": wants_reasoning,
        "wants_short_ids": wants_short_ids,
    }
    made |= _talk() | _ends()
    made |= {
        f"always_{name}": always(answer)
        for name, answer in (answers.REFUSALS | answers.FAILURES).items()
    }
    made |= {f"once_{name}": once(always(answer)) for name, answer in answers.FAILURES.items()}
    made |= {
        f"window_{n}": window(seconds, h, answers.TOO_MANY) for n, h in answers.WINDOWS.items()
    }
    made |= {f"quota_{name}": always(answer) for name, answer in answers.QUOTAS.items()}
    made["no_credit"] = always(answers.NO_CREDIT)
    made |= {f"full_{name}": always(answer) for name, answer in answers.CONTEXT_REFUSALS.items()}
    return made


def _talk() -> dict[str, Behavior]:
    """Models that talk, or whose calls cannot be read."""
    return {
        "talks_once": first(says(forms.text(_CHAT))),
        "talks": says(forms.text(_CHAT)),
        "talks_with_json": says(forms.text(CHAT_WITH_JSON)),
        "talks_in_parts": says(forms.text([{"type": "text", "text": _CHAT}])),
        "stops_later": later(says(forms.text("The shop is closed, I stop.")), 3),
        "empty_once": first(says(forms.text(""))),
        "empty": says(forms.text("")),
        "blank": says(forms.text(" \n")),
        "null_once": first(says(forms.text(None))),
        "null": says(forms.text(None)),
        "no_calls_in_list": says(forms.calls(content="")),
        "only_thinks": says(forms.text("<think>I wonder what to do.</think>")),
        "broken_once": first(_broken(_BROKEN)),
        "broken": _broken('{"method": POST'),
        "broken_text_once": first(says(forms.text(f"<tool_call>{_BROKEN}</tool_call>"))),
        "empty_arguments_once": first(_broken("")),
        "null_arguments_once": first(_broken(None)),
        "list_arguments_once": first(_broken("[]")),
        "number_arguments_once": first(_broken("7")),
        "no_path_once": first(_broken('{"method": "POST"}')),
        "no_method_once": first(_broken('{"path": "/products"}')),
        "fields_beside_once": first(
            _broken('{"method": "POST", "path": "/login", "username": "a", "password": "b"}')
        ),
        "path_is_a_number_once": first(_broken('{"method": "GET", "path": 5}')),
        "no_function_once": first(says(forms.calls({"id": "call_x", "type": "function"}))),
        "deep_arguments_once": first(
            _broken('{"method": "GET", "path": "/", "body": ' + "[" * 9000)
        ),
    }


def _ends() -> dict[str, Behavior]:
    """Answers that end early, or not as a model would like."""
    return {
        "length_arguments_once": first(_broken('{"method": "POST", "path": "/lo', "length")),
        "length_arguments": _broken('{"method": "POST", "path": "/lo', "length"),
        "length_reasoning": says(forms.text(None, reasoning="long " * 50), "length"),
        "length_reasoning_content": says(forms.text("", reasoning_content="long " * 50), "length"),
        "length_text": says(forms.text("First I would like to think about what"), "length"),
        "length_with_call": each(forms.proper, "length"),
        "refusal": says(forms.text(None, refusal="I'm sorry, I can't help with that.")),
        "refusal_later": later(says(forms.text(None, refusal="I can't buy that.")), 2),
        "content_filter": says(forms.text(""), "content_filter"),
        "content_filter_azure": always(
            Answer(
                openai_error("The response was filtered: content management.", "content_filter"),
                400,
            )
        ),
    }
