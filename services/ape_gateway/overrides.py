"""Requests that ask the target to take them for another one, which the allowlist would reject.

Frameworks and servers offer it by header (X-HTTP-Method-Override, X-Original-URL) and, in forms,
queries and some JSON bodies, by the key `_method`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import msgspec

from ape_contracts.operation_request import MULTIPART
from ape_gateway.wire import Call, canonical

HEADERS = frozenset(
    (
        *("x-http-method-override", "x-http-method", "x-method-override", "x-method"),
        *("x-original-url", "x-rewrite-url", "x-original-uri", "x-override-url", "x-rewrite-uri"),
        *("x-forwarded-uri", "x-forwarded-path", "x-forwarded-prefix", "x-forwarded-url"),
        *("x-original-method", "x-forwarded-method", "x-original-path"),
    )
)
# PHP takes .method for _method, and ignores blanks before it.
# A NUL ends a name for some.
_KEY = re.compile(r"(?i)(?:^|[&;])\s*[_.]method(?:[\[\0][^=]*)?\s*=")
_PART = re.compile(rb'(?i)name\*?\s*=\s*"?\s*[_.]method(?:\[[^"]*)?\s*(?:["\r;]|$)')
_dict = msgspec.json.Decoder(dict[str, msgspec.Raw])


def overrides(call: Call) -> bool:
    """Whether the call, with its body made, has such a header or key."""
    for name in call.headers:
        if canonical(name) in HEADERS:
            return True
    if "?" in call.path and _in_form(call.path.partition("?")[2]):
        return True
    if call.query and _in_form("&".join(f"{name}={value}" for name, value in call.query)):
        return True
    payload = call.payload
    # Most bodies have none of these, which is quick to see. The last two: as escapes.
    if payload is None or not (
        b"ethod" in payload or b"ETHOD" in payload or b"\\u" in payload or b"%" in payload
    ):
        return False
    try:
        if any(key.lower() == "_method" for key in _dict.decode(payload)):
            return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if call.headers.get("Content-Type", "").startswith(MULTIPART) and _PART.search(payload):
        return True
    # The agent chooses the content type: as a form, the quotes of a JSON text are of no matter.
    return _in_form(payload.decode("utf-8", "replace"))


def _in_form(text: str) -> bool:
    return bool(_KEY.search(unquote_plus(text)))
