"""The sign-in of a recording, as steps of the setting targetSignIn, without any secret."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ape_contracts.operation_request import FORM
from ape_infra.config.imports import model, secret_names
from ape_infra.config.imports.model import Request

Step = dict[str, Any]
_WORDS = ("login", "signin", "sign-in", "sign_in", "auth", "session", "token", "logon")
_NOT = ("register", "signup", "sign-up", "sign_up", "reset", "forgot", "password/", "change")
# Grant -> its name in the setting.
_GRANTS = {"password": "password", "client_credentials": "clientCredentials"}
_MAX_FIELDS = 8
_TEMPLATE = re.compile(r"\{(\w{1,64})\}")


def is_login(request: Request) -> bool:
    """Whether a request sends credentials to sign in."""
    value = request.body.value if request.body else None
    path = request.path.lower()
    if request.method != "POST" or not isinstance(value, dict) or len(value) > _MAX_FIELDS:
        return False
    if request.body and request.body.content_type not in (FORM, "application/json"):
        return False
    if any(word in path for word in _NOT):
        return False
    has_password = any(secret_names.is_password(name) for name in value)
    has_user = any(secret_names.is_user(name) for name in value)
    return grants(request) or (has_password and (has_user or any(word in path for word in _WORDS)))


def login_step(login: Request, tokens: Collection[str], earlier: Sequence[Request]) -> Step:
    """The step of a login; `tokens`: those that requests send."""
    value = login.body.value if login.body else {}
    path = model.named(login.path)
    if grants(login):
        step: Step = {"kind": "oauth2", "path": path, "grant": _GRANTS[value["grant_type"]]}
        if isinstance(scope := value.get("scope"), str) and scope:
            step["scope"] = model.named(scope)
    else:
        is_form = login.body is not None and login.body.content_type == FORM
        step = {"kind": "form" if is_form else "json", "path": path, "fields": fields_of(value)}
        pages = [each.path for each in earlier if each.method == "GET"]
        if is_form and (login.path in pages or any(map(secret_names.is_csrf, value))):
            step["page"] = path
    if pointer := pointer_to(login.answer, tokens):
        step["token"] = {"pointer": pointer}
    return step


def fields_of(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of a login with names of credentials; hidden ones come from the page."""
    made: dict[str, Any] = {}
    for name, inner in value.items():
        if secret_names.is_csrf(name):
            continue
        if secret_names.is_password(name):
            made[name] = "{password}"
        elif secret_names.is_user(name):
            made[name] = "{username}"
        elif secret_names.is_secret(name) and isinstance(inner, str | int):
            made[name] = f"{{{secret_names.credential(name)}}}"
        else:
            made[name] = inner
    return made


def pointer_to(answer: str, tokens: Collection[str]) -> str:
    """The JSON pointer of one of `tokens` in an answer; empty: it is not there."""
    try:
        data = model.as_json(answer)
    except ValueError:
        return ""
    return next(
        (at for at, value in _leaves(data, "") if isinstance(value, str) and value in tokens), ""
    )


def _leaves(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{at}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{at}/{number}")
    else:
        yield at, value


def needed(steps: Sequence[Step]) -> list[str]:
    """The names of the credentials that steps need."""
    found: dict[str, None] = {}
    for step in steps:
        if step["kind"] in ("bearer", "apiKey"):
            found.setdefault(step["credential"])
        elif step["kind"] == "oauth2" and step["grant"] == "clientCredentials":
            found |= dict.fromkeys(("client_id", "client_secret"))
        elif step["kind"] in ("basic", "oauth2"):
            found |= dict.fromkeys(("username", "password"))
        texts = [text for text in step.get("fields", {}).values() if isinstance(text, str)]
        found |= dict.fromkeys(name for text in texts for name in _TEMPLATE.findall(text))
    return list(found)


def grants(request: Request) -> bool:
    """Whether a request is one of OAuth2 for a token."""
    body = request.body
    if body is None or body.content_type != FORM or not isinstance(body.value, dict):
        return False
    grant = body.value.get("grant_type")
    return isinstance(grant, str) and grant in _GRANTS


def scheme_of(step: Step) -> dict[str, Any]:
    """The security scheme of a document for a step of credentials."""
    if step["kind"] == "apiKey":
        return {"type": "apiKey", "in": step["in"], "name": step["name"]}
    if step["kind"] == "basic":
        return {"type": "http", "scheme": "basic"}
    if step.get("scheme", "Bearer") != "Bearer":
        return {"type": "apiKey", "in": "header", "name": "Authorization"}
    return {"type": "http", "scheme": "bearer"}
