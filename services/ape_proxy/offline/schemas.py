"""Values for the arguments of a typed tool: known ones, examples, else made for the schema.

What is made depends on the session, the operation and the place only, so that it never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from types import MappingProxyType
from typing import Any

from ape_proxy.offline import numbers
from ape_proxy.offline.answers import Known, Missing, collection_of
from ape_proxy.offline.keywords import (
    NOTHING,
    Schema,
    both,
    count,
    discriminated,
    enum_of,
    example_of,
    fits,
    is_scalar,
    kind_of,
    properties_of,
    required_of,
    stated,
)
from ape_proxy.offline.names import (
    PARAMETER,
    PLACEHOLDER,
    USERS,
    is_chosen,
    is_plural,
    is_reference,
    is_secret,
    plain,
    singular,
    word_set,
    words,
)
from ape_proxy.offline.tasks import Task

_MAX_DEPTH, _MAX_ITEMS, _MAX_OPTIONAL, _MAX_TEXT = 12, 50, 12, 2000
# Texts that a new object has of its own, also where another has one of this name.
_OWN = word_set(
    "name title description note notes comment text message body content subject summary label "
    "email mail username password login phone address street city"
)
_AMOUNTS = word_set("page number count amount quantity limit offset")
# What an answer may have, and can be made as well.
_CODES = word_set("code key ref reference handle isbn")


class Filler:
    """`referred`: the names that stand in paths, each an object's.

    `objects`: the names of the application's objects, with whether it has a list of them.
    """

    def __init__(
        self,
        known: Known,
        task: Task,
        referred: frozenset[str],
        objects: Mapping[str, bool] = MappingProxyType({}),
    ) -> None:
        self._known, self._task, self._referred = known, task, referred
        self._objects = objects
        self._seed = f"{known.context.get('session', '')} {task.name}"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments. Raises Missing."""
        schema = self._task.schema or {}
        properties = properties_of(schema)
        required = required_of(schema)
        path = self._task.path
        made = {}
        for name, inner in properties.items():
            is_body = name == "body" and "{body}" not in path
            if name in PARAMETER.findall(path):
                made[name] = self._of_path(name, inner)
            elif is_body and (name in required or self._task.method in ("POST", "PUT", "PATCH")):
                made[name] = self.value(inner, "", "body")
            elif name in required:
                made[name] = self.value(inner, name, name)
        return made

    def _chance(self, place: str) -> Random:
        # Reproducible, and no secret.
        return Random(f"{self._seed} {place}")  # noqa: S311

    def _of_path(self, name: str, schema: Schema) -> Any:
        """A value for a path: one that is known or stated, or of a closed set."""
        before = collection_of(self._task.path.partition("{" + name + "}")[0])
        try:
            found = self._known.find(name, before)
            if is_scalar(found) and found != "":
                return found
        except Missing:
            pass
        if (known := stated(schema, None)) is not NOTHING:
            return known
        is_range = schema.get("type") in ("integer", "number") and "maximum" in schema
        if schema.get("format") in ("date", "date-time", "time") or (
            is_range and not is_reference(name)
        ):
            return self.value(schema, name, name)
        raise Missing(name)

    def value(self, schema: Any, name: str, place: str, example: Any = None, depth: int = 0) -> Any:
        """Return a value for the schema. Raises Missing."""
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return {} if depth > _MAX_DEPTH else self._text({}, name, place)
        schema = self._merged(schema, place)
        kind = kind_of(schema)
        if example is None:
            example = example_of(schema)
        if kind == "object":
            return self._object(schema, place, example, depth)
        if kind == "array":
            return self._array(schema, name, place, example, depth)
        if "const" in schema:
            return schema["const"]
        found = self._found(schema, name)
        if found is not NOTHING:
            return found
        if isinstance(example, str) and (whole := PLACEHOLDER.fullmatch(example)):
            return self._known.find(whole[1])
        if (known := stated(schema, example)) is not NOTHING:
            return self._of_enum(schema, known, place)
        return self._made(schema, kind, name, place)

    def _of_enum(self, schema: Schema, given: Any, place: str) -> Any:
        """One of the enum by chance, unless there is an example or a default."""
        enum = schema.get("enum")
        if isinstance(enum, list) and given == enum[0] and "default" not in schema:
            return self._chance(place).choice(enum)
        return given

    def _found(self, schema: Schema, name: str) -> Any:
        """What is known by this name, if the schema accepts it. Raises Missing without it."""
        if not name:
            return NOTHING
        last = words(name)[-1]
        is_user = last in USERS or last in ("email", "mail")
        if self._task.is_login and (is_user or is_secret(name)):
            return self._credential(schema, name)
        refers = not is_chosen(name) and (
            is_reference(name) or plain(name) in self._referred or last in _CODES
        )
        copies = kind_of(schema) == "string" and last not in _OWN and "format" not in schema
        if refers or copies or name in self._known.context:
            try:
                found = self._known.find(name)
            except Missing:
                found = NOTHING
            if found is not NOTHING and fits(found, schema):
                return found
        if not refers and (found := self._related(schema, name)) is not NOTHING:
            return found
        can_state = stated(schema, None) is not NOTHING or last in _CODES
        if refers and not can_state and schema.get("type") != "boolean":
            raise Missing(name)
        return NOTHING

    def _related(self, schema: Schema, name: str) -> Any:
        """The id of an object, for a field with its name: `product` beside /products.

        Raises Missing if nothing else fits and a list of them can have one.
        """
        key, kind, form = plain(name), kind_of(schema), schema.get("format")
        is_own = key in _AMOUNTS or words(name)[-1] in _OWN
        if key not in self._objects or is_own or stated(schema, None) is not NOTHING:
            return NOTHING
        is_id = kind == "integer" or form == "uuid"
        if not is_id and (kind != "string" or form or "pattern" in schema):
            return NOTHING
        try:
            found = self._known.find(f"{key}_id")
        except Missing:
            found = NOTHING
        if found is not NOTHING and fits(found, schema):
            return found
        if is_id and self._objects[key]:
            raise Missing(name)
        return NOTHING

    def _credential(self, schema: Schema, name: str) -> Any:
        """What a log-in needs cannot be made: it is known, stated, or missing."""
        try:
            found = self._known.find(name)
        except Missing:
            found = stated(schema, None)
        if found is NOTHING and words(name)[-1] in USERS:
            found = self._known.context.get("agent", NOTHING)
        if found is NOTHING or PLACEHOLDER.search(str(found)):
            raise Missing(name)
        return found

    def _merged(self, schema: Schema, place: str) -> Schema:
        """The schema with its allOf, and one of its alternatives."""
        for part in schema.get("allOf") or ():
            if isinstance(part, dict):
                schema = both({k: v for k, v in schema.items() if k != "allOf"}, part)
        for key in ("oneOf", "anyOf"):
            options = [o for o in schema.get(key) or () if isinstance(o, dict)]
            kept = [n for n, o in enumerate(options) if o.get("type") != "null"]
            rest = {k: v for k, v in schema.items() if k != key}
            if kept:
                number = self._chance(f"{place} {key}").choice(kept)
                chosen = discriminated(rest, options[number], number)
                return self._merged(both(rest, chosen), place)
        return schema

    def _object(self, schema: Schema, place: str, example: Any, depth: int) -> Any:
        if isinstance(example, dict) and not properties_of(schema):
            return example
        given = example if isinstance(example, dict) else {}
        properties, required = properties_of(schema), required_of(schema)
        made: dict[str, Any] = {}
        for name, inner in properties.items():
            if name in required:
                made[name] = self.value(inner, name, f"{place}.{name}", given.get(name), depth + 1)
        for name in required:
            if name not in properties:
                made[name] = given.get(name, self._text({}, name, f"{place}.{name}"))
        if not required and depth < 2:
            made |= self._optional(properties, place, given, depth)
        least = schema.get("minProperties")
        extra = schema.get("additionalProperties")
        while isinstance(least, int) and len(made) < min(least, _MAX_ITEMS):
            key = next((name for name in properties if name not in made), f"key{len(made) + 1}")
            inner = properties.get(key, extra if isinstance(extra, dict) else {})
            made[key] = self.value(inner, key, f"{place}.{key}", None, depth + 1)
        return made

    def _optional(
        self, properties: Schema, place: str, given: Schema, depth: int
    ) -> dict[str, Any]:
        """Fields where none is required, since a request without all of them does nothing."""
        made = {}
        for name in list(properties)[:_MAX_OPTIONAL]:
            try:
                made[name] = self.value(
                    properties[name], name, f"{place}.{name}", given.get(name), depth + 1
                )
            except Missing:
                continue
        return made

    def _array(self, schema: Schema, name: str, place: str, example: Any, depth: int) -> list[Any]:
        least = count(schema.get("minItems"), 0)
        most = count(schema.get("maxItems"), _MAX_ITEMS)
        first = schema.get("prefixItems")
        items = schema.get("items")
        if isinstance(items, list):
            first, items = items, schema.get("additionalItems")
        if isinstance(example, list) and least <= len(example) <= most:
            each_is: Schema = {} if first or not isinstance(items, dict) else items
            if all(fits(each, each_is) for each in example):
                return example
        prefix = [inner for inner in first or () if isinstance(inner, dict)]
        wanted = min(max(least, len(prefix), 1), most)
        if least > _MAX_ITEMS:
            raise Missing(name or place, f"it needs {least} items")
        single = singular(plain(name)) if name and is_plural(name) else name
        made: list[Any] = []
        for attempt in range(wanted * 4):
            number = len(made)
            inner = prefix[number] if number < len(prefix) else items
            each = self.value(
                inner if isinstance(inner, dict) else {},
                single,
                f"{place}[{attempt}]",
                None,
                depth + 1,
            )
            if not schema.get("uniqueItems") or each not in made:
                made.append(each)
            if len(made) >= wanted:
                break
        if len(made) < least:
            made += [e for e in enum_of(items) if e not in made][: least - len(made)]
        if len(made) < least:
            raise Missing(name or place, "no further items were found")
        return made

    def _made(self, schema: Schema, kind: str, name: str, place: str) -> Any:
        if kind == "boolean":
            return self._chance(place).random() < 0.5
        if kind == "null":
            return None
        if kind in ("integer", "number"):
            found = numbers.number(
                self._chance(place), _small(schema, name), whole=kind == "integer"
            )
            if found is None:
                raise Missing(name or place, "no number is within its bounds")
            return found
        return self._text(schema, name, place)

    def _text(self, schema: Schema, name: str, place: str) -> Any:
        # Costs memory, and only this model needs it.
        from ape_proxy.offline import texts

        form = str(schema.get("format", ""))
        if form == "binary" or "contentMediaType" in schema or form == "file":
            return {"$file": {}} if name else "file"
        form = form or ("byte" if schema.get("contentEncoding") else "")
        least, most = count(schema.get("minLength"), 0), count(schema.get("maxLength"), _MAX_TEXT)
        chance, pattern = self._chance(place), schema.get("pattern")
        least = max(least, 1) if most else 0
        try:
            if isinstance(pattern, str):
                return texts.of_pattern(chance, pattern, least, most)
            return texts.of_format(chance, name, form, least, most)
        except texts.Unmakeable:
            rule = f"pattern {pattern[:60]}" if isinstance(pattern, str) else "length or format"
            raise Missing(name or place, f"no text of its {rule} was found") from None


def _small(schema: Schema, name: str) -> Schema:
    """Bounds for numbers that a page or an order has."""
    last = words(name)[-1] if name else ""
    if last in ("page", "qty", "quantity", "count", "amount") and "minimum" not in schema:
        if not {"maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} & schema.keys():
            return schema | {"minimum": 1, "maximum": 1 if last == "page" else 3}
    return schema


def named(path: str) -> Iterator[str]:
    """The names of the values in a path."""
    return map(plain, PARAMETER.findall(path))
