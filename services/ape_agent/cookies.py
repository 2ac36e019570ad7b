"""The cookies of a session, as RFC 6265 has them for one host.

Not `http.cookiejar`, which adds 1.7 MB to an agent, nor `http.cookies`, which drops cookies that
browsers keep: with a blank, a quotation mark or a comma in the value.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

# As browsers have them: bytes of a cookie, cookies of a site.
_MAX_CHARS, _MAX_COOKIES = 4096, 180
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\D|$)")
_DAY = re.compile(r"(\d{1,2})(?:\D|$)")
_YEAR = re.compile(r"(\d{2,4})(?:\D|$)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NOT_IN_A_DATE = re.compile(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_log = logging.getLogger(__name__)


@dataclass
class Cookie:
    """`expires`: seconds as of `time.time`; None: with the session. `made`: its number."""

    name: str
    value: str
    path: str
    secure: bool
    expires: float | None
    made: int


class CookieJar:
    """`host`: the target's, with port and base path, as AgentSettings.target_host; empty: unknown.

    `is_https`: whether cookies with Secure are sent.
    """

    def __init__(
        self, host: str = "", is_https: bool = True, now: Callable[[], float] = time.time
    ) -> None:
        own = urlsplit(f"//{host}")
        self._host, self._base = own.hostname or "", own.path.rstrip("/")
        self._is_https, self._now = is_https, now
        self._cookies: dict[tuple[str, str], Cookie] = {}
        self._made = 0

    def header(self, path: str) -> str:
        """The value of the header Cookie for a path of the target; empty: none."""
        return "; ".join(
            f"{each.name}={each.value}" if each.name else each.value for each in self._for(path)
        )

    def value(self, name: str, path: str = "") -> str | None:
        """The value of a cookie, of any path, or as sent to `path`."""
        found = self._for(path) if path else self._alive()
        return next((each.value for each in found if each.name == name), None)

    def set(self, name: str, value: str) -> None:
        """Set a cookie that is sent with each request."""
        self._put(Cookie(name, value, "/", False, None, self._next()))

    def store(self, path: str, headers: Any) -> bool:
        """Store the cookies of the answer to `path`; whether there was one."""
        given = headers.get("set-cookie", []) if isinstance(headers, dict) else []
        kept = False
        for line in [given] if isinstance(given, str) else given:
            kept = self._store(str(line), self._base + path.partition("?")[0]) or kept
        return kept

    def _store(self, line: str, path: str) -> bool:
        pair, *rest = line.split(";")
        name, equals, value = pair.partition("=")
        name, value = (name.strip(), value.strip()) if equals else ("", name.strip())
        if not (name or value) or len(name) + len(value) > _MAX_CHARS or _CONTROL.search(line):
            return False
        given: dict[str, str] = {}
        for each in rest:
            key, _, inner = each.partition("=")
            given[key.strip().lower()] = inner.strip()
        if not self._is_own(given.get("domain", "")):
            _say_once("a cookie of another domain than the target's is not kept")
            return False
        secure = "secure" in given
        if secure and not self._is_https:
            _say_once("a cookie with Secure is not sent to a target without https")
        where = given.get("path", "")
        where = where if where.startswith("/") else _default_path(path)
        old = self._cookies.get((name, where))
        made = old.made if old else self._next()
        self._put(Cookie(name, value, where, secure, _expires(given, self._now()), made))
        return True

    def _put(self, cookie: Cookie) -> None:
        key = (cookie.name, cookie.path)
        if cookie.expires is not None and cookie.expires <= self._now():
            self._cookies.pop(key, None)
            return
        self._cookies[key] = cookie
        while len(self._cookies) > _MAX_COOKIES:
            del self._cookies[min(self._cookies, key=lambda k: self._cookies[k].made)]

    def _next(self) -> int:
        self._made += 1
        return self._made

    def _is_own(self, domain: str) -> bool:
        """Whether the cookie's Domain is the host, or one above it with two labels or more."""
        domain = domain.lower().removeprefix(".")
        if not domain or not self._host or domain == self._host:
            return True
        above = "." in domain and self._host.endswith(f".{domain}")
        return above and not re.fullmatch(r"[\d.]+", self._host)

    def _alive(self) -> list[Cookie]:
        now = self._now()
        kept = {k: c for k, c in self._cookies.items() if c.expires is None or c.expires > now}
        self._cookies = kept
        return list(kept.values())

    def _for(self, path: str) -> list[Cookie]:
        """Longer paths first, then the older ones."""
        full = (self._base + path.partition("?")[0]) or "/"
        found = [
            each
            for each in self._alive()
            if _path_matches(each.path, full) and (self._is_https or not each.secure)
        ]
        return sorted(found, key=lambda each: (-len(each.path), each.made))


@lru_cache(maxsize=16)
def _say_once(sentence: str) -> None:
    """A line in the log, once in a process."""
    _log.warning(sentence)


def _default_path(path: str) -> str:
    """Of a cookie without one: the folder of the request's path."""
    return path.rpartition("/")[0] or "/"


def _path_matches(cookie: str, path: str) -> bool:
    if not path.startswith(cookie):
        return False
    return path == cookie or cookie.endswith("/") or path[len(cookie)] == "/"


def _expires(given: dict[str, str], now: float) -> float | None:
    """Max-Age comes before Expires; one that cannot be read does not count."""
    age = given.get("max-age", "")
    if re.fullmatch(r"-?\d{1,18}", age):
        return now + int(age) if int(age) > 0 else 0.0
    return date(given.get("expires", ""))


def date(text: str) -> float | None:
    """A date as section 5.1.1 of the RFC reads it, in seconds; None: it is not a date."""
    clock = day = month = year = None
    for token in _NOT_IN_A_DATE.split(text[:100]):
        if clock is None and (found := _TIME.match(token)):
            clock = [int(part) for part in found.groups()]
        elif day is None and (found := _DAY.match(token)):
            day = int(found[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (found := _YEAR.match(token)):
            year = int(found[1])
    if clock is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = clock
    first = _days(year, month)
    length = _days(year + month // 12, month % 12 + 1) - first
    if year < 1601 or not 1 <= day <= length or hour > 23 or minute > 59 or second > 59:
        return None
    return (first + day - 1) * 86400.0 + hour * 3600 + minute * 60 + second


def _days(year: int, month: int) -> int:
    """From 1970 to the first day of a month. Not by `datetime`, which adds 0.2 MB to an agent."""
    # A year begins in March, so that a leap day is its last.
    year -= month < 3
    leaps = year // 4 - year // 100 + year // 400
    return 365 * year + leaps + (153 * ((month + 9) % 12) + 2) // 5 - 719468
