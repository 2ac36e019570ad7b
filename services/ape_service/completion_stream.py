"""A chat completion in chunks, as providers stream it, and the message that they make together.

What the agents assemble and what the proxy records must be the same: a recorded answer is found by
the conversation before it.
"""

from __future__ import annotations

from typing import Any

# Characters of a completion in all.
MAX_CHARS = 4 << 20
MAX_CHOICES, MAX_CALLS, MAX_PARTS = 16, 64, 4096
_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier", "usage")
_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")
_LISTS = ("content", "reasoning_details")
# Of a part of reasoning_details; its other fields come once.
_PART_TEXTS = ("text", "summary")
# UTF-16: the two halves of a character that a provider has parted become one again.
_CODE = ("utf-16-le", "surrogatepass")


class TooLarge(ValueError):
    """The completion is larger than its limits."""


def error_in(event: dict[str, Any], kind: str = "") -> dict[str, Any] | None:
    """The error that an event reports, in one of the forms of providers; `kind`: the event's name.

    Mistral's and Groq's events are named, vLLM's object is, and OpenRouter's choice has an error.
    """
    if event.get("error") or event.get("object") == "error":
        return event
    choices = event.get("choices")
    if not choices:
        return event if kind == "error" else None
    first = choices[0]
    return {"error": first["error"]} if isinstance(first, dict) and first.get("error") else None


def status_of(error: dict[str, Any]) -> int:
    """The status that an error would have had before the stream began; 502: it names none."""
    inner = error.get("error")
    holders = [each for each in (inner, error) if isinstance(each, dict)]
    for holder in holders:
        for name in ("status_code", "status", "code"):
            value = holder.get(name)
            if isinstance(value, str) and value.isdecimal() and len(value) == 3:
                value = int(value)
            if isinstance(value, int) and 400 <= value <= 599:
                return value
    kinds = {holder.get("type") for holder in holders if isinstance(holder.get("type"), str)}
    return 400 if kinds & {"invalid_request_error", "BadRequestError"} else 502


class Assembly:
    """Joins the chunks of a stream. Methods raise TooLarge, and errors of types of broken chunks.

    `is_finished`: whether the model has named a finish reason.
    """

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._room = MAX_CHARS
        self.is_finished = False

    def add(self, event: dict[str, Any]) -> None:
        for key in _HEAD:
            if (value := event.get(key)) is not None:
                self._head[key] = value
        for choice in event.get("choices") or ():
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            made = self._choices.get(index)
            if made is None:
                if len(self._choices) >= MAX_CHOICES:
                    raise TooLarge("too many choices")
                made = self._choices[index] = _Choice()
            delta = choice.get("delta")
            if delta is None and made.is_new:
                # The whole message in one chunk.
                delta = choice.get("message")
            if delta:
                self._room -= made.add(delta)
                if self._room < 0:
                    raise TooLarge(f"more than {MAX_CHARS} characters")
            if finish := choice.get("finish_reason"):
                made.finish, self.is_finished = finish, True

    @property
    def size(self) -> int:
        """Characters so far."""
        return MAX_CHARS - self._room

    def completion(self) -> dict[str, Any]:
        choices = [
            {"index": index, "message": made.message(), "finish_reason": made.finish}
            for index, made in sorted(self._choices.items())
        ]
        return self._head | {"object": "chat.completion", "choices": choices}


class _Choice:
    def __init__(self) -> None:
        self.finish: Any = None
        self.is_new = True
        self._texts: dict[str, bytearray] = {}
        self._lists: dict[str, list[Any]] = {}
        self._calls: list[_Call] = []
        self._function: _Call | None = None
        self._extras: dict[str, Any] = {}
        # The last call of each index, and without one.
        self._at: dict[Any, _Call] = {}

    def add(self, delta: dict[str, Any]) -> int:
        """Returns the characters of the delta."""
        self.is_new = False
        size = 0
        for name, value in delta.items():
            if value is None or name == "role":
                continue
            if isinstance(value, str) and name in _TEXTS:
                size += len(value)
                self._texts.setdefault(name, bytearray()).extend(value.encode(*_CODE))
            elif isinstance(value, list) and name in _LISTS:
                size += sum(self._part(name, part) for part in value)
            elif name == "tool_calls" and isinstance(value, list):
                size += sum(map(self._call, value))
            elif name == "function_call" and isinstance(value, dict):
                self._function = self._function or _Call()
                size += self._function.add({"function": value})
            else:
                size += _size(value)
                self._extras[name] = value
        return size

    def _part(self, name: str, part: Any) -> int:
        """A part of a list; pieces of one text are joined."""
        parts = self._lists.setdefault(name, [])
        last = parts[-1] if parts else None
        if isinstance(part, dict) and isinstance(last, dict) and _continues(last, part):
            for key, value in part.items():
                if key in _PART_TEXTS and isinstance(last.get(key), str):
                    last[key] += value if isinstance(value, str) else ""
                elif value is not None:
                    last[key] = value
        elif len(parts) >= MAX_PARTS:
            raise TooLarge("too many parts")
        else:
            parts.append(dict(part) if isinstance(part, dict) else part)
        return _size(part)

    def _call(self, piece: Any) -> int:
        if not isinstance(piece, dict):
            raise TypeError("a tool call is not an object")
        index = piece.get("index")
        index = index if isinstance(index, int) else None
        known = self._at.get(index)
        if known is None or known.is_other(piece, indexed=index is not None):
            if len(self._calls) >= MAX_CALLS:
                raise TooLarge("too many calls")
            known = self._at[index] = _Call()
            self._calls.append(known)
        return known.add(piece)

    def message(self) -> dict[str, Any]:
        made: dict[str, Any] = {"role": "assistant", "content": None}
        for name, raw in self._texts.items():
            made[name] = raw.decode(*_CODE)
        for name, parts in self._lists.items():
            text = made.get(name)
            made[name] = ([{"type": "text", "text": text}] if text else []) + parts
        made |= self._extras
        if self._function is not None:
            made["function_call"] = self._function.whole().get("function")
        if self._calls:
            made["content"] = made["content"] or None
            made["tool_calls"] = [call.whole() for call in self._calls]
        return made


class _Call:
    """A tool call in pieces."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._function: dict[str, Any] | None = None
        self._arguments = bytearray()

    def is_other(self, piece: dict[str, Any], *, indexed: bool) -> bool:
        """Whether a piece begins another call.

        Some servers send no index, and some the same one with each call.
        """
        function = piece.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        given, own = piece.get("id"), self._fields.get("id")
        if given and own:
            return bool(given != own and (name or not indexed))
        return bool(name) and not indexed

    def add(self, piece: dict[str, Any]) -> int:
        size = 0
        for key, value in piece.items():
            if key == "function" and isinstance(value, dict):
                size += self._add(value)
            elif key not in ("index", "function") and (value or key not in self._fields):
                size += _size(value)
                self._fields[key] = value
        return size

    def _add(self, function: dict[str, Any]) -> int:
        made = self._function = self._function if self._function is not None else {}
        size = _size(function)
        for key, value in function.items():
            old = made.get(key)
            if key == "arguments" and isinstance(value, str):
                self._arguments.extend(value.encode(*_CODE))
                made.setdefault(key, "")
            elif key == "name" and isinstance(value, str) and isinstance(old, str):
                # Some servers repeat the name in each piece.
                made[key] = old if value == old else old + value
            elif value is not None or key not in made:
                made[key] = value
        return size

    def whole(self) -> dict[str, Any]:
        made = dict(self._fields)
        if self._function is not None:
            function = made["function"] = dict(self._function)
            if self._arguments:
                function["arguments"] = self._arguments.decode(*_CODE)
        return made


def _continues(last: dict[str, Any], part: dict[str, Any]) -> bool:
    kind = part.get("type")
    if kind not in ("text", "reasoning.text", "reasoning.summary") or kind != last.get("type"):
        return False
    return part.get("index") == last.get("index")


def _size(value: Any) -> int:
    """Characters of a value, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_size, value)) + len(value)
    return 8
