"""Names of fields, parameters and parts of paths: cartId, cart-id and cart_id are alike."""

from __future__ import annotations

import re
from itertools import pairwise


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
PARAMETER = re.compile(r"\{([^{}/]+)\}")
# Values that stand for an object of the application; without one, a request would be wrong.
IDS = ("id", "uuid", "guid", "pk")
_REFERENCES = frozenset((*IDS, "ids", "uuids", "sku", "slug", "token", "csrf", "xsrf", "cursor"))
_CHOSEN = word_set("idempotency request correlation trace nonce transaction client external")
_LOGIN = word_set(
    "login logon signin auth authenticate authorize token tokens session sessions oauth"
)
_LOGOUT = word_set("logout logoff signout revoke")
_SIGN_UP = word_set("register signup registration join")
SECRETS = word_set("password passwd pwd passphrase pin otp totp secret")
USERS = word_set("username user login identity identifier account nickname")


def words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(name[:200])) or (name[:200].lower(),)


def plain(name: str) -> str:
    """The name in lower case with underscores; the "X-" of a header is left out."""
    found = words(name)
    return "_".join(found[1:] if found[0] == "x" and "-" in name and found[1:] else found)


def singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def resource(segment: str) -> str:
    """The name of one object of a collection: "order_item" for "order-items"."""
    *before, last = words(segment)
    return "_".join([*before, singular(last)])


def is_plural(segment: str) -> bool:
    last = words(segment)[-1]
    return singular(last) != last


def is_reference(name: str) -> bool:
    """Whether a value of this name must be known; ids that a client chooses need not be."""
    found = words(name)
    return found[-1] in _REFERENCES and not _CHOSEN.intersection(found)


def is_chosen(name: str) -> bool:
    """Whether a client chooses the value, such as that of Idempotency-Key."""
    found = words(name)
    return bool(_CHOSEN.intersection(found)) and found[-1] in {*_REFERENCES, "key", "nonce"}


def is_secret(name: str) -> bool:
    return words(name)[-1] in SECRETS or "password" in name.lower()


def _has(path: str, wanted: frozenset[str]) -> bool:
    found = [word for part in path.split("/") if "{" not in part for word in words(part)]
    pairs = {a + b for a, b in pairwise(found)}
    return not wanted.isdisjoint({*found, *pairs})


def is_login(method: str, path: str) -> bool:
    return method == "POST" and _has(path, _LOGIN) and not _has(path, _SIGN_UP | _LOGOUT)


def is_logout(path: str) -> bool:
    return _has(path, _LOGOUT)


def is_sign_up(method: str, path: str) -> bool:
    return method == "POST" and _has(path, _SIGN_UP)
