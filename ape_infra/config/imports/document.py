"""An OpenAPI 3.1 document of recorded requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ape_contracts import paths
from ape_infra.config.imports import model
from ape_infra.config.imports.model import VARIABLE, Notes, Request, named
from ape_infra.config.imports.templates import Templated, templated
from ape_infra.config.openapi.schemas import bounded, shortened
from ape_infra.config.openapi.selection import METHODS

MAX_OPERATIONS = 1000
# The loader reads 200 parameters of an operation.
MAX_QUERY = 100
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")
# Headers that programs set by themselves, and those that have another place in a document.
_USUAL_HEADERS = {
    *("accept", "accept-charset", "accept-encoding", "accept-language", "connection", "host"),
    *("content-length", "content-type", "origin", "referer", "user-agent", "cache-control"),
    *("pragma", "dnt", "te", "upgrade", "upgrade-insecure-requests", "priority", "save-data"),
    *("if-none-match", "if-modified-since", "postman-token", "transfer-encoding", "expect"),
    *("traceparent", "tracestate", "x-request-id", "keep-alive", "via", "forwarded", "x-real-ip"),
    *("x-client-data", "proxy-connection", "range", "if-range", "purpose", "baggage"),
}
_USUAL_PREFIXES = ("sec-", "x-forwarded-", ":", "x-b3-", "access-control-")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


@dataclass
class Recorded:
    """An operation, with its requests in their order, and their numbers in the recording."""

    method: str
    path: str
    requests: list[Request] = field(default_factory=list)
    values: list[dict[str, str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    schemes: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def operations(
    requests: Sequence[Request], schemes: Sequence[tuple[str, ...]], notes: Notes
) -> list[Recorded]:
    """Return the operations of requests, in the order of the first request of each."""
    found: dict[tuple[str, str], Recorded] = {}
    for number, (request, path) in enumerate(zip(requests, templated(requests), strict=True)):
        if request.method not in METHODS:
            notes.add(f"method {request.method[:20]} is left out", request.shown)
        elif why := _problem(path):
            notes.add(f"a path is left out: it {why}", request.shown)
        else:
            key = request.method, path.path
            if key not in found and len(found) >= MAX_OPERATIONS:
                notes.add(f"operations after the first {MAX_OPERATIONS} are left out")
                continue
            operation = found.setdefault(key, Recorded(*key))
            operation.requests.append(request)
            operation.values.append(path.values)
            operation.numbers.append(number)
            operation.schemes |= dict.fromkeys(schemes[number])
    return list(found.values())


def _problem(path: Templated) -> str | None:
    if any(value in (".", "..") for value in path.values.values()):
        return "must stay below the base URL"
    return paths.problem(path.path)


def document(
    recorded: Iterable[Recorded], title: str, security: dict[str, dict[str, Any]], notes: Notes
) -> dict[str, Any]:
    """Return the document of operations, with their first values as examples."""
    found: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    for each in recorded:
        identifier = _identifier(each)
        while identifier in used:
            identifier += "_"
        used.add(identifier)
        found.setdefault(each.path, {})[each.method.lower()] = _operation(each, identifier, notes)
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": shortened(title) or "Imported", "version": "1"},
        "paths": found,
    }
    return made | ({"components": {"securitySchemes": security}} if security else {})


def _identifier(operation: Recorded) -> str:
    words = re.findall(r"[A-Za-z0-9]+", operation.path)
    return "_".join([operation.method.lower(), *words])[:56]


def _operation(recorded: Recorded, identifier: str, notes: Notes) -> dict[str, Any]:
    summary = next((shortened(named(x.name)) for x in recorded.requests if x.name), "")
    parameters = [*_in_path(recorded), *_in_query(recorded, notes), *_in_header(recorded, notes)]
    made: dict[str, Any] = {"operationId": identifier}
    made |= {"summary": summary} if summary else {}
    made |= {"parameters": parameters} if parameters else {}
    if (body := _body(recorded, notes)) is not None:
        made["requestBody"] = body
    statuses = sorted({str(x.status) for x in recorded.requests if x.status})
    made["responses"] = {each: {"description": "As recorded."} for each in statuses or ["default"]}
    if recorded.schemes:
        made["security"] = [{name: [] for name in recorded.schemes}]
    return made


def _parameter(name: str, location: str, lists: list[list[str]], required: bool) -> dict[str, Any]:
    """A parameter; `lists`: the values of each request that has it. Variables have no example."""
    texts = [text for texts in lists for text in texts]
    known = scalars([text for text in texts if not VARIABLE.search(text)])
    schema: dict[str, Any] = schema_of(known)
    first = scalars([text for text in lists[0] if not VARIABLE.search(text)], known)
    made: dict[str, Any] = {"name": name, "in": location, "required": required}
    if any(len(each) > 1 for each in lists):
        made["schema"] = {"type": "array", "items": schema}
        return made | ({"example": first} if first else {})
    made["schema"] = schema
    return made | ({"example": first[0]} if first else {})


def scalars(texts: list[str], like: list[Any] | None = None) -> list[Any]:
    """Texts as numbers or booleans if all of them are; `like`: of the type of these."""
    kinds = {type(each) for each in like or ()}
    if (kinds == {int}) or (like is None and texts and all(map(_INTEGER.fullmatch, texts))):
        return [int(text) for text in texts]
    if kinds == {bool} or (like is None and texts and set(texts) <= {"true", "false"}):
        return [text == "true" for text in texts]
    return list(texts)


def schema_of(values: list[Any]) -> dict[str, Any]:
    """The schema that all values meet."""
    return merged([inferred(value) for value in values]) or {"type": "string"}


def _in_path(recorded: Recorded) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{([^{}]+)\}", recorded.path):
        values = [each[name] for each in recorded.values if name in each]
        yield _parameter(name, "path", [[x] for x in values] or [[model.variable(name)]], True)


def _in_query(recorded: Recorded, notes: Notes) -> Iterable[dict[str, Any]]:
    found: dict[str, list[list[str]]] = {}
    for request in recorded.requests:
        for name, texts in model.grouped(request.query).items():
            found.setdefault(name, []).append(texts)
    for number, (name, lists) in enumerate(found.items()):
        plain = named(name)
        if number >= MAX_QUERY:
            notes.add(f"query parameters after the first {MAX_QUERY} are left out", recorded.name)
            return
        if shortened(plain) != plain or not plain:
            notes.add("a query parameter without a plain name is left out", recorded.name)
        else:
            yield _bounded(
                _parameter(plain, "query", lists, len(lists) == len(recorded.requests)),
                recorded,
                notes,
            )


def _in_header(recorded: Recorded, notes: Notes) -> Iterable[dict[str, Any]]:
    found: dict[str, list[list[str]]] = {}
    spelled: dict[str, str] = {}
    for request in recorded.requests:
        for name, texts in model.grouped(
            tuple((name.lower(), text) for name, text in request.headers)
        ).items():
            found.setdefault(name, []).append(texts[-1:])
        spelled |= {name.lower(): name for name, _ in request.headers}
    for name, lists in found.items():
        is_usual = name in _USUAL_HEADERS or name.startswith(_USUAL_PREFIXES)
        if not is_usual and _HEADER_NAME.fullmatch(name):
            required = len(lists) == len(recorded.requests)
            yield _bounded(_parameter(spelled[name], "header", lists, required), recorded, notes)


def _bounded(holder: dict[str, Any], recorded: Recorded, notes: Notes) -> dict[str, Any]:
    """The holder of an example with what of it the loader reads."""
    if "example" not in holder:
        return holder
    example = bounded(holder["example"])
    if example != holder["example"]:
        notes.add("an example is cut to the size that agents get", recorded.name)
    return holder | {"example": example}


def _body(recorded: Recorded, notes: Notes) -> dict[str, Any] | None:
    content: dict[str, list[Any]] = {}
    bodies = [each.body for each in recorded.requests if each.body is not None]
    for body in bodies:
        content.setdefault(body.content_type, []).append(plain_value(body.value))
    if not bodies:
        return None
    made = {}
    for kind, values in content.items():
        known = [value for value in values if value is not None]
        schema = merged([inferred(value) for value in known]) if known else {}
        media = {"schema": schema} if schema else {}
        made[kind] = _bounded(media | {"example": known[0]} if known else media, recorded, notes)
    return {"required": len(bodies) == len(recorded.requests), "content": made}


def plain_value(value: Any) -> Any:
    """A value with {name} in place of marks."""
    if isinstance(value, dict):
        return {named(key): plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_value(inner) for inner in value]
    return named(value) if isinstance(value, str) else value


def inferred(value: Any) -> dict[str, Any]:
    """The schema of one value, without what it requires."""
    if isinstance(value, dict):
        if "$file" in value:
            return {"type": "string", "format": "binary"}
        return {"type": "object", "properties": {k: inferred(x) for k, x in value.items()}}
    if isinstance(value, list):
        items = merged([inferred(each) for each in value[:50]])
        return {"type": "array"} | ({"items": items} if items else {})
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": kinds.get(type(value), "null")}


def merged(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The schema that all values of `schemas` meet; of several types, their list."""
    if not schemas:
        return {}
    made: dict[str, Any] = {}
    types: dict[str, None] = {}
    names: dict[str, list[dict[str, Any]]] = {}
    for each in schemas:
        given = each["type"]
        types |= dict.fromkeys(given if isinstance(given, list) else [given])
        for name, inner in each.get("properties", {}).items():
            names.setdefault(name, []).append(inner)
    if "number" in types:
        types.pop("integer", None)
    made["type"] = next(iter(types)) if len(types) == 1 else list(types)
    if "object" in types:
        made["properties"] = {name: merged(inner) for name, inner in names.items()}
    if items := merged([each["items"] for each in schemas if "items" in each]):
        made["items"] = items
    if all(each.get("format") == "binary" for each in schemas):
        made["format"] = "binary"
    return made
