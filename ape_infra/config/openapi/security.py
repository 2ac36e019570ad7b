"""From a document's security schemes to the steps of a sign-in (ape_contracts.sign_in). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from ape_contracts.operations import Operations

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
