"""Texts of a format, of a pattern, or for the name of a field, all made from patterns by rstr."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from random import Random
from re import _parser as sre
from typing import Any

from rstr.xeger import Xeger

from ape_proxy.offline.names import is_chosen, is_secret, words

MAX_TEXT, MAX_PATTERN = 2000, 1000
_ATTEMPTS, _MORE, _MAX_PARTS = 20, 6, 5000
_DATE = r"202[4-6]-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_EMAIL = r"[a-z]{5,8}\.[a-z]{5,8}[1-9]\d{3}@example\.com"
_URL = r"https://[a-z]{5,9}\.example\.com/[a-z]{4,8}"
_HOST = r"[a-z]{5,9}\.example\.com"
_PASSWORD = r"[A-Z][a-z]{6}[0-9]{4}!"
FORMATS = {
    "email": _EMAIL,
    "idn-email": _EMAIL,
    "date": _DATE,
    "date-time": f"{_DATE}T{_CLOCK}",
    "datetime": f"{_DATE}T{_CLOCK}",
    "time": _CLOCK,
    "duration": r"P[1-9]D",
    "uuid": _UUID,
    "guid": _UUID,
    "uri": _URL,
    "url": _URL,
    "iri": _URL,
    "uri-reference": r"/[a-z]{4,8}",
    "iri-reference": r"/[a-z]{4,8}",
    "uri-template": r"/[a-z]{4,8}",
    "json-pointer": r"/[a-z]{4,8}",
    "relative-json-pointer": r"0/[a-z]{4,8}",
    "regex": r"[a-z]{4,8}",
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": r"192\.0\.2\.([1-9]|[1-9]\d|1\d\d)",
    "ipv6": r"2001:db8(:[0-9a-f]{1,4}){6}",
    "byte": r"([A-Za-z0-9]{4}){3}",
    "base64": r"([A-Za-z0-9]{4}){3}",
    "password": _PASSWORD,
    "phone": r"\+1202555\d{4}",
    "decimal": r"[1-9]\d?\.\d\d",
}
# By the last word of a name, or two; numbers of cards and accounts are those of public tests.
_NAMES = {
    "email": _EMAIL,
    "mail": _EMAIL,
    "phone": FORMATS["phone"],
    "mobile": FORMATS["phone"],
    "url": _URL,
    "uri": _URL,
    "link": _URL,
    "website": _URL,
    "host": _HOST,
    "hostname": _HOST,
    "date": _DATE,
    "day": _DATE,
    "since": _DATE,
    "until": _DATE,
    "birthday": _DATE,
    "at": FORMATS["date-time"],
    "timestamp": FORMATS["date-time"],
    "country": "DE|FR|GB|US",
    "country_code": "DE|FR|GB|US",
    "currency": "EUR|USD",
    "currency_code": "EUR|USD",
    "language": "de|en|fr",
    "locale": "de|en|fr",
    "timezone": "UTC",
    "zip": r"[1-9]\d{4}",
    "postcode": r"[1-9]\d{4}",
    "zip_code": r"[1-9]\d{4}",
    "postal_code": r"[1-9]\d{4}",
    "number": "4242424242424242",
    "card": "4242424242424242",
    "cvc": r"[1-9]\d\d",
    "cvv": r"[1-9]\d\d",
    "iban": "DE89370400440532013000",
    "username": r"[a-z]{6,8}[1-9]\d{3}",
    "name": r"[A-Z][a-z]{4,8}",
    "title": r"[A-Z][a-z]{4,8} [a-z]{4,8}",
    "color": r"#[0-9a-f]{6}",
    "quantity": r"[1-3]",
    "amount": r"[1-9]\d?",
}
# Of regular expressions of JavaScript, which Python does not have.
_CLASSES = {r"\p{L}": "a-zA-Z", r"\p{Lu}": "A-Z", r"\p{Ll}": "a-z", r"\p{N}": "0-9"}
_CLASSES |= {r"\p{Nd}": "0-9", r"\p{P}": ".,!"}
_FALLBACKS = (_PASSWORD, r"[A-Z]{2}[a-z]{6}[0-9]{4}[!@#]{2}", r"[a-z]{8}", r"\d{8}")


class Unmakeable(Exception):
    """No text of this pattern and length was found."""


class _Maker(Xeger):
    """Few repeats, the same result in each process, and an end to patterns without one."""

    def __init__(self, chance: Random) -> None:
        super().__init__(chance)
        self._parts = 0

    def _handle_state(self, state: Any) -> Any:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise Unmakeable
        return super()._handle_state(state)

    def _handle_in(self, value: Any) -> Any:
        found = [char for part in value for char in self._handle_state(part)]
        if found[0] is False:
            found = [char for char in string.printable[:-5] if char not in found[1:]]
        plain = [char for char in found if char.isalnum() and char.isascii()]
        return self._random.choice(plain or found)

    def _handle_repeat(self, start_range: int, end_range: int, value: Any) -> str:
        times = self._random.randint(start_range, min(end_range, start_range + _MORE))
        return "".join(self._handle_state(part) for _ in range(times) for part in value)


def made(chance: Random, pattern: str) -> str:
    """Return a text of one of the patterns here."""
    return _Maker(chance).xeger(pattern)


def of_pattern(chance: Random, pattern: str, least: int, most: int) -> str:
    """Return a text that a schema's pattern accepts. Raises Unmakeable."""
    expression = _python(pattern)
    try:
        known = re.compile(expression)
        for candidate in _candidates(chance, expression):
            if least <= len(candidate) <= most and _accepts(known, candidate):
                return candidate
    except (re.error, RecursionError, OverflowError, KeyError, IndexError, ValueError):
        pass
    raise Unmakeable


def accepts(pattern: str, text: str) -> bool:
    try:
        return len(text) <= MAX_TEXT and _accepts(re.compile(_python(pattern)), text)
    except (re.error, RecursionError, OverflowError, Unmakeable):
        return False


def _accepts(known: re.Pattern[str], text: str) -> bool:
    """Whether it matches; without trying where trying could take forever."""
    return _is_nested(sre.parse(known.pattern)) or known.search(text) is not None


def _candidates(chance: Random, expression: str) -> Iterator[str]:
    for _ in range(_ATTEMPTS):
        yield _Maker(chance).xeger(expression)
    # For patterns that only look ahead, as those of passwords do.
    for pattern in _FALLBACKS:
        yield made(chance, pattern)


def _is_nested(parsed: Any, *, within: bool = False) -> bool:
    """Whether a repeat without an end stands in another."""
    for operation, value in parsed:
        name = operation.name
        endless = name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and value[1] > _ATTEMPTS
        if endless and within:
            return True
        parts = value if isinstance(value, tuple | list) else (value,)
        for part in parts:
            inner = part if isinstance(part, list) else [part]
            for each in inner:
                if isinstance(each, sre.SubPattern) and _is_nested(each, within=within or endless):
                    return True
    return False


def _python(pattern: str) -> str:
    if len(pattern) > MAX_PATTERN:
        raise Unmakeable
    for known, letters in _CLASSES.items():
        # In brackets it needs none of its own.
        in_brackets = r"\[([^\]\[]*)" + re.escape(known)
        pattern = re.sub(in_brackets, r"[\g<1>" + letters, pattern)
        pattern = pattern.replace(known, f"[{letters}]")
    return pattern.replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")


def of_name(chance: Random, name: str, least: int, most: int) -> str:
    """Return a text for a field of this name and length. Raises Unmakeable."""
    found = words(name)
    if is_chosen(name):
        pattern = _UUID
    elif is_secret(name):
        pattern = _PASSWORD
    else:
        two = _NAMES.get("_".join(found[-2:]))
        pattern = two or _NAMES.get(found[-1]) or r"[a-z]{5,9}"
    return sized(chance, made(chance, pattern), least, most)


def of_format(chance: Random, name: str, form: str, least: int, most: int) -> str:
    """Return a text of a format, else one for the name. Raises Unmakeable."""
    if form not in FORMATS:
        return of_name(chance, name, least, most)
    text = made(chance, FORMATS[form])
    if least <= len(text) <= most:
        return text
    if form in ("email", "idn-email") and most >= 6:
        return sized(chance, "", max(least - 5, 1), most - 5) + "@a.io"
    if form in ("byte", "base64", "password", "regex"):
        return sized(chance, text, -(-least // 4) * 4, most // 4 * 4)
    raise Unmakeable


def sized(chance: Random, text: str, least: int, most: int) -> str:
    if least > MAX_TEXT or least > most:
        raise Unmakeable
    if len(text) < least:
        text += made(chance, f"[a-z]{{{least - len(text)}}}")
    return text if len(text) <= most else text[:most].strip() or made(chance, f"[a-z]{{{most}}}")
