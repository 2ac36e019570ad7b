"""What a sign-in reads of an answer: a value of JSON, a header, a hidden field of a page.

Only agents with a declared sign-in import it, since `html.parser` adds 0.3 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

# Of a page; the login form is in its beginning.
_MAX_CHARS = 1_000_000


@dataclass
class Form:
    """`fields`: name -> value of its hidden fields; `names`: of all its fields."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    has_password: bool = False


class Page(HTMLParser):
    """The forms of an HTML page, and `values`: of its inputs and `meta` elements."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.values: dict[str, str] = {}
        self._form: Form | None = None
        # A page of somebody else's; whatever can be read of it counts.
        with suppress(AssertionError):
            self.feed(text[:_MAX_CHARS] if isinstance(text, str) else "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "form":
            self._form = Form(given.get("action", ""))
            self.forms.append(self._form)
        elif tag == "meta" and name:
            self.values.setdefault(name, given.get("content", ""))
        elif tag in ("input", "button") and name:
            self._input(name, given.get("type", "").lower(), given.get("value", ""))

    def _input(self, name: str, kind: str, value: str) -> None:
        self.values.setdefault(name, value)
        if self._form is None:
            return
        self._form.names.add(name)
        self._form.has_password = self._form.has_password or kind == "password"
        if kind == "hidden":
            self._form.fields[name] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None

    def login_form(self, names: set[str]) -> Form | None:
        """The form with most of the fields `names`, before others one with a password."""
        best = None
        for form in self.forms:
            rank = (len(form.names & names), form.has_password)
            if rank > (0, False) and (best is None or rank > best[0]):
                best = (rank, form)
        return best[1] if best else None


def pointed(body: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), or None."""
    if isinstance(body, str) and pointer:
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return None
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(body, dict):
            body = body.get(key)
        elif isinstance(body, list) and key.isascii() and key.isdigit() and int(key) < len(body):
            body = body[int(key)]
        else:
            return None
    return body


def found(source: Mapping[str, str], headers: Any, body: Any) -> str:
    """The text that `source` (ape_contracts.sign_in) names in an answer; empty: it has none."""
    value: Any = None
    if name := source.get("pointer"):
        value = pointed(body, name)
    elif name := source.get("header"):
        value = headers.get(name.lower()) if isinstance(headers, dict) else None
    elif name := source.get("field"):
        value = Page(body).values.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and is_sendable(value) else ""


def is_sendable(value: str) -> bool:
    """Whether it can be the value of a header."""
    return value.isprintable() and len(value) <= 8192
