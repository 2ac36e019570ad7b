"""What is guessed where no sign-in is declared: the token in the answer to a login.

Only on a path that is a login by its words, and the log reports it once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_TOKENS = ("access_token", "token", "jwt", "id_token")
_TOKEN_DEPTH = 3
# log-in, sign_in, SignIn: where a word begins.
_IN_ONE_WORD = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[LS]))([Ll]og|[Ss]ign)[-_]?([IiOo]n)(?![a-z])"
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_LOGIN = {"login", "logon", "signin", "auth", "authenticate"}
# Alone, or among words that do not name another thing, such as access-token.
_WEAK = {"token", "session", "sessions"}
_FILLER = {"access", "api", "create", "get", "id", "jwt", "new", "obtain", "user"}
_log = logging.getLogger(__name__)


def is_login(method: str, path: str, status: int) -> bool:
    """Whether this was a successful login, by whole words of the path's last segment."""
    if method != "POST" or not 200 <= status < 300:
        return False
    segments = [each for each in path.partition("?")[0].split("/") if each]
    if not segments:
        return False
    words = set(_words(segments[-1]))
    if words & _LOGIN or (words & _WEAK and words <= _WEAK | _FILLER):
        return True
    # As in /login/email.
    return len(segments) > 1 and set(_words(segments[-2])) in ({"login"}, {"signin"})


def _words(segment: str) -> list[str]:
    joined = _IN_ONE_WORD.sub(lambda m: f"-{m[1]}{m[2]}".lower(), segment)
    return [word.lower() for word in _WORDS.findall(joined)]


def guessed(method: str, path: str, status: int, body: Any) -> str:
    """The token of a login; empty: it is none, or its answer has none."""
    if not is_login(method, path, status):
        return ""
    token = usual_token(body)
    if token:
        _say_once()
    return token


def usual_token(body: Any) -> str:
    """The value under a usual name of a token, the outermost first."""
    found = next(_tokens(body, _TOKEN_DEPTH), "")
    return found if found.isprintable() else ""


def refusal(body: Any) -> str:
    """What the target says of a refusal, without the rest of its answer."""
    if isinstance(body, dict):
        keys = ("error_description", "detail", "message", "error")
        return next((body[key] for key in keys if isinstance(body.get(key), str)), "")
    return body if isinstance(body, str) and "<" not in body else ""


def _tokens(body: Any, depth: int) -> Iterator[str]:
    if isinstance(body, dict):
        yield from (body[key] for key in _TOKENS if isinstance(body.get(key), str) and body[key])
        if depth > 1:
            for inner in body.values():
                yield from _tokens(inner, depth - 1)


@lru_cache(maxsize=1)
def _say_once() -> None:
    """Once in a process."""
    _log.warning(
        "no sign-in is declared: the token of a login was guessed from its answer. "
        "Declare it with targetSignIn."
    )
