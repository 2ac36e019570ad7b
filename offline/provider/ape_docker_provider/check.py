"""Check: reject properties that the schema does not have, fill in defaults. Pure functions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ape_docker_provider.durations import parse_duration
from ape_docker_provider.schema import CONTAINER, SERVICE, SERVICE_CONFIG, Kind, Prop, Resource
from ape_docker_provider.values import UNKNOWN, Data, Unknown, digest

INTERNAL = frozenset({"__defaults", "__inputs"})


@dataclass(frozen=True)
class Failure:
    """One rejected property: its path, and the reason with a remedy."""

    path: str
    reason: str


def check(
    resource: Resource, news: Data, olds: Data, logical_name: str, seed: bytes
) -> tuple[Data, list[Failure]]:
    """Return the inputs with defaults, and the failures."""
    failures: list[Failure] = []
    made = check_fields(resource.fields, news, "", failures, skip=frozenset({"name"}))
    if resource.auto_name and not made.get("name"):
        made["name"] = olds.get("name") or auto_name(logical_name, seed)
    for name, prop in resource.fields.items():
        if prop.required and name not in made and not (name == "name" and resource.auto_name):
            failures.append(Failure(name, f'"{name}" is required'))
    failures += conflicts(resource, made)
    return made, failures


def auto_name(logical_name: str, seed: bytes) -> str:
    """Return a logical name with seven hex digits, as the published plugin does."""
    return f"{logical_name}-{digest(logical_name + seed.hex(), 7)}"


def conflicts(resource: Resource, made: Data) -> list[Failure]:
    """Return failures of rules between properties."""
    failures = []
    mode = made.get("mode")
    if resource is SERVICE and isinstance(mode, dict) and mode.get("global") is True:
        if mode.get("replicated"):
            failures.append(Failure("mode", "global and replicated exclude each other"))
        if made.get("convergeConfig"):
            failures.append(Failure("convergeConfig", "cannot be used with mode.global"))
    if resource is SERVICE_CONFIG and ("data" in made) == ("dataRaw" in made):
        failures.append(Failure("data", 'exactly one of "data" and "dataRaw" is needed'))
    if resource is CONTAINER:
        for i, item in enumerate(made.get("uploads") or []):
            if not isinstance(item, Mapping):
                continue
            given = [k for k in ("content", "contentBase64", "source") if item.get(k)]
            if len(given) != 1:
                rule = 'exactly one of "content", "contentBase64" and "source" is needed'
                failures.append(Failure(f"uploads[{i}]", rule))
    return failures


def check_fields(
    fields: Mapping[str, Prop],
    data: Mapping[str, Any],
    path: str,
    failures: list[Failure],
    skip: frozenset[str] = frozenset(),
) -> Data:
    """Check one level of properties; return them in their order, then the defaults."""
    known = [k for k, p in fields.items() if not p.output]
    made: Data = {}
    for key, value in data.items():
        if value is None or key in INTERNAL:
            continue
        where = f"{path}.{key}" if path else key
        prop = fields.get(key)
        if prop is None or prop.output:
            failures.append(Failure(where, unknown_reason(key, known)))
        elif prop.unsupported:
            failures.append(Failure(where, prop.unsupported))
        else:
            made[key] = check_value(prop, value, where, failures)
    for key, prop in fields.items():
        if prop.default is not None and key not in made:
            made[key] = prop.default
        if path and prop.required and key not in made:
            failures.append(Failure(f"{path}.{key}", f'"{key}" is required'))
    return made


def unknown_reason(key: str, known: list[str]) -> str:
    """Return the reason for an unknown property, with the nearest known name."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}"
    return f'unknown property "{key}"{hint}'


def check_value(prop: Prop, value: Any, path: str, failures: list[Failure]) -> Any:
    """Check one value: its type (converted as in Terraform) and its rules."""
    if isinstance(value, Unknown):
        return UNKNOWN
    match prop.kind:
        case Kind.OBJECT:
            if isinstance(value, Mapping):
                return check_fields(prop.fields, value, path, failures)
        case Kind.LIST | Kind.SET:
            item = prop.item
            if isinstance(value, list) and item is not None:
                return [
                    check_value(item, v, f"{path}[{i}]", failures)
                    for i, v in enumerate(value)
                    if v is not None
                ]
        case Kind.MAP:
            if isinstance(value, Mapping):
                return {k: as_text(v) for k, v in value.items() if v is not None}
        case _:
            return check_scalar(prop, value, path, failures)
    failures.append(Failure(path, f"must be a {prop.kind.value}, got {describe(value)}"))
    return value


def check_scalar(prop: Prop, value: Any, path: str, failures: list[Failure]) -> Any:
    """Check a string, a whole number or a boolean."""
    made = coerce(prop.kind, value)
    if made is None:
        failures.append(Failure(path, f"must be a {prop.kind.value}, got {describe(value)}"))
        return value
    if prop.one_of and made not in prop.one_of:
        failures.append(Failure(path, f'must be one of {", ".join(prop.one_of)}, got "{made}"'))
    if prop.minimum is not None and made < prop.minimum:
        failures.append(Failure(path, f"must be {prop.minimum} or more, got {made}"))
    if prop.ratio and not re.fullmatch(r"0?\.\d+|0|1(\.0*)?", made):
        failures.append(Failure(path, f'must be a ratio from "0.0" to "1.0", got "{made}"'))
    if prop.duration and parse_duration(made) is None:
        failures.append(Failure(path, f'must be a duration like "10s" or "1m30s", got "{made}"'))
    return made


def coerce(kind: Kind, value: Any) -> Any:
    """Return the value converted to `kind`, or None where that is impossible."""
    if kind is Kind.STRING:
        return None if isinstance(value, (list, Mapping)) else as_text(value)
    if kind is Kind.BOOL:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value))
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else None


def as_text(value: Any) -> Any:
    """Convert a scalar to a string."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, (str, Unknown)) else str(value)


def describe(value: Any) -> str:
    """Return the JSON type of a value; never the value, which may be a secret."""
    names = {dict: "an object", list: "a list", bool: "a boolean", str: "a string"}
    return names.get(type(value), "a number")
