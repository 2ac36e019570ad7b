"""A model that makes mistakes: the offline model, some of whose calls are spoilt by chance.

Each call is spoilt with the same chance, and all kinds are as frequent, with typed tools and with
call_api. A call that failed is tried again, as by a model that reads the error. What a mistake is:

| kind | typed tools | call_api |
|---|---|---|
| `double` | the arguments as JSON text in JSON text | the same |
| `broken` | the arguments are cut in the middle | the same |
| `wrapped` | the arguments in `{"name", "parameters"}` | the same |
| `prefix` | the tool's name with `functions.` before | the same |
| `text` | the call in the text of the answer | the same |
| `flat` | the body's fields beside the other arguments | beside method and path |
| `spelling` | `state` and `tags` as `State` and `TAGS` | the same in `query` and `headers` |
| `missing` | a required argument is left out | its part of path, query, headers or body |
| `unfilled` | `{sku}` for a value of the path | the template as the path |
| `invented` | an operation's name in other words | a path in other words |
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from ape_proxy import offline

KINDS = (
    *("double", "broken", "wrapped", "prefix", "text"),
    *("flat", "spelling", "missing", "unfilled", "invented"),
)
GENERIC = "call_api"
_WORD = re.compile(r"[a-z]+")


def answer(body: dict[str, Any], rate: float, seed: str) -> tuple[dict[str, Any], str]:
    """The message for a request to the model, and the kind of its mistake; empty: none.

    `seed` decides about it.
    """
    messages, tools = body["messages"], body.get("tools") or []
    planned = offline.next_decision(_worked(messages), tools)
    if isinstance(planned, str):
        return {"role": "assistant", "content": planned}, ""
    # Reproducible, and no secret.
    chance = Random(f"{seed} {len(messages)}")  # noqa: S311
    name, text, kind = planned.name, planned.arguments, ""
    if chance.random() < rate:
        kind = chance.choice(KINDS)
        if kind == "text":
            words = json.dumps({"name": name, "arguments": json.loads(text)})
            content = f"<tool_call>{words}</tool_call>"
            return {"role": "assistant", "content": content}, kind
        name, text = spoilt(kind, name, json.loads(text), _schema(tools, name))
        # Some calls have nothing of which this kind could be made.
        kind = "" if (name, text) == (planned.name, planned.arguments) else kind
    call = {
        "id": f"c{len(messages)}",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }
    return {"role": "assistant", "content": None, "tool_calls": [call]}, kind


def spoilt(kind: str, name: str, given: dict[str, Any], schema: dict[str, Any]) -> tuple[str, str]:
    """The (name, arguments) of a call with a mistake of this kind."""
    text, is_generic = json.dumps(given), name == GENERIC
    if kind == "double":
        return name, json.dumps(text)
    if kind == "broken":
        return name, text[: max(1, len(text) * 2 // 3)]
    if kind == "wrapped":
        return name, json.dumps({"name": name, "parameters": given})
    if kind == "prefix":
        return f"functions.{name}", text
    if kind == "flat":
        body = given.get("body")
        rest = {key: value for key, value in given.items() if key != "body"}
        return name, json.dumps(rest | (body if isinstance(body, dict) else {}))
    if kind == "spelling":
        return name, json.dumps(_respelled(given, is_generic))
    if kind == "missing":
        return name, json.dumps(_without_one(given, schema, is_generic))
    if kind == "unfilled":
        return name, json.dumps(_unfilled(given, is_generic))
    if is_generic:
        words = _WORD.sub(lambda word: f"{word[0]}_list", str(given["path"]), count=1)
        return name, json.dumps(given | {"path": words})
    return f"do_{name}_now", text


def _respelled(given: dict[str, Any], is_generic: bool) -> dict[str, Any]:
    if not is_generic:
        return {key if key == "body" else key.upper(): value for key, value in given.items()}
    made = dict(given)
    for place in ("query", "headers"):
        if isinstance(given.get(place), dict):
            made[place] = {key.upper(): value for key, value in given[place].items()}
    return made


def _without_one(given: dict[str, Any], schema: dict[str, Any], is_generic: bool) -> dict[str, Any]:
    if not is_generic:
        first = next((name for name in schema.get("required", ()) if name in given), "")
        return {key: value for key, value in given.items() if key != first}
    for place in ("headers", "query", "body"):
        if isinstance(given.get(place), dict) and given[place]:
            inner = dict(given[place])
            inner.pop(next(iter(inner)))
            return given | {place: inner}
    before, _, last = str(given["path"]).rpartition("/")
    return given | {"path": before} if re.search(r"\d", last) else given


def _unfilled(given: dict[str, Any], is_generic: bool) -> dict[str, Any]:
    if is_generic:
        before, _, last = str(given["path"]).rpartition("/")
        return given | {"path": f"{before}/{{id}}" if re.search(r"\d", last) else given["path"]}
    return {key: f"{{{key}}}" if isinstance(value, str) else value for key, value in given.items()}


def _schema(tools: list[Any], name: str) -> dict[str, Any]:
    for tool in tools:
        if tool["function"]["name"] == name:
            found: dict[str, Any] = tool["function"].get("parameters") or {}
            return found
    return {}


def _worked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without the calls that failed, so that they are tried again."""
    good = {
        message["tool_call_id"]
        for message in messages
        if message["role"] == "tool" and _status(message) < 400
    }
    made = []
    for message in messages:
        calls = [each for each in message.get("tool_calls") or () if each["id"] in good]
        if message["role"] == "tool" and message["tool_call_id"] not in good:
            continue
        if message.get("tool_calls"):
            message = {**message, "tool_calls": calls}
        made.append(message)
    return made


def _status(message: dict[str, Any]) -> int:
    try:
        found = json.loads(message["content"]).get("status")
    except (ValueError, AttributeError):
        return 999
    return found if isinstance(found, int) else 999
