"""The MCP tools that follow from the gateway's config, as plain data.

A route that names endpoints gives one tool for each of them and each of its methods. The routes
that do not share `http_get`, `http_post`, `http_put`, `http_patch` and `http_delete`, whose
argument `api_name` names the route. `http_batch` carries several requests of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from ape_contracts.gateway_config import Endpoint, GatewayConfig, Route
from ape_gateway import wire

BATCH = "http_batch"
_GENERIC = ("GET", "POST", "PUT", "PATCH", "DELETE")
# For names of tools and arguments: the strictest rule of the clients and models in use.
_MAX_NAME = 64
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_PLACEHOLDER = re.compile(r"\{([^{}/]*)\}")

_HEADERS = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "description": "Further request headers, such as Cookie or Authorization.",
}
_QUERY = {
    "type": "object",
    "description": "Query parameters: texts, numbers, booleans, and lists of those.",
}
_QUERY_OR_BODY = _QUERY | {"description": "More query parameters; the body with a content_type."}
_BODY = {
    "description": "The body: any JSON value; an object for a form, a text for text. "
    'As a field of multipart/form-data, {"$file": {}} is a file.'
}
_CONTENT_TYPE = {
    "type": "string",
    "description": "Content type of the body, such as application/x-www-form-urlencoded, "
    "multipart/form-data or text/plain; otherwise application/json.",
}
_PATH = {
    "type": "string",
    "description": "Path below the API's base URL, such as /products/7?full=1.",
}
ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status_code": {"type": "integer", "description": "Status of the API's answer."},
        "headers": {"type": "object"},
        "body": {"description": "JSON value, text, or base64 text, by body_encoding."},
        "body_encoding": {"enum": ["json", "text", "base64", "none"]},
        "truncated": {"type": "boolean", "description": "Whether body is only the beginning."},
        "execution_time": {"type": "number", "description": "Seconds that the API took."},
        "attempts": {"type": "integer"},
        "trace_id": {"type": "string"},
        "error": {"type": ["string", "null"], "description": "Set if the gateway itself answered."},
        "error_message": {"type": ["string", "null"]},
    },
    "required": ["status_code", "headers", "body", "body_encoding", "trace_id", "error"],
}
ANSWERS: dict[str, Any] = {
    "type": "object",
    "properties": {"answers": {"type": "array", "items": ANSWER}},
    "required": ["answers"],
}


@dataclass(frozen=True)
class Tool:
    """`placeholders`: the argument for each placeholder of the template `path`, in order."""

    name: str
    title: str
    description: str
    schema: dict[str, Any]
    method: str
    api: str | None = None
    path: str | None = None
    placeholders: tuple[str, ...] = ()

    def call(self, given: dict[str, Any]) -> wire.Call:
        """The call for arguments of `schema`. Raises wire.WireError."""
        path = given.get("path", "") if self.path is None else self._filled(given)
        return wire.make_call(
            self.api or str(given.get("api_name", "")),
            self.method or str(given.get("method", "")),
            path,
            given.get("headers"),
            _json(given["data"], "data") if "data" in given else b"",
            query=_json(given["query"], "query") if "query" in given else b"",
            content_type=given.get("content_type"),
        )

    def _filled(self, given: dict[str, Any]) -> str:
        values = iter(self.placeholders)
        try:
            return _PLACEHOLDER.sub(
                lambda _: quote(str(given[next(values)]), safe=""), str(self.path)
            )
        # Text without bytes (UnicodeError), or a number of more than 4300 digits.
        except ValueError:
            raise wire.WireError(
                f"{', '.join(self.placeholders)}: holds a value that cannot be sent. Correct it."
            ) from None


def tools(config: GatewayConfig) -> dict[str, Tool]:
    """Every tool by its name, in the order of the config."""
    made: dict[str, Tool] = {}
    open_routes = {n: r for n, r in config.routes.items() if not r.endpoints}
    for method in _GENERIC if open_routes else ():
        tool = _generic(method, open_routes)
        made[tool.name] = tool
    for api, route in config.routes.items():
        for endpoint in route.endpoints:
            for method in endpoint.methods:
                tool = _endpoint(api, route, endpoint, method, made)
                made[tool.name] = tool
    batch = _batch(list(config.routes))
    made[batch.name] = batch
    return made


def _data(method: str) -> dict[str, Any]:
    return _QUERY_OR_BODY if method in ("GET", "HEAD") else _BODY


def _given(data: dict[str, Any]) -> dict[str, Any]:
    """The schemas of the arguments that every tool takes."""
    return {"data": data, "headers": _HEADERS, "query": _QUERY, "content_type": _CONTENT_TYPE}


def _about(api: str, route: Route) -> str:
    return ": ".join(x for x in (route.name or api, route.description) if x)


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _generic(method: str, routes: dict[str, Route]) -> Tool:
    apis = list(routes)
    which = "; ".join(f"{api} ({_about(api, route)})" for api, route in routes.items())
    api_name: dict[str, Any] = {"enum": apis, "description": f"The API to call: {which}."}
    if len(apis) == 1:
        api_name["default"] = apis[0]
    schema = _object(
        {"api_name": api_name, "path": _PATH, **_given(_data(method))},
        ["path"] if len(apis) == 1 else ["api_name", "path"],
    )
    return Tool(
        f"http_{method.lower()}",
        f"HTTP {method}",
        f"Send a {method} request to an API and return its answer. APIs: {which}.",
        schema,
        method,
        api=apis[0] if len(apis) == 1 else None,
    )


def _endpoint(
    api: str, route: Route, endpoint: Endpoint, method: str, taken: Container[str]
) -> Tool:
    properties = _given(_data(method))
    placeholders = []
    for number, found in enumerate(_PLACEHOLDER.findall(endpoint.path), 1):
        argument = _free(_plain(found) or f"part{number}", properties)
        placeholders.append(argument)
        properties[argument] = {
            "type": ["string", "integer"],
            "description": f"The {{{found}}} of the path {endpoint.path}.",
        }
    text = endpoint.description or f"{method} {endpoint.path}"
    bare = _PLACEHOLDER.sub(r"\1", endpoint.path)
    return Tool(
        _free(_plain(f"{api}_{method.lower()}{bare}"), taken),
        f"{method} {endpoint.path}",
        f"{text.rstrip('.')}. ({method} {endpoint.path} of {_about(api, route)})",
        _object(properties, placeholders),
        method,
        api,
        endpoint.path,
        tuple(placeholders),
    )


def _batch(apis: list[str]) -> Tool:
    request = _object(
        {
            "api_name": {"enum": apis},
            "method": {"type": "string", "description": "HTTP method, such as GET."},
            "path": _PATH,
            **_given({"description": "Of a GET or HEAD more of the query, else the body."}),
        },
        ["api_name", "method", "path"],
    )
    requests = {"type": "array", "items": request, "minItems": 1, "maxItems": wire.MAX_BATCH}
    return Tool(
        BATCH,
        "Several HTTP requests",
        "Send several independent requests at once; answers them in order, each with its status.",
        _object({"requests": requests}, ["requests"]),
        "",
    )


def _json(value: Any, key: str) -> bytes:
    """Raises wire.WireError."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, ValueError, RecursionError, TypeError):
        raise wire.WireError(
            f"{key}: holds a number, a text or a nesting that cannot be sent. Correct it."
        ) from None


def _plain(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text).strip("_")[:_MAX_NAME]


def _free(name: str, taken: Container[str]) -> str:
    """`name`, with a number at its end where it is taken."""
    made, number = name, 1
    while made in taken:
        number += 1
        made = f"{name[: _MAX_NAME - 4]}_{number}"
    return made
