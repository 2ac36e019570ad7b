"""What a well-behaved model does next, and what a strict server refuses in a conversation.

The next step is that of the project's offline model, for the exchanges that worked: a step that
failed is made again, and steps whose results were left out of the conversation count as made.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from ape_contracts.providers import REASONING_FIELDS
from ape_proxy import offline

Arguments = dict[str, Any]
_PATH = re.compile(
    r"""(?:path|url)\\*["']?\s*[:=>]\s*\\*["']?\s*(?:[A-Z]+\s+)?([^"'\\<,}\s]+)""", re.IGNORECASE
)
_ORIGIN = re.compile(r"^https?://[^/]+")
_NUMBER = re.compile(r'\bid\\*"?\s*:\s*(\d+)')


def next_step(body: dict[str, Any]) -> Arguments | str:
    """The arguments of the next call, or the model's last words."""
    messages = body["messages"]
    brief = _brief(messages)
    endpoints = brief["endpoints"]
    worked = dict(_worked(messages, [e["path"] for e in endpoints]))
    # Without those after it, which the model would try if a value was missing.
    known = endpoints[: max(worked, default=-1) + 2]
    told: list[dict[str, Any]] = [
        {"role": "system", "content": json.dumps(brief | {"endpoints": known})}
    ]
    for number in range(max(worked, default=-1) + 1):
        arguments = json.dumps({"path": endpoints[number]["path"]})
        call = {"id": str(number), "function": {"name": "call_api", "arguments": arguments}}
        answer = worked.get(number, {"status": 200})
        told.append({"role": "assistant", "tool_calls": [call]})
        told.append({"role": "tool", "tool_call_id": str(number), "content": json.dumps(answer)})
    decision = offline.next_decision(told, body.get("tools") or [])
    if isinstance(decision, offline.ToolCall):
        made: Arguments = json.loads(decision.arguments)
        return made
    if "no answer so far has a value" in decision:
        return _guessed(endpoints[max(worked) + 1], messages) or decision
    return decision


def turn(body: dict[str, Any]) -> int:
    """The number of messages of the model so far."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def _brief(messages: list[dict[str, Any]]) -> dict[str, Any]:
    text = offline.text_of(messages[0]["content"])
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text, text.index('{"goal"'))[0]
    return found


def _guessed(endpoint: dict[str, Any], messages: list[dict[str, Any]]) -> Arguments | None:
    """The step with an id from anywhere in the conversation, where a result is cut off."""
    known = _NUMBER.findall(json.dumps(messages[2:]))
    if not known:
        return None
    text = json.dumps({k: endpoint[k] for k in ("method", "path", "body") if k in endpoint})
    number = known[-1]
    text = text.replace('"{product_id}"', number).replace("{id}", number)
    made: Arguments = json.loads(text)
    return made


def _worked(
    messages: list[dict[str, Any]], paths: list[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the endpoint, answer) of each exchange that did not fail."""
    asked: list[tuple[str, int]] = []
    for message in messages[2:]:
        if message["role"] == "assistant":
            asked = list(_asked(message, paths))
            continue
        answer = _object(message.get("content"))
        if message["role"] != "tool" and "status" not in answer:
            continue
        known = str(message.get("tool_call_id"))
        found = next((each for each in asked if each[0] == known), asked[0] if asked else None)
        if found is None:
            continue
        asked.remove(found)
        status = answer.get("status", 400 if "error" in answer else 200)
        if found[1] >= 0 and isinstance(status, int) and status < 400:
            yield found[1], answer | {"status": status}


def _asked(message: dict[str, Any], paths: list[str]) -> Iterator[tuple[str, int]]:
    """(id of the call, number of its endpoint or -1), also of a call in the text."""
    calls = message.get("tool_calls")
    if calls:
        for call in calls:
            yield str(call.get("id")), _number(json.dumps(call), paths)
    else:
        yield "", _number(offline.text_of(message.get("content")), paths)


def _number(text: str, paths: list[str]) -> int:
    found = _PATH.search(text)
    if found is None:
        return -1
    asked = _ORIGIN.sub("", found[1]).partition("?")[0].strip("/")
    for number, path in enumerate(paths):
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path.strip("/")), asked):
            return number
    return -1


def _object(content: Any) -> dict[str, Any]:
    """The first JSON object of a text."""
    text = offline.text_of(content)
    try:
        found = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def broken_rules(body: dict[str, Any], echo: tuple[str, ...] = ()) -> Iterator[str]:
    """What a strict server refuses: vLLM, OpenAI, Mistral and Groq each some of it.

    `echo`: the fields of reasoning that this one takes back.
    """
    messages = body["messages"]
    for before, message in itertools.pairwise([{}, *messages]):
        role = message.get("role")
        if role not in ("system", "user", "assistant", "tool"):
            yield f"role {role!r}"
        elif role == "assistant":
            yield from _broken_message(message, echo)
        elif role == "tool" and not isinstance(message.get("content"), str):
            yield "content of a tool's message is not text"
        if before.get("role") == "tool" and role == "user":
            yield "a user's message after a tool's"
    yield from _broken_pairs(messages)


def _broken_message(message: dict[str, Any], echo: tuple[str, ...]) -> Iterator[str]:
    calls = message.get("tool_calls")
    content = message.get("content")
    if not calls and not offline.text_of(content).strip():
        yield "an assistant's message with neither content nor tool calls"
    if calls is not None and (not isinstance(calls, list) or not calls):
        yield "tool_calls is empty, or not a list"
    for each in (message, *(calls or [])):
        for name in REASONING_FIELDS:
            if name in each and name not in echo:
                yield f"property {name!r} is unsupported"
    for call in calls or []:
        if not isinstance(call.get("id"), str) or not call["id"] or call.get("type") != "function":
            yield "a tool call without id or type"
        try:
            if not isinstance(json.loads(call["function"]["arguments"]), dict):
                yield "arguments are not a JSON object"
        except (TypeError, ValueError, KeyError):
            yield "arguments are not JSON text"


def _broken_pairs(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Each call has one answer, directly after its message, and each answer a call."""
    waiting: list[str] = []
    for message in [*messages, {"role": "end"}]:
        if message["role"] == "tool":
            known = message.get("tool_call_id")
            if known not in waiting:
                yield f"tool_call_id {known!r} is not one of the calls before it"
            else:
                waiting.remove(known)
            continue
        if waiting:
            yield f"tool calls without an answer: {waiting}"
        waiting = [str(c.get("id")) for c in message.get("tool_calls") or []]
        if len(set(waiting)) != len(waiting):
            yield "two tool calls with the same id"
