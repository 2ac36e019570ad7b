"""Answers of real providers as plain data: errors, limits, and answers without a message."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal

from tests.support import model_forms as forms
from tests.support.model_forms import Message

Headers = Callable[[float], Mapping[str, str]]
_ids = itertools.count(1)


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

# The header in which a provider states how long its window still lasts.
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
