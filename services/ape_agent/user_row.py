"""The user of a session of a run: a row of the run's users.

Its columns stand for `{column}`. The model is shown the value of a column, or `{column}` itself for
one that is secret: the value is put in when a request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

_TEMPLATE = re.compile(r"\{(\w{1,64})\}")
# In a path, where the braces may be encoded.
_IN_PATH = re.compile(r"(?:\{|%7B)(\w{1,64})(?:\}|%7D)", re.IGNORECASE)


class UserRow:
    def __init__(self, values: Mapping[str, str], secret: Collection[str]) -> None:
        self.values, self.secret = values, frozenset(secret) & values.keys()
        # As the model sees them.
        self.shown = {
            name: f"{{{name}}}" if name in self.secret else value for name, value in values.items()
        }

    def described(self, text: str) -> str:
        """A text for the model."""
        return self._filled(text, self.shown)

    def filled(self, value: Any) -> Any:
        """Headers, a query or a body, as they are sent."""
        if not self.values:
            return value
        if isinstance(value, str):
            return self._filled(value, self.values)
        if isinstance(value, dict):
            return {self.filled(key): self.filled(inner) for key, inner in value.items()}
        return [self.filled(inner) for inner in value] if isinstance(value, list) else value

    def path(self, path: str) -> str:
        """A path with its query, as it is sent.

        A secret stands for a whole segment or in the query, where logs and results do not have it.
        """
        if not self.values:
            return path
        plain, mark, query = path.partition("?")
        segments = [
            self._encoded(part, self.values.keys() if _IN_PATH.fullmatch(part) else self._open)
            for part in plain.split("/")
        ]
        return "/".join(segments) + mark + self._encoded(query, self.values.keys())

    @property
    def _open(self) -> Collection[str]:
        return self.values.keys() - self.secret

    def _encoded(self, text: str, names: Collection[str]) -> str:
        def value(found: re.Match[str]) -> str:
            return quote(self.values[found[1]], safe="") if found[1] in names else found[0]

        return _IN_PATH.sub(value, text)

    @staticmethod
    def _filled(text: str, values: Mapping[str, str]) -> str:
        return _TEMPLATE.sub(lambda found: values.get(found[1], found[0]), text)


NOBODY = UserRow({}, ())
