"""OpenAI's chat completion in its two forms: one object, or a stream of chunks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

# Assumed for a request without a limit, and corrected when the answer is known.
DEFAULT_COMPLETION_TOKENS = 1024
BYTES_PER_TOKEN = 4
DONE = b"data: [DONE]\n\n"
_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")


def charge(body: dict[str, Any], size: int) -> int:
    """Tokens that a request of `size` bytes may take, as providers charge in advance.

    The prompt at four bytes per token, with tools and JSON, and the maximum of completion tokens.
    """
    most = next(
        (
            body[k]
            for k in ("max_completion_tokens", "max_tokens")
            if isinstance(body.get(k), int) and body[k] > 0
        ),
        DEFAULT_COMPLETION_TOKENS,
    )
    choices = body.get("n")
    return math.ceil(size / BYTES_PER_TOKEN) + most * (
        choices if isinstance(choices, int) and choices > 0 else 1
    )


def has_token(event: dict[str, Any]) -> bool:
    """Whether a chunk has a part of the answer: text or a tool call, not only a role."""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if (
            delta.get("content")
            or delta.get("tool_calls")
            or delta.get("reasoning")
            or delta.get("reasoning_content")
            or delta.get("refusal")
            or delta.get("function_call")
        ):
            return True
    return False


def as_events(completion: dict[str, Any]) -> Iterator[bytes]:
    """The completion as server-sent events, with its usage."""
    head = {k: v for k, v in completion.items() if k not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"

    def event(choices: list[Any], **more: Any) -> bytes:
        return b"data: " + json.dumps(head | {"choices": choices} | more).encode() + b"\n\n"

    for choice in completion["choices"]:
        delta = dict(choice["message"])
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": i} | c for i, c in enumerate(delta["tool_calls"])]
        index, finish = choice.get("index", 0), choice.get("finish_reason")
        yield event([{"index": index, "delta": delta, "finish_reason": None}])
        yield event([{"index": index, "delta": {}, "finish_reason": finish}])
    if completion.get("usage") is not None:
        yield event([], usage=completion["usage"])
    yield DONE


class Assembly:
    """Joins the chunks of a stream."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, event: dict[str, Any]) -> None:
        for key, value in event.items():
            if key != "choices" and value is not None:
                self._head[key] = value
        for choice in event.get("choices") or ():
            index = choice.get("index", 0)
            made = self._choices.setdefault(
                index,
                {
                    "index": index,
                    "message": {"role": "assistant", "content": None},
                    "finish_reason": None,
                },
            )
            made["finish_reason"] = choice.get("finish_reason") or made["finish_reason"]
            message, delta = made["message"], choice.get("delta") or {}
            for key in _TEXTS:
                if isinstance(delta.get(key), str):
                    message[key] = (message.get(key) or "") + delta[key]
            for part in delta.get("tool_calls") or ():
                calls = message.setdefault("tool_calls", [])
                at = part.get("index", len(calls))
                while len(calls) <= at < len(calls) + 64:
                    calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
                call, function = calls[at], part.get("function") or {}
                call.update({k: part[k] for k in ("id", "type") if part.get(k)})
                for key in ("name", "arguments"):
                    call["function"][key] += function.get(key) or ""

    def completion(self) -> dict[str, Any]:
        choices = [self._choices[i] for i in sorted(self._choices)]
        return self._head | {"object": "chat.completion", "choices": choices}
