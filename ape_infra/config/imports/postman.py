"""The requests of a Postman collection (2.1, and 2.0), with its variables and sign-in."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ape_contracts.operation_request import FORM, MULTIPART
from ape_infra.config.imports import model
from ape_infra.config.imports.errors import ImportProblem
from ape_infra.config.imports.model import Body, Notes, Pair, Recording, Request

_BRACES = re.compile(r"\{\{\s*([^{}]{1,100}?)\s*\}\}")
_LANGUAGES = {"json": "application/json", "xml": "application/xml", "html": "text/html"}
_MAX_FOLDERS = 30
_MAX_VALUE = 10_000


def requests(data: dict[str, Any], name: str, notes: Notes) -> Recording:
    """Return the requests of a collection. Raises ImportProblem."""
    collection = _object(data.get("collection")) or data
    items = collection.get("item")
    if not isinstance(items, list):
        raise ImportProblem("is a Postman collection without a list `item`. Export it again.")
    reader = _Reader(name, notes, _variables(collection.get("variable")))
    found = []
    for request in reader.folder(items, _object(collection.get("auth")), 0):
        found.append(request)
        if len(found) > model.MAX_REQUESTS:
            raise ImportProblem(
                f"has more than {model.MAX_REQUESTS} requests. Export a part of the collection."
            )
    return Recording("postman", tuple(found))


def _variables(given: Any) -> dict[str, str]:
    """Name -> value of those that have a value. Of a value that refers to others, the text."""
    known: dict[str, str] = {}
    for each in map(_object, _list(given)):
        name, value = _text(each.get("key")) or _text(each.get("id")), _scalar(each.get("value"))
        if name and value and each.get("disabled") is not True and len(value) < _MAX_VALUE:
            known[name] = value
    # Twice: a base URL is often made of a host.
    for _ in range(2):
        known = {
            name: _filled(value, known) if len(value) < _MAX_VALUE else value
            for name, value in known.items()
        }
    return known


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _BRACES.sub(lambda found: known.get(found[1], found[0])[:_MAX_VALUE], text)


class _Reader:
    def __init__(self, name: str, notes: Notes, known: dict[str, str]) -> None:
        self._name, self._notes, self._known = name, notes, known

    def folder(self, items: list[Any], auth: dict[str, Any], depth: int) -> Iterator[Request]:
        """The requests of a folder and those below it; `auth` is what they inherit."""
        for item in map(_object, items):
            name = model.named(self._text(item.get("name")))
            own = _object(item.get("auth")) or auth
            if isinstance(item.get("item"), list):
                if depth < _MAX_FOLDERS:
                    yield from self.folder(item["item"], own, depth + 1)
                else:
                    self._notes.add("folders below 30 levels are left out", self._name)
                continue
            request = item.get("request")
            if isinstance(request, str):
                request = {"method": "GET", "url": request}
            if not isinstance(request, dict):
                self._notes.add("an item without a request is left out", self._place(name))
                continue
            if item.get("event"):
                self._notes.add("scripts of requests are not read", self._place(name))
            made = self._request(request, _object(request.get("auth")) or own, name)
            if made is None:
                self._notes.add("a request without a URL is left out", self._place(name))
            else:
                yield _with_status(made, item.get("response"))

    def _place(self, name: str) -> str:
        return f"{self._name}: {name[:80]}"

    def _text(self, value: Any) -> str:
        """A text with the values of variables, and the marks of those without."""
        text = model.unmarked(_scalar(value))
        return _BRACES.sub(lambda found: model.variable(found[1]), _filled(text, self._known))

    def _request(self, given: dict[str, Any], auth: dict[str, Any], name: str) -> Request | None:
        url = given.get("url")
        raw = url if isinstance(url, str) else _text(_object(url).get("raw")) or _joined(url)
        if not raw:
            return None
        values: dict[str, str] = {}
        origin, path, query, user = model.of_url(self._marked_path(raw, values))
        for each in map(_object, _list(_object(url).get("variable"))):
            if value := self._text(each.get("value")):
                values[_text(each.get("key"))] = value
        if isinstance(url, dict) and isinstance(url.get("query"), list):
            query = self._pairs(url["query"])
        headers, more = self._signed(auth, user)
        return Request(
            method=(self._text(given.get("method")) or "GET").upper(),
            origin=origin,
            path=path,
            query=query + more,
            headers=self._pairs(given.get("header")) + headers,
            body=self._body(_object(given.get("body")), given, self._place(name)),
            name=name,
            values={k: v for k, v in values.items() if v and not model.VARIABLE.search(v)},
        )

    def _marked_path(self, raw: str, values: dict[str, str]) -> str:
        """The URL with a mark for each :name and {{name}} that is a whole segment of the path."""
        start = re.match(r"\{\{[^{}]*\}\}|[A-Za-z]+://[^/?#]*", raw)
        head = start[0] if start else raw.partition("/")[0]
        path, mark, query = raw[len(head) :].partition("?")
        segments = []
        for segment in path.split("/"):
            whole = _BRACES.fullmatch(segment)
            if re.fullmatch(r":[A-Za-z_][\w.-]*", segment):
                segments.append(model.variable(segment[1:]))
            elif whole and segments:
                segments.append(model.variable(whole[1]))
                values[model.named(segments[-1])[1:-1]] = self._known.get(whole[1], "")
            else:
                segments.append(self._text(segment))
        return self._text(head) + "/".join(segments) + mark + self._text(query)

    def _pairs(self, listed: Any) -> tuple[Pair, ...]:
        return tuple(
            (self._text(each.get("key")), self._text(each.get("value")))
            for each in map(_object, _list(listed))
            if each.get("disabled") is not True and _text(each.get("key"))
        )

    def _signed(
        self, auth: dict[str, Any], user_info: str
    ) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        """The (headers, query) of a sign-in, with its secrets."""
        kind = _text(auth.get("type"))
        given = auth.get(kind)
        # A list of keys and values in 2.1, an object in 2.0.
        pairs = given.items() if isinstance(given, dict) else self._pairs(given)
        values = {str(key): self._text(value) for key, value in pairs}
        if user_info and not kind:
            return (("Authorization", _basic(*user_info.partition(":")[::2])),), ()
        if kind == "bearer":
            return (("Authorization", f"Bearer {values.get('token', '')}"),), ()
        if kind == "basic":
            return (
                ("Authorization", _basic(values.get("username", ""), values.get("password", ""))),
            ), ()
        if kind == "oauth2":
            token = values.get("accessToken") or model.variable("access_token")
            return (("Authorization", f"{values.get('headerPrefix') or 'Bearer'} {token}"),), ()
        if kind == "apikey" and values.get("key"):
            pair = ((values["key"], values.get("value", "")),)
            return ((), pair) if values.get("in") == "query" else (pair, ())
        if kind and kind not in ("noauth", "apikey"):
            self._notes.add(f"sign-in of type {kind[:40]} is left out", self._name)
        return (), ()

    def _body(self, body: dict[str, Any], request: dict[str, Any], place: str) -> Body | None:
        mode = body.get("mode")
        if not body or body.get("disabled") is True:
            return None
        if mode == "urlencoded":
            return Body(content_type=FORM, value=model.of_form(self._pairs(body.get("urlencoded"))))
        if mode == "formdata":
            return Body(content_type=MULTIPART, value=self._fields(body.get("formdata")))
        if mode == "graphql":
            given = _object(body.get("graphql"))
            value: dict[str, Any] = {"query": self._text(given.get("query"))}
            try:
                value["variables"] = model.as_json(self._text(given.get("variables")) or "{}")
            except ValueError:
                self._notes.add("variables of GraphQL that are not JSON are left out", place)
            return Body(content_type="application/json", value=value)
        declared = {k.lower(): v for k, v in self._pairs(request.get("header"))}
        language = _object(_object(body.get("options")).get("raw")).get("language")
        kind = declared.get("content-type") or _LANGUAGES.get(str(language), "")
        if mode == "file":
            return model.body_of(kind or "application/octet-stream", "", self._notes, place)
        text = self._text(body.get("raw"))
        if not kind and text.lstrip()[:1] not in ("{", "["):
            kind = "text/plain"
        if not text:
            return None
        return model.body_of(kind or "application/json", text, self._notes, place)

    def _fields(self, listed: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for each in map(_object, _list(listed)):
            if each.get("disabled") is True:
                continue
            value: Any = self._text(each.get("value"))
            if each.get("type") == "file":
                source = each.get("src")
                source = source[0] if isinstance(source, list) and source else source
                file = re.split(r"[/\\]", _text(source))[-1]
                value = model.file_value(file, _text(each.get("contentType")))
            model.add_field(made, self._text(each.get("key")), value)
        return made


def _with_status(request: Request, responses: Any) -> Request:
    """The request with the status of the first answer that is saved with it."""
    for each in map(_object, _list(responses)):
        code = each.get("code")
        if isinstance(code, int) and 100 <= code <= 599:
            return replace(request, status=code, answer=_text(each.get("body"))[:262144])
    return request


def _joined(url: Any) -> str:
    """The URL of its parts."""
    given = _object(url)
    host, path = given.get("host"), given.get("path")
    host = ".".join(map(_scalar, host)) if isinstance(host, list) else _text(host)
    path = "/".join(map(_scalar, path)) if isinstance(path, list) else _text(path).lstrip("/")
    scheme = _text(given.get("protocol"))
    port = _scalar(given.get("port"))
    head = f"{scheme}://" if scheme else ""
    return f"{head}{host}{f':{port}' if port else ''}/{path}" if host else ""


def _basic(user: str, password: str) -> str:
    """The header, which keeps the marks of variables readable until they are left out."""
    pair = f"{user}:{password}".encode("utf-8", "replace")
    return f"Basic {base64.b64encode(pair).decode()}"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""
