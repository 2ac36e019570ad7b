"""From the assistant's message to its calls, and to what the history keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ape_agent import loose, text_calls
from ape_agent.calls import TOOL, Request
from ape_agent.parts import Repairs, Unreadable
from ape_agent.text_calls import ARGUMENTS
from ape_agent.tools import Toolbox, Understood

# Of one message; further ones are left out.
MAX_CALLS = 16
MAX_CONTENT_CHARS = 16 << 10
# Of fields that only the provider understands, such as its reasoning, in one message.
MAX_EXTRA_CHARS = 64 << 10
_MAX_TEXT_CHARS = 256 << 10
_MAX_ID_CHARS = 1024
# Fields of answers that requests do not have.
_ANSWER_ONLY = ("refusal", "annotations", "audio", "function_call")


@dataclass(frozen=True)
class Call:
    """A call; without a request or a search, `problem` states for the model what is wrong."""

    id: str
    request: Request | None
    problem: str = ""
    search: str = ""


@dataclass(frozen=True)
class Decision:
    """`message`: for the history. `words`: the model's text, without its thoughts."""

    message: dict[str, Any]
    calls: tuple[Call, ...] = ()
    repairs: tuple[str, ...] = ()
    words: str = ""
    refusal: str = ""

    @property
    def is_unreadable(self) -> bool:
        """Whether each of its calls has a problem."""
        return all(call.problem for call in self.calls)


def decide(message: dict[str, Any], tools: Toolbox, new_id: Callable[[str], str]) -> Decision:
    """`new_id` returns the id of a call, or another one if it was used before or is empty."""
    room = [MAX_EXTRA_CHARS]
    extras = _extras(message, ("role", "content", "tool_calls", *_ANSWER_ONLY), room)
    content, whole = message.get("content"), text_of(message.get("content"))[-_MAX_TEXT_CHARS:]
    text = text_calls.without_thoughts(whole).strip()
    content = _content(content, text)
    refusal = message.get("refusal")
    told, is_text = _calls_of(message), False
    if not told and text:
        told = [
            {"name": name, "arguments": value}
            for name, value in text_calls.calls_in(text, tools.names)
        ]
        is_text = bool(told)
        if not told and text_calls.is_meant_as_call(text, tools.names):
            told = [{"name": TOOL, "arguments": text_calls.broken_arguments(text)}]
    kept: list[dict[str, Any]] = []
    calls: list[Call] = []
    repairs: list[str] = []
    for raw in told[:MAX_CALLS]:
        call, entry, kinds = _call(raw, tools, new_id, room)
        if is_text or (isinstance(raw, dict) and "function_call" in raw):
            # A call in the text is an object, and may have its name beside the arguments.
            kinds = ["text_call", *(k for k in kinds if k not in ("object", "nested"))]
        calls.append(call)
        kept.append(entry)
        if not call.problem:
            repairs += kinds
    made: dict[str, Any] = {"role": "assistant", "content": None if is_text else content, **extras}
    if kept:
        made["tool_calls"] = kept
    return Decision(
        made,
        tuple(calls),
        tuple(repairs),
        " ".join(text.split()),
        refusal if isinstance(refusal, str) else "",
    )


def text_of(content: Any) -> str:
    """A message's content as text: it may be a text, a list of parts, or nothing."""
    if isinstance(content, list):
        parts = (p.get("text") for p in content if isinstance(p, dict))
        return "".join(p for p in parts if isinstance(p, str))
    return content if isinstance(content, str) else ""


def _content(content: Any, words: str) -> Any:
    """The content if it is within its bound, else the words in it."""
    if isinstance(content, str) and len(content) <= MAX_CONTENT_CHARS:
        return loose.clean(content)
    if isinstance(content, list) and _length(content) <= MAX_CONTENT_CHARS:
        return loose.cleaned(content)
    return loose.clean(words[:MAX_CONTENT_CHARS]) or None


def _calls_of(message: dict[str, Any]) -> list[Any]:
    """The message's calls as they came; that of the former API has the key `function_call`."""
    calls = message.get("tool_calls")
    if isinstance(calls, dict):
        calls = [calls]
    if isinstance(calls, list) and calls:
        return calls
    former = message.get("function_call")
    return [{"function_call": True, "function": former}] if isinstance(former, dict) else []


def _call(
    raw: Any, tools: Toolbox, new_id: Callable[[str], str], room: list[int]
) -> tuple[Call, dict[str, Any], list[str]]:
    """The call, what the history keeps of it, and the kinds of its repairs."""
    repairs = Repairs()
    item = raw if isinstance(raw, dict) else {"arguments": raw}
    given_id = item.get("id")
    valid = isinstance(given_id, str) and len(given_id) <= _MAX_ID_CHARS
    call_id = new_id(loose.clean(str(given_id)) if valid else "")
    function = item.get("function")
    if not isinstance(function, dict):
        function = item
    name, arguments = text_calls.name_of(function) or text_calls.name_of(item), _raw(function, item)
    understood, problem, shown = Understood(TOOL, {}), "", "{}"
    try:
        understood = tools.understand(name, arguments, repairs)
        shown = _shown(arguments, understood, bool(repairs.kinds))
    except Unreadable as wrong:
        problem = str(wrong)
        # The history keeps which tool was meant.
        understood = Understood(name if name in tools.names else TOOL, {})
    entry = {
        "id": call_id,
        "type": "function",
        "function": {"name": understood.tool, "arguments": shown},
        **_extras(item, ("id", "type", "index", "function", "name", *ARGUMENTS), room),
    }
    entry.pop("function_call", None)
    return Call(call_id, understood.request, problem, understood.search), entry, repairs.kinds


def _shown(arguments: Any, understood: Understood, repaired: bool) -> str:
    """The JSON text for the history: the model's own, unless strict servers could reject it."""
    if (
        isinstance(arguments, str)
        and arguments.strip()
        and not repaired
        and "\\ud" not in arguments.lower()
    ):
        if arguments.count("{") + arguments.count("[") <= loose.MAX_DEPTH:
            return loose.clean(arguments)
    return loose.dumps(understood.arguments)


def _raw(function: dict[str, Any], item: dict[str, Any]) -> Any:
    """The arguments of a call as they came; without their key, what there is beside the name."""
    for source in (function, item):
        for key in ARGUMENTS:
            if key in source:
                return source[key]
    return {k: v for k, v in function.items() if k not in ("name", "id", "type", "index")} or None


def _extras(source: dict[str, Any], known: tuple[str, ...], room: list[int]) -> dict[str, Any]:
    """The other fields of a message or a call that are not empty, while there is room."""
    made = {}
    for key, value in source.items():
        if key in known or value in (None, "", [], {}) or (size := _length(value)) > room[0]:
            continue
        room[0] -= size + len(key)
        made[key] = loose.cleaned(value)
    return made


def _length(value: Any) -> int:
    try:
        return len(loose.dumps(value))
    except loose.NotJson:
        return MAX_EXTRA_CHARS + MAX_CONTENT_CHARS
