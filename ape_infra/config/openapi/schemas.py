"""Small JSON schemas of those of a document: references resolved, compositions merged, bounded.

As of a request: read-only properties are left out. OpenAPI 2.0 to 3.2 become one form, that of
JSON Schema 2020-12 without references: `nullable` is a type `null`, an example is of `examples`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from ape_infra.config.openapi.references import Node, ReferenceProblem, References
from ape_infra.config.openapi.yaml12 import WrittenFloat, WrittenInteger

MAX_DEPTH = 12
# Of one schema: subschemas, and values of an example.
MAX_PARTS = 150
MAX_ENUM = 50
# Levels that keep several objects to choose from, and how many of them, with how many subschemas.
_OFFERING, _MAX_CHOICES, _CHOICE_PARTS = 3, 4, 60
# Levels whose schemas keep their description.
DESCRIBED = 3
MAX_TEXT = 200
MAX_EXAMPLE_TEXT = 2000
_NUMBERS = ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems")
TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
# Gets the kind of a finding, and its subject (see `report`).
OnProblem = Callable[[str, str], None]


def shortened(text: Any, limit: int = MAX_TEXT) -> str:
    """A text of one line, of at most `limit` characters, that UTF-8 can hold."""
    if not isinstance(text, str):
        return written(text) if isinstance(text, int | float) else ""
    plain = " ".join(text[: limit * 4].encode("utf-8", "replace").decode("utf-8").split())
    return plain if len(plain) <= limit else plain[: limit - 1].rstrip() + "…"


def written(value: Any) -> str:
    """A number as it stands in the document; any other value as JSON."""
    if isinstance(value, WrittenInteger | WrittenFloat):
        return value.text
    return json.dumps(value, ensure_ascii=False)


class _Budget:
    def __init__(self, parts: int = MAX_PARTS) -> None:
        self.left = parts

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def bounded(value: Any, budget: _Budget | None = None, depth: int = MAX_DEPTH) -> Any:
    """Copy a value as JSON data: of bounded size, also where it is in a cycle or repeats itself."""
    budget = budget or _Budget()
    if not budget.take() or (depth == 0 and isinstance(value, dict | list)):
        return None
    if isinstance(value, dict):
        return {
            shortened(key): bounded(inner, budget, depth - 1)
            for key, inner in value.items()
            if budget.left > 0
        }
    if isinstance(value, list):
        return [bounded(inner, budget, depth - 1) for inner in value if budget.left > 0]
    if isinstance(value, str):
        return value[:MAX_EXAMPLE_TEXT].encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        # A WrittenInteger stays one, until a schema has been applied to it.
        return value if abs(value) < 10**300 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def cast(value: Any, types: tuple[str, ...]) -> Any:
    """Return an example as its schema wants it.

    A text where a number stands without quotes, and the data where JSON stands in a text.
    """
    if types and isinstance(value, int | float) and not isinstance(value, bool):
        if not {"integer", "number"} & set(types) and "string" in types:
            return written(value)
    if types and isinstance(value, bool) and "boolean" not in types and "string" in types:
        return written(value)
    if isinstance(value, str) and {"object", "array"} & set(types) and "string" not in types:
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return bounded(parsed) if isinstance(parsed, dict | list) else value
    return unwritten(value)


def unwritten(value: Any) -> Any:
    """Return the value with plain numbers."""
    if isinstance(value, WrittenInteger):
        return int(value)
    if isinstance(value, WrittenFloat):
        return float(value)
    if isinstance(value, dict):
        return {key: unwritten(inner) for key, inner in value.items()}
    return [unwritten(inner) for inner in value] if isinstance(value, list) else value


def types_of(schema: Any) -> tuple[str, ...]:
    """The types of a schema; those that it does not state follow from its keywords."""
    given = schema.get("type") if isinstance(schema, dict) else None
    listed = given if isinstance(given, list) else [given]
    found = tuple(t for t in listed if isinstance(t, str) and t in TYPES)
    if found or not isinstance(schema, dict):
        return found
    if isinstance(schema.get("properties"), dict) or "additionalProperties" in schema:
        return ("object",)
    return ("array",) if "items" in schema or "prefixItems" in schema else ()


# (base, reference, or identity in the document) -> the small schema, and what is wrong in it.
Known = dict[tuple[str, str | int], tuple[dict[str, Any], list[tuple[str, str]]]]


class Schemas:
    """Makes small schemas. `on_problem` gets what is wrong in them.

    Operations share many schemas: `known` has those that were made already.
    """

    def __init__(self, references: References, on_problem: OnProblem, known: Known) -> None:
        self._references = references
        self._report = on_problem
        self._known = known
        self._problems: list[tuple[str, str]] = []

    def _on_problem(self, kind: str, subject: str) -> None:
        self._problems.append((kind, subject))
        self._report(kind, subject)

    def small(self, node: Node) -> dict[str, Any]:
        """Return the small schema of a schema. Do not change it."""
        made = self._small(node, _Budget(), MAX_DEPTH, ())
        return made if made is not None else {}

    def of_document(self, node: Node) -> dict[str, Any]:
        """As `small`, for a schema that is an object of the document itself."""
        if not isinstance(node.value, dict):
            return {}
        is_reference = node.value.keys() == {"$ref"}
        key = (node.base, str(node.value["$ref"]) if is_reference else id(node.value))
        if key not in self._known:
            self._problems = []
            self._known[key] = (self.small(node), self._problems)
            return self._known[key][0]
        made, problems = self._known[key]
        for kind, subject in problems:
            self._report(kind, subject)
        return made

    def resolved(self, node: Node) -> Node | None:
        """Return a value without `$ref`; None if it leads nowhere, which is reported."""
        try:
            return self._references.resolve(node)
        except ReferenceProblem as problem:
            self._on_problem("reference", str(problem))
            return None

    def _small(
        self, node: Node, budget: _Budget, depth: int, within: tuple[int, ...]
    ) -> dict[str, Any] | None:
        """Return None where a cycle or the bounds cut the schema."""
        if not budget.take() or depth == 0:
            self._on_problem("cut", "")
            return None
        found = self.resolved(node)
        if found is None or not isinstance(found.value, dict):
            return {}
        identity = id(node.value) if "$ref" not in node.value else hash(_name(node))
        if identity in within:
            return None
        within = (*within, identity)
        schema = found.value
        made = self._composed(found, budget, depth, within)
        made |= dict(_limits(schema))
        self._add_parts(made, found, budget, depth, within)
        types = types_of(schema) or types_of(made)
        if schema.get("nullable") is True and types and "null" not in types:
            types = (*types, "null")
        if types:
            made["type"] = types[0] if len(types) == 1 else list(types)
        _add_values(made, schema, types)
        if depth > MAX_DEPTH - DESCRIBED and (text := shortened(schema.get("description"))):
            made["description"] = text
        for flag in ("readOnly", "deprecated"):
            if schema.get(flag) is True:
                made[flag] = True
        return made

    def _composed(
        self, node: Node, budget: _Budget, depth: int, within: tuple[int, ...]
    ) -> dict[str, Any]:
        """The merged parts of `allOf`; of `oneOf` or `anyOf` several objects, else the first part

        that is not null.
        """
        made: dict[str, Any] = {}
        for part in _list(node.value.get("allOf")):
            small = self._small(Node(part, node.base), budget, depth - 1, within)
            made = merged(made, small or {})
        for key in ("oneOf", "anyOf"):
            choices = _list(node.value.get(key))
            is_null = [self._is_null(Node(each, node.base)) for each in choices]
            first = next((c for c, null in zip(choices, is_null, strict=True) if not null), None)
            if first is None:
                continue
            small = self._small(Node(first, node.base), budget, depth - 1, within) or {}
            if any(is_null) and (types := types_of(small)):
                small["type"] = [*types, "null"]
            if len(choices) > 1 and types_of(small) == ("object",):
                if others := self._others(choices, node, depth, within):
                    made[key] = [small, *others]
                    for choice, each in zip(choices, made[key], strict=True):
                        self._discriminate(each, node.value.get("discriminator"), choice)
                    continue
            if is_null.count(False) > 1:
                self._on_problem("choice", "")
            made = merged(made, small)
            self._discriminate(made, node.value.get("discriminator"), first)
        return made

    def _others(
        self, choices: list[Any], node: Node, depth: int, within: tuple[int, ...]
    ) -> list[dict[str, Any]]:
        """The choices but for the first, if all are objects and small; else none."""
        if len(choices) > _MAX_CHOICES or depth <= MAX_DEPTH - _OFFERING:
            return []
        problems: list[str] = []
        # What is wrong in one of them does not matter, if they are not offered.
        apart = Schemas(self._references, lambda kind, _: problems.append(kind), {})
        budget = _Budget(_CHOICE_PARTS)
        made = []
        for each in choices[1:]:
            small = apart._small(Node(each, node.base), budget, depth - 1, within)
            if problems or small is None or types_of(small) != ("object",):
                return []
            made.append(small)
        return made

    def _is_null(self, node: Node) -> bool:
        found = self.resolved(node) if isinstance(node.value, dict) else None
        if found is None or not isinstance(found.value, dict):
            return False
        return types_of(found.value) == ("null",) or found.value.get("enum") == [None]

    @staticmethod
    def _discriminate(made: dict[str, Any], discriminator: Any, choice: Any) -> None:
        """Set the property that states which of the choices this is."""
        if not isinstance(discriminator, dict) or not isinstance(choice, dict):
            return
        name, reference = discriminator.get("propertyName"), choice.get("$ref")
        if not isinstance(name, str) or not isinstance(reference, str):
            return
        mapping = discriminator.get("mapping")
        value = reference.rpartition("/")[2]
        for key, target in mapping.items() if isinstance(mapping, dict) else ():
            if target in (reference, value):
                value = key
                break
        properties = made.setdefault("properties", {})
        properties[name] = {"type": "string", "const": shortened(value)}
        made["required"] = list(dict.fromkeys([*made.get("required", ()), name]))

    def _add_parts(
        self,
        made: dict[str, Any],
        node: Node,
        budget: _Budget,
        depth: int,
        within: tuple[int, ...],
    ) -> None:
        """Add properties and items, with those of the compositions."""
        schema = node.value

        def part(value: Any) -> dict[str, Any] | None:
            if not isinstance(value, dict):
                return {}
            return self._small(Node(value, node.base), budget, depth - 1, within)

        required = _names(schema.get("required"))
        if isinstance(given := schema.get("properties"), dict):
            found = dict(made.get("properties", {}))
            for name in sorted(given, key=lambda n: str(n) not in required):
                if isinstance(given[name], bool):
                    continue
                small = part(given[name])
                if small is None and name in required:
                    small = {}
                if small is None or small.get("readOnly"):
                    found.pop(name, None)
                    required = [n for n in required if n != name]
                else:
                    found[shortened(name)] = small
            order = {str(name): at for at, name in enumerate(given)}
            made["properties"] = dict(
                sorted(found.items(), key=lambda item: order.get(item[0], len(order)))
            )
        elif "properties" in schema:
            self._on_problem("malformed", "`properties` is not an object")
        if required:
            made["required"] = list(dict.fromkeys([*made.get("required", ()), *required]))
        if isinstance(given := schema.get("prefixItems"), list) and given:
            made["prefixItems"] = [part(each) or {} for each in given[:MAX_ENUM]]
        if "items" in schema and isinstance(schema["items"], dict):
            made["items"] = part(schema["items"]) or {}
        if isinstance(more := schema.get("additionalProperties"), bool):
            made["additionalProperties"] = more
        elif isinstance(more, dict):
            made["additionalProperties"] = part(more) or {}


def _name(node: Node) -> tuple[str, str]:
    return node.base, str(node.value.get("$ref"))


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return both schemas as one; where both have a keyword, the second takes precedence."""
    made = {**one, **other}
    if "properties" in one and "properties" in other:
        made["properties"] = one["properties"] | other["properties"]
    if "required" in one and "required" in other:
        made["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    for key in ("examples",):
        values = [each[key][0] for each in (one, other) if each.get(key)]
        if len(values) == 2 and all(isinstance(value, dict) for value in values):
            made[key] = [values[0] | values[1]]
    return made


def _limits(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("format", "pattern", "contentEncoding", "contentMediaType"):
        value = schema.get(key)
        if isinstance(value, str) and value and len(value) <= MAX_TEXT:
            # A blank of a pattern counts, also at its end.
            yield key, bounded(value) if key == "pattern" else shortened(value)
    for key in _NUMBERS:
        if _is_number(value := schema.get(key)):
            yield key, unwritten(value)
    for key, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        value = schema.get(key)
        # In OpenAPI 2.0 and 3.0 it is a boolean beside the limit.
        value = schema.get(limit) if value is True else value
        if _is_number(value):
            yield key, unwritten(value)
    if schema.get("uniqueItems") is True:
        yield "uniqueItems", True
    # A file of OpenAPI 2.0.
    if schema.get("type") == "file":
        yield "type", "string"
        yield "format", "binary"


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -1e300 < value < 1e300


def _add_values(made: dict[str, Any], schema: dict[str, Any], types: tuple[str, ...]) -> None:
    """Add const, default, enum and the first example."""
    for key in ("const", "default"):
        if key in schema:
            made[key] = cast(bounded(schema[key]), types)
    if isinstance(values := schema.get("enum"), list) and values:
        made["enum"] = [cast(bounded(value), types) for value in values[:MAX_ENUM]]
    if (example := own_example(schema)) is not None:
        made["examples"] = [cast(bounded(example), types)]


def own_example(schema: dict[str, Any]) -> Any:
    """The example of a schema: `example`, or the first of `examples`; None: it has none."""
    if schema.get("example") is not None:
        return schema["example"]
    given = schema.get("examples")
    if isinstance(given, dict):
        # As beside a media type, which a schema does not have.
        first = next(iter(given.values()), None)
        return first.get("value") if isinstance(first, dict) and "value" in first else first
    if isinstance(given, list):
        return given[0] if given else None
    return given


def _list(value: Any) -> list[Any]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _names(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else ()
    return [shortened(name) for name in listed if isinstance(name, str)]
