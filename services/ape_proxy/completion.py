"""OpenAI's chat completion in its two forms: one object, or a stream of chunks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

# Assumed for a request without a limit, and corrected when the answer is known.
DEFAULT_COMPLETION_TOKENS = 1024
BYTES_PER_TOKEN = 4
# Of one request or answer; a larger number is a mistake.
MAX_TOKENS = 10**9
DONE = b"data: [DONE]\n\n"
_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")


def prompt_tokens(size: int) -> int:
    """An estimate for a request of `size` bytes, with tools and JSON."""
    return math.ceil(size / BYTES_PER_TOKEN)


def charge(body: dict[str, Any], size: int) -> int:
    """Tokens that a request of `size` bytes may take, as providers charge in advance.

    The prompt at four bytes per token, with tools and JSON, and the maximum of completion tokens.
    """
    limits = (_count(body.get(k)) for k in ("max_completion_tokens", "max_tokens"))
    most = next(filter(None, limits), DEFAULT_COMPLETION_TOKENS)
    return prompt_tokens(size) + most * (_count(body.get("n")) or 1)


def _count(value: Any) -> int:
    return min(value, MAX_TOKENS) if type(value) is int and value > 0 else 0


def size_of(message: dict[str, Any]) -> int:
    """Characters of a message or a part of it: text, reasoning and tool calls; 0: only a role."""
    size = 0
    for name in _TEXTS:
        if text := message.get(name):
            size += len(text) if isinstance(text, str) else 1
    if calls := message.get("tool_calls"):
        # One at least: the first part of a call may have its name only.
        size += 1 + sum(map(_size_of_call, calls))
    if call := message.get("function_call"):
        size += 1 + _size_of_call({"function": call})
    return size


def _size_of_call(call: Any) -> int:
    function = call.get("function") if isinstance(call, dict) else None
    texts = function.values() if isinstance(function, dict) else ()
    return sum(len(text) for text in texts if isinstance(text, str))


def size_of_event(event: dict[str, Any]) -> int:
    """Characters of the answer in a chunk of a stream; 0: none."""
    size = 0
    for choice in event.get("choices") or ():
        if delta := choice.get("delta"):
            text = delta.get("content")
            # Most have nothing but text.
            size += len(text) if len(delta) == 1 and type(text) is str else size_of(delta)
    return size


def as_events(completion: dict[str, Any]) -> Iterator[bytes]:
    """The completion as server-sent events, with its usage."""
    head = {k: v for k, v in completion.items() if k not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"

    def event(choices: list[Any], **more: Any) -> bytes:
        return b"data: " + json.dumps(head | {"choices": choices} | more).encode() + b"\n\n"

    for choice in completion["choices"]:
        delta = dict(choice["message"])
        if delta.get("tool_calls"):
            calls = enumerate(delta["tool_calls"])
            delta["tool_calls"] = [{"index": i} | c if isinstance(c, dict) else c for i, c in calls]
        index, finish = choice.get("index", 0), choice.get("finish_reason")
        yield event([{"index": index, "delta": delta, "finish_reason": None}])
        yield event([{"index": index, "delta": {}, "finish_reason": finish}])
    if completion.get("usage") is not None:
        yield event([], usage=completion["usage"])
    yield DONE
