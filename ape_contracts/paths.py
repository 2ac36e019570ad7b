"""Path templates such as /products/{id}, and paths that mean another place than they look like."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

# A target may decode a path more often than the servers in front of it.
_MAX_ENCODINGS = 3
# Surrogates cannot be sent.
_NEVER = re.compile(r"[\x00-\x20\x7f#\\\ud800-\udfff]")
_NOT_DECODED = re.compile(r"[\x00-\x1f\x7f\\]")
_BELOW = "must stay below the base URL: no //, . or .. in it, also encoded"


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{[^{}/]*\}", template)
    return re.compile("[^/]+".join(map(re.escape, parts)))


def matches(template: str, path: str) -> bool:
    """Whether `path` without its query matches `template`; {x} stands for one segment.

    A segment with an encoded slash matches nothing: some servers take it for two.
    """
    plain = path.partition("?")[0]
    if "%" in plain:
        segments = plain.split("/")
        if any("%" in segment and _is_ambiguous(segment) for segment in segments):
            return False
        plain = "/".join(map(unquote, segments))
    return _pattern(template).fullmatch(plain) is not None


def _is_ambiguous(segment: str) -> bool:
    """Whether it holds a slash, or bytes that are not UTF-8, however often it is decoded."""
    decoded = segment
    for _ in range(_MAX_ENCODINGS):
        decoded = unquote(decoded)
    return bool(re.search(r"[/\\\ufffd]", decoded))


def problem(path: str) -> str | None:
    """The rule that `path` breaks as a path below a base URL, or None."""
    if not path.startswith("/"):
        return "must start with /"
    if _NEVER.search(path):
        return "must not contain blanks, control characters, # or backslashes"
    plain = path.partition("?")[0]
    for _ in range(_MAX_ENCODINGS + 1):
        if plain.startswith("//") or _NOT_DECODED.search(plain) or _leaves(plain):
            return _BELOW
        decoded = unquote(plain) if "%" in plain else plain
        if decoded == plain:
            return None
        plain = decoded
    return f"must not be encoded more than {_MAX_ENCODINGS} times"


def _leaves(plain: str) -> bool:
    """Whether a segment is . or .., also with parameters (..;x), which Java servers remove."""
    return "." in plain and any(
        segment.partition(";")[0].strip() in (".", "..") for segment in plain.split("/")
    )
