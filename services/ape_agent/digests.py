"""Shorter forms of a target's answer, for a conversation that has to fit."""

from __future__ import annotations

import json
import re
from typing import Any

SHORT_CHARS = 600
DIGEST_CHARS = 240
# Items of a list, characters of a text, depth: from the form that keeps most.
_FORMS = ((5, 120, 6), (3, 60, 5), (2, 30, 4))
_MAX_FIELDS, _MAX_VISITED = 40, 400
# Later paths and bodies are made of such values.
_IDENTIFIES = re.compile(
    r"(?i)(?:^|_|-)(?:id|uuid|guid|slug|key|code|number|sku|ref|href|cursor|next|nonce|csrf(?:_?token)?)$"
    r"|(?-i:[a-z](?:Id|ID|Uuid|Code|Number|Key))$"
)
_MAX_VALUE_CHARS = 80
_NOTHING = object()


def short(body: Any) -> Any:
    """The body with long lists and texts cut, of about SHORT_CHARS; the digest if that is more."""
    if isinstance(body, str):
        return body[:SHORT_CHARS]
    for items, chars, depth in _FORMS:
        made = _Cut(items, chars, ids_only=False).of(body, depth)
        if len(json.dumps(made)) <= SHORT_CHARS:
            return made
    return digest(body)


def digest(body: Any) -> Any:
    """The fields of the body that identify something, of about DIGEST_CHARS; None without any."""
    for items in (5, 3, 1):
        made = _Cut(items, _MAX_VALUE_CHARS, ids_only=True).of(body, 6)
        if made is _NOTHING:
            return None
        if len(json.dumps(made)) <= DIGEST_CHARS:
            return made
    return None


class _Cut:
    """A copy of at most _MAX_VISITED values."""

    def __init__(self, items: int, chars: int, *, ids_only: bool) -> None:
        self._items, self._chars, self._ids_only = items, chars, ids_only
        self._left = _MAX_VISITED

    def of(self, value: Any, depth: int, key: str = "") -> Any:
        self._left -= 1
        if self._left < 0 or depth <= 0:
            return _NOTHING if self._ids_only else None
        if isinstance(value, dict):
            pairs = list(value.items())[:_MAX_FIELDS]
            kept = {k[:80]: self.of(v, depth - 1, k) for k, v in pairs}
            kept = {k: v for k, v in kept.items() if v is not _NOTHING}
            return kept if kept or not self._ids_only else _NOTHING
        if isinstance(value, list):
            items = [self.of(item, depth - 1, key) for item in value[: self._items]]
            items = [item for item in items if item is not _NOTHING]
            return items if items or not self._ids_only else _NOTHING
        if self._ids_only:
            fits = not isinstance(value, str) or len(value) <= _MAX_VALUE_CHARS
            wanted = value is not None and fits and _IDENTIFIES.search(key[-80:])
            return value if wanted else _NOTHING
        return value[: self._chars] if isinstance(value, str) else value
