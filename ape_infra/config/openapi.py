"""Endpoints from an OpenAPI document (3.x, or Swagger 2.0). Pure: reads no file.

An endpoint has a method, a path, a description and a body to send. Values come from the examples,
defaults and enums of the document. Any other value is a placeholder {name}: the agent replaces it
by a value of an earlier answer.
"""

from __future__ import annotations

from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
# Schemas may refer to each other in cycles.
MAX_DEPTH = 6


class OpenApiError(Exception):
    """The document cannot be used. The message has the rule and the remedy."""


def endpoints(document: Any) -> list[dict[str, Any]]:
    """Return [{method, path, description, body?}] in the document's order. Raises OpenApiError.

    Deprecated operations are omitted. Paths are relative to the target's URL: add the path of
    `servers` or `basePath` to the setting target.
    """
    if not isinstance(document, dict) or not ({"openapi", "swagger"} & document.keys()):
        raise OpenApiError(
            "is not an OpenAPI document: it has neither `openapi` nor `swagger`. Use one in "
            "JSON or YAML, such as applications serve at /openapi.json."
        )
    paths = document.get("paths")
    found = [
        _endpoint(document, method, path, operation, _list(item.get("parameters")))
        for path, item in (paths.items() if isinstance(paths, dict) else ())
        if isinstance(path, str) and path.startswith("/")
        for item in [_resolved(document, item)]
        if isinstance(item, dict)
        for method, operation in item.items()
        if method in METHODS and isinstance(operation, dict) and not operation.get("deprecated")
    ]
    if not found:
        raise OpenApiError(
            f"has no operation that agents can call. Add one below `paths` ({', '.join(METHODS)})."
        )
    return found


def _endpoint(
    document: dict[str, Any],
    method: str,
    path: str,
    operation: dict[str, Any],
    shared: list[Any],
) -> dict[str, Any]:
    parameters = [
        p
        for p in (_resolved(document, p) for p in shared + _list(operation.get("parameters")))
        if isinstance(p, dict) and isinstance(p.get("name"), str)
    ]
    query = "&".join(
        f"{p['name']}={_plain(_sample(document, p.get('schema', p), p['name'], p))}"
        for p in parameters
        if p.get("in") == "query" and p.get("required")
    )
    made: dict[str, Any] = {
        "method": method.upper(),
        "path": f"{path}?{query}" if query else path,
        "description": str(operation.get("summary") or operation.get("description") or "").strip(),
    }
    body = _body(document, operation, parameters)
    return made | {"body": body} if isinstance(body, dict) else made


def _body(
    document: dict[str, Any], operation: dict[str, Any], parameters: list[dict[str, Any]]
) -> Any:
    request = _resolved(document, operation.get("requestBody"))
    contents = request.get("content") if isinstance(request, dict) else None
    if isinstance(contents, dict):
        for kind, content in contents.items():
            if isinstance(content, dict) and kind.partition(";")[0].endswith("json"):
                return _sample(document, content.get("schema"), "body", content)
    for parameter in parameters:
        if parameter.get("in") == "body":
            return _sample(document, parameter.get("schema"), "body", parameter)
    return None


def _sample(
    document: dict[str, Any], schema: Any, name: str, around: Any = None, depth: int = MAX_DEPTH
) -> Any:
    """Return a value of `schema`, or "{name}"; `around` may have examples too."""
    for holder in (around, schema := _resolved(document, schema)):
        if not isinstance(holder, dict):
            continue
        if "example" in holder:
            return holder["example"]
        examples = holder.get("examples")
        first = next(
            iter(examples.values() if isinstance(examples, dict) else examples or []), None
        )
        first = _resolved(document, first)
        if first is not None:
            return first["value"] if isinstance(first, dict) and "value" in first else first
    if not isinstance(schema, dict):
        return f"{{{name}}}"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    if depth == 0:
        return None
    merged: dict[str, Any] = {}
    for part in _list(schema.get("allOf")):
        if isinstance(sample := _sample(document, part, name, depth=depth - 1), dict):
            merged |= sample
    for key in ("oneOf", "anyOf"):
        if choices := _list(schema.get(key)):
            return _sample(document, choices[0], name, depth=depth - 1)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required", list(properties))
        merged |= {
            key: _sample(document, inner, key, depth=depth - 1)
            for key, inner in properties.items()
            if key in required
        }
    if merged or schema.get("type") == "object":
        return merged
    if schema.get("type") == "array":
        return [_sample(document, schema.get("items"), name, depth=depth - 1)]
    return f"{{{name}}}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _resolved(document: dict[str, Any], value: Any) -> Any:
    """Resolve a local `$ref`; None if it leads nowhere or to itself."""
    for _ in range(MAX_DEPTH):
        if not isinstance(value, dict) or "$ref" not in value:
            return value
        found: Any = document
        for part in str(value["$ref"]).removeprefix("#/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        value = found
    return None
