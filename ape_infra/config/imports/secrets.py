"""Secrets are taken out of recorded requests, and the sign-in that they belong to is described."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ape_infra.config.imports import model, secret_names, sign_in
from ape_infra.config.imports.model import Body, Notes, Pair, Request, variable
from ape_infra.config.imports.sign_in import Step

# A shorter secret may be a word that stands elsewhere, too.
_MIN_VALUE = 6
_MIN_COOKIE = 16
_MAX_VALUES = 500
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_SCHEMES = {
    "bearer": "Bearer",
    "token": "Token",
    "jwt": "JWT",
    "apikey": "ApiKey",
    "oauth": "OAuth",
}


@dataclass(frozen=True)
class Secret:
    """`credential`: its name in targetCredentials; empty: an earlier answer has the value."""

    what: str
    credential: str = ""


@dataclass
class Taken:
    """`schemes`: for each request the names of security schemes; `logins`: numbers of requests."""

    requests: list[Request] = field(default_factory=list)
    schemes: list[tuple[str, ...]] = field(default_factory=list)
    logins: set[int] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    security: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[Secret, int] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that sets the credentials of the sign-in; empty: it needs none."""
        names = sign_in.needed(self.steps)
        form = ", ".join(f'"{name}": "..."' for name in names)
        return f"pulumi config set --secret targetCredentials '{{{form}}}'" if names else ""


def take(requests: Sequence[Request], notes: Notes) -> Taken:
    """Return the requests without secrets, their sign-in, and which secrets there were."""
    work = _Work(requests, notes)
    for number, request in enumerate(requests):
        work.one(number, request)
    return work.finished()


class _Work:
    def __init__(self, requests: Sequence[Request], notes: Notes) -> None:
        self._given, self._notes = requests, notes
        self._taken = Taken()
        self._values: dict[str, None] = {}
        self._logins = {n for n, each in enumerate(requests) if sign_in.is_login(each)}
        self._tokens: dict[str, None] = {}
        self._cookies = 0
        # How many requests have each name in the query.
        self._asked = Counter(name for each in requests for name in dict(each.query))
        # name of a security scheme -> step.
        self._keys: dict[str, Step] = {}
        self._csrf: dict[str, Step] = {}
        self._has_client = False

    def one(self, number: int, request: Request) -> None:
        """Take the secrets out of one request."""
        schemes: list[str] = []
        cookies = _cookies(request)
        is_client = number in self._logins and sign_in.grants(request)
        headers: list[Pair] = []
        for name, value in request.headers:
            if not self._header(name, value, cookies, schemes, is_client=is_client):
                headers.append((name, value))
        query = [self._query(name, value, request, schemes) for name, value in request.query]
        body = self._body(request.body, number in self._logins)
        self._taken.schemes.append(tuple(dict.fromkeys(schemes)))
        self._taken.requests.append(
            replace(
                request,
                headers=tuple(headers),
                query=tuple(pair for pair in query if pair),
                body=body,
                values={k: v for k, v in request.values.items() if not self._kept_out(k, v)},
                answer="",
            )
        )

    def _kept_out(self, name: str, value: str) -> bool:
        if not secret_names.is_secret(name):
            return False
        self._found(f"path value {name}", value)
        return True

    def _found(self, what: str, value: str, credential: str = "") -> None:
        """Note a secret, whose value must not stand anywhere."""
        secret = Secret(what, credential)
        self._taken.secrets[secret] = self._taken.secrets.get(secret, 0) + 1
        if len(value) >= _MIN_VALUE and not model.VARIABLE.search(value):
            self._values.setdefault(value)

    def _header(
        self, name: str, value: str, cookies: dict[str, str], schemes: list[str], *, is_client: bool
    ) -> bool:
        """Whether a header is one of secrets, which is taken."""
        lower = name.lower()
        if lower in ("authorization", "proxy-authorization"):
            self._authorization(value, schemes, is_client)
        elif lower == "cookie":
            self._cookies += 1
            for cookie, text in cookies.items():
                if secret_names.is_secret(cookie) or len(text) >= _MIN_COOKIE:
                    self._values.setdefault(text)
        elif secret_names.is_csrf(name):
            self._found(f"header {name}", value)
            source = next((c for c, text in cookies.items() if text and text == value), "")
            if source:
                self._csrf[lower] = {"kind": "header", "name": name, "value": {"cookie": source}}
            else:
                self._notes.add(
                    f"header {name} has a value of an answer: add a step of kind header to "
                    "targetSignIn"
                )
        elif secret_names.is_secret(name):
            self._key(name, "header", value, schemes)
        else:
            return False
        return True

    def _authorization(self, value: str, schemes: list[str], is_client: bool) -> None:
        scheme, _, rest = value.strip().partition(" ")
        plain, rest = scheme.lower(), rest.strip()
        if plain == "basic":
            self._basic(rest, is_client)
            if is_client:
                self._has_client = True
                return
            schemes.append("basic")
            self._keys.setdefault("basic", {"kind": "basic"})
            return
        if plain in ("digest", "negotiate", "ntlm", "hawk") or plain.startswith("aws4"):
            self._found(f"header Authorization ({scheme})", rest)
            self._notes.add(f"sign-in of type {scheme[:40]} is left out: agents cannot perform it")
            return
        if not rest:
            scheme, rest = "", scheme
        name = _SCHEMES.get(plain, scheme) if scheme else ""
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,40}", name):
            name, rest = "", value.strip()
        self._tokens.setdefault(rest)
        what = f"header Authorization ({name[:40]})" if name else "header Authorization"
        self._found(what, rest, "" if self._logins else "token")
        schemes.append("bearer")
        step = {"kind": "bearer", "credential": "token"}
        self._keys.setdefault("bearer", step if name == "Bearer" else step | {"scheme": name})

    def _basic(self, encoded: str, is_client: bool) -> None:
        user, password = ("client_id", "client_secret") if is_client else ("username", "password")
        self._found("header Authorization (Basic)", encoded, password)
        self._found("header Authorization (Basic): user name", "", user)
        try:
            pair = base64.b64decode(encoded).decode("utf-8", "replace")
        except ValueError:
            return
        secret = pair.partition(":")[2]
        if len(secret) >= _MIN_VALUE and not model.VARIABLE.search(secret):
            self._values.setdefault(secret)

    def _key(self, name: str, where: str, value: str, schemes: list[str]) -> None:
        credential = secret_names.credential(name)
        self._found(f"{'header' if where == 'header' else 'query'} {name}", value, credential)
        scheme = f"{where}_{credential}"
        schemes.append(scheme)
        step = {"kind": "apiKey", "in": where, "name": name, "credential": credential}
        self._keys.setdefault(scheme, step)

    def _query(self, name: str, value: str, request: Request, schemes: list[str]) -> Pair | None:
        """The pair without a secret; None: it is the key of the API, which the sign-in adds."""
        is_usual = 2 * self._asked[name] >= len(self._given)
        if secret_names.is_key(name) and is_usual and _NAME.fullmatch(name):
            self._key(name, "query", value, schemes)
            return None
        if (
            secret_names.is_secret(name)
            or secret_names.is_key(name)
            or (name == "code" and "state" in dict(request.query))
        ):
            self._found(f"query {name}", value)
            return name, variable(secret_names.credential(name))
        return name, value

    def _body(self, body: Body | None, is_login: bool) -> Body | None:
        if body is None:
            return None
        return replace(body, value=self._cleaned(body.value, "", is_login))

    def _cleaned(self, value: Any, name: str, is_login: bool) -> Any:
        """The value without secrets; `name`: the key at which it stands."""
        if isinstance(value, dict):
            return {key: self._cleaned(inner, key, is_login) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._cleaned(inner, name, is_login) for inner in value]
        if value is None or isinstance(value, bool) or value == "":
            return value
        is_user = is_login and (secret_names.is_user(name) or name == "client_id")
        if not name or not (secret_names.is_secret(name) or is_user):
            return value
        credential = secret_names.credential(name)
        if is_login:
            credential = "username" if is_user and name != "client_id" else credential
            credential = "password" if secret_names.is_password(name) else credential
            is_hidden_field = secret_names.is_csrf(name)
            # A user name may be a word that stands elsewhere, too.
            shown = "" if is_user else str(value)
            self._found(f"body {name}", shown, "" if is_hidden_field else credential)
        else:
            self._found(f"body {name}", str(value))
        return variable(credential)

    def finished(self) -> Taken:
        """The result; no secret that was found anywhere stands in a text of a request."""
        taken = self._taken
        listed = sorted(self._values, key=len, reverse=True)
        text = "\0".join(x for request in taken.requests for x in _texts(request))
        long = [value for value in listed if _is_distinct(value)][:_MAX_VALUES]
        inside = [value for value in long if value in text]
        taken.requests = [self._without(each, inside) for each in taken.requests]
        self._steps()
        return taken

    def _steps(self) -> None:
        taken = self._taken
        taken.logins = self._logins
        taken.security = {name: sign_in.scheme_of(step) for name, step in self._keys.items()}
        keys = dict(self._keys)
        if "basic" in keys and "bearer" in keys:
            self._notes.add("requests with Basic beside a token are left to gatewayConfig")
            keys.pop("basic")
        if self._logins:
            first = min(self._logins)
            clean = taken.requests[first]
            # Literal fields of the clean request, the token's place by the recorded answer.
            step = sign_in.login_step(
                replace(clean, answer=self._given[first].answer),
                self._tokens,
                self._given[:first],
            )
            if self._has_client:
                step["clientAuth"] = "basic"
            if bearer := keys.pop("bearer", None):
                step |= {key: bearer[key] for key in ("scheme",) if key in bearer}
            taken.steps.append(_plain(step))
        elif self._cookies and not keys:
            self._notes.add(
                "requests have cookies, but the recording has no sign-in: record it, too, or "
                "write targetSignIn"
            )
        taken.steps += [_plain(step) for step in (*keys.values(), *self._csrf.values())]
        if self._cookies:
            secret = Secret("header Cookie")
            taken.secrets[secret] = self._cookies

    def _without(self, request: Request, inside: list[str]) -> Request:
        def hidden(text: str) -> str:
            made, was_found = secret_names.hidden(text)
            for value in inside:
                if value in made:
                    made, was_found = made.replace(value, variable("secret")), True
            if made in self._values:
                made, was_found = variable("secret"), True
            if was_found:
                self._found("a text of the form or value of a secret", "")
            return made

        def everywhere(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key if key.isalpha() else hidden(key): everywhere(inner)
                    for key, inner in value.items()
                }
            if isinstance(value, list):
                return [everywhere(inner) for inner in value]
            return hidden(value) if isinstance(value, str) else value

        body = request.body
        return replace(
            request,
            path="/".join(_segment(each, hidden) for each in request.path.split("/")),
            query=tuple((hidden(name), hidden(value)) for name, value in request.query),
            headers=tuple(
                (name, value)
                for name, value in request.headers
                if hidden(f"{name} {value}") == f"{name} {value}"
            ),
            body=replace(body, value=everywhere(body.value)) if body else None,
            name=hidden(request.name),
            values={key: text for key, text in request.values.items() if hidden(text) == text},
        )


def _is_distinct(value: str) -> bool:
    """Whether a value can be looked for inside of texts: it is not a word that may stand there."""
    return len(value) >= _MIN_COOKIE or not value.isalpha()


def _segment(segment: str, hidden: Any) -> str:
    decoded = model.decoded(segment)
    return segment if hidden(decoded) == decoded else variable("token")


def _texts(request: Request) -> Iterator[str]:
    yield from (request.name, model.decoded(request.path), *request.values.values())
    for name, value in (*request.query, *request.headers):
        yield from (name, value)
    yield from _leaves(request.body.value if request.body else None)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for child in model.children(value):
        yield from _leaves(child)


def _cookies(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.headers:
        if name.lower() == "cookie":
            for part in value.split(";"):
                key, _, text = part.strip().partition("=")
                found[key] = text
    return found


def _plain(value: Any) -> Any:
    """A step without marks."""
    if isinstance(value, dict):
        return {model.named(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return model.named(value) if isinstance(value, str) else value
