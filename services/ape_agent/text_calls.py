"""Calls that a model wrote into its text, in the forms that models are known for.

{"name": "call_api", "arguments": {…}}      also fenced, in <tool_call>, after [TOOL_CALLS] or
                                             <|python_tag|>, in <function=call_api>, in a list
{"method": "GET", "path": "/products"}       the arguments alone
[call_api(method="GET", path="/products")]   as Python
<parameter=method>GET</parameter>            as XML, also <parameter name=…> and <arg_key>
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Set
from typing import Any

from ape_agent import loose
from ape_agent.calls import TOOL, arguments_in, is_complete

# What a call's arguments are named.
ARGUMENTS = ("arguments", "parameters", "input", "args", "kwargs", "tool_input", "action_input")
_ALONE = frozenset((TOOL,))

_THOUGHTS = ("think", "thinking", "thought", "reasoning")
_FUNCTION = re.compile(r"\b([A-Za-z_][\w.]{0,63})\s?\(")
_TAG = re.compile(
    r"<parameter\s{0,4}(?:=|name\s?=)\s{0,4}[\"']?(\w{1,32})[\"']?\s{0,4}>"
    r"|<arg_key>\s{0,4}(\w{1,32})\s{0,4}</arg_key>\s{0,8}<arg_value>"
)
_ENDS = ("</parameter>", "</arg_value>")
# Only in a call.
_MARKS = ("<tool_call", "[TOOL_CALLS]", "<|python_tag|>", "<function=")
_CALL_KEYS = ('"path"', '"method"', '"arguments"', '"parameters"')
# A tool's name where a call begins: after a mark, alone, or as a function.
_NAMED = re.compile(
    r"(?:<function=|<tool_call>\s{0,8}|\[TOOL_CALLS\]\s{0,8}|Action:\s{0,8})[\"']?([\w.-]{1,80})"
)
_POSITIONS = ("method", "path", "body")
# Of function calls in a text that are read, and of pairs of tags.
_MOST = 64


def without_thoughts(text: str) -> str:
    """The text without its parts in <think> and the like, also if only one of the tags is there."""
    for name in _THOUGHTS:
        opening, closing = f"<{name}>", f"</{name}>"
        text = text[text.rfind(closing) + len(closing) :] if closing in text else text
        text = text.partition(opening)[0]
    return text


def calls_in(text: str, names: Set[str] = _ALONE) -> list[tuple[str, Any]]:
    """(name of the tool, arguments) of each call in a text without thoughts, in order.

    `names`: of the tools.
    """
    text = text[: loose.MAX_CHARS]
    for form in (_json_calls, _python_calls, _named_calls, _tagged_calls):
        if found := list(form(text, names)):
            return found
    return []


def is_meant_as_call(text: str, names: Set[str] = _ALONE) -> bool:
    """Whether a text that no call was found in looks like one."""
    bare = text.lstrip().removeprefix("```json").removeprefix("```").lstrip()
    called = tuple(f"{opening}{name}(" for name in names for opening in ("", "["))
    if bare.startswith(called) or any(mark in text for mark in _MARKS):
        return True
    quoted = "{" in text and any(f'"{name}"' in text for name in names)
    begun = bare.startswith("{") or quoted
    return begun and any(key in text for key in _CALL_KEYS)


def broken_arguments(text: str) -> str:
    """The part of a text that was meant as a call, from its first brace."""
    return text[text.find("{") :] if "{" in text else text


def _json_calls(text: str, names: Set[str]) -> Iterator[tuple[str, Any]]:
    if text.lstrip().startswith('"'):
        try:
            inner = loose.loads(text.strip())
        except loose.NotJson:
            inner = text
        text = inner if isinstance(inner, str) else text
    for found in loose.objects(text):
        yield from _calls_of(found.value, 2, names)


def _calls_of(value: Any, depth: int, names: Set[str]) -> Iterator[tuple[str, Any]]:
    """The calls of an object; a list in it may have several."""
    if not isinstance(value, dict):
        return
    for inner in itertools.islice(value.values(), 8):
        if isinstance(inner, list) and depth > 0:
            items = [call for item in inner[:16] for call in _calls_of(item, depth - 1, names)]
            if items:
                yield from items
                return
    name = name_of(value)
    ours = name.removeprefix("functions.")
    is_ours = ours in names and any(key in value for key in ARGUMENTS)
    is_ours = is_ours or (ours == TOOL and arguments_in(value) is not None)
    if is_complete(value) or is_ours:
        yield name or TOOL, value


def name_of(value: dict[str, Any]) -> str:
    """The name of the tool in a call's object."""
    for key in ("name", "tool", "tool_name", "function", "action", "recipient_name"):
        found = value.get(key)
        if isinstance(found, dict):
            found = found.get("name")
        if isinstance(found, str) and found:
            return found[:64]
    return ""


def _python_calls(text: str, names: Set[str]) -> Iterator[tuple[str, Any]]:
    for match in itertools.islice(_FUNCTION.finditer(text), _MOST):
        reader = loose.Reader(text[match.end() : match.end() + (16 << 10)])
        try:
            given, named = reader.arguments()
        except loose.NotJson:
            continue
        name = match[1].rpartition(".")[2]
        made = dict(zip(_POSITIONS, given, strict=False)) | named
        if name in names and name != TOOL and not given:
            yield name, named
        elif is_complete(made):
            yield name, made


def _named_calls(text: str, names: Set[str]) -> Iterator[tuple[str, Any]]:
    """A tool's name after a mark, then an object or pairs of tags."""
    found = [m for m in itertools.islice(_NAMED.finditer(text), _MOST) if m[1] in names - {TOOL}]
    for match, following in itertools.zip_longest(found, found[1:]):
        rest = text[match.end() : following.start() if following else None]
        tagged = dict(_tags(rest))
        yield match[1], tagged or next((each.value for each in loose.objects(rest)), {})


def _tags(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the pairs of tags, until one is not closed."""
    for match in itertools.islice(_TAG.finditer(text), _MOST):
        name = match[1] or match[2]
        end = text.find(_ENDS[0 if match[1] else 1], match.end())
        if end < 0:
            break
        yield name, text[match.end() : end].strip()


def _tagged_calls(text: str, _names: Set[str]) -> Iterator[tuple[str, Any]]:
    made: dict[str, Any] = {}
    for name, value in _tags(text):
        if name in made:
            if is_complete(made):
                yield TOOL, made
            made = {}
        made[name] = value
    if is_complete(made):
        yield TOOL, made
