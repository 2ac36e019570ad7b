"""Paths without the secrets of a run's users, for the log and the results."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote


class Mask:
    """`secrets`: the values of secret columns. Agents put one into a path as a whole segment."""

    def __init__(self) -> None:
        self.secrets: Collection[str] = frozenset()

    def __call__(self, path: str) -> str:
        if not self.secrets:
            return path
        plain, mark, query = path.partition("?")
        return "/".join(map(self._segment, plain.split("/"))) + mark + query

    def _segment(self, text: str) -> str:
        return "{secret}" if text and unquote(text) in self.secrets else text
