"""Behaviors of real models and providers: from a request and its number to an answer.

The number counts the requests of one completion, from 1. Behaviors with a memory, such as a window
of rejections, are made afresh by `behaviors`.
"""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal

from tests.support import model_forms as forms
from tests.support.model_forms import Form, Message
from tests.support.model_step import next_step, turn


@dataclass(frozen=True)
class Answer:
    """`body`: bytes as they are, or JSON. `end`: cut in the middle, or reset before the head."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    end: Literal["whole", "cut", "reset", "trickle"] = "whole"

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Behavior = Callable[[dict[str, Any], int], Answer]
Headers = Callable[[float], Mapping[str, str]]
_ids = itertools.count(1)


def completion(message: Message | None, finish: str = "", **more: Any) -> dict[str, Any]:
    called = bool(message) and bool((message or {}).get("tool_calls"))
    return {
        "id": f"chatcmpl-{next(_ids)}",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": finish or ("tool_calls" if called else "stop"),
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    } | more


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


def openai_error(message: str, code: Any = None, kind: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


TOO_MANY = {
    "message": "Tokens per minute limit exceeded - too many tokens processed.",
    "type": "too_many_tokens_error",
    "param": "quota",
    "code": "token_quota_exceeded",
}
HTML = b"<html><head><title>502</title></head><body><h1>Bad Gateway</h1><hr>edge7</body></html>"
SIGN_IN = b"<html><body>Sign in to the wifi</body></html>"
_TOKENS_LEFT = {"x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "45s"}

# The header in which a provider says how long its window still lasts.
WINDOWS: dict[str, Headers] = {
    "seconds": lambda left: {"Retry-After": str(int(left) + 1)},
    "fraction": lambda left: {"Retry-After": f"{left:.2f}"},
    "milliseconds": lambda left: {"Retry-After-Ms": f"{left * 1000:.0f}"},
    "date": lambda left: {"Retry-After": formatdate(time.time() + left + 1, usegmt=True)},
    "cerebras": lambda left: {
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "0",
        "x-ratelimit-reset-tokens-minute": f"{left:.3f}",
        "x-ratelimit-remaining-requests-day": "900",
        "x-ratelimit-reset-requests-day": "33011.38",
    },
    "groq": lambda left: {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": f"{left:.2f}s",
        "x-ratelimit-remaining-requests": "14369",
        "x-ratelimit-reset-requests": "2m59.56s",
    },
    "openai_milliseconds": lambda left: {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": f"{left * 1000:.0f}ms",
        **_TOKENS_LEFT,
    },
    "openrouter": lambda left: {
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": f"{(time.time() + left) * 1000:.0f}",
    },
    "draft_of_the_ietf": lambda left: {
        "RateLimit-Limit": "20",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(int(left) + 1),
    },
    "both_exhausted": lambda left: {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "10ms",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": f"0m{left:.2f}s",
    },
}
# Limits that last longer than a completion may wait.
QUOTAS: dict[str, Answer] = {
    "day": Answer(
        TOO_MANY | {"message": "Requests per day limit exceeded."},
        429,
        {"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "33011.38"},
    ),
    "hour": Answer(
        openai_error("Rate limit reached", "rate_limit_exceeded"), 429, {"Retry-After": "3600"}
    ),
    "minutes": Answer(
        openai_error("Rate limit reached for model m", "rate_limit_exceeded"),
        429,
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m59.56s"},
    ),
}
NO_CREDIT = Answer(
    openai_error("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
    429,
)

# Statuses with the body in each provider's form; asking again is of no use.
REFUSALS: dict[str, Answer] = {
    "key_wrong": Answer(openai_error("Wrong API Key", "wrong_api_key"), 401),
    "key_wrong_flat": Answer({"message": "Wrong API Key", "code": "wrong_api_key"}, 401),
    "key_wrong_text": Answer(b"Unauthorized: bad key", 401, {"Content-Type": "text/plain"}),
    "key_wrong_empty": Answer(b"", 401),
    "no_credits": Answer(openai_error("Insufficient credits. Add more", 402), 402),
    "forbidden": Answer({"message": "Forbidden"}, 403),
    "forbidden_page": Answer(b"<html><body><h1>Access denied</h1>1020</body></html>", 403),
    "no_model": Answer(openai_error("Model m does not exist.", "model_not_found"), 404),
    "no_model_ollama": Answer({"error": 'model "m" not found, try pulling it first'}, 404),
    "no_model_vllm": Answer(
        {"object": "error", "message": "The model `m` does not exist.", "code": 404}, 404
    ),
    "no_deployment_azure": Answer(
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
        404,
    ),
    "extra_inputs": Answer(
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]},
        422,
    ),
    "extra_inputs_mistral": Answer(
        {"object": "error", "message": {"detail": [{"msg": "Extra inputs"}]}, "code": None}, 422
    ),
    "invalid_google": Answer(
        [{"error": {"code": 400, "message": "Invalid value", "status": "INVALID_ARGUMENT"}}], 400
    ),
    "invalid_cloudflare": Answer(
        {"errors": [{"message": "Could not route to model", "code": 7003}], "success": False}, 400
    ),
    "no_path": Answer({"detail": "Not Found"}, 404),
    "refused_behind_openrouter": Answer(
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": "tools are not supported by this model", "provider_name": "P"},
            }
        },
        400,
    ),
    "too_large": Answer(b"<html><h1>413 Request Entity Too Large</h1></html>", 413),
    "long_words": Answer(openai_error("Unknown field. " + "Very long. " * 2000), 400),
    "redirect": Answer(b"", 307, {"Location": "/elsewhere"}),
}
# Failures that may pass.
FAILURES: dict[str, Answer] = {
    **{
        f"status_{status}": Answer(openai_error(f"own words of {status}"), status)
        for status in (408, 500, 502, 503, 504, 520, 522, 524, 529)
    },
    "page_502": Answer(HTML, 502, {"Content-Type": "text/html"}),
    "busy_ollama": Answer({"error": "server busy, please try again"}, 503),
    "rate_limit": Answer(TOO_MANY, 429),
    "rate_limit_bad_header": Answer(TOO_MANY, 429, {"Retry-After": "soon"}),
    "cut": Answer(completion(forms.text("x" * 2000)), end="cut"),
    "reset": Answer(b"", end="reset"),
    "no_choices": Answer(completion(None) | {"choices": []}),
    "null_choices": Answer(completion(None) | {"choices": None}),
    "null_message": Answer(completion(None)),
    "error_in_200": Answer(openai_error("Provider returned error", 502)),
    "error_text_in_200": Answer({"error": "out of memory"}),
    "error_in_choice": Answer(
        completion(forms.text(""), "error")
        | {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "error",
                    "message": forms.text(""),
                    "error": {"code": 502, "message": "Provider disconnected"},
                }
            ]
        }
    ),
    "page_200": Answer(SIGN_IN, 200, {"Content-Type": "text/html"}),
    "empty_200": Answer(b""),
    "list_200": Answer([]),
    "event_stream_200": Answer(b"data: [DONE]\n\n", 200, {"Content-Type": "text/event-stream"}),
}

_LENGTH = "maximum context length"
# How a conversation is refused that does not fit.
CONTEXT_REFUSALS: dict[str, Answer] = {
    "openai": Answer(
        openai_error(
            f"This model's {_LENGTH} is 8192 tokens. However, your messages resulted in 9000 "
            "tokens. Please reduce the length of the messages.",
            "context_length_exceeded",
        ),
        400,
    ),
    "cerebras": Answer(
        {
            "message": "Please reduce the length of the messages or completion. Current length is "
            "8410 while limit is 8192",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        400,
    ),
    "vllm": Answer(
        {
            "object": "error",
            "message": f"This model's {_LENGTH} is 8192 tokens. However, you requested 9000 tokens "
            "(8600 in the messages, 400 in the completion).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        400,
    ),
    "llama_cpp": Answer(
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
            }
        },
        400,
    ),
    "ollama": Answer({"error": "the input length exceeds the context length"}, 400),
    "groq": Answer(openai_error("Please reduce the length of the messages or completion."), 400),
    "groq_413": Answer(
        openai_error(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested "
            "9000, please reduce your message size and try again.",
            "rate_limit_exceeded",
            "tokens",
        ),
        413,
    ),
    "mistral": Answer(
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with "
            f"32768 {_LENGTH}",
            "type": "invalid_request_error",
            "code": 3051,
        },
        400,
    ),
    "anthropic": Answer(
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 210000 tokens > 200000 maximum",
            },
        },
        400,
    ),
    "google": Answer(
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (9000) exceeds the maximum number of tokens "
                    "allowed (8192).",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        400,
    ),
    "openrouter": Answer(
        openai_error(
            f"This endpoint's {_LENGTH} is 8192 tokens. However, you requested about 9000 tokens.",
            400,
        ),
        400,
    ),
    "bedrock": Answer({"message": "Input is too long for requested model."}, 400),
}

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
    made |= {f"always_{name}": always(answer) for name, answer in (REFUSALS | FAILURES).items()}
    made |= {f"once_{name}": once(always(answer)) for name, answer in FAILURES.items()}
    made |= {f"window_{n}": window(seconds, h, TOO_MANY) for n, h in WINDOWS.items()}
    made |= {f"quota_{name}": always(answer) for name, answer in QUOTAS.items()}
    made["no_credit"] = always(NO_CREDIT)
    made |= {f"full_{name}": always(answer) for name, answer in CONTEXT_REFUSALS.items()}
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
