"""The requests of a HAR file: of a browser, k6, Locust or a proxy."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from ape_contracts.operation_request import FORM, MULTIPART, kind_of
from ape_infra.config.imports import model
from ape_infra.config.imports.errors import ImportProblem
from ape_infra.config.imports.model import Body, Notes, Pair, Recording, Request

_STATIC_TYPES = ("image", "stylesheet", "script", "font", "media", "manifest")
_STATIC_CONTENT = re.compile(
    r"(image|font|audio|video)/|text/css|.*javascript|application/(x-)?font|application/wasm"
)
_MAX_ANSWER = 256 << 10


def requests(data: dict[str, Any], name: str, notes: Notes) -> Recording:
    """Return the requests of a HAR file. Raises ImportProblem."""
    entries = data["log"].get("entries") if isinstance(data["log"], dict) else None
    if not isinstance(entries, list):
        raise ImportProblem("is a HAR file without a list `log.entries`. Record it again.")
    if len(entries) > model.MAX_REQUESTS:
        raise ImportProblem(
            f"has {len(entries)} requests, above the maximum of {model.MAX_REQUESTS}. "
            "Record one session."
        )
    return Recording("har", tuple(_read(entries, name, notes)))


def _read(entries: list[Any], name: str, notes: Notes) -> Iterator[Request]:
    for number, entry in enumerate(entries, 1):
        place = f"{name}: entry {number}"
        given = _object(_object(entry).get("request"))
        method, url = given.get("method"), given.get("url")
        if not isinstance(method, str) or not isinstance(url, str) or "://" not in url:
            notes.add("an entry without a method or a URL is left out", place)
        elif url.lower().startswith(("ws:", "wss:")) or entry.get("_resourceType") == "websocket":
            notes.add("a WebSocket is left out", place)
        elif not url.lower().startswith(("http:", "https:")):
            notes.add("a URL that is not of HTTP is left out", place)
        elif _is_static(_object(entry), method):
            notes.add("a static file (image, style, script, font) is left out", place)
        else:
            yield _request(_object(entry), given, place, notes)


def _is_static(entry: dict[str, Any], method: str) -> bool:
    kind = entry.get("_resourceType")
    content = _object(_object(entry.get("response")).get("content")).get("mimeType")
    is_static = kind in _STATIC_TYPES or (
        kind not in ("xhr", "fetch")
        and isinstance(content, str)
        and _STATIC_CONTENT.match(content.strip().lower()) is not None
    )
    return is_static and method.upper() == "GET"


def _request(entry: dict[str, Any], given: dict[str, Any], place: str, notes: Notes) -> Request:
    origin, path, query, _ = model.of_url(model.unmarked(given["url"]))
    response = _object(entry.get("response"))
    status = response.get("status")
    return Request(
        method=model.unmarked(given["method"]).upper(),
        origin=origin,
        path=path,
        query=query or _pairs(given.get("queryString")),
        headers=_headers(given),
        body=_body(given.get("postData"), given, place, notes),
        status=status if isinstance(status, int) and 100 <= status <= 599 else 0,
        answer=_answer(response),
    )


def _headers(given: dict[str, Any]) -> tuple[Pair, ...]:
    """The headers, without the names of HTTP/2 that are not headers. Cookies may stand alone."""
    found = [(name, value) for name, value in _pairs(given.get("headers")) if name[:1] != ":"]
    cookies = _pairs(given.get("cookies"))
    if cookies and not any(name.lower() == "cookie" for name, _ in found):
        found.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies)))
    return tuple(found)


def _body(given: Any, request: dict[str, Any], place: str, notes: Notes) -> Body | None:
    data = _object(given)
    kind, text = _text(data.get("mimeType")), _text(data.get("text"))
    declared = {name.lower(): value for name, value in _headers(request)}
    kind = kind or declared.get("content-type", "")
    if not data or not (text or data.get("params")):
        return None
    if data.get("encoding") == "base64":
        text = _of_base64(text)
    fields = data.get("params") if isinstance(data.get("params"), list) else []
    encoding = kind_of(kind)
    if fields and encoding in ("form", "multipart") and (encoding == "multipart" or not text):
        return Body(content_type=FORM if encoding == "form" else MULTIPART, value=_fields(fields))
    return model.body_of(kind, text, notes, place)


def _fields(params: list[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for each in map(_object, params):
        value: Any = _text(each.get("value"))
        if file := _text(each.get("fileName")):
            value = model.file_value(file, _text(each.get("contentType")))
        model.add_field(made, _text(each.get("name")), value)
    return made


def _answer(response: dict[str, Any]) -> str:
    content = _object(response.get("content"))
    text = content.get("text")
    if not isinstance(text, str) or len(text) > _MAX_ANSWER:
        return ""
    return _of_base64(text) if content.get("encoding") == "base64" else text


def _of_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""


def _pairs(listed: Any) -> tuple[Pair, ...]:
    return tuple(
        (_text(each.get("name")), _text(each.get("value")))
        for each in map(_object, listed if isinstance(listed, list) else ())
        if _text(each.get("name"))
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return model.unmarked(value) if isinstance(value, str) else ""
