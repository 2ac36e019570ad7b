"""Conversion between plain Python data and Pulumi's property values.

Whole numbers become `int`; an output that a preview does not know yet becomes `UNKNOWN`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pulumi.provider.experimental.property_value import Computed, PropertyValue
from pulumi.runtime import rpc

Data = dict[str, Any]
Bag = Mapping[str, PropertyValue]


class Unknown:
    """The type of `UNKNOWN`."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = Unknown()
# The engine's values of unknown outputs, by type (pulumi/pulumi,
# sdk/go/common/resource/plugin/rpc.go). The SDK passes them as plain strings.
_UNKNOWNS: Final = frozenset(
    (
        rpc.UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    )
)


def plain(value: PropertyValue) -> Any:
    """Convert one property value to plain data, without secret marks. Raises TypeError."""
    inner = value.value
    if isinstance(inner, Computed) or (isinstance(inner, str) and inner in _UNKNOWNS):
        return UNKNOWN
    if inner is None or isinstance(inner, (bool, str)):
        return inner
    if isinstance(inner, float):
        return int(inner) if inner.is_integer() else inner
    if isinstance(inner, Mapping):
        return {k: plain(v) for k, v in inner.items()}
    if isinstance(inner, Sequence):
        return [plain(v) for v in inner if isinstance(v, PropertyValue)]
    raise TypeError("assets, archives and resource references are not accepted here")


def plain_map(bag: Bag) -> Data:
    """Convert a property map to plain data, without null values."""
    return {k: plain(v) for k, v in bag.items() if v.value is not None}


def wrap(value: Any, like: PropertyValue | None = None) -> PropertyValue:
    """Convert plain data to a property value, secret where `like` is. Raises TypeError."""
    secret = like is not None and like.is_secret
    inner = like.value if like is not None else None
    if isinstance(value, Unknown):
        return PropertyValue(rpc.UNKNOWN, is_secret=secret)  # the SDK cannot marshal Computed
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return PropertyValue(value, is_secret=secret)
    if isinstance(value, (int, float)):
        return PropertyValue(float(value), is_secret=secret)
    if isinstance(value, Mapping):
        old = inner if isinstance(inner, Mapping) else {}
        return PropertyValue({k: wrap(v, old.get(k)) for k, v in value.items()}, is_secret=secret)
    if isinstance(value, Sequence):
        items: Sequence[Any] = inner if isinstance(inner, tuple) else ()
        made = [wrap(v, items[i] if i < len(items) else None) for i, v in enumerate(value)]
        return PropertyValue(made, is_secret=secret)
    raise TypeError(f"cannot send a {type(value).__name__} to Pulumi")


def wrap_inputs(data: Data, like: Bag) -> dict[str, PropertyValue]:
    """Convert checked inputs, secret exactly where the program's inputs are."""
    return {k: wrap(v, like.get(k)) for k, v in data.items()}


def wrap_outputs(data: Data, like: Bag, sensitive: frozenset[str]) -> dict[str, PropertyValue]:
    """Convert outputs; a property is secret where its input contains a secret."""
    made = {}
    for key, value in data.items():
        if value is None:
            continue
        source = like.get(key)
        secret = key in sensitive or (source is not None and source.contains_secret())
        made[key] = wrap(value).with_secret(secret)
    return made


def has_unknown(value: Any) -> bool:
    """Whether plain data contains an unknown value."""
    if isinstance(value, Unknown):
        return True
    if isinstance(value, Mapping):
        return any(has_unknown(v) for v in value.values())
    if isinstance(value, list):
        return any(has_unknown(v) for v in value)
    return False


def digest(text: str, length: int) -> str:
    """Return a short hex digest, for automatic names."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]
