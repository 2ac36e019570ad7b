"""The settings of a stack that follow from a recording, as a snippet of YAML to look over."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import yaml

from ape_contracts.operation_request import kind_of, text_of
from ape_infra.config.addresses import DOCKER_HOST, host_of, is_loopback
from ape_infra.config.imports.document import Recorded, plain_value
from ape_infra.config.imports.model import VARIABLE, Notes, named
from ape_infra.config.imports.secrets import Taken
from ape_infra.config.openapi.schemas import shortened

# Linux limits a variable of an agent, which has other settings, too.
MAX_ENDPOINTS_BYTES = 100 * 1024
MAX_NAMED = 40
_ALTERNATIVE = """\
# In place of targetOpenapi, targetInclude and targetExclude, the requests in their order:
"""
_HEAD = """\
# Settings of a stack, as `ape-load import` read them from a recording. Look them over, and copy
# them into Pulumi.STACK.yaml, below `config`.
"""


def settings(
    recorded: Sequence[Recorded],
    taken: Taken,
    origin: str,
    openapi: str,
    notes: Notes,
) -> dict[str, Any]:
    """Return setting -> value."""
    scenario = without_logins(recorded, taken)
    logins = {each.name for each in recorded} - {each.name for each in scenario}
    made: dict[str, Any] = {"target": _target(origin, notes), "targetOpenapi": openapi}
    if any(each.method == "DELETE" for each in scenario):
        made["targetInclude"] = ["/**", "DELETE"]
    if logins and scenario:
        made["targetExclude"] = sorted(_selector(name) for name in logins)
    if taken.steps:
        made["targetSignIn"] = taken.steps
    made["targetGoal"] = _goal(scenario)
    made |= _success(scenario, notes)
    return made


def without_logins(recorded: Sequence[Recorded], taken: Taken) -> list[Recorded]:
    """The operations of the scenario: the sign-in is that of targetSignIn."""
    return [each for each in recorded if not taken.logins & set(each.numbers)]


def endpoints(
    recorded: Sequence[Recorded], document: dict[str, Any], taken: Taken
) -> list[dict[str, Any]]:
    """Return targetEndpoints, in the order of the recording; empty: they are above the maximum."""
    made = [_endpoint(each, document, recorded) for each in without_logins(recorded, taken)]
    return made if len(json.dumps(made).encode()) <= MAX_ENDPOINTS_BYTES else []


def _goal(scenario: Sequence[Recorded]) -> str:
    """The recording in words. Agents see the operations, too."""
    names = [each.name for each in scenario]
    more = ", and so on" if len(names) > MAX_NAMED else ""
    listed = shortened(", ".join(names[:MAX_NAMED]), 4000)
    return f"Do what the recording does, in its order: {listed}{more}."


def _selector(name: str) -> str:
    """The selector of an operation; a parameter of the path is any segment."""
    return re.sub(r"\{[^{}]*\}", "*", name)


def _target(origin: str, notes: Notes) -> str:
    """The URL as containers reach it."""
    host = host_of(origin)
    if not host or not is_loopback(host):
        return origin
    notes.add(f"{host} is {DOCKER_HOST} for containers")
    parts = urlsplit(origin)
    return f"{parts.scheme}://{DOCKER_HOST}" + (f":{parts.port}" if parts.port else "")


def _endpoint(
    each: Recorded, document: dict[str, Any], recorded: Sequence[Recorded]
) -> dict[str, Any]:
    operation = document["paths"][each.path][each.method.lower()]
    made: dict[str, Any] = {"method": each.method, "path": _path(each, operation, recorded)}
    description = [operation["summary"].rstrip(".") + "."] if "summary" in operation else []
    body = each.requests[0].body
    if body is not None and kind_of(body.content_type) == "json" and each.method != "GET":
        if body.value is not None:
            made["body"] = plain_value(body.value)
    elif body is not None:
        value = plain_value(body.value)
        shown = shortened(text_of(value), 400) if value is not None else ""
        description.append(f"Body of type {body.content_type}: {shown}".rstrip(": ") + ".")
    return made | ({"description": " ".join(description)} if description else {})


def _path(each: Recorded, operation: dict[str, Any], recorded: Sequence[Recorded]) -> str:
    """The path with its required query. A value of an earlier answer stays a placeholder."""
    earlier = {x.path for x in recorded if x.numbers[0] < each.numbers[0]}
    path = each.path
    for name, value in each.values[0].items():
        before = each.path.partition(f"{{{name}}}")[0].rstrip("/")
        if before not in earlier and f"{before}/" not in earlier:
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
    required = {
        p["name"] for p in operation.get("parameters", ()) if p["in"] == "query" and p["required"]
    }
    pairs = [
        f"{quote_plus(name)}={named(text) if VARIABLE.fullmatch(text) else quote_plus(text)}"
        for name, text in each.requests[0].query
        if name in required and not VARIABLE.search(name)
    ]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _success(scenario: Sequence[Recorded], notes: Notes) -> dict[str, Any]:
    """The answer to the last change of the recording, or to its last request."""
    done = [(each, x.status) for each in scenario for x in each.requests if x.status]
    changes = [pair for pair in done if pair[0].method != "GET"]
    good = [pair for pair in changes or done if 200 <= pair[1] < 400]
    if not good:
        notes.add("the recording has no statuses: set targetSuccess")
        return {}
    operation, status = max(good, key=lambda pair: pair[0].numbers[-1])
    return {"targetSuccess": {"method": operation.method, "path": operation.path, "status": status}}


def text(made: dict[str, Any], listed: list[dict[str, Any]], project: str, command: str) -> str:
    """The snippet. Its comments have what is to be done, and the endpoints as an alternative."""
    lines = [_HEAD]
    if command:
        lines.append(
            f"# The recording's secrets are not in it. Set the credentials:\n#   {command}\n"
        )
    if "targetSuccess" not in made:
        lines.append("# Set targetSuccess, too: the recording has no statuses.\n")
    lines.append(_dumped({"config": {f"{project}:{name}": value for name, value in made.items()}}))
    if listed:
        lines.append(_ALTERNATIVE)
        block = _dumped({f"{project}:targetEndpoints": listed})
        lines += [f"#   {line}\n" for line in block.splitlines()]
    return "".join(lines)


def _dumped(value: Any) -> str:
    return str(yaml.safe_dump(_values(value), sort_keys=False, allow_unicode=True, width=100))


def _values(value: Any) -> Any:
    """A copy, so that YAML has no anchors; without half of a pair of surrogates."""
    if isinstance(value, dict):
        return {str(_values(key)): _values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_values(inner) for inner in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
