"""Diff: changed properties, and whether they require a replacement. Pure functions.

The rules are Terraform's (helper/schema in terraform-plugin-sdk v2), because the published plugin
is a bridge to a Terraform provider. An absent value equals a zero value. An absent value that the
provider computes is not a change. `replace` on a list counts its elements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ape_docker_provider.schema import IMAGE, Kind, Prop, Resource
from ape_docker_provider.values import Data, Unknown, has_unknown


class Action(Enum):
    """Kinds of a change."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True)
class Change:
    """One changed property."""

    path: str
    action: Action
    replace: bool


@dataclass(frozen=True)
class Diff:
    """All changes of a resource."""

    changes: tuple[Change, ...]
    delete_first: bool = False

    @property
    def replace(self) -> bool:
        """Whether the resource must be replaced."""
        return any(c.replace for c in self.changes)


def diff(resource: Resource, state: Data, news: Data, named_by_user: bool) -> Diff:
    """Return the changes from the old state to the new inputs."""
    if resource is IMAGE:
        return Diff(tuple(diff_image(state.get("__inputs") or {}, news)))
    changes: list[Change] = []
    diff_fields(resource.fields, state, news, "", changes)
    same_name = named_by_user and news.get("name") == state.get("name")
    made = Diff(tuple(changes))
    return Diff(made.changes, made.replace and (resource.delete_first or same_name))


def diff_image(old: Data, new: Data) -> list[Change]:
    """Return the changed inputs of docker.Image; a new password alone is not a change."""
    changes = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if key == "registry" and isinstance(before, Mapping) and isinstance(after, Mapping):
            before, after = before.get("server"), after.get("server")
        if before != after:
            changes.append(Change(key, kind_of(before, after), False))
    return changes


def diff_fields(
    fields: Mapping[str, Prop], old: Data, new: Data, path: str, changes: list[Change]
) -> None:
    """Add the changes of one level of properties."""
    for key, prop in fields.items():
        if not prop.output:
            where = f"{path}.{key}" if path else key
            diff_value(prop, old.get(key), new.get(key), where, changes)


def diff_value(prop: Prop, old: Any, new: Any, path: str, changes: list[Change]) -> None:
    """Add the changes of one property."""
    if isinstance(new, Unknown):
        changes.append(Change(path, kind_of(old, new), prop.replace or forces(prop)))
        return
    if new is None and prop.computed:
        return
    if prop.keep_if_empty and not new:
        return
    if is_zero(old) and is_zero(new):
        return
    match prop.kind:
        case Kind.OBJECT:
            if prop.computed and is_zero(new):
                return
            if is_zero(old) != is_zero(new):
                changes.append(Change(path, kind_of(old, new), prop.replace or forces(prop)))
                return
            diff_fields(prop.fields, old or {}, new or {}, path, changes)
        case Kind.LIST:
            diff_list(prop, old or [], new or [], path, changes)
        case Kind.SET:
            diff_set(prop, old or [], new or [], path, changes)
        case Kind.MAP:
            diff_map(prop, old or {}, new or {}, path, changes)
        case _:
            if not same_scalar(prop, old, new):
                changes.append(Change(path, kind_of(old, new), prop.replace))


def diff_map(prop: Prop, old: Data, new: Data, path: str, changes: list[Change]) -> None:
    """A map of strings, key by key."""
    if prop.computed and not new:
        return
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            where = f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"
            changes.append(Change(where, kind_of(old.get(key), new.get(key)), prop.replace))


def diff_list(prop: Prop, old: Any, new: Any, path: str, changes: list[Change]) -> None:
    """Add the changes of an ordered list. A mere reordering of ports is not a change."""
    if prop.computed and not new:
        return
    item = prop.item
    assert item is not None
    if item.kind is Kind.OBJECT and "internal" in item.fields and same_ports(old, new):
        return
    for i in range(max(len(old), len(new))):
        before, after = nth(old, i), nth(new, i)
        where = f"{path}[{i}]"
        if item.kind is not Kind.OBJECT:
            if before != after:
                changes.append(Change(where, kind_of(before, after), prop.replace))
        elif before is None or after is None or isinstance(after, Unknown):
            flag = prop.replace or forces(item)
            changes.append(Change(where, kind_of(before, after), flag))
        else:
            diff_fields(item.fields, before, after, where, changes)


def diff_set(prop: Prop, old: Any, new: Any, path: str, changes: list[Change]) -> None:
    """Add the changes of an unordered list."""
    if prop.computed and not new:
        return
    item = prop.item
    assert item is not None
    left = [canonical(item, v) for v in old]
    gone = list(enumerate(left))
    fresh: list[tuple[int, Any]] = []
    for i, value in enumerate(new):
        key = canonical(item, value)
        match_at = next((n for n, (_, have) in enumerate(gone) if have == key), None)
        if match_at is None or has_unknown(value):
            fresh.append((i, value))
        else:
            gone.pop(match_at)
    count_changed = prop.replace and len(old) != len(new)
    for i, value in fresh:
        flag = count_changed or element_forces(prop, item, value)
        replaced = any(n == i for n, _ in gone)
        changes.append(Change(f"{path}[{i}]", Action.UPDATE if replaced else Action.ADD, flag))
    for i, _ in gone:
        if all(n != i for n, _ in fresh):
            flag = count_changed or element_forces(prop, item, old[i])
            changes.append(Change(f"{path}[{i}]", Action.DELETE, flag))


def element_forces(prop: Prop, item: Prop, value: Any) -> bool:
    """Whether an added or deleted element replaces the resource."""
    if item.kind is not Kind.OBJECT:
        return prop.replace
    if isinstance(value, Unknown):
        return prop.replace or forces(item)
    return any(
        not is_zero(value.get(k)) and (p.replace or (p.kind is Kind.SET and forces(p)))
        for k, p in item.fields.items()
    )


def forces(prop: Prop) -> bool:
    """Whether any field of a block replaces the resource."""
    inner = [prop.item] if prop.item else list(prop.fields.values())
    return any(p.replace or forces(p) for p in inner)


def same_ports(old: Any, new: Any) -> bool:
    """Whether two port lists publish the same; an unset external port matches any."""
    if len(old) != len(new) or has_unknown(new):
        return False
    left = list(old)
    for port in new:
        for have in left:
            keys = ("internal", "ip", "protocol")
            open_port = not port.get("external") or port["external"] == have.get("external")
            if open_port and all(have.get(k) == port.get(k) for k in keys):
                left.remove(have)
                break
        else:
            return False
    return True


def canonical(prop: Prop, value: Any) -> Any:
    """Return a value without zero values and with sorted sets, to compare set elements."""
    if prop.kind is Kind.OBJECT and isinstance(value, Mapping):
        pairs = ((k, canonical(prop.fields[k], v)) for k, v in value.items() if k in prop.fields)
        return {k: v for k, v in pairs if not is_zero(v)}
    if prop.kind in (Kind.SET, Kind.LIST) and isinstance(value, list) and prop.item is not None:
        made = [canonical(prop.item, v) for v in value]
        return sorted(made, key=repr) if prop.kind is Kind.SET else made
    return value


def same_scalar(prop: Prop, old: Any, new: Any) -> bool:
    """Whether two scalars are the same value."""
    if prop.ratio:
        try:
            return abs(float(old or 0) - float(new or 0)) < 1e-6
        except ValueError:
            return False
    return bool(old == new)


def is_zero(value: Any) -> bool:
    """Whether it is one of Terraform's zero values, or an object of only zero values."""
    if isinstance(value, Unknown):
        return False
    if isinstance(value, Mapping):
        return all(is_zero(v) for v in value.values())
    return value is None or value is False or value in (0, "", [])


def kind_of(old: Any, new: Any) -> Action:
    """Return the kind of a change."""
    if is_zero(old):
        return Action.ADD
    return Action.DELETE if new is None else Action.UPDATE


def nth(items: Any, i: int) -> Any:
    """Return the i-th element, or None."""
    return items[i] if i < len(items) else None


def planned(fields: Mapping[str, Prop], state: Data, news: Data) -> Data:
    """Return the inputs, completed with values that the provider computed before."""
    made = dict(news)
    for key, prop in fields.items():
        old, new = state.get(key), news.get(key)
        if prop.output:
            continue
        if new is None and prop.computed and old is not None:
            made[key] = old
        elif prop.kind is Kind.OBJECT and isinstance(new, Mapping) and isinstance(old, Mapping):
            made[key] = planned(prop.fields, dict(old), dict(new))
    return made
