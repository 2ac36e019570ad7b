"""Recorded answers: kept while a real model answers, and served again without it.

An answer is found by its request, without the names that differ between runs: session ids, tokens
and numbered names are replaced by their order of appearance, and put back into the answer. So the
answers to one agent serve a thousand, in every run in which the target gives the same answers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from typing import Any

from ape_contracts import recording
from ape_proxy.errors import bad_request
from ape_proxy.models import Local
from ape_service import logs

_log = logging.getLogger(__name__)
# Names: long words without blanks, such as ids and tokens, and words with a number, such as
# agent-0007 or order-000017.
_NAME = re.compile(r"[A-Za-z0-9_-]{16,}|(?<![A-Za-z0-9_-])[A-Za-z_]+-[0-9]+(?![A-Za-z0-9_-])")
_SLOT = re.compile(r'("slot": ?)[0-9]+')
_MARK = re.compile(r"\u27e6([0-9]+)\u27e7")
# The transport of the answer, and the caller.
_IGNORED = ("stream", "stream_options", "user", "metadata", "safety_identifier", "store")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with each of its texts changed; keys are sorted, so the order is always the same."""
    if isinstance(value, dict):
        return {key: _mapped(value[key], change) for key in sorted(value)}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


class Request:
    """A request in canonical form: `key`, and the names that it replaces."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._order: dict[str, int] = {}
        plain = {k: v for k, v in body.items() if k not in _IGNORED and v is not None}
        canonical = plain | {"messages": _mapped(plain.get("messages"), self._taken)}
        self.key = hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
        self._names = list(self._order)

    def _taken(self, text: str) -> str:
        text = _SLOT.sub(r"\1N", text)
        return _NAME.sub(
            lambda m: f"\u27e6{self._order.setdefault(m[0], len(self._order))}\u27e7", text
        )

    def without_names(self, completion: dict[str, Any]) -> dict[str, Any]:
        def take(match: re.Match[str]) -> str:
            at = self._order.get(match[0])
            return match[0] if at is None else f"\u27e6{at}\u27e7"

        return _mapped(completion, lambda text: _NAME.sub(take, text))  # type: ignore[no-any-return]

    def with_names(self, completion: dict[str, Any]) -> dict[str, Any]:
        def put(match: re.Match[str]) -> str:
            at = int(match[1])
            return self._names[at] if at < len(self._names) else match[0]

        return _mapped(completion, lambda text: _MARK.sub(put, text))  # type: ignore[no-any-return]


class Recorder:
    """Keeps each answer once, as a line, up to the size that a stack can hold."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._bytes = 0

    def add(
        self, body: dict[str, Any], completion: dict[str, Any] | Callable[[], dict[str, Any]]
    ) -> None:
        """An answer that cannot be kept, such as one that is nested too deep, is left out."""
        try:
            request = Request(body)
            if request.key in self._lines:
                return
            found = completion() if callable(completion) else completion
            line = recording.line(request.key, request.without_names(found))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as problem:
            _log.warning("answer not recorded", extra=logs.fields(error=type(problem).__name__))
            return
        if self._bytes + len(line) > recording.MAX_BYTES:
            _log.warning("recording full", extra=logs.fields(answers=len(self._lines)))
            return
        self._lines[request.key] = line
        self._bytes += len(line)

    def text(self) -> str:
        return "".join(self._lines.values())


class Recorded(Local):
    """Gives the recorded answers, and no others."""

    def __init__(self, name: str, answers: dict[str, dict[str, Any]]) -> None:
        super().__init__(name)
        self._answers = answers

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        request = Request(body | {"model": self.name})
        found = self._answers.get(request.key)
        if found is None:
            raise bad_request(
                "not_recorded",
                f"The recording has no answer to this request (key {request.key[:12]}). Record it "
                "with a real model and modelRecord; answers of the target that differ between runs "
                "cannot be replayed.",
                404,
            )
        return request.with_names(found)
