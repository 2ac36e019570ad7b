"""Which operations of a document count: the settings targetInclude and targetExclude.

A selector is one of:

    tag:orders            operations with this tag
    id:createOrder        the operation with this operationId
    /orders/*             paths; * stands for one segment or part of it, ** for any number
    DELETE                operations with this method
    DELETE /orders/**     both
    deprecated            deprecated operations

A path counts with the base path of the document, and without it.

DELETE and deprecated operations are off, unless a selector of targetInclude names them: by the
method, by id, by `deprecated`, or by a method with a path that has no *.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from ape_infra.config.openapi.report import Report

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SYNTAX = re.compile(rf"tag:.+|id:.+|deprecated|({'|'.join(METHODS)})( +/\S*)?|/\S*")


def is_selector(text: str) -> bool:
    return _SYNTAX.fullmatch(text.strip()) is not None


def overlap(one: str, other: str) -> bool:
    """Whether a path fits both templates; a segment with {x} fits any."""
    first, second = one.split("/"), other.partition("?")[0].split("/")
    return len(first) == len(second) and all(
        a == b or "{" in a or "{" in b for a, b in zip(first, second, strict=True)
    )


def with_base(path: str, base: str) -> Iterator[str]:
    """Yield the path with its base path, or the end of that: a target's URL may have the rest."""
    parts = base.split("/")[1:]
    for at in range(len(parts)):
        yield "".join(f"/{part}" for part in parts[at:]) + path


class Candidate:
    """An operation that may be selected. `others`: further paths by which selectors name it."""

    def __init__(
        self, method: str, path: str, operation: dict[str, Any], others: Iterable[str] = ()
    ) -> None:
        self.method, self.path, self.paths = method, path, tuple(dict.fromkeys((path, *others)))
        self.is_deprecated = operation.get("deprecated") is True
        given = operation.get("operationId")
        self.id = given if isinstance(given, str) else ""
        tags = operation.get("tags")
        self.tags = [t for t in tags if isinstance(t, str)] if isinstance(tags, list) else []

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


class Selector:
    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.tag = self._after("tag:")
        self.id = self._after("id:")
        is_named = self.tag or self.id or self.text == "deprecated"
        first, _, rest = ("", "", "") if is_named else self.text.partition(" ")
        self.method = first if first in METHODS else ""
        self.path = rest.strip() if self.method else first

    def _after(self, prefix: str) -> str:
        return self.text.removeprefix(prefix).strip() if self.text.startswith(prefix) else ""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = {"**": ".*", "*": "[^/]*"}
        parts = re.split(r"(\*\*|\*)", self.path)
        return re.compile("".join(words.get(part, re.escape(part)) for part in parts))

    def matches(self, candidate: Candidate) -> bool:
        if self.tag or self.id:
            return self.tag in candidate.tags if self.tag else self.id == candidate.id
        if self.text == "deprecated":
            return candidate.is_deprecated
        if self.method and self.method != candidate.method:
            return False
        if not self.path:
            return True
        return any(map(self._pattern.fullmatch, candidate.paths))

    def names_delete(self, candidate: Candidate) -> bool:
        return self.matches(candidate) and bool(self.id or self.method == "DELETE")

    def names_deprecated(self, candidate: Candidate) -> bool:
        is_exact = self.method and self.path and "*" not in self.path
        return self.matches(candidate) and bool(self.id or is_exact or self.text == "deprecated")


def select(
    candidates: Iterable[Candidate],
    include: Sequence[str],
    exclude: Sequence[str],
    report: Report,
) -> list[Candidate]:
    """Return the selected operations in their order; the report gets what is left out."""
    including, excluding = [Selector(s) for s in include], [Selector(s) for s in exclude]
    found: list[Candidate] = []
    used: set[str] = set()
    for each in candidates:
        wanted = [s for s in including if s.matches(each)]
        unwanted = [s for s in excluding if s.matches(each)]
        used.update(s.text for s in (*wanted, *unwanted))
        if including and not wanted:
            report.add("not_selected", each.name)
        elif unwanted:
            report.add("excluded", each.name)
        elif each.method == "DELETE" and not any(s.names_delete(each) for s in wanted):
            report.add("delete", each.name)
        elif each.is_deprecated and not any(s.names_deprecated(each) for s in wanted):
            report.add("deprecated", each.name)
        else:
            found.append(each)
    for selector in (*including, *excluding):
        if selector.text not in used:
            report.add("selector", selector.text, selector.text)
    return found
