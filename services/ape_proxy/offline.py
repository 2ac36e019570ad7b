"""ape-offline: a deterministic stand-in for a language model.

It calls the endpoints of the system message in their order, one tool call per answer, and fills
templates such as {product_id} with values of earlier answers, by the name of their field. It stops
when an endpoint fails, when no answer has a value, or at the end of the list.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ape_proxy import bounded

NAME = "ape-offline"
# Characters of texts that are not a brief, of which the JSON is read.
_MAX_WORK = 4 << 20
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class ToolCall:
    """`arguments` is JSON text, as in OpenAI's API."""

    name: str
    arguments: str


@dataclass(frozen=True)
class _Exchange:
    """A finished tool call: the path of the request, and the answer."""

    path: str
    answer: dict[str, Any]


class _Missing(Exception):
    """No earlier answer has a value for this placeholder."""


def next_decision(messages: list[Any], tools: list[Any]) -> ToolCall | str:
    """The model's next decision: a call of the first tool, or its last words."""
    brief = _brief(messages)
    endpoints = brief.get("endpoints")
    tool = next((t["function"]["name"] for t in tools if _is_function(t)), None)
    if tool is None or not isinstance(endpoints, list):
        return (
            f"I am {NAME}, a deterministic stand-in for a language model. I need a system message "
            "with a JSON object that holds `endpoints`, and one tool."
        )
    done = list(_exchanges(messages))
    if done:
        status = done[-1].answer.get("status")
        if not isinstance(status, int) or status >= 400:
            return f"I cannot continue: {done[-1].path} answered {status}."
    if len(done) >= len(endpoints):
        return "Every endpoint was called; there is nothing left to do."
    endpoint = endpoints[len(done)]
    if not isinstance(endpoint, dict) or not isinstance(endpoint.get("path"), str):
        return f"I cannot continue: endpoint {len(done) + 1} has no path."
    context = brief.get("values")
    values = _Values(done, context if isinstance(context, dict) else {})
    try:
        arguments = {
            "method": str(endpoint.get("method", "GET")),
            "path": values.path(endpoint["path"]),
        }
        if endpoint.get("body") is not None:
            arguments["body"] = values.filled(endpoint["body"])
    except _Missing as missing:
        return f"I cannot continue: no answer so far has a value for {{{missing}}}."
    return ToolCall(tool, json.dumps(arguments))


def _is_function(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def text_of(content: Any) -> str:
    """A message's content as text: it may be a text, a list of parts, or nothing."""
    if isinstance(content, list):
        parts = (p.get("text") for p in content if isinstance(p, dict))
        return "".join(p for p in parts if isinstance(p, str))
    return content if isinstance(content, str) else ""


def _brief(messages: list[Any]) -> dict[str, Any]:
    """The first JSON object with `endpoints` in a system message; words may surround it."""
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
            if isinstance(found, dict) and "endpoints" in found:
                return found
    return {}


def _exchanges(messages: list[Any]) -> Iterator[_Exchange]:
    asked: dict[str, str] = {}
    for message in messages:
        if not isinstance(message, dict):
            continue
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            try:
                arguments = json.loads(call["function"]["arguments"])
                asked[call["id"]] = str(arguments.get("path", ""))
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                continue
        if message.get("role") == "tool":
            try:
                text = text_of(message.get("content"))
                bounded.values_in(text)
                answer = bounded.loads(text)
            except ValueError:
                answer = None
            path = asked.get(str(message.get("tool_call_id")), "")
            yield _Exchange(path, answer if isinstance(answer, dict) else {})


class _Values:
    """Values of earlier answers, by field name; the newest answer that has one wins.

    Where an answer has many values (a catalog), the session's id picks one: sessions differ, and
    the same session always makes the same choice.
    """

    def __init__(self, done: list[_Exchange], context: dict[str, Any]) -> None:
        self._done = done
        self._context = context
        self._pick = zlib.crc32(str(context.get("session", "")).encode())

    def path(self, template: str) -> str:
        def fill(match: re.Match[str]) -> str:
            before = template[: match.start()].rstrip("/").rpartition("/")[2]
            return quote(str(self._find(match[1], before)), safe="", errors="replace")

        return _PLACEHOLDER.sub(fill, template)

    def filled(self, template: Any) -> Any:
        """The template with each "{name}" replaced; a text with nothing else becomes the value."""
        if isinstance(template, dict):
            return {key: self.filled(value) for key, value in template.items()}
        if isinstance(template, list):
            return [self.filled(value) for value in template]
        if not isinstance(template, str):
            return template
        if whole := _PLACEHOLDER.fullmatch(template):
            return self._find(whole[1])
        return _PLACEHOLDER.sub(lambda m: str(self._find(m[1])), template)

    def _find(self, name: str, segment: str = "") -> Any:
        """The value for {name}; `segment` is the part of the path before it.

        {product_id}, and {id} after /products/, are also the `id` of a product.
        """
        if name in self._context:
            return self._context[name]
        stem = name[:-3] if name.endswith("_id") else _singular(segment)
        for exchange in reversed(self._done):
            fields = list(_fields(exchange.answer.get("body"), ""))
            segments = {_singular(s) for s in exchange.path.partition("?")[0].split("/")}
            exact = [v for parent, key, v in fields if key == name]
            related = [
                v
                for parent, key, v in fields
                if key == "id" and (_singular(parent) == stem or (not parent and stem in segments))
            ]
            found = related or exact if name == "id" else exact or related
            if found:
                return found[self._pick % len(found)]
        raise _Missing(name)


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") else word


def _fields(value: Any, parent: str) -> Iterator[tuple[str, str, Any]]:
    """(name of the enclosing field, name, value) of every simple field, in order."""
    if isinstance(value, list):
        for item in value:
            yield from _fields(item, parent)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _fields(inner, key)
            elif inner is not None:
                yield parent, key, inner


def count_tokens(text: str) -> int:
    """An estimate, four characters per token: this model has no tokens."""
    return -(-len(text) // 4)
