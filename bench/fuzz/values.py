"""JSON that is nearly right: templates with values, keys and bytes that a parser may not expect."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

# As text, since no JSON library writes them.
FRAGMENTS = (
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"1e-999",
    b"1000000.0",
    b"-0",
    b"0x10",
    b"01",
    b"9" * 400,
    b"9" * 5000,
    b"0." + b"1" * 5000,
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\\x"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    *(b"[" * depth + b"]" * depth for depth in (60, 240, 480, 900)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (60, 240, 480, 900)),
    b"[" * 50_000,
    b"[" * 50_000 + b"]" * 50_000,
    b'{"a":1,"a":[2],"a":{}}',
    b"[" + b"[]," * 3000 + b"[]]",
    b"{" + b",".join(b'"k%d":0' % n for n in range(3000)) + b"}",
    b'"' + b"x" * 70_000 + b'"',
    b"'single'",
    b"",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, -(2**63) - 1, 2**64, 1.5, 1e15, 1e308),
    *("", " ", "\0", "\r\nX: y", "\u2028", "é", "😀", "1", "1000000", "null", "success", "ok"),
    *("../../x", "/%2e%2e/x", "..;/x", "//evil.example/x", "http://evil.example/", "a" * 300),
    *([], {}, [[]], [None], {"": None}, [1, "x", {}], {"a": {"b": [1]}}, ["x"] * 40),
)
KEYS = ("", "\0", "é", "x", "a" * 300, "__proto__", "messages", "slot", "id")
_OPERATIONS = ("value", "value", "fragment", "fragment", "drop", "wrap", "copy", "rename")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of every value inside."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _change(draw: Any, root: list[Any]) -> None:
    found = list(_places(root))
    holder, key = found[draw(st.integers(0, len(found) - 1))]
    operation = draw(st.sampled_from(_OPERATIONS))
    if operation == "value":
        holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    elif operation == "fragment":
        holder[key] = f"\1{draw(st.integers(0, len(FRAGMENTS) - 1))}\1"
    elif operation == "wrap":
        holder[key] = [holder[key]]
    elif operation == "copy":
        source, where = found[draw(st.integers(0, len(found) - 1))]
        holder[key] = copy.deepcopy(source[where])
    elif holder is not root and operation == "drop":
        del holder[key]
    elif isinstance(holder, dict):
        holder[draw(st.sampled_from(KEYS))] = holder.pop(key)


@st.composite
def mutated(draw: Any, templates: tuple[Any, ...], most: int = 3) -> bytes:
    """The text of one of the templates, with up to `most` changes; now and then cut or spoiled."""
    root = [copy.deepcopy(draw(st.sampled_from(templates)))]
    for _ in range(draw(st.integers(0, most))):
        _change(draw, root)
    text = json.dumps(root[0], separators=(",", ":")).encode()
    for number, fragment in enumerate(FRAGMENTS):
        text = text.replace(b'"\\u0001%d\\u0001"' % number, fragment)
    spoil = draw(st.integers(0, 19))
    at = draw(st.integers(0, len(text))) if spoil < 2 else 0
    if spoil == 0:
        text = text[:at]
    elif spoil == 1:
        text = text[:at] + draw(st.binary(min_size=1, max_size=8)) + text[at:]
    elif spoil == 2:
        text = draw(st.binary(max_size=64))
    return text
