"""The endpoint of a request, as results name it: the template of its path, never an id in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import unquote

from ape_contracts import paths
from ape_contracts.gateway_config import GatewayConfig

UNKNOWN = "unknown"
MAX_CHARS = 200
# Of a path and of a segment, that are looked at.
_MAX_PATH, _MAX_SEGMENT = 2000, 64
# Of a path whose endpoint is remembered.
_MAX_KEPT = 200
_PARAMETER = re.compile(r"\{[^{}/]*\}")
# Numbers, dates and versions; UUIDs and other long hexadecimal; a word with a number or a code
# (order-17, ord_8f3a9c); whatever is long and has digits; addresses and encoded values.
_ID = re.compile(
    r"[0-9][0-9.,:_-]*"
    r"|(?=.*[0-9])[0-9a-fA-F]{8,}"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|[A-Za-z]{1,16}[-_:.](?:[0-9]+|(?=.*[0-9])[0-9A-Za-z]{6,})"
    r"|(?=(?:.*[0-9]){2})[0-9A-Za-z_.~-]{16,}"
    r"|.*[%@=].*"
)


class _Node:
    """The templates that begin as the path does up to here."""

    __slots__ = ("any", "literals", "patterns", "templates")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.patterns: dict[str, _Node] = {}
        self.any: _Node | None = None
        # By method.
        self.templates: dict[str, str] = {}

    def below(self, part: str) -> _Node:
        """The node of the next segment of a template; it is made if it is new."""
        if _PARAMETER.fullmatch(part):
            self.any = self.any or _Node()
            return self.any
        nodes = self.patterns if _PARAMETER.search(part) else self.literals
        return nodes.setdefault(part, _Node())

    def find(self, parts: list[str], at: int, method: str) -> str | None:
        """The template of the segments from `at` on; the most literal one first."""
        if at == len(parts):
            return self.templates.get(method)
        part = parts[at]
        node = self.literals.get(part)
        if node is not None and (found := node.find(parts, at + 1, method)):
            return found
        for pattern, each in self.patterns.items():
            if paths.matches(pattern, part) and (found := each.find(parts, at + 1, method)):
                return found
        if self.any is not None and part:
            return self.any.find(parts, at + 1, method)
        return None


class Templates:
    """Of the routes' endpoints and templates, and for the first route of the operations.

    An operation is (method, path). Endpoints of further routes begin with the route's name:
    payments:/refunds. `mask`: of paths. Those of an MCP server are its tools, of which `has_tool`
    knows by route and path; all others are one endpoint, as a model may name any.
    """

    def __init__(
        self,
        config: GatewayConfig,
        operations: Iterable[tuple[str, str]] = (),
        mask: Callable[[str], str] = str,
        has_tool: Callable[[str, str], bool] = lambda _api, _path: True,
    ) -> None:
        self._mask, self._has_tool = mask, has_tool
        self._tools = frozenset(name for name, route in config.routes.items() if route.mcp)
        self._roots: dict[str, tuple[str, _Node]] = {}
        for name, route in config.routes.items():
            root = _Node()
            for endpoint in route.endpoints:
                for allowed in endpoint.methods:
                    _add(root, allowed, endpoint.path)
            for template in route.templates:
                _add(root, *template.split(" ", 1))
            for method, path in operations if not self._roots else ():
                _add(root, method, path)
            self._roots[name] = (f"{name}:" if self._roots else "", root)
        # Many agents ask for the same.
        self._kept = lru_cache(maxsize=2048)(self._found)

    def endpoint(self, api: str, method: str, path: str) -> str:
        """The template of the path, which may have a query; else the path with {id} for ids."""
        # What is masked changes from run to run, and is not remembered.
        plain = self._mask(path.partition("?")[0][:_MAX_PATH])
        if api in self._tools:
            # A server may get other tools.
            tool = plain[:MAX_CHARS] if self._has_tool(api, plain) else UNKNOWN
            return self._roots[api][0] + tool
        if len(plain) <= _MAX_KEPT:
            return self._kept(api, method, plain)
        return self._found(api, method, plain)

    def _found(self, api: str, method: str, plain: str) -> str:
        known = self._roots.get(api)
        if known is None:
            return UNKNOWN
        prefix, root = known
        parts = plain.split("/")
        if "%" in plain:
            parts = [unquote(part) for part in parts]
        return prefix + (root.find(parts, 0, method) or without_ids(plain))


def _add(root: _Node, method: str, template: str) -> None:
    node = root
    for part in template.partition("?")[0].split("/"):
        node = node.below(part)
    node.templates.setdefault(method, template[:MAX_CHARS])


def without_ids(path: str) -> str:
    """The path with {id} in place of segments that look like ids: /orders/{id}/items."""
    parts = path[:_MAX_PATH].split("/")
    return "/".join("{id}" if _is_id(part) else part for part in parts)[:MAX_CHARS]


def _is_id(part: str) -> bool:
    # First the length: the pattern takes its square. Most are a word or a number.
    if len(part) > _MAX_SEGMENT or part.isdecimal():
        return True
    return not part.isalpha() and part != "" and _ID.fullmatch(part) is not None
