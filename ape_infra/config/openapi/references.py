"""References of a document, resolved when they are needed, by `referencing`.

A reference may lead into another file, in the folder of the document or below; never out of it,
and never to another host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from referencing import Anchor, Registry, Resource, Specification
from referencing.exceptions import NoSuchResource, Unresolvable

from ape_infra.config.openapi.errors import OpenApiError
from ape_infra.config.openapi.loader import load

# Reads a file beside the document, by its relative path. Raises OpenApiError.
ReadFile = Callable[[str], bytes]
MAX_CHAIN = 32
MAX_FILES = 5000
# Stands for the folder of the document.
_ROOT = "file:///document/"


class ReferenceProblem(Exception):
    """A reference that leads nowhere. The message states the reference and the reason."""


class Node(NamedTuple):
    """A value of the document, with the URI that its references are relative to."""

    value: Any
    base: str


def no_files(path: str) -> bytes:
    """Stand in for files where a document has none beside it."""
    raise OpenApiError(f"{path} is another file. Use one document without external references.")


def _anchors(specification: Specification[Any], content: Any) -> Iterable[Anchor[Any]]:
    """Yield every `$anchor` in a document; each object once, as they may be in a cycle."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict | list) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := value.get(key), str):
                    yield Anchor(name=name, resource=specification.create_resource(value))
        waiting.extend(value.values() if isinstance(value, dict) else value)


def _same(segments: Any, resolver: Any, subresource: Any) -> Any:
    """Keep the base URI: OpenAPI has no `$id` outside of schemas, and documents do not use it."""
    del segments, subresource
    return resolver


_SPECIFICATION: Specification[Any] = Specification(
    name="openapi",
    id_of=lambda _: None,
    subresources_of=lambda _: (),
    maybe_in_subresource=_same,
    anchors_in=_anchors,
)


class References:
    """`read_file` reads the files that references name; each is read once."""

    def __init__(self, document: Any, name: str = "document", read_file: ReadFile = no_files):
        self.root = Node(document, urljoin(_ROOT, name))
        self._read_file = read_file
        self._files = 0
        self._found: dict[tuple[str, str], Node | ReferenceProblem] = {}
        resource = _SPECIFICATION.create_resource(document)
        self._registry: Registry[Any] = Registry(retrieve=self._retrieve).with_resource(
            self.root.base, resource
        )

    def resolve(self, node: Node) -> Node:
        """Follow `$ref` to its end. Raises ReferenceProblem.

        Keys beside a `$ref` take precedence over those of the value that it leads to.
        """
        beside: dict[str, Any] = {}
        seen = set()
        for _ in range(MAX_CHAIN):
            value = node.value
            if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
                if beside and isinstance(value, dict):
                    return Node({**value, **beside}, node.base)
                return node
            key = (node.base, value["$ref"])
            if key in seen:
                break
            seen.add(key)
            others = {k: v for k, v in value.items() if k != "$ref"}
            target = self._lookup(*key)
            if target.base != node.base:
                others = {k: v for k, v in others.items() if not isinstance(v, dict | list)}
            beside = {**others, **beside}
            node = target
        raise ReferenceProblem(f"{value['$ref']} leads to itself")

    def _lookup(self, base: str, reference: str) -> Node:
        key = (base, reference)
        if key not in self._found:
            try:
                self._found[key] = self._target(base, reference)
            except ReferenceProblem as problem:
                self._found[key] = problem
        found = self._found[key]
        if isinstance(found, ReferenceProblem):
            raise found
        return found

    def _target(self, base: str, reference: str) -> Node:
        try:
            uri, fragment = urldefrag(urljoin(base, reference))
        except ValueError:
            raise ReferenceProblem(f"{reference}, which is not a reference") from None
        if reference.startswith("#"):
            uri = base
        try:
            retrieved = self._registry.get_or_retrieve(uri)
            self._registry = retrieved.registry
            if fragment and not fragment.startswith("/"):
                resource = self._registry.anchor(uri, unquote(fragment)).value.resource
                return Node(resource.contents, uri)
            resolver = self._registry.resolver(uri)
            return Node(retrieved.value.pointer(fragment, resolver).contents, uri)
        except (Unresolvable, NoSuchResource, LookupError, ValueError, TypeError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, ReferenceProblem | OpenApiError):
                raise ReferenceProblem(f"{reference}, which {cause}") from None
            raise ReferenceProblem(f"{reference}, which the document does not have") from None

    def _retrieve(self, uri: str) -> Resource[Any]:
        parts = urlsplit(uri)
        if not uri.startswith(_ROOT) or parts.query:
            if parts.scheme == "file":
                raise OpenApiError("is outside of the document's folder")
            raise OpenApiError("is not a file: references to URLs are not followed")
        path = PurePosixPath(unquote(uri.removeprefix(_ROOT)))
        if ".." in path.parts or path.is_absolute() or "\\" in str(path) or "\0" in str(path):
            raise OpenApiError("is outside of the document's folder")
        self._files += 1
        if self._files > MAX_FILES:
            raise OpenApiError(f"is one file more than the maximum of {MAX_FILES}")
        raw = self._read_file(str(path))
        return _SPECIFICATION.create_resource(load(raw, is_json=path.suffix == ".json").content)
