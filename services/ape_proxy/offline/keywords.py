"""What the keywords of a JSON schema say: kind, bounds, examples, and schemas joined."""

from __future__ import annotations

from typing import Any

from ape_proxy.offline import numbers

Schema = dict[str, Any]
NOTHING = object()


def is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def count(value: Any, default: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return default
    return min(int(value), 1_000_000)


def enum_of(schema: Any) -> list[Any]:
    found = schema.get("enum") if isinstance(schema, dict) else None
    return found if isinstance(found, list) else []


def properties_of(schema: Schema) -> Schema:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def required_of(schema: Schema) -> list[str]:
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def both(one: Schema, two: Schema) -> Schema:
    """The keywords of both schemas; properties and required names are joined."""
    made = one | two
    if properties := properties_of(one) | properties_of(two):
        for name in properties_of(one).keys() & properties_of(two).keys():
            first, second = properties_of(one)[name], properties_of(two)[name]
            if isinstance(first, dict) and isinstance(second, dict):
                properties[name] = both(first, second)
        made["properties"] = properties
    if required := list(dict.fromkeys([*required_of(one), *required_of(two)])):
        made["required"] = required
    if isinstance(one.get("allOf"), list) and isinstance(two.get("allOf"), list):
        made["allOf"] = one["allOf"] + two["allOf"]
    return made


def discriminated(schema: Schema, option: Schema, number: int) -> Schema:
    """The option with the discriminator's value for it, unless it states its own."""
    found = schema.get("discriminator")
    name = found.get("propertyName") if isinstance(found, dict) else found
    if not isinstance(name, str):
        return option
    own = properties_of(option).get(name)
    if isinstance(own, dict) and ("const" in own or len(enum_of(own)) == 1):
        return option
    mapping = found.get("mapping") if isinstance(found, dict) else None
    values = list(mapping) if isinstance(mapping, dict) else []
    value = values[number] if number < len(values) else option.get("title")
    return (
        both(option, {"properties": {name: {"const": value}}, "required": [name]})
        if value
        else option
    )


def kind_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if {"minimum", "maximum", "multipleOf", "exclusiveMinimum"} & schema.keys():
        return "number"
    return "string"


def example_of(schema: Schema) -> Any:
    examples = schema.get("examples")
    if isinstance(examples, list) and examples:
        return examples[0]
    return schema.get("example")


def stated(schema: Schema, example: Any) -> Any:
    """The example, the default, or the first of the enum, if the schema accepts it."""
    for found in (example, example_of(schema), schema.get("default"), schema.get("const")):
        if found is not None and fits(found, schema):
            return found
    enum = [each for each in enum_of(schema) if each is not None]
    return enum[0] if enum else NOTHING


def fits(value: Any, schema: Schema) -> bool:
    """Whether a simple value is one that the schema accepts, as far as it is easy to say."""
    kind = kind_of(schema) if "type" in schema else ""
    kinds: dict[str, Any] = {"string": str, "integer": int, "number": int | float, "boolean": bool}
    if kind in kinds and not isinstance(value, kinds[kind]):
        return False
    if isinstance(value, bool) and kind in ("integer", "number"):
        return False
    if "enum" in schema and value not in enum_of(schema):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, str):
        return _text_fits(value, schema)
    return (
        not isinstance(value, int | float) or isinstance(value, bool) or numbers.fits(value, schema)
    )


def _text_fits(value: str, schema: Schema) -> bool:
    least, most = count(schema.get("minLength"), 0), count(schema.get("maxLength"), 1_000_000)
    if not least <= len(value) <= most:
        return False
    if isinstance(pattern := schema.get("pattern"), str):
        from ape_proxy.offline import texts

        return texts.accepts(pattern, value)
    return True
