"""What a target answered, as agents get it: one decoder for every way in.

A target may answer anything. Its answer is never an error of the gateway: bytes that are not UTF-8
are replaced, and JSON that Python's or another common parser would reject is forwarded as text.
"""

from __future__ import annotations

import base64

import msgspec
from multidict import CIMultiDictProxy

from ape_gateway.wire import DROPPED_FROM_ANSWER

# Below the recursion limits of common parsers, and more than documents have.
MAX_DEPTH = 100
# Objects and lists: each takes 60 bytes and more where it is parsed, and 2 bytes as text.
MAX_CONTAINERS = 100_000
_any = msgspec.json.Decoder()


def headers_of(answer: CIMultiDictProxy[str]) -> dict[str, str | list[str]]:
    """The target's headers; set-cookie is a list (see the description of `wire`)."""
    made: dict[str, str | list[str]] = {}
    hop_by_hop: set[str] = set()
    if named := answer.get("connection"):
        hop_by_hop = {part.strip().lower() for part in named.split(",")}
    for key, raw in answer.items():
        name, value = key.lower(), raw if raw.isascii() else plain(raw)
        if name in DROPPED_FROM_ANSWER or name in hop_by_hop:
            continue
        before = made.get(name)
        if name == "set-cookie":
            made[name] = [*(before or []), value]
        else:
            made[name] = f"{before}, {value}" if before is not None else value
    return made


def plain(text: str) -> str:
    """`text` of aiohttp, in which a byte that is not UTF-8 is a surrogate, as text to be sent."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def body_of(
    content: bytes, content_type: str, charset: str, truncated: bool
) -> tuple[msgspec.Raw | str | None, str]:
    """(body, body_encoding) of the target's bytes."""
    if not content:
        return None, "none"
    if content_type.endswith(("/json", "+json")) and not truncated and is_json(content):
        return msgspec.Raw(content), "json"
    if content_type.startswith("text/") or content_type.endswith(
        ("json", "xml", "javascript", "x-www-form-urlencoded")
    ):
        try:
            # The second step: some codecs, such as utf-7, make surrogates.
            return content.decode(charset, "replace").encode("utf-8", "replace").decode(), "text"
        # UnicodeError, ValueError: of codecs that take no "replace", or a charset with a NUL.
        except (LookupError, ValueError):
            pass
    return base64.b64encode(content).decode(), "base64"


def is_json(content: bytes) -> bool:
    """Whether any common parser reads `content`: no huge number, no deep nesting, no surrogate."""
    containers = content.count(b"[") + content.count(b"{")
    if containers > MAX_CONTAINERS:
        return False
    try:
        value = _any.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return containers <= MAX_DEPTH or not _deeper_than(MAX_DEPTH, value)


def _deeper_than(depth: int, value: object) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for each in level
            if type(each) in (dict, list)
            for child in (each.values() if type(each) is dict else each)  # type: ignore[attr-defined]
        ]
        if not level:
            return False
    return True
