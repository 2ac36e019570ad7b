"""Parameters and bodies of operations, of OpenAPI 2.0 and 3.x in one form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ape_contracts.operation_request import FORM, MULTIPART, kind_of
from ape_contracts.operations import LOCATIONS, STYLES, Body, Parameter
from ape_infra.config.openapi.references import Node
from ape_infra.config.openapi.report import Report
from ape_infra.config.openapi.schemas import (
    Schemas,
    bounded,
    cast,
    own_example,
    shortened,
    types_of,
)

# collectionFormat of OpenAPI 2.0 -> (style, explode).
_COLLECTIONS = {
    "csv": ("form", False),
    "ssv": ("spaceDelimited", False),
    "tsv": ("tabDelimited", False),
    "pipes": ("pipeDelimited", False),
    "multi": ("form", True),
}
# Which kind of body to prefer where a document has several.
_PREFERENCE = ("json", "form", "multipart", "lines", "text", "binary", "")
MAX_PARAMETERS = 200
# Headers that OpenAPI ignores as parameters: content negotiation and sign-in have their own place.
_IGNORED_HEADERS = {"accept", "content-type", "authorization"}


class Place(NamedTuple):
    """Where in the document: `name` is that of the operation in the report.

    `authorized`: requests have a header Authorization without the model.
    """

    name: str
    schemas: Schemas
    report: Report
    authorized: bool = False


def declared(place: Place, *lists: Node) -> list[Node]:
    """Return the parameters of a path item and its operation; the operation's take precedence."""
    found: dict[tuple[str, str], Node] = {}
    for listed in lists:
        if listed.value is None:
            continue
        if not isinstance(listed.value, list):
            place.report.add("malformed", place.name, "`parameters` is not a list")
            continue
        if len(listed.value) > MAX_PARAMETERS:
            place.report.add("parameters", place.name)
        for each in listed.value[:MAX_PARAMETERS]:
            node = place.schemas.resolved(Node(each, listed.base))
            if node is None:
                continue
            value = node.value
            if not isinstance(value, dict) or not all(
                isinstance(value.get(key), str) and value[key] for key in ("name", "in")
            ):
                place.report.add("malformed", place.name, "a parameter has no name or no `in`")
                continue
            found[value["in"], value["name"]] = node
    return list(found.values())


def parameters(place: Place, nodes: list[Node], path: str) -> tuple[Parameter, ...]:
    """Return the parameters that a request has, those of the path in its order."""
    found = [made for node in nodes if (made := _parameter(place, node)) is not None]
    inside = [p for p in found if p.location == "path"]
    by_name = {p.name: p for p in inside}
    ordered = [
        by_name.get(name) or Parameter(name=name, location="path", required=True)
        for name in dict.fromkeys(placeholders(path))
    ]
    return (*ordered, *(p for p in found if p.location != "path"))


def placeholders(path: str) -> Iterator[str]:
    """Yield the names in braces."""
    for part in path.split("{")[1:]:
        name, brace, _ = part.partition("}")
        if brace:
            yield name


def _parameter(place: Place, node: Node) -> Parameter | None:
    value = node.value
    location, name = value["in"], shortened(value["name"])
    if location in ("body", "formData"):
        return None
    if location == "querystring":
        place.report.add("querystring", place.name)
        return None
    if location not in LOCATIONS:
        place.report.add("malformed", place.name, f"a parameter is in `{shortened(location, 40)}`")
        return None
    if location == "header" and name.lower() in _IGNORED_HEADERS:
        is_needed = value.get("required") is True and name.lower() == "authorization"
        if is_needed and not place.authorized:
            place.report.add("authorization", place.name)
        return None
    content_type, holder, schema = _described(place, node)
    types = types_of(schema)
    example = _example(place, holder, types, node.base)
    if example is None:
        example = _example(place, value, types, node.base)
    style, explode = _style(value, location)
    return Parameter(
        name=name,
        location=location,
        required=value.get("required") is True or location == "path",
        schema=schema,
        example=example,
        style=style,
        explode=explode,
        allow_reserved=value.get("allowReserved") is True and location == "query",
        content_type=content_type,
        description=shortened(value.get("description")),
    )


def _described(place: Place, node: Node) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return (content type or "", the object with the examples, the small schema)."""
    value, base = node.value, node.base
    content = value.get("content")
    if isinstance(content, dict) and content:
        kind, media = next(iter(content.items()))
        media = media if isinstance(media, dict) else {}
        return shortened(kind), media, place.schemas.of_document(Node(media.get("schema"), base))
    if isinstance(value.get("schema"), dict):
        return "", value, place.schemas.of_document(Node(value["schema"], base))
    # OpenAPI 2.0 has the schema's keywords beside the name.
    flat = {
        key: inner
        for key, inner in value.items()
        if key not in ("required", "description", "example", "examples", "style", "schema")
    }
    return "", value, place.schemas.small(Node(flat, base))


def _style(value: dict[str, Any], location: str) -> tuple[str, bool | None]:
    """Return (style, explode) where they differ from the default."""
    given = value.get("collectionFormat")
    if not isinstance(given, str) and "schema" not in value and value.get("type") == "array":
        given = "csv"
    if isinstance(given, str) and given in _COLLECTIONS:
        style, explode = _COLLECTIONS[given]
        if location != "query":
            return "", False
        return "" if style == "form" else style, None if (style, explode) == (
            "form",
            True,
        ) else explode
    stated, exploded = value.get("style"), value.get("explode")
    style = stated if isinstance(stated, str) and stated in STYLES[location][1:] else ""
    return style, exploded if isinstance(exploded, bool) else None


def _example(place: Place, holder: dict[str, Any], types: tuple[str, ...], base: str) -> Any:
    """The example of a parameter or a media type; None: it has none."""
    if holder.get("example") is not None:
        return cast(bounded(holder["example"]), types)
    given = holder.get("examples")
    if not isinstance(given, dict):
        return cast(bounded(own_example({"examples": given})), types)
    for each in given.values():
        node = place.schemas.resolved(Node(each, base))
        inner = node.value if node else None
        if not isinstance(inner, dict):
            if inner is not None:
                return cast(bounded(inner), types)
            continue
        for key in ("dataValue", "value"):
            if inner.get(key) is not None:
                return cast(bounded(inner[key]), types)
        if "externalValue" in inner:
            place.report.add("external_example", place.name)
    return None


def body(place: Place, operation: Node, nodes: list[Node], consumes: Any) -> Body | None:
    """Return the body of a request: of the content types the one that is simplest to send."""
    request = place.schemas.resolved(Node(operation.value.get("requestBody"), operation.base))
    content = request.value.get("content") if request and isinstance(request.value, dict) else None
    if request and isinstance(content, dict) and content:
        kinds = sorted(
            (kind for kind in content if isinstance(kind, str)),
            key=lambda kind: _PREFERENCE.index(kind_of(kind)),
        )
        if not kinds:
            return None
        media = place.schemas.resolved(Node(content[kinds[0]], request.base))
        required = request.value.get("required") is True
        return _body_of(place, kinds[0], media or Node({}, request.base), required)
    return _old_body(place, nodes, consumes)


def _body_of(place: Place, kind: str, media: Node, required: bool) -> Body:
    value = media.value if isinstance(media.value, dict) else {}
    if "itemSchema" in value and "schema" not in value:
        items = place.schemas.of_document(Node(value["itemSchema"], media.base))
        schema: dict[str, Any] = {"type": "array", "items": items}
    else:
        schema = place.schemas.of_document(Node(value.get("schema"), media.base))
    encoding = value.get("encoding")
    return Body(
        content_type=shortened(kind),
        required=required,
        schema=schema,
        example=_example(place, value, types_of(schema), media.base),
        encoding={
            shortened(name): _hint(each)
            for name, each in (encoding.items() if isinstance(encoding, dict) else ())
            if isinstance(each, dict)
        },
    )


def _hint(encoding: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if isinstance(kind := encoding.get("contentType"), str):
        made["contentType"] = shortened(kind)
    if encoding.get("style") in STYLES["query"]:
        made["style"] = encoding["style"]
    if isinstance(explode := encoding.get("explode"), bool):
        made["explode"] = explode
    return made


def _old_body(place: Place, nodes: list[Node], consumes: Any) -> Body | None:
    """The body of OpenAPI 2.0: a parameter in `body`, or those in `formData`."""
    types = (
        [kind for kind in consumes if isinstance(kind, str)] if isinstance(consumes, list) else []
    )
    for node in nodes:
        if node.value["in"] == "body":
            kind = min(
                types, key=lambda k: _PREFERENCE.index(kind_of(k)), default="application/json"
            )
            required = node.value.get("required") is True
            return _body_of(place, kind, node, required)
    fields = {shortened(n.value["name"]): n for n in nodes if n.value["in"] == "formData"}
    if not fields:
        return None
    schemas = {name: _described(place, node)[2] for name, node in fields.items()}
    has_file = any(schema.get("format") == "binary" for schema in schemas.values())
    forms = [kind for kind in types if kind_of(kind) in ("form", "multipart")]
    kind = MULTIPART if has_file else next(iter(forms), FORM)
    required_fields = [name for name, n in fields.items() if n.value.get("required") is True]
    for name, node in fields.items():
        example = _example(place, node.value, types_of(schemas[name]), node.base)
        if example is not None:
            schemas[name] = schemas[name] | {"examples": [example]}
    schema: dict[str, Any] = {"type": "object", "properties": schemas}
    encoding = {}
    for name, node in fields.items():
        if node.value.get("type") == "array":
            given = node.value.get("collectionFormat")
            given = given if isinstance(given, str) and given in _COLLECTIONS else "csv"
            style, explode = _COLLECTIONS[given]
            encoding[name] = {"style": style, "explode": explode}
    return Body(
        content_type=kind,
        required=bool(required_fields),
        schema=schema | ({"required": required_fields} if required_fields else {}),
        encoding=encoding,
    )
