"""Which names and texts are those of secrets. Errs on the side of secrets."""

from __future__ import annotations

import re

from ape_infra.config.imports.model import variable

_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_INSIDE = (
    *("password", "passwd", "passphrase", "passcode", "secret", "token", "apikey", "accesskey"),
    *("privatekey", "subscriptionkey", "authkey", "credential", "signature", "sessionid", "jwt"),
    *("csrf", "xsrf", "authorization", "cardnumber", "sessid"),
)
_WHOLE = {"pwd", "pass", "sig", "otp", "cvv", "cvc", "pin", "auth", "sid", "totp", "mfacode"}
# Cursors of pages, kinds and counts.
_NOT = ("pagetoken", "nexttoken", "continuationtoken", "synctoken", "tokentype", "tokenexp")
_PASSWORD = ("password", "passwd", "passphrase", "passcode")
_USERS = {"user", "username", "email", "login", "identity", "identifier", "phone", "account"}
_USERS |= {"userid", "loginid", "useremail", "emailaddress", "userlogin"}
_KEY_NAMES = {"key", "apikey", "accesstoken", "appid", "token", "authtoken", "accesskey", "auth"}
# Texts that are secrets wherever they stand: tokens by their form.
_FORMS = re.compile(
    r"(?<![\w-])eyJ[\w-]{8,8000}\.[\w-]{8,8000}\.[\w-]*"
    r"|\b[srp]k[-_][\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bA[KS]IA[0-9A-Z]{16}\b|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:Bearer|Basic) +[\w+/=.~-]{8,}"
)
_IN_TEXT = re.compile(
    r"(?i)((?:password|passwd|secret|token|api[-_]?key)\\?[\"']?\s{0,5}[:=>]\s{0,5}"
    r"\\?[\"']?)([^\s\"'&<>,;\\\ue000]{1,4096})"
)


def flat(name: str) -> str:
    """A name without case, hyphens and underscores."""
    return "".join(_PARTS.findall(name[:200])).lower()


def is_secret(name: str) -> bool:
    """Whether a value of this name is secret."""
    plain = flat(name)
    if any(other in plain for other in _NOT) or plain in ("maxtokens", "tokens", "tokencount"):
        return False
    return plain in _WHOLE or any(word in plain for word in _INSIDE)


def is_password(name: str) -> bool:
    plain = flat(name)
    return plain in ("pwd", "pass") or any(word in plain for word in _PASSWORD)


def is_user(name: str) -> bool:
    return flat(name) in _USERS


def is_csrf(name: str) -> bool:
    return "csrf" in flat(name) or "xsrf" in flat(name)


def is_key(name: str) -> bool:
    """Whether a parameter of a query is the key of an API."""
    return flat(name) in _KEY_NAMES or flat(name).endswith(("apikey", "subscriptionkey"))


def credential(name: str) -> str:
    """The name of a credential: words of lower case, with underscores."""
    return "_".join(part.lower() for part in _PARTS.findall(name[:60])) or "key"


def hidden(text: str) -> tuple[str, bool]:
    """Return (the text with marks in place of what is a secret by its form, whether any was)."""
    made = _FORMS.sub(variable("token"), text)
    made = _IN_TEXT.sub(lambda found: found[1] + variable("secret"), made)
    return made, made != text
