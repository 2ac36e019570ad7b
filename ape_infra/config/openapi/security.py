"""From a document's security schemes to the steps of a sign-in (ape_contracts.sign_in). Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from ape_contracts import sign_in as contract
from ape_contracts.operation_request import kind_of
from ape_contracts.operations import Operation, Operations
from ape_infra.config.openapi.report import Report
from ape_infra.config.openapi.schemas import shortened

# (place, name in lower case) of what requests have without the model: of a header, the query or
# cookies, whose name * stands for any, and (http, scheme) of what Authorization holds.
Carried = frozenset[tuple[str, str]]
_BEARER, _BASIC, _ANY_COOKIE = ("http", "bearer"), ("http", "basic"), ("cookie", "*")
AUTHORIZATION = ("header", "authorization")
_LOGIN = re.compile(r"(?i)log[_-]?in|sign[_-]?in|auth|token|session")
_MAX_FIELDS = 4
Has = Callable[[Collection[str]], bool]
Step = dict[str, Any]
_USER, _CLIENT = ("username", "password"), ("client_id", "client_secret")


@dataclass
class Found:
    """`steps`: empty if no alternative can be performed. `schemes`: their names.

    `missing`: what each scheme lacks, as sentences.
    """

    steps: list[Step] = field(default_factory=list)
    schemes: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)


def sign_in(operations: Operations, has: Has, target_url: str) -> Found:
    """Return the sign-in by which most operations can be called. `has`: credentials by name."""
    counted = Counter(
        alternative for each in operations.operations for alternative in each.security
    )
    found = Found()
    for alternative, _ in counted.most_common():
        steps = []
        for name in alternative:
            scheme = operations.schemes.get(name, {})
            made = _step(name, scheme, operations, has, target_url, alone=len(alternative) == 1)
            if isinstance(made, str):
                found.missing[name] = made
                break
            steps.append(made)
        else:
            if steps:
                return Found(steps, alternative, {})
    return found


def _step(
    name: str, scheme: Step, operations: Operations, has: Has, target_url: str, *, alone: bool
) -> Step | str:
    """The step of a scheme, or what it lacks."""
    kind, http = scheme.get("type"), str(scheme.get("scheme", "")).lower()
    if kind == "basic" or (kind == "http" and http == "basic"):
        return {"kind": "basic"} if has(_USER) else "needs username and password"
    if kind == "apiKey":
        return _api_key(name, scheme, has, alone=alone)
    if kind == "oauth2":
        return _oauth2(scheme, operations, has, target_url)
    if (kind == "http" and http == "bearer") or kind == "openIdConnect":
        bearer = {"kind": "bearer", "credential": "token"}
        return bearer if has(["token"]) else "needs token, or targetSignIn for how to get one"
    return f"is {http or kind or 'unknown'}, which agents cannot perform"


def _api_key(name: str, scheme: Step, has: Has, *, alone: bool) -> Step | str:
    where, key = scheme.get("in"), scheme.get("name")
    if where not in ("header", "query", "cookie") or not isinstance(key, str):
        return "has no valid `in` and `name`"
    # Two keys that are needed together are different ones.
    credential = name if has([name]) and not (alone and has(["key"])) else "key"
    if not has([credential]) or (credential == "key" and not alone):
        return f"needs {'key' if alone else name}"
    step = {"kind": "apiKey", "name": key, "credential": credential}
    return step if where == "header" else step | {"where": where}


def _oauth2(scheme: Step, operations: Operations, has: Has, target_url: str) -> Step | str:
    problem = "needs token, username and password, or client_id and client_secret"
    for flow, grant, credentials in (
        ("password", "password", _USER),
        ("clientCredentials", "client_credentials", _CLIENT),
        ("application", "client_credentials", _CLIENT),
    ):
        url = _token_url(scheme, flow)
        if not url or not has(credentials):
            continue
        path = token_path(url, operations, target_url)
        if path is not None:
            step = {"kind": "oauth2", "path": path}
            return step if grant == "password" else step | {"grant": grant}
        problem = f"has its tokenUrl on another host ({urlsplit(url).hostname}): needs token"
    return {"kind": "bearer", "credential": "token"} if has(["token"]) else problem


def _token_url(scheme: Step, flow: str) -> str:
    """The tokenUrl of a flow, in the form of 3.x or of 2.0; empty: the scheme has no such flow."""
    flows = scheme.get("flows")
    given = flows.get(flow) if isinstance(flows, dict) else None
    if scheme.get("flow") == flow:
        given = scheme
    url = given.get("tokenUrl") if isinstance(given, dict) else None
    return url if isinstance(url, str) else ""


def token_path(url: str, operations: Operations, target_url: str) -> str | None:
    """The path of a tokenUrl, relative to the target; None: it is on another host.

    A relative one is the path of an operation, if one ends like it: documents state it relative to
    different places.
    """
    base = target_url.rstrip("/") + "/"
    try:
        parts, own = urlsplit(urljoin(base, url)), urlsplit(base)
        if (parts.hostname, parts.port) != (own.hostname, own.port):
            return None
    except ValueError:
        return None
    if not urlsplit(url).netloc:
        end = "/" + url.lstrip("/")
        for each in operations.operations:
            if each.method == "POST" and (each.path == end or each.path.endswith(end)):
                return each.path
    path = parts.path or "/"
    return path[len(own.path) - 1 :] if path.startswith(own.path) else path


def carried(steps: list[Step], headers: Iterable[str] = ()) -> Carried:
    """What requests have by the steps of a sign-in, and by the `headers` of the gateway."""
    made = {("header", name.lower()) for name in headers}
    for step in contract.steps(steps):
        if step.kind == "basic":
            made |= {_BASIC, AUTHORIZATION}
        elif step.kind in ("apiKey", "header"):
            where = step.where if step.kind == "apiKey" else "header"
            made.add((where, step.name.lower()))
        elif step.kind != "logout":
            if step.kind != "form" or step.token:
                header = ("header", step.header.lower())
                made |= {header, _BEARER} if header == AUTHORIZATION else {header}
            if step.kind == "form" or (step.kind == "json" and not step.token):
                made.add(_ANY_COOKIE)
    if AUTHORIZATION in made and not {_BASIC, _BEARER} & made:
        made |= {_BASIC, _BEARER}
    return frozenset(made)


def usable(
    operations: list[tuple[str, Operation]],
    schemes: dict[str, Step],
    has: Carried,
    report: Report,
    *,
    only: bool,
) -> list[Operation]:
    """Return the operations, each of which has its name in the report, that agents can call.

    With `only`, those that need another scheme than the sign-in has are left out, unless that would
    be all that need one: then the document rather states it in another way.
    """
    known = {name for name, scheme in schemes.items() if _is_carried(scheme, has)}
    needy = [each for each in operations if each[1].security and () not in each[1].security]
    lacking = {
        each.id
        for _, each in needy
        if not any(known.issuperset(alternative) for alternative in each.security)
    }
    is_out = only and len(lacking) < len(needy)
    for name, each in needy:
        if each.id in lacking:
            for scheme in each.security[0]:
                kind = "other_security" if is_out else "security"
                report.add(kind, name, _named(scheme, schemes.get(scheme, {})))
    return [each for _, each in operations if not is_out or each.id not in lacking]


def _is_carried(scheme: Step, has: Carried) -> bool:
    kind, http = scheme.get("type"), str(scheme.get("scheme", "")).lower()
    if kind == "apiKey":
        where = str(scheme.get("in"))
        name = str(scheme.get("name")).lower()
        return (where, name) in has or (where == "cookie" and _ANY_COOKIE in has)
    if kind == "basic" or (kind == "http" and http == "basic"):
        return _BASIC in has
    is_bearer = kind in ("oauth2", "openIdConnect") or (kind == "http" and http == "bearer")
    return is_bearer and _BEARER in has


def _named(name: str, scheme: Step) -> str:
    kind, where = scheme.get("type"), scheme.get("in")
    if kind == "apiKey":
        return shortened(f"{name} (key {scheme.get('name')} in {where})")
    return shortened(f"{name} ({scheme.get('scheme') or kind})") if kind else name


def login(operations: Operations) -> Step | None:
    """The step of a sign-in by an operation that is a login by its path and its body."""
    for each in operations.operations:
        if each.method != "POST" or each.body is None or not _LOGIN.search(each.path):
            continue
        names = list(each.body.schema.get("properties", ()))
        needed = each.body.schema.get("required") or names
        if sum("password" in name.lower() for name in needed) != 1 or len(needed) > _MAX_FIELDS:
            continue
        kinds = {"json": "json", "form": "form"}
        step: Step = {"kind": kinds.get(kind_of(each.body.content_type), ""), "path": each.path}
        if step["kind"] and set(needed) != set(contract.USER_FIELDS):
            step["fields"] = {name: f"{{{name}}}" for name in needed}
        if step["kind"]:
            return step
    return None
