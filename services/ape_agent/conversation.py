"""The conversation with the model, and its parts that are left out when it does not fit.

First the oldest answers of the target are shortened, then only their ids are kept, then whole steps
are left out, each with a note in its place. The rules, the goal, the login and the last step stay.
A call and its answer are never parted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ape_agent import digests
from ape_contracts.providers import REASONING_FIELDS

# As ape_proxy charges a request before its answer is known.
BYTES_PER_TOKEN = 4
# For the answer of the model, and at most this part of the context.
_RESERVED_TOKENS, _RESERVED_PART = 1024, 0.25
_NAMED_STEPS = 10
# Of an answer that is shortened; the headers may have the next place or page.
_KEPT = ("status", "headers", "redirected_to", "error")
_SHORTENED = "This earlier answer was shortened."
_LEFT_OUT = "The rest of this earlier answer was left out; only ids in it were kept."


@dataclass(eq=False)
class Result:
    """The answer to a call. `label`: the request and its status; `form`: 0 whole, 1 short, 2 ids.

    `keep`: it is never reduced to its ids.
    """

    call_id: str
    content: dict[str, Any]
    label: str = ""
    digest: Any = None
    keep: bool = False
    form: int = 0

    def __post_init__(self) -> None:
        self._set(self.content)

    def _set(self, content: dict[str, Any]) -> None:
        self.content, self.text = content, json.dumps(content)
        # 80: of the message around it.
        self.size = len(json.dumps(self.text)) + 80

    def message(self) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": self.call_id, "content": self.text}

    def shorten(self) -> None:
        if self.form == 0 and len(self.text) > digests.SHORT_CHARS and "body" in self.content:
            self._become(1, digests.short(self.content["body"]), _SHORTENED)

    def reduce(self) -> None:
        if self.form < 2 and len(self.text) > digests.DIGEST_CHARS:
            self._become(2, self.digest, _LEFT_OUT)

    def _become(self, form: int, body: Any, note: str) -> None:
        """Take the shorter form, if it is shorter."""
        kept = {k: v for k, v in self.content.items() if k in _KEPT}
        if isinstance(kept.get("error"), str):
            kept["error"] = kept["error"][: digests.DIGEST_CHARS]
        made = {**kept, **({} if body is None else {"body": body}), "note": note}
        if len(json.dumps(made)) < len(self.text):
            self._set(made)
        self.form = form


@dataclass(eq=False)
class _Part:
    """Messages that stay together: an assistant's message and its results, or a single one."""

    message: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Agents do not know whether the provider gets the reasoning; most do not.
        own = {k: v for k, v in self.message.items() if k not in REASONING_FIELDS}
        self._own_size = len(json.dumps(own))

    def messages(self) -> Iterator[dict[str, Any]]:
        yield self.message
        yield from (result.message() for result in self.results)

    @property
    def size(self) -> int:
        return self._own_size + sum(result.size for result in self.results)

    @property
    def keep(self) -> bool:
        return not self.results or any(result.keep for result in self.results)


class Conversation:
    def __init__(self, rules: str, goal: str) -> None:
        self._goal = goal
        self._parts = [
            _Part({"role": "system", "content": rules}),
            _Part({"role": "user", "content": goal}),
        ]
        self._left_out: list[str] = []
        self._left_out_count = 0

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for part in self._parts for message in part.messages()]

    @property
    def size(self) -> int:
        """Bytes of the messages, about."""
        return sum(part.size for part in self._parts)

    def decision(self, message: dict[str, Any]) -> None:
        """Append the assistant's message with calls; `result` appends their answers."""
        self._parts.append(_Part(message))

    def result(self, result: Result) -> None:
        self._parts[-1].results.append(result)

    def words(self, said: str, answer: str) -> None:
        """Append the assistant's message without calls, and the answer of the user.

        Servers reject a message without content, and two messages of a user in a row.
        """
        self._parts.append(_Part({"role": "assistant", "content": said or "(no answer)"}))
        self._parts.append(_Part({"role": "user", "content": answer}))

    def fit(self, most: float) -> bool:
        """Leave out parts until there are at most `most` bytes; whether anything was left out."""
        size = before = self.size
        for shorten in self._reductions():
            if size <= most:
                break
            shorten()
            size = self.size
        return size < before

    def _reductions(self) -> Iterator[Callable[[], None]]:
        """What can be left out, the least needed first."""
        steps = [part for part in self._parts if part.results]
        old = [result for part in steps[:-1] for result in part.results]
        last = [result for part in steps[-1:] for result in part.results]
        yield from (result.shorten for result in old if not result.keep)
        yield from (result.reduce for result in old if not result.keep)
        yield from (result.shorten for result in (*old, *last))
        yield from (partial(self._remove, part) for part in steps[:-1] if not part.keep)
        yield from (result.reduce for result in last)

    def _remove(self, part: _Part) -> None:
        self._parts.remove(part)
        self._left_out_count += 1
        labels = [*self._left_out, *(r.label for r in part.results if r.label)]
        self._left_out = labels[-_NAMED_STEPS:]
        note = f"[{self._left_out_count} earlier steps were left out of this conversation"
        last = f"; the last of them: {', '.join(self._left_out)}" if self._left_out else ""
        self._parts[1] = _Part({"role": "user", "content": f"{self._goal}\n\n{note}{last}.]"})


def room(context_tokens: int, tools: Any) -> float:
    """Bytes of messages that fit into the context beside tools and answer; infinite if unknown."""
    if not context_tokens:
        return float("inf")
    reserved = min(_RESERVED_TOKENS, context_tokens * _RESERVED_PART)
    return (context_tokens - reserved) * BYTES_PER_TOKEN - len(json.dumps(tools))
