"""The operations of a document (OpenAPI 2.0 to 3.2) as those of `ape_contracts.operations`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from ape_contracts import paths
from ape_contracts.operations import Operation, Operations
from ape_infra.config.openapi import parameters, security, selection, servers
from ape_infra.config.openapi.errors import OpenApiError
from ape_infra.config.openapi.parameters import Place
from ape_infra.config.openapi.references import Node, ReferenceProblem, References
from ape_infra.config.openapi.report import Report
from ape_infra.config.openapi.schemas import Known, Schemas, bounded, shortened
from ape_infra.config.openapi.selection import METHODS, Candidate
from ape_infra.config.openapi.sendable import sendable

# What RFC 3986 allows in a path, with the braces of a template and the escapes there are.
_PATH_SAFE = "/{}:@!$&'()*+,;=~%?"
_OTHER_METHODS = ("HEAD", "OPTIONS", "TRACE", "QUERY")
_NOT_OPENAPI = (
    ("asyncapi", "is an AsyncAPI document: it describes messages, not HTTP operations"),
    ("arazzo", "is an Arazzo document: it describes workflows, not operations"),
    ("overlay", "is an OpenAPI overlay: it only changes another document"),
    ("swaggerVersion", "is a Swagger 1 document. Convert it to OpenAPI 3 first"),
    ("__schema", "is a GraphQL schema, not an OpenAPI document"),
    ("log", "is a HAR file, not an OpenAPI document"),
)
_USE = "Use an OpenAPI document in JSON or YAML, such as applications serve at /openapi.json."


@dataclass(frozen=True)
class Wanted:
    """Which operations, and for which target: `target_url` may have a part of the base path.

    `allowed`: method and path of the endpoints that the gateway allows; empty: all are allowed.
    `carried`: what requests have without the model (see `security`); `is_signed_in`: by a sign-in
    that the settings declare.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    target_url: str = ""
    allowed: Sequence[tuple[str, str]] = ()
    carried: security.Carried = frozenset()
    is_signed_in: bool = False

    def allows(self, operation: Operation) -> bool:
        """Whether an endpoint allows the operation, at least with some values in its path."""
        return not self.allowed or any(
            method == operation.method and selection.overlap(path, operation.path)
            for method, path in self.allowed
        )


@dataclass
class _Found:
    """An operation with the nodes that its request is made of."""

    candidate: Candidate
    path: str
    operation: Node
    shared: Node
    server: servers.Server


# The id of an operation -> the paths by which selectors name it.
Paths = dict[str, tuple[str, ...]]


def read(references: References, wanted: Wanted, report: Report) -> tuple[Operations, Paths]:
    """Return the selected operations, in the document's order. Raises OpenApiError."""
    document = checked(references.root.value)
    found = list(_candidates(references, document, report))
    selected = {
        id(each)
        for each in selection.select(
            [f.candidate for f in found], wanted.include, wanted.exclude, report
        )
    }
    for name in document.get("webhooks") or ():
        report.add("webhooks", shortened(name))
    used: set[str] = set()
    known: Known = {}
    made = []
    named: Paths = {}
    schemes = _schemes(references, document)
    for each in found:
        if id(each.candidate) in selected:
            operation = _operation(each, references, wanted, report, used, known)
            name = shortened(each.candidate.name)
            if not wanted.allows(operation):
                report.add("not_allowed", name)
            elif (sent := sendable(operation, name, report)) is not None:
                made.append((name, sent))
                named[sent.id] = each.candidate.paths
    if not made:
        raise OpenApiError(_nothing(document, report))
    usable = security.usable(made, schemes, wanted.carried, report, only=wanted.is_signed_in)
    return Operations(operations=tuple(usable), schemes=schemes), named


def checked(document: Any) -> dict[str, Any]:
    """Return the document if it is an OpenAPI document. Raises OpenApiError."""
    if isinstance(document, dict) and {"openapi", "swagger"} & document.keys():
        version = shortened(document.get("openapi", document.get("swagger")), 20)
        if not version.startswith(("3", "2")):
            raise OpenApiError(
                f"has OpenAPI version {version or 'missing'}. Versions 2.0 and 3.0 to 3.2 are read."
            )
        if not isinstance(document.get("paths") or {}, dict) or document.get("paths") == []:
            raise OpenApiError("has a `paths` that is not an object. Correct it there.")
        return document
    keys = document if isinstance(document, dict) else {}
    if isinstance(info := keys.get("info"), dict):
        if "getpostman" in str(info.get("schema", "")) or "_postman_id" in info:
            raise OpenApiError(f"is a Postman collection, not an OpenAPI document. {_USE}")
    for key, sentence in _NOT_OPENAPI:
        if key in keys:
            raise OpenApiError(f"{sentence}. {_USE}")
    raise OpenApiError(
        f"is not an OpenAPI document: it has neither `openapi` nor `swagger`. {_USE}"
    )


def _nothing(document: dict[str, Any], report: Report) -> str:
    if document.get("webhooks") and not document.get("paths"):
        return (
            "has only webhooks, which the target sends: it has no operation that agents can call. "
            "Use a document with `paths`."
        )
    methods = ", ".join(method.lower() for method in METHODS)
    lines = " ".join(f"{line.text} {line.remedy}".strip() for line in report.lines())
    return (
        f"has no operation that agents can call. {lines or f'Add one below `paths` ({methods}).'}"
    )


def _candidates(
    references: References, document: dict[str, Any], report: Report
) -> Iterator[_Found]:
    default = servers.of_document(document)
    base = references.root.base
    for path, item in (document.get("paths") or {}).items():
        name = shortened(path)
        if name.startswith("x-"):
            continue
        if not path.startswith("/"):
            report.add("path_slash", name)
            path = f"/{path}"
        try:
            node = references.resolve(Node(item, base))
        except ReferenceProblem as problem:
            report.add("path_reference", name, str(problem))
            continue
        if not isinstance(node.value, dict):
            report.add("malformed", name, "a path has no object")
            continue
        encoded = quote(path.encode("utf-8", "replace"), safe=_PATH_SAFE)
        if why := paths.problem(encoded if "#" not in path and "\\" not in path else path):
            report.add("path", name, why)
            continue
        yield from _of_item(references, (path, encoded), node, default, report)


def _of_item(
    references: References,
    path: tuple[str, str],
    item: Node,
    default: servers.Server,
    report: Report,
) -> Iterator[_Found]:
    more = item.value.get("additionalOperations")
    for method in (*_OTHER_METHODS, *(more if isinstance(more, dict) else ())):
        if method.lower() in item.value or (isinstance(more, dict) and method in more):
            report.add("method", shortened(f"{method} {path[0]}"), shortened(method, 20))
    for key, given in item.value.items():
        if key.upper() not in METHODS or key != key.lower():
            continue
        name = f"{key.upper()} {path[0]}"
        try:
            operation = references.resolve(Node(given, item.base))
        except ReferenceProblem as problem:
            report.add("path_reference", name, str(problem))
            continue
        if not isinstance(operation.value, dict):
            report.add("malformed", name, "an operation is not an object")
            continue
        server = servers.nearest(
            (operation.value.get("servers"), item.value.get("servers")), default
        )
        yield _Found(
            Candidate(
                key.upper(),
                path[0],
                operation.value,
                selection.with_base(path[0], server.path),
            ),
            path[1],
            operation,
            item,
            server,
        )


def _operation(
    found: _Found,
    references: References,
    wanted: Wanted,
    report: Report,
    used: set[str],
    known: Known,
) -> Operation:
    document, operation = references.root.value, found.operation
    name = shortened(found.candidate.name)
    schemas = Schemas(references, lambda kind, subject: report.add(kind, name, subject), known)
    place = Place(name, schemas, report, security.AUTHORIZATION in wanted.carried)
    nodes = parameters.declared(
        place,
        Node(found.shared.value.get("parameters"), found.shared.base),
        Node(operation.value.get("parameters"), operation.base),
    )
    path = _base_path(found, wanted, report) + found.path
    value = operation.value
    callbacks = value.get("callbacks")
    for callback in callbacks if isinstance(callbacks, dict) else ():
        report.add("callbacks", f"{name} {shortened(callback)}")
    identifier = shortened(value.get("operationId")) or name
    while identifier in used:
        identifier += "_"
    used.add(identifier)
    return Operation(
        id=identifier,
        method=found.candidate.method,
        path=path,
        summary=shortened(value.get("summary")) or shortened(value.get("description")),
        tags=tuple(map(shortened, found.candidate.tags)),
        deprecated=found.candidate.is_deprecated,
        parameters=parameters.parameters(place, nodes, path),
        body=parameters.body(
            place, operation, nodes, value.get("consumes", document.get("consumes"))
        ),
        security=_security(value.get("security", document.get("security"))),
        response_headers=_response_headers(schemas, operation),
    )


def _base_path(found: _Found, wanted: Wanted, report: Report) -> str:
    """The base path, without the part of it that the target's URL has already."""
    name, server = shortened(found.candidate.name), found.server
    target = urlsplit(wanted.target_url)
    host = target.netloc.rpartition("@")[2]
    if server.host and wanted.target_url and server.host.lower() != host.lower():
        report.add("host", name, shortened(server.host))
    given, base = target.path.rstrip("/"), server.path
    if given and base and (given.endswith(base) or f"{base}/".startswith(f"{given}/")):
        report.add("base_path", name, base if given.endswith(base) else given)
        base = "" if given.endswith(base) else base.removeprefix(given)
    return quote(base.encode("utf-8", "replace"), safe=_PATH_SAFE.replace("?", ""))


def _security(given: Any) -> tuple[tuple[str, ...], ...]:
    alternatives = (
        [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    )
    return tuple(tuple(map(shortened, each)) for each in alternatives)


def _schemes(references: References, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    components = document.get("components")
    given = components.get("securitySchemes") if isinstance(components, dict) else None
    given = given if isinstance(given, dict) else document.get("securityDefinitions")
    made = {}
    for name, scheme in given.items() if isinstance(given, dict) else ():
        try:
            found = references.resolve(Node(scheme, references.root.base)).value
        except ReferenceProblem:
            continue
        if isinstance(found, dict):
            made[shortened(name)] = {
                key: inner for key, inner in bounded(found).items() if key != "description"
            }
    return made


def _response_headers(schemas: Schemas, operation: Node) -> tuple[str, ...]:
    responses = operation.value.get("responses")
    found: dict[str, None] = {}
    for response in responses.values() if isinstance(responses, dict) else ():
        if not isinstance(response, dict):
            continue
        node = schemas.resolved(Node(response, operation.base))
        headers = node.value.get("headers") if node and isinstance(node.value, dict) else None
        if isinstance(headers, dict):
            found |= dict.fromkeys(shortened(name) for name in headers)
    return tuple(found)
