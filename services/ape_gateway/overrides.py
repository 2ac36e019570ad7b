"""Requests that ask the target to take them for another one, which the allowlist would reject.

Frameworks and servers offer it by header (X-HTTP-Method-Override, X-Original-URL) and, in forms,
queries and some JSON bodies, by the key `_method`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import msgspec

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
_KEY = re.compile(r"(?i)(?:^|[&;])\s*[_.]method(?:\[[^=]*\])?\s*=")
_dict = msgspec.json.Decoder(dict[str, msgspec.Raw])


def overrides(call: Call) -> bool:
    """Whether the call has such a header or key."""
    if any(canonical(name) in HEADERS for name in call.headers):
        return True
    _, _, query = call.path.partition("?")
    if query and _in_form(query):
        return True
    payload = call.payload
    # Most bodies have none of these, which is quick to see. The second and third: as escapes.
    if payload is None or not any(x in payload for x in (b"ethod", b"\\u", b"%")):
        return False
    try:
        if any(key.lower() == "_method" for key in _dict.decode(payload)):
            return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # The agent chooses the content type: as a form, the quotes of a JSON text are of no matter.
    return _in_form(payload.decode("utf-8", "replace"))


def _in_form(text: str) -> bool:
    return bool(_KEY.search(unquote_plus(text)))
