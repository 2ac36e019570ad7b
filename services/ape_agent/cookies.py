"""What a browser would keep of a target's answers: cookies, and the token of a login."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_LOGIN = re.compile(r"log-?in|sign-?in|auth|token|session", re.IGNORECASE)
_TOKENS = ("access_token", "token", "jwt", "id_token")
_TOKEN_DEPTH = 3


def is_login(method: str, path: str, status: int) -> bool:
    """Whether this was a successful login."""
    return method == "POST" and 200 <= status < 300 and bool(_LOGIN.search(path))


class CookieJar:
    """The session's cookies and bearer token, as a browser would keep them for one site."""

    def __init__(self) -> None:
        self._cookies: dict[str, str] = {}
        self._token: str | None = None

    def headers(self) -> dict[str, str]:
        made = {}
        if self._cookies:
            made["Cookie"] = "; ".join(f"{k}={v}" for k, v in self._cookies.items())
        if self._token:
            made["Authorization"] = f"Bearer {self._token}"
        return made

    def store(self, method: str, path: str, status: int, headers: Any, body: Any) -> None:
        """Store the cookies of the target's answer, and the token of a login."""
        given = headers.get("set-cookie", []) if isinstance(headers, dict) else []
        for line in [given] if isinstance(given, str) else given:
            pair, *attributes = str(line).split(";")
            name, equals, value = pair.strip().partition("=")
            gone = any(map(_expires_now, attributes))
            if gone or not value:
                self._cookies.pop(name, None)
            elif equals and name:
                self._cookies[name] = value
        if is_login(method, path, status):
            found = next(_tokens(body, _TOKEN_DEPTH), None)
            if found and found.isprintable():
                self._token = found


def _tokens(body: Any, depth: int) -> Iterator[str]:
    """The values that are named as tokens, the outermost first."""
    if isinstance(body, dict):
        yield from (body[key] for key in _TOKENS if isinstance(body.get(key), str))
        if depth > 1:
            for inner in body.values():
                yield from _tokens(inner, depth - 1)


def _expires_now(attribute: str) -> bool:
    """Whether this attribute removes the cookie: servers send an age or a date in 1970."""
    name, _, value = attribute.strip().lower().partition("=")
    if name == "max-age":
        return value.startswith("-") or value.strip() == "0"
    return name == "expires" and " 1970 " in value.replace("-", " ")
