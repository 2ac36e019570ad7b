"""Parts of a request as models write them: headers, query, content type and body.

Near misses are put right, and named by their kind (metrics.REPAIR_KINDS).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from ape_agent import loose
from ape_contracts.operation_request import kind_of

JSON_TYPE = "application/json"
_ENCODED_TIMES = 4
_MAX_HEADERS, _MAX_LIST = 64, 1000
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTENT_TYPE = re.compile(r"[\w.+*-]{1,64}/[\w.+*-]{1,128}\s*(?:;[\x20-\x7e]{0,128})?", re.ASCII)


class Unreadable(Exception):
    """The message states for the model what is wrong with its call."""


@dataclass
class Repairs:
    """The kinds of repairs of one call, each once."""

    kinds: list[str] = field(default_factory=list)

    def add(self, kind: str) -> None:
        if kind not in self.kinds:
            self.kinds.append(kind)


def headers_of(given: Any) -> dict[str, str]:
    """The headers that the model gave, as an object or as lines. Raises Unreadable."""
    if isinstance(given, str):
        lines = (line.partition(":") for line in given.splitlines() if ":" in line)
        given = {name.strip(): value.strip() for name, _, value in lines}
    if not given:
        return {}
    if not isinstance(given, dict):
        raise Unreadable("headers: must be an object of names and texts.")
    made = {}
    for name, value in list(given.items())[:_MAX_HEADERS]:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = ", ".join(value)
        if value is None:
            continue
        if not isinstance(value, str | int | float):
            raise Unreadable(f"headers: the value of {name[:40]} must be a text.")
        text = value if isinstance(value, str) else loose.dumps(value)
        if not _HEADER_NAME.fullmatch(name) or _NOT_IN_A_HEADER.search(text):
            raise Unreadable("headers: a name or a value has characters that headers cannot have.")
        made[name] = loose.clean(text.strip())
    return made


def query_of(given: dict[str, Any]) -> dict[str, Any]:
    """The query that the model gave as an object. Raises Unreadable."""
    made = {}
    for name, value in given.items():
        each = value[:_MAX_LIST] if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, str | int | float) for part in each):
            raise Unreadable(
                f"query: {name[:40]} must be a text, a number, true, false, or a list of those."
            )
        made[name] = each if isinstance(value, list) else value
    try:
        loose.dumps(made)
    except loose.NotJson as problem:
        raise Unreadable(f"The query cannot be sent: {problem}.") from None
    cleaned: dict[str, Any] = loose.cleaned(made)
    return cleaned


def content_type_of(given: Any, headers: dict[str, str]) -> str:
    """The content type; one among the headers is taken out of them. Raises Unreadable."""
    for name in [name for name in headers if name.lower() == "content-type"]:
        given = headers.pop(name) if given in (None, "") else given
        headers.pop(name, None)
    if given in (None, ""):
        return ""
    if not isinstance(given, str) or not _CONTENT_TYPE.fullmatch(given.strip()):
        raise Unreadable(f"content_type: must be a type such as {JSON_TYPE}.")
    return given.strip()


def body_of(body: Any, content_type: str, repairs: Repairs) -> Any:
    """The body that is sent as this type; one that is JSON text of an object becomes it.

    Raises Unreadable.
    """
    kind = kind_of(content_type or JSON_TYPE)
    if isinstance(body, str) and body.strip() in ("", "null", "None") and kind != "text":
        repairs.add("body_text")
        return None
    if isinstance(body, str):
        decoded = body if kind in ("text", "binary") else _decoded(body)
        if kind == "form" and isinstance(decoded, str) and "=" in decoded:
            decoded = _form_of(decoded)
        if isinstance(decoded, dict | list):
            repairs.add("body_text")
        body = decoded if isinstance(decoded, dict | list) else loose.clean(body)
    try:
        loose.dumps(body)
    except loose.NotJson as problem:
        raise Unreadable(f"The body cannot be sent: {problem}.") from None
    if kind in ("form", "multipart") and body is not None and not isinstance(body, dict):
        raise Unreadable(f"body: must be an object, as it is sent as {content_type}.")
    return loose.cleaned(body)


def _decoded(body: str) -> Any:
    """The object or list that a text holds, else the text."""
    if body.lstrip()[:1] not in ("{", "[", '"') or len(body) > loose.MAX_CHARS:
        return body
    inner: Any = body
    for _ in range(_ENCODED_TIMES):
        try:
            inner = loose.loads(inner)
        except loose.NotJson:
            found = next(loose.objects(inner), None)
            whole = found and not inner[: found.start].strip() and not inner[found.end :].strip()
            return found.value if found and whole else body
        if not isinstance(inner, str):
            break
    return inner if isinstance(inner, dict | list) else body


def _form_of(text: str) -> dict[str, Any]:
    """The fields of a text such as a=1&b=2; those that are repeated are lists."""
    made: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True)[:_MAX_LIST]:
        before = made.get(name)
        if before is None:
            made[name] = value
        else:
            made[name] = [*before, value] if isinstance(before, list) else [before, value]
    return made


def with_cookies(headers: Mapping[str, str], cookies: Mapping[str, str]) -> dict[str, str]:
    """The headers with further cookies; those that are in them already stay."""
    made = dict(headers)
    names = {pair.partition("=")[0].strip() for pair in made.get("Cookie", "").split(";")}
    more = [f"{name}={value}" for name, value in cookies.items() if name not in names]
    if more:
        made["Cookie"] = "; ".join([*filter(None, [made.get("Cookie")]), *more])
    return made
