"""Building blocks of the schema: kinds, properties, resources, and fields that several share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


class Kind(Enum):
    """The wire type of a property."""

    STRING = "string"
    INT = "whole number"
    BOOL = "boolean"
    MAP = "map of strings"
    LIST = "list"
    SET = "list (order does not matter)"
    OBJECT = "object"


@dataclass(frozen=True)
class Prop:
    """One property: its type, its rules, and the effect of a change."""

    kind: Kind
    item: Prop | None = None
    fields: Mapping[str, Prop] = field(default_factory=dict)
    required: bool = False
    replace: bool = False
    computed: bool = False
    output: bool = False
    sensitive: bool = False
    default: Any = None
    one_of: tuple[str, ...] = ()
    minimum: int | None = None
    duration: bool = False
    keep_if_empty: bool = False
    """An empty or absent new value is not a change (upstream's DiffSuppressFunc)."""
    ratio: bool = False
    """Compared as a number."""
    unsupported: str = ""
    """The reason to reject it: the published plugin implements it, the stand-in does not."""


@dataclass(frozen=True)
class Resource:
    """One resource type."""

    token: str
    fields: Mapping[str, Prop]
    auto_name: bool = True
    delete_first: bool = False
    """The published plugin always deletes before it replaces."""

    @property
    def sensitive(self) -> frozenset[str]:
        """Properties that are always secret."""
        return frozenset(k for k, p in self.fields.items() if p.sensitive)


def text(**flags: Any) -> Prop:
    """Return a string."""
    return Prop(Kind.STRING, **flags)


def num(**flags: Any) -> Prop:
    """Return a whole number."""
    return Prop(Kind.INT, **flags)


def flag(**flags: Any) -> Prop:
    """Return a boolean."""
    return Prop(Kind.BOOL, **flags)


def mapping(**flags: Any) -> Prop:
    """Return a map of strings."""
    return Prop(Kind.MAP, **flags)


def listing(item: Prop | None = None, **flags: Any) -> Prop:
    """Return a list, by default of strings."""
    return Prop(Kind.LIST, item=item or text(), **flags)


def unordered(item: Prop | None = None, **flags: Any) -> Prop:
    """Return a list without order, by default of strings."""
    return Prop(Kind.SET, item=item or text(), **flags)


def block(fields: Mapping[str, Prop], **flags: Any) -> Prop:
    """Return an object."""
    return Prop(Kind.OBJECT, fields=fields, **flags)


def replacing(fields: Mapping[str, Prop]) -> dict[str, Prop]:
    """Return the same fields, each of which replaces the resource when it changes."""
    return {k: replace(v, replace=True) for k, v in fields.items()}


UNSUPPORTED = "the offline stand-in does not implement it; the published plugin does"
LABEL = block(replacing({"label": text(required=True), "value": text(required=True)}))
LABEL_UPDATABLE = block({"label": text(required=True), "value": text(required=True)})
RATE = block({"path": text(required=True), "rate": num(required=True, minimum=0)})

HEALTHCHECK_SERVICE = {
    "interval": text(default="0s", duration=True),
    "retries": num(default=0, minimum=0),
    "startPeriod": text(default="0s", duration=True),
    "tests": listing(),
    "timeout": text(default="0s", duration=True),
}
MOUNT_TYPES = ("bind", "volume", "tmpfs")
PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def mount_block(propagation: Prop, container: bool) -> Prop:
    """Return a mount of Container or Service, which are nearly the same."""
    volume_options = {
        "driverName": text(),
        "driverOptions": mapping(),
        "labels": unordered(LABEL),
        "noCopy": flag(),
    }
    if container:
        volume_options["subpath"] = text(replace=True)
    return block(
        {
            "bindOptions": block({"propagation": propagation}),
            "readOnly": flag(),
            "source": text(),
            "target": text(required=True),
            "tmpfsOptions": block({"mode": num(), "sizeBytes": num()}, replace=container),
            "type": text(required=True, one_of=MOUNT_TYPES),
            "volumeOptions": block(volume_options),
        }
    )
