"""Recorded requests as plain data, whatever file they come from, and what is left out of them.

A variable without a value, such as `{{id}}` of Postman or `$ID` of a shell, is a mark in a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from ape_contracts.operation_request import FORM, MULTIPART, kind_of
from ape_infra.config.imports.errors import ImportProblem

MAX_BYTES = 128 << 20
MAX_REQUESTS = 20_000
MAX_DEPTH = 100
MAX_PLACES = 20
MAX_URL = 64 << 10
MAX_PAIRS = 5000
MAX_SEGMENTS = 100
# Both are of the private use area, which no recording has.
_OPEN, _CLOSE = "\ue000", "\ue001"
VARIABLE = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]{{1,100}}){_CLOSE}")
# A text of JSON, or a variable outside of one.
_JSON_PART = re.compile(f'"(?:[^"\\\\]|\\\\.)*+"?|{_OPEN}[^{_OPEN}{_CLOSE}]+{_CLOSE}', re.S)
# What RFC 3986 allows in a path, with the escapes there are.
_PATH_SAFE = "/:@!$&'()*+,;=~%"
_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_PORTS = {"http": ":80", "https": ":443"}
Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Body:
    """`value`: JSON data, also of a form, or a text; None: the recording does not have it."""

    content_type: str
    value: Any = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """`path` is encoded, but for the marks of variables; `values` has those that are known.

    `origin` is scheme and host, `answer` the JSON text of the answer to it, if the file has it.
    """

    method: str
    origin: str
    path: str
    query: tuple[Pair, ...] = ()
    headers: tuple[Pair, ...] = ()
    body: Body | None = None
    name: str = ""
    values: dict[str, str] = field(default_factory=dict)
    status: int = 0
    answer: str = ""

    @property
    def host(self) -> str:
        return self.origin.partition("://")[2] or self.origin

    @property
    def shown(self) -> str:
        """Method and path, without any value of a query; a secret in the path is not shown yet."""
        return f"{self.method} {named(self.path)}"


@dataclass
class Notes:
    """What is left out or to be looked over: reason -> places, each with its count."""

    found: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, reason: str, place: str = "") -> None:
        places = self.found.setdefault(reason, {})
        places[place] = places.get(place, 0) + 1

    def plain(self) -> list[dict[str, Any]]:
        return [
            {
                "reason": reason,
                "count": sum(places.values()),
                "places": [place for place in places if place][:MAX_PLACES],
            }
            for reason, places in self.found.items()
        ]


@dataclass(frozen=True)
class Recording:
    """The requests of a file, in their order."""

    kind: str
    requests: tuple[Request, ...]


def variable(name: str) -> str:
    """The mark of a variable in a text."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:60]
    return f"{_OPEN}{clean or 'value'}{_CLOSE}"


def unmarked(text: str) -> str:
    """A text of a file, without anything in it that is a mark here."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


def named(text: str) -> str:
    """The text with {name} for each mark."""
    return VARIABLE.sub(r"{\1}", text)


def encoded_path(path: str) -> str:
    """The path as a URL has it; marks stay."""
    parts = VARIABLE.split(path or "/")
    return "".join(
        f"{_OPEN}{part}{_CLOSE}" if i % 2 else quote(part.encode("utf-8", "replace"), _PATH_SAFE)
        for i, part in enumerate(parts)
    )


def of_url(
    url: str,
) -> tuple[str, str, tuple[Pair, ...], str]:
    """Return (origin, path, query, user info) of a URL, which may begin with a variable."""
    found = _URL.match(url.strip()[:MAX_URL])
    scheme, host, path, query = found.groups("") if found else ("", "", "", "")
    user, _, host = host.rpartition("@")
    scheme = (scheme or "http").lower()
    is_variable = VARIABLE.match(host) is not None
    host = host if is_variable else host.lower().removesuffix(_PORTS.get(scheme, ":"))
    if not path.startswith("/"):
        path = f"/{path}"
    origin = host if is_variable and "://" not in url else f"{scheme}://{host}"
    return origin, encoded_path(path), pairs(query), user


def pairs(query: str) -> tuple[Pair, ...]:
    """The pairs of a query or a form. Raises ImportProblem."""
    try:
        return tuple(
            parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PAIRS, errors="replace")
        )
    except ValueError:
        raise ImportProblem(
            f"A query or a form has more than {MAX_PAIRS} fields. Remove that request."
        ) from None


def plain_type(content_type: str) -> str:
    """A content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def as_json(text: str) -> Any:
    """The data of a JSON text of bounded depth. Raises ValueError."""

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(with_texts(text), parse_constant=no_constant)
        if depth(value) > MAX_DEPTH:
            raise ValueError("nested too deeply")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def with_texts(text: str) -> str:
    """A JSON text in which a variable that stands outside of texts becomes a text."""

    def quoted(found: re.Match[str]) -> str:
        return found[0] if found[0][0] == '"' else f'"{found[0]}"'

    return _JSON_PART.sub(quoted, text) if _OPEN in text else text


def depth(value: Any) -> int:
    """How deep a value is nested; the search stops beyond the maximum."""
    level, inner = 0, [value]
    while inner and level <= MAX_DEPTH:
        level += 1
        inner = [child for each in inner for child in children(each)]
    return level


def children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def of_form(given: tuple[Pair, ...]) -> dict[str, Any]:
    """The value of a form: a key that is repeated has a list."""
    return {key: texts[0] if len(texts) == 1 else texts for key, texts in grouped(given).items()}


def grouped(given: tuple[Pair, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, text in given:
        found.setdefault(key, []).append(text)
    return found


def file_value(name: str, content_type: str = "") -> dict[str, Any]:
    """A file in a multipart body; the gateway makes its content."""
    known = {"name": name, "type": content_type}
    return {"$file": {key: text for key, text in known.items() if text}}


def body_of(content_type: str, text: str, notes: Notes, place: str) -> Body | None:
    """The body of a text, by its content type; None if it has none, or it cannot be sent."""
    kind = plain_type(content_type)
    if not text and not kind:
        return None
    encoding = kind_of(kind) if kind else ""
    if encoding in ("json", "lines") or not encoding:
        try:
            if encoding == "lines":
                return Body(
                    content_type=kind, value=[as_json(x) for x in text.splitlines() if x.strip()]
                )
            value = as_json(text)
            return Body(content_type=kind if encoding else "application/json", value=value)
        except ValueError:
            if not text:
                return None
            notes.add(f"the body of type {kind or 'unknown'} is not JSON: left out", place)
            return None
    if encoding == "form":
        return Body(content_type=FORM, value=of_form(pairs(text))) if text else None
    if encoding == "multipart":
        return Body(content_type=MULTIPART, value=of_multipart(content_type, text))
    if encoding == "binary":
        notes.add(f"the content of a body of type {kind} is left out", place)
        return Body(content_type=kind)
    return Body(content_type=kind, value=text) if text else None


def of_multipart(content_type: str, text: str) -> dict[str, Any]:
    """The fields of a multipart body. Of a file, name and type."""
    found = re.search(r'boundary="?([^";]+)', content_type)
    first = text.split("\n", 1)[0].strip()
    boundary = found[1].strip() if found else first.removeprefix("--")
    fields: dict[str, Any] = {}
    for part in text.split(f"--{boundary}")[1:] if boundary else ():
        head, _, content = part.replace("\r\n", "\n").lstrip("\n").partition("\n\n")
        name = re.search(r'\bname="([^"\n]*)"', head)
        if not name:
            continue
        file = re.search(r'\bfilename="([^"\n]*)"', head)
        kind = re.search(r"(?im)^content-type:\s*(\S+)", head)
        value: Any = content.removesuffix("\n")
        if file:
            value = file_value(file[1], kind[1].rstrip(";") if kind else "")
        add_field(fields, _unquoted(name[1]), value)
    return fields


def _unquoted(name: str) -> str:
    """A name of a part, as browsers write it."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def add_field(fields: dict[str, Any], name: str, value: Any) -> None:
    """Add a value of a form; a second one of the same name makes a list."""
    if name not in fields:
        fields[name] = value
    elif isinstance(fields[name], list):
        fields[name].append(value)
    else:
        fields[name] = [fields[name], value]


def decoded(segment: str) -> str:
    return unquote(segment, errors="replace")
