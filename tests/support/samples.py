"""A value of a small schema: from its examples, defaults and enums, else a placeholder {name}.

An agent replaces a placeholder by a value of an earlier answer.
"""

from __future__ import annotations

import re
from typing import Any

from ape_infra.config.openapi.schemas import types_of

_ID = re.compile(r"(^|[_-])(id|uuid|guid|key|code)s?$|[a-z](Id|Uuid|Guid|Key)s?$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"[{}]")
MAX_ITEMS = 10


def placeholder(name: str) -> str:
    return "{" + (_PLACEHOLDER.sub("", name) or "value") + "}"


def stated(schema: dict[str, Any]) -> Any:
    """The value that the document states for a schema itself; None: it states none."""
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    return next((value for value in schema.get("enum", ()) if value is not None), None)


def sample(schema: dict[str, Any], name: str) -> Any:
    """Return a value of a small schema. Of an object it has what is required, or everything."""
    if (value := stated(schema)) is not None:
        return value
    types = [kind for kind in types_of(schema) if kind != "null"]
    kind = types[0] if types else ("null" if types_of(schema) else "")
    if kind == "object":
        properties = schema.get("properties", {})
        wanted = schema.get("required") or properties
        return {key: sample(inner, key) for key, inner in properties.items() if key in wanted} | {
            key: placeholder(key) for key in wanted if key not in properties
        }
    if kind == "array":
        if schema.get("prefixItems"):
            return [sample(each, name) for each in schema["prefixItems"]]
        least = min(max(int(schema.get("minItems", 1)), 1), MAX_ITEMS)
        return [sample(schema.get("items", {}), name)] * least
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    if kind in ("integer", "number") and not _ID.search(name):
        number = _least(schema, kind)
        return placeholder(name) if number is None else number
    return placeholder(name)


def _least(schema: dict[str, Any], kind: str) -> float | None:
    """The smallest number of a schema that has a minimum."""
    if "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + (schema.get("multipleOf") or 1)
    elif "minimum" in schema:
        least = schema["minimum"]
    else:
        return None
    return int(-(-least // 1)) if kind == "integer" else least
