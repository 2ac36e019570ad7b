"""How an agent signs in at the target: steps as plain data, without any secret.

The infrastructure makes them of the setting targetSignIn or of a document's security schemes; the
agents perform them with the credentials of targetCredentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

KINDS = ("bearer", "basic", "apiKey", "oauth2", "json", "form", "header", "logout")
SOURCES = ("pointer", "header", "cookie", "field")
# Names of credentials that may be seen; all others are secret.
NAMES = ("username", "client_id", "email", "tenant")
# What texts of `fields` may hold besides credentials.
VALUES = ("agent", "slot", "session")
USER_FIELDS = {"username": "{username}", "password": "{password}"}
_TEMPLATE = re.compile(r"\{(\w{1,64})\}")


class SignInError(Exception):
    """The message states what is wrong with a step, or what it lacks."""


class Step:
    """A step of the sign-in; which fields count depends on `kind`.

    bearer, basic: the header of requests, of the credential or of username and password.
    apiKey: `name` is the header, the query parameter or the cookie, by `where`.
    oauth2: a form posted to `path`; `grant` password or client_credentials.
    json, form: `fields` sent to `path`; `page` is read before, for its hidden fields.
    header: the header `name` has the value at `value` of an answer to GET `path`; without a
    path, of any answer. logout: the request at the end of a session.
    `token`, `value`: {one of SOURCES: where}; `token` empty: under a usual name. `header` and
    `scheme`: how a token is sent.

    Not a dataclass, whose code is made at the start and takes memory of each agent.
    """

    kind: str
    scheme: str = "Bearer"
    header: str = "Authorization"
    credential: str = ""
    where: str = "header"
    name: str = ""
    grant: str = "password"
    scope: str = ""
    client: str = "body"
    method: str = "POST"
    path: str = ""
    page: str = ""
    fields: Mapping[str, Any] = MappingProxyType({})
    token: Mapping[str, str] = MappingProxyType({})
    value: Mapping[str, str] = MappingProxyType({})

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def needs(self) -> set[str]:
        """The names of the credentials without which the step cannot be performed."""
        if self.kind in ("bearer", "apiKey"):
            return {self.credential}
        if self.kind == "basic":
            return {"username", "password"}
        if self.kind == "oauth2":
            password = self.grant == "password"
            return {"username", "password"} if password else {"client_id", "client_secret"}
        return set(_names(self.fields)) - set(VALUES)


def steps(data: Any) -> tuple[Step, ...]:
    """The steps of JSON data. Raises SignInError."""
    if not isinstance(data, list):
        raise SignInError("must be a list of steps.")
    return tuple(_step(at, each) for at, each in enumerate(data))


def _step(at: int, data: Any) -> Step:
    if not isinstance(data, dict) or data.get("kind") not in KINDS:
        raise SignInError(f"[{at}].kind: must be one of {', '.join(KINDS)}.")
    for name, value in data.items():
        if name not in Step.__annotations__:
            raise SignInError(f"[{at}].{name}: is not a key of a step.")
        is_text = isinstance(getattr(Step, name, ""), str)
        if not isinstance(value, str if is_text else dict):
            raise SignInError(f"[{at}].{name}: must be {'text' if is_text else 'an object'}.")
    step = Step(**data)
    for name, source in (("token", step.token), ("value", step.value)):
        if source and (len(source) > 1 or not set(source) <= set(SOURCES)):
            raise SignInError(f"[{at}].{name}: must have one of {', '.join(SOURCES)}.")
    return step


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """`value` with `values` in place of {names}. Raises SignInError for an unknown name."""
    if isinstance(value, Mapping):
        return {key: filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    return _TEMPLATE.sub(lambda found: required(values, found[1]), value)


def required(values: Mapping[str, str], name: str) -> str:
    """Raises SignInError."""
    if name not in values:
        raise SignInError(f"targetCredentials lacks {name}.")
    return values[name]


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _TEMPLATE.findall(value)
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _names(inner)


def users(data: Any) -> list[dict[str, str]]:
    """The credentials of targetCredentials: an object of texts, or a list of them.

    Raises SignInError, whose message has no value.
    """
    given = data if isinstance(data, list) else [data]
    if not given:
        raise SignInError("is an empty list.")
    for user in given:
        if not isinstance(user, dict) or not user:
            raise SignInError("is not an object of texts, nor a list of such objects.")
        for name, value in user.items():
            if not isinstance(value, str) or not value:
                raise SignInError(f"{name[:64]}: is not a text, or empty.")
    return given
