"""The query of a request to a target, from JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from ape_contracts.gateway_config import shown
from ape_gateway.errors import WireError

Pairs = tuple[tuple[str, str], ...]
# More than servers take in a URL.
MAX_BYTES, MAX_PAIRS = 64 << 10, 1024
_dict = msgspec.json.Decoder(dict[str, Any])
_VALUES = "texts, numbers, booleans, null, and lists of those"


def pairs_of(raw: msgspec.Raw | bytes, key: str) -> Pairs:
    """The pairs of a JSON object: a list is a repeated name, null is nothing.

    `key` names it in errors. Raises WireError.
    """
    if len(raw) > MAX_BYTES:
        raise WireError(f"{key}: is larger than {MAX_BYTES >> 10} KiB. Send less in the query.")
    try:
        given = _dict.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WireError(f"{key}: must be an object of {_VALUES}, to be the query.") from None
    pairs = []
    for name, value in given.items():
        for each in value if isinstance(value, list) else (value,):
            if each is not None:
                pairs.append((name, _text(each, key, name)))
    if len(pairs) > MAX_PAIRS:
        raise WireError(f"{key}: has more than {MAX_PAIRS} values. Send fewer in the query.")
    return tuple(pairs)


def _text(value: Any, key: str, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return str(value)
        # Python writes no number of more than 4300 digits.
        except ValueError:
            pass
    raise WireError(f"{key}.{shown(name)}: is not a value of a query. These are {_VALUES}.")
