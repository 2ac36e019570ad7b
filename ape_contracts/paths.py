"""Path templates such as /products/{id}."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{[^{}/]*\}", template)
    return re.compile("[^/]+".join(map(re.escape, parts)))


def matches(template: str, path: str) -> bool:
    """Whether `path` without its query matches `template`; {x} stands for one segment."""
    plain = unquote(path.partition("?")[0])
    return _pattern(template).fullmatch(plain) is not None


def problem(path: str) -> str | None:
    """The rule that `path` breaks as a path below a base URL, or None."""
    if not path.startswith("/"):
        return "must start with /"
    if "#" in path or "\\" in path or any(ord(c) < 33 or ord(c) == 127 for c in path):
        return "must not contain blanks, control characters, # or backslashes"
    plain = unquote(path.partition("?")[0])
    if plain.startswith("//") or "\\" in plain or {".", ".."} & set(plain.split("/")):
        return "must stay below the base URL: no //, . or .. in it"
    return None
