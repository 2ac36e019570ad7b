"""Answers of the scripted providers as server-sent events, in small pieces as tokens come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.support.model_answers import Answer

EVENTS = {"Content-Type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"
_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")


def event(made: Any) -> bytes:
    return b"data: " + json.dumps(made).encode() + b"\n\n"


def pieces(text: str, size: int = 5) -> Iterator[str]:
    yield from (text[at : at + size] for at in range(0, len(text), size))


def deltas(message: dict[str, Any], size: int = 5) -> Iterator[dict[str, Any]]:
    """The message in pieces; what is not a text comes whole."""
    yield {"role": "assistant", "content": ""} if message.get("content") else {"role": "assistant"}
    for name, value in message.items():
        if name in _TEXTS and isinstance(value, str):
            yield from ({name: piece} for piece in pieces(value, size))
        elif name not in ("role", "tool_calls", "function_call"):
            yield {name: value}
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield from ({"tool_calls": [{"index": index} | each]} for each in _of_call(call, size))
    if former := message.get("function_call"):
        yield from ({"function_call": each["function"]} for each in _of_call({"function": former}))


def _of_call(call: dict[str, Any], size: int = 5) -> Iterator[dict[str, Any]]:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments, str):
        yield call
        return
    yield call | {"function": function | {"arguments": ""}}
    yield from ({"function": {"arguments": piece}} for piece in pieces(arguments, size))


def events(completion: dict[str, Any], size: int = 5) -> bytes:
    """The events of a completion, with its usage, where it has one."""
    head = {"id": completion.get("id"), "object": "chat.completion.chunk", "created": 1}
    [choice] = completion["choices"]

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    made = [chunk(delta) for delta in deltas(choice["message"], size)]
    made.append(chunk({}, choice["finish_reason"]))
    if usage := completion.get("usage"):
        made.append(event(head | {"choices": [], "usage": usage}))
    return b"".join([b": comment\n\n", *made, DONE])


def streamed(answer: Answer) -> Answer:
    """An answer as a server sends it that streams: errors in a 200 are events as well."""
    body = answer.body
    if answer.status != 200 or not isinstance(body, dict):
        return answer
    choices = body.get("choices")
    if "error" in body:
        return replace(answer, body=event(body), headers=EVENTS)
    if not choices or not choices[0].get("message"):
        return answer
    if "error" in choices[0]:
        return replace(answer, body=event(body), headers=EVENTS)
    return replace(answer, body=events(body), headers=EVENTS | dict(answer.headers))
