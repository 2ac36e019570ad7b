"""What a conversation holds: the brief, and the calls with their answers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ape_proxy import bounded

# Characters of texts that are not a brief, of which the JSON is read.
_MAX_WORK = 4 << 20


@dataclass(frozen=True)
class ToolCall:
    """`arguments` is JSON text, as in OpenAI's API."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Exchange:
    """A finished tool call: its tool, its arguments, and the answer."""

    tool: str
    arguments: dict[str, Any]
    answer: dict[str, Any]

    @property
    def path(self) -> str:
        return str(self.arguments.get("path", ""))

    @property
    def status(self) -> Any:
        return self.answer.get("status")


def text_of(content: Any) -> str:
    """A message's content as text: it may be a text, a list of parts, or nothing."""
    if isinstance(content, list):
        parts = (p.get("text") for p in content if isinstance(p, dict))
        return "".join(p for p in parts if isinstance(p, str))
    return content if isinstance(content, str) else ""


def functions(tools: list[Any]) -> list[dict[str, Any]]:
    """The functions of the tools that have a name."""
    found = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return [f for f in found if isinstance(f, dict) and isinstance(f.get("name"), str)]


def brief(messages: list[Any]) -> dict[str, Any]:
    """The first JSON object of a system message with `endpoints` or a `goal`.

    Words may surround it.
    """
    decoder = json.JSONDecoder()
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("system", "developer"):
            continue
        text = text_of(message.get("content"))
        # Bounded, for texts that are full of braces.
        work = 0
        for start in itertools.islice((m.start() for m in re.finditer(r"\{", text)), 100):
            try:
                found, _ = decoder.raw_decode(text, start)
            except json.JSONDecodeError as problem:
                work += problem.pos - start
                if work > _MAX_WORK:
                    break
                continue
            except (ValueError, RecursionError):
                break
            if isinstance(found, dict) and ("endpoints" in found or "goal" in found):
                return found
    return {}


def exchanges(messages: list[Any]) -> Iterator[Exchange]:
    asked: dict[str, tuple[str, dict[str, Any]]] = {}
    for message in messages:
        if not isinstance(message, dict):
            continue
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            try:
                function = call["function"]
                arguments = json.loads(function["arguments"])
                asked[call["id"]] = str(function.get("name", "")), dict(arguments)
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                continue
        if message.get("role") == "tool":
            tool, arguments = asked.get(str(message.get("tool_call_id")), ("", {}))
            yield Exchange(tool, arguments, _answer(text_of(message.get("content"))))


def _answer(text: str) -> dict[str, Any]:
    try:
        bounded.values_in(text)
        answer = bounded.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def count_tokens(text: str) -> int:
    """An estimate, four characters per token: this model has no tokens."""
    return -(-len(text) // 4)
