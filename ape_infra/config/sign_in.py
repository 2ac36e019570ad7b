"""The setting targetSignIn: how a session signs in at the target. It holds no secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field

from ape_contracts import paths, sign_in
from ape_infra.config.errors import Problem
from ape_infra.config.group import Strict

SETTING = "targetSignIn"
Kind = Literal["bearer", "basic", "apiKey", "oauth2", "json", "form", "header", "logout"]
_HEADER = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$"
_CREDENTIAL = {"bearer": "token", "apiKey": "key"}
_GRANTS = {"clientCredentials": "client_credentials"}


class Source(Strict):
    """Where a value stands in an answer: one of a JSON pointer, a header, a cookie, a field."""

    pointer: str | None = Field(default=None, pattern=r"^/")
    header: str | None = Field(default=None, pattern=_HEADER)
    cookie: str | None = Field(default=None, min_length=1)
    field: str | None = Field(default=None, min_length=1)


class _Keys(NamedTuple):
    """Of a kind: the keys that it needs, and those that it may have."""

    needed: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


_SENT = ("scheme", "header")
_KEYS = {
    "bearer": _Keys((), ("credential", *_SENT)),
    "basic": _Keys(),
    "apiKey": _Keys(("name",), ("in", "credential")),
    "oauth2": _Keys(("path",), ("grant", "scope", "clientAuth", "token", *_SENT)),
    "json": _Keys(("path",), ("method", "fields", "token", *_SENT)),
    "form": _Keys((), ("page", "path", "fields", "token", *_SENT)),
    "header": _Keys(("name", "value"), ("path",)),
    "logout": _Keys(("path",), ("method", "fields")),
}


class SignInStep(Strict):
    """One step; see ape_contracts.sign_in.Step. None: not given."""

    kind: Kind
    credential: str | None = Field(default=None, pattern=r"^\w{1,64}$")
    scheme: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{0,40}$")
    header: str | None = Field(default=None, pattern=_HEADER)
    where: Literal["header", "query", "cookie"] | None = Field(default=None, alias="in")
    name: str | None = Field(default=None, pattern=_HEADER)
    grant: Literal["password", "clientCredentials"] | None = None
    scope: str | None = None
    client_auth: Literal["body", "basic"] | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] | None = None
    path: str | None = None
    page: str | None = None
    fields: dict[str, Any] | None = None
    token: Source | None = None
    value: Source | None = None

    def plain(self) -> dict[str, Any]:
        """The step as agents get it."""
        made = self.model_dump(exclude_none=True)
        if self.kind in _CREDENTIAL:
            made.setdefault("credential", _CREDENTIAL[self.kind])
        if self.kind in ("json", "form"):
            made.setdefault("fields", dict(sign_in.USER_FIELDS))
        if "grant" in made:
            made["grant"] = _GRANTS.get(made["grant"], made["grant"])
        if "client_auth" in made:
            made["client"] = made.pop("client_auth")
        return made

    def problems(self, at: str) -> Iterator[Problem]:
        keys = _KEYS[self.kind]
        given = self.model_dump(exclude_none=True, by_alias=True)
        for key in given.keys() - {"kind", *keys.needed, *keys.allowed}:
            yield f"{at}.{key}", f"is not a key of kind {self.kind}. Remove it."
        for key in keys.needed:
            if key not in given:
                yield f"{at}.{key}", f"is required with kind {self.kind}. Set it."
        if self.kind == "form" and not (self.path or self.page):
            yield f"{at}.page", "is required with kind form, or path. Set the login page."
        for key in ("path", "page"):
            if why := paths.problem(given.get(key, "/")):
                yield f"{at}.{key}", f"{why}. Correct it."
        for key in ("token", "value"):
            if key in given and len(given[key]) != 1:
                yield f"{at}.{key}", f"must have one of {', '.join(sign_in.SOURCES)}. Correct it."
        if self.kind == "header" and self.value and not self.path:
            if self.value.pointer or self.value.field:
                yield f"{at}.path", "is required with a pointer or a field. Set it."


def plain(steps: list[SignInStep]) -> list[dict[str, Any]]:
    return [step.plain() for step in steps]


def needed(steps: list[dict[str, Any]]) -> dict[str, str]:
    """Credential -> the step that needs it first, such as targetSignIn[0]."""
    found: dict[str, str] = {}
    for at, step in enumerate(sign_in.steps(steps)):
        for name in sorted(step.needs()):
            found.setdefault(name, f"{SETTING}[{at}]")
    return found


assert set(_KEYS) == set(sign_in.KINDS) == set(get_args(Kind))
