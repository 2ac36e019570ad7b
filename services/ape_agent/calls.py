"""From the arguments of a tool call, as the model wrote them, to a request.

Near misses are put right, and named by their kind (metrics.REPAIR_KINDS). Where something would
have to be guessed, the model gets the problem as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ape_agent import loose, parts
from ape_agent.parts import Repairs, Unreadable
from ape_contracts import paths
from ape_contracts.operation_request import kind_of
from ape_contracts.operations import Operation

TOOL = "call_api"
NEEDS = f"{TOOL} needs method and path"
# Methods of which a body without a content type is the query.
BODYLESS = ("GET", "HEAD")
_ENCODED_TIMES = 4
# Of the search for arguments under other keys.
_NESTED_DEPTH, _NESTED_ITEMS = 4, 8
_KEYS = {
    "method": ("method", "httpmethod", "verb", "requestmethod"),
    "path": ("path", "endpointpath", "url", "uri", "endpoint", "route", "pathname", "requestpath"),
    "body": ("body", "requestpayload", "payload", "data", "json", "requestbody", "jsonbody"),
    "query": ("query", "params", "queryparams", "queryparameters", "parameters"),
    "headers": ("headers", "header", "requestheaders", "httpheaders", "sessionheaders"),
    "content_type": ("contenttype", "mediatype", "mimetype", "bodytype"),
}
_KEY_OF = {alias: key for key, aliases in _KEYS.items() for alias in aliases}
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]")
_METHOD_AND_PATH = re.compile(r"(GET|HEAD|OPTIONS|POST|PUT|PATCH|DELETE)[\s:]+(\S.*)", re.I | re.S)
_METHOD = re.compile(r"[A-Za-z]{1,20}")
_URL = re.compile(r"(?:https?:)?//", re.I)
_VERSION = re.compile(r"\sHTTP/\d(?:\.\d)?$", re.I)


@dataclass(frozen=True)
class Request:
    """A request to the target. `query`, `content_type`, `encoding`: see the gateway's wire.

    `documented`: names of headers of the answer that the operation describes.
    """

    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    content_type: str = ""
    encoding: dict[str, dict[str, Any]] = field(default_factory=dict)
    documented: tuple[str, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """The arguments of call_api, without those that are empty."""
        more = {"headers": self.headers, "query": self.query, "content_type": self.content_type}
        body = {} if self.body is None else {"body": self.body}
        given = {name: value for name, value in more.items() if value}
        return {"method": self.method, "path": self.path, **body, **given}


# The operation of a method and a path, if it is known.
OperationOf = Callable[[str, str], Operation | None]


@dataclass(frozen=True)
class Target:
    """How models name the target: its host, with its port and base path, and its endpoints.

    Without a host, a URL counts as the target's if its path is that of an endpoint.
    """

    host: str = ""
    templates: tuple[str, ...] = ()

    def path_of(self, url: str) -> str | None:
        """The path and query of a URL of the target; None for another host's."""
        try:
            parts, own = urlsplit(url), urlsplit(f"//{self.host}")
        except ValueError:
            return None
        same, path = self.is_same_host(parts), parts.path or "/"
        if not self.host:
            same = any(paths.matches(template, path) for template in self.templates)
        elif base := own.path.rstrip("/"):
            path = path[len(base) :] if path.startswith(f"{base}/") else path
        return None if not same else path + (f"?{parts.query}" if parts.query else "")

    def is_same_host(self, parts: SplitResult) -> bool:
        """Whether a URL names the target's host and port; False if they are unknown."""
        try:
            own = urlsplit(f"//{self.host}")
            port = own.port or (443 if parts.scheme == "https" else 80)
            return bool(self.host) and parts.hostname == own.hostname and parts.port in (None, port)
        except ValueError:
            return False

    def is_own_host(self, text: str) -> bool:
        """Whether a path begins with the target's host in place of a slash."""
        own = self.host.partition("/")[0].lower()
        return bool(own) and text.lower().startswith(f"{own}/")


def none_known(_method: str, _path: str) -> Operation | None:
    return None


def request_of(
    raw: Any, target: Target, repairs: Repairs, operation_of: OperationOf = none_known
) -> Request:
    """The request of a call's arguments, in whatever form they came. Raises Unreadable."""
    found = arguments_in(decoded(raw, repairs))
    if found is None:
        raise Unreadable(f"{NEEDS}: the arguments hold neither. Send them as a JSON object.")
    given, nested = found
    if nested:
        repairs.add("nested")
    return _checked(given, target, repairs, operation_of)


def decoded(raw: Any, repairs: Repairs) -> Any:
    """The object or list that the arguments hold. Raises Unreadable."""
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raise Unreadable(f"The arguments are empty. {NEEDS}, as a JSON object.")
    if isinstance(raw, dict | list):
        repairs.add("object")
        return raw
    for times in range(_ENCODED_TIMES):
        if not isinstance(raw, str):
            break
        if times:
            repairs.add("encoded_twice")
        if len(raw) > loose.MAX_CHARS:
            raise Unreadable(f"The arguments are longer than {loose.MAX_CHARS} characters.")
        raw = _decoded_once(raw, repairs)
    if not isinstance(raw, dict | list):
        raise Unreadable(f"The arguments are not a JSON object. {NEEDS}.")
    return raw


def _decoded_once(text: str, repairs: Repairs) -> Any:
    try:
        return loose.loads(text)
    except loose.NotJson as problem:
        why = str(problem)
    for again in _with_another_encoding(text):
        repairs.add("text_around")
        return again
    first = text.find("{")
    for found in loose.objects(text):
        # An object inside of a broken one must be complete to be a call.
        if found.start == first or is_complete(found.value):
            around = found.start > 0 or bool(text[found.end :].strip())
            repairs.add("text_around" if around else "syntax")
            return found.value
    if _METHOD_AND_PATH.fullmatch(text.strip()):
        repairs.add("text_around")
        return {"path": text.strip()}
    raise Unreadable(f"The arguments are not valid JSON: {why}. Send the call again.")


def _with_another_encoding(text: str) -> Iterator[str]:
    """The JSON text in a text that is encoded twice, and has words or no quotation marks around."""
    bare = text.strip()
    for candidate in (bare[: bare.rfind('"') + 1], f'"{bare}"'):
        if candidate.startswith(('"{', '"\\"{', '"[')):
            with suppress(loose.NotJson):
                if isinstance(inner := loose.loads(candidate), str) and inner != text:
                    yield inner


def arguments_in(value: Any, depth: int = _NESTED_DEPTH) -> tuple[dict[str, Any], bool] | None:
    """(what is known of the arguments of call_api, whether it was under other keys)."""
    if isinstance(value, str) and depth < _NESTED_DEPTH and value.lstrip()[:1] in ("{", "["):
        try:
            value = loose.loads(value[: loose.MAX_CHARS])
        except loose.NotJson:
            return None
    if isinstance(value, list):
        inner = (arguments_in(item, depth - 1) for item in value[:_NESTED_ITEMS] if depth > 0)
        return next(((found, True) for found, _ in filter(None, inner)), None)
    if not isinstance(value, dict):
        return None
    known: dict[str, Any] = {}
    renamed = False
    for key, content in list(value.items())[: 4 * _NESTED_ITEMS]:
        name = _KEY_OF.get(_NOT_IN_A_KEY.sub("", key.lower()[:40]))
        if name and (name not in known or key == name):
            known[name] = content
            renamed = renamed or key != name
    if isinstance(known.get("path"), str):
        return known, renamed
    if depth > 0:
        for content in list(value.values())[:_NESTED_ITEMS]:
            if isinstance(content, dict | list | str) and (
                found := arguments_in(content, depth - 1)
            ):
                if isinstance(found[0].get("path"), str):
                    outer = {k: v for k, v in known.items() if k == "method"}
                    return {**outer, **found[0]}, True
    return (known, renamed) if known else None


def is_complete(value: Any) -> bool:
    """Whether an object that was found in a text is a call: it has a method and a path."""
    found = arguments_in(value)
    if found is None or not isinstance(path := found[0].get("path"), str):
        return False
    named = found[0].get("method")
    return bool(isinstance(named, str) or _METHOD_AND_PATH.fullmatch(path.strip()))


def _checked(
    given: dict[str, Any], target: Target, repairs: Repairs, operation_of: OperationOf
) -> Request:
    """Raises Unreadable."""
    path, method = given.get("path"), given.get("method")
    # Some write both into the method.
    if isinstance(method, str) and (both := _METHOD_AND_PATH.fullmatch(method.strip())):
        if both[2].startswith(("/", "http")):
            repairs.add("method")
            method, path = both[1], path or both[2]
    if isinstance(path, str) and (both := _METHOD_AND_PATH.fullmatch(path.strip())):
        if isinstance(method, str) and method.strip().upper() not in ("", both[1].upper()):
            raise Unreadable(f"method is {method[:20]}, but the path begins with {both[1]}.")
        repairs.add("method")
        method, path = both[1], both[2]
    for name, value in (("method", method), ("path", path)):
        if value is None or value == "":
            raise Unreadable(f"{NEEDS}: {name} is missing.")
        if not isinstance(value, str):
            raise Unreadable(f"{NEEDS}: {name} must be a text.")
    method = _method(str(method), repairs)
    path = _path(str(path), target, repairs)
    path, query = _with_query(given.get("query"), path)
    headers = parts.headers_of(given.get("headers"))
    content_type = parts.content_type_of(given.get("content_type"), headers)
    operation = operation_of(method, path)
    encoding: dict[str, dict[str, Any]] = {}
    if operation and operation.body and content_type in ("", operation.body.content_type):
        # A body other than JSON has to be sent as the document says.
        if kind_of(operation.body.content_type) != "json":
            content_type, encoding = operation.body.content_type, operation.body.encoding
    body = parts.body_of(given.get("body"), content_type, repairs)
    if body is None or (content_type.lower() == parts.JSON_TYPE and method not in BODYLESS):
        content_type, encoding = "", {}
    return Request(
        method,
        path,
        body,
        headers,
        query=query,
        content_type=content_type,
        encoding=encoding,
        documented=operation.response_headers if operation else (),
    )


def _method(method: str, repairs: Repairs) -> str:
    plain = method.strip().strip("`\"'")
    if not _METHOD.fullmatch(plain):
        raise Unreadable(f"{NEEDS}: the method must be a word such as GET.")
    if plain.upper() != method:
        repairs.add("method")
    return plain.upper()


def _path(given: str, target: Target, repairs: Repairs) -> str:
    path = _VERSION.sub("", given.strip()[: loose.MAX_CHARS].strip("`\"'<>"))
    if target.is_own_host(path):
        path = f"//{path}"
    if _URL.match(path):
        own = target.path_of(path)
        if own is None:
            raise Unreadable(
                "path: is a URL of another host. Only the application can be called, by a path "
                "such as /products/1."
            )
        repairs.add("host")
        return loose.clean(own)
    if not path.startswith("/"):
        path = f"/{path.removeprefix('./')}"
    if path != given:
        repairs.add("path")
    return loose.clean(path)


def _with_query(query: Any, path: str) -> tuple[str, dict[str, Any]]:
    """The path and the query, where the model gave a query apart. Raises Unreadable."""
    if not query or isinstance(query, dict):
        return path, parts.query_of(query or {})
    if not isinstance(query, str):
        raise Unreadable("query: must be an object of names and values.")
    return path + ("&" if "?" in path else "?") + loose.clean(query.strip().lstrip("?&")), {}


def target_of(host: str, endpoints: Sequence[dict[str, Any]]) -> Target:
    return Target(host.rstrip("/"), tuple(str(e.get("path", "")) for e in endpoints[:1000]))
