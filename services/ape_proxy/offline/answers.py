"""Values of earlier answers, by the names of fields and of the resources they belong to.

An object has the name of its resource: `/carts` and `/carts/{id}` answer carts, the field `owner`
holds an owner. Objects that only wrap others (`items`, `data`, `results`) count as not there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

from ape_proxy.offline.messages import Exchange
from ape_proxy.offline.names import IDS, is_plural, plain, resource, word_set, words

_WRAPPERS = word_set(
    "data items item results result records record rows entries content contents list values "
    "objects object payload response hits docs documents nodes node edges elements page "
    "collection embedded members member body"
)
_VERBS = word_set("search list all find query latest recent mine")
_USER = word_set("me user profile account whoami self")
_MAX_DEPTH = 40
_MAX_FIELDS = 20_000


class Missing(Exception):
    """Nothing has a value for this name; `why` is for people, and may be empty."""

    def __init__(self, name: str, why: str = "") -> None:
        super().__init__(name)
        self.name, self.why = name, why


@dataclass(frozen=True)
class Field:
    """A simple field. `resources`: the names of its object; `depth`: of objects around that."""

    resources: frozenset[str]
    key: str
    value: Any
    depth: int


def _is_collection(segment: str) -> bool:
    return is_plural(segment) and "{" not in segment and segment not in _WRAPPERS


def collection_of(path: str) -> str:
    """The collection at the end of a path: products of /products, and of /products/records."""
    before, _, last = path.rstrip("/").rpartition("/")
    outer = before.rpartition("/")[2]
    return outer if last in _WRAPPERS and _is_collection(outer) else last


@dataclass(frozen=True)
class Done:
    """A call that was answered. `path`: the template; `sent`: the path with its values."""

    method: str
    path: str
    sent: str
    exchange: Exchange

    @property
    def worked(self) -> bool:
        status = self.exchange.answer.get("status")
        return isinstance(status, int) and status < 400

    @cached_property
    def literals(self) -> list[str]:
        parts = self.path.partition("?")[0].split("/")
        return [p for p in parts if p and "{" not in p and not p[0].isdigit()]

    @cached_property
    def collection(self) -> str:
        """The last word of the path that is not a verb; that of /products/records is products."""
        return next((p for p in reversed(self.literals) if p not in _VERBS | self._wrapped), "-")

    @cached_property
    def _wrapped(self) -> set[str]:
        """Words of the path that only wrap the collection before them."""
        parts = self.path.partition("?")[0].split("/")
        return {two for one, two in pairwise(parts) if two in _WRAPPERS and _is_collection(one)}

    @cached_property
    def is_list(self) -> bool:
        """Whether the answer may be a list of what the path names."""
        last = self.path.partition("?")[0].rstrip("/").rpartition("/")[2]
        if not is_plural(self.collection):
            return False
        if last in self._wrapped:
            return self.method == "GET"
        return last in _VERBS or (self.method == "GET" and last == self.collection)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset([resource(self.collection)])

    def owner(self, own_id: Any) -> frozenset[str]:
        """The resource of this id, if it stands in the path: that of a cart in /carts/7/lines."""
        parts = [unquote(part) for part in self.sent.partition("?")[0].split("/")]
        for before, part in pairwise(parts):
            if before and before not in self._wrapped and part == str(own_id):
                return frozenset([resource(before)])
        return self.names

    @cached_property
    def by_key(self) -> dict[str, list[Field]]:
        """The fields of the answer, in their order."""
        made: dict[str, list[Field]] = {}
        for each in _Walk(self).fields():
            made.setdefault(each.key, []).append(each)
        if location := _location(self.exchange.answer):
            made.setdefault("id", []).append(Field(self.names, "id", location, _MAX_DEPTH))
        return made


@dataclass(frozen=True)
class _Place:
    """Where a value stands. `outer`: in nothing but what wraps; `in_list`: in a list as well."""

    names: frozenset[str]
    depth: int = 0
    level: int = 0
    outer: bool = True
    in_list: bool = False


class _Walk:
    def __init__(self, done: Done) -> None:
        self._done = done
        self._left = _MAX_FIELDS

    def fields(self) -> Iterator[Field]:
        return self._of(_readable(self._done.exchange.answer), _Place(self._done.names))

    def _of(self, value: Any, place: _Place) -> Iterator[Field]:
        if place.level > _MAX_DEPTH:
            return
        if isinstance(value, list):
            inside = replace(place, level=place.level + 1, in_list=True)
            for item in value:
                yield from self._of(item, inside)
        elif isinstance(value, dict):
            own = {*IDS, *(f"{name}_id" for name in place.names)}
            ids = [v for k, v in value.items() if plain(k) in own]
            if ids and place.outer and not place.in_list:
                place = replace(place, names=self._done.owner(ids[0]))
            yield from self._of_object(value, place, has_id=bool(ids))

    def _of_object(self, value: dict[str, Any], place: _Place, *, has_id: bool) -> Iterator[Field]:
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield from self._of(inner, self._inner(key, inner, place, has_id=has_id))
            elif inner is not None and self._left > 0:
                self._left -= 1
                yield Field(place.names, plain(key), inner, place.depth)

    def _inner(self, key: str, inner: Any, place: _Place, *, has_id: bool) -> _Place:
        names = frozenset([resource(key)])
        wraps = place.outer and not has_id and plain(key) in _WRAPPERS
        if wraps and isinstance(inner, list):
            wraps = self._done.is_list and not place.in_list
        if wraps:
            return replace(place, names=place.names | names, level=place.level + 1)
        depth, level = place.depth + 1, place.level + 1
        return _Place(names, depth, level, outer=False, in_list=place.in_list)


class Known:
    """Finds values: those of the brief, of answers, and of the session's own requests.

    Where an answer has many values (a catalog), the session's id picks one: sessions differ, and
    the same session always makes the same choice.
    """

    def __init__(self, done: list[Done], context: dict[str, Any]) -> None:
        self._newest = [each for each in reversed(done) if each.worked]
        self.context = context
        self._pick = zlib.crc32(str(context.get("session", "")).encode())

    def find(self, name: str, segment: str = "") -> Any:
        """The value for {name}; `segment` is the part of the path before it. Raises Missing.

        {product_id}, and {id} after /products/, are also the `id` of a product.
        """
        if name in self.context:
            return self.context[name]
        key, kind = plain(name), resource(segment) if segment else ""
        searches = self._of_an_id(kind) if key in IDS else self._of_a_field(key, kind)
        for search in searches:
            for done in self._newest:
                if found := list(search(done)):
                    nearest = min(each.depth for each in found)
                    near = [each.value for each in found if each.depth == nearest]
                    return near[self._pick % len(near)]
        for done in self._newest:
            for given, value in _own(done.exchange.arguments):
                if given == key and key not in IDS:
                    return value
        raise Missing(name)

    def _of_an_id(self, kind: str) -> Iterator[_Search]:
        if not kind:
            yield lambda done: _ids(done)
            return
        yield from self._of_objects(kind)
        yield lambda done: done.by_key.get(f"{kind}_id", [])
        yield _weak(kind)
        # Only if it can be nothing else: not the user's own.
        kinds = {each.resources for done in self._newest for each in _ids(done)}
        if len(kinds) == 1 and not _USER.intersection(*kinds):
            yield lambda done: _ids(done)

    def _of_a_field(self, key: str, kind: str) -> Iterator[_Search]:
        *before, leaf = words(key)
        stem = "_".join(before)
        if kind:
            yield lambda done: [f for f in done.by_key.get(key, []) if kind in f.resources]
        if leaf in IDS and stem:
            yield from self._of_objects(stem, key)
            yield _weak(stem)
            if len(before) > 1:
                yield from self._of_objects(before[-1])
            return
        yield lambda done: done.by_key.get(key, [])
        if stem:
            yield lambda done: [f for f in done.by_key.get(leaf, []) if stem in f.resources]
        if kind == key:
            yield from self._of_objects(kind)
            yield lambda done: [f for f in done.by_key.get("slug", []) if kind in f.resources]

    def _of_objects(self, stem: str, key: str = "") -> Iterator[_Search]:
        """An id of such an object: one that the session made, or the newest."""

        def related(done: Done) -> list[Field]:
            return [field for field in _ids(done) if stem in field.resources]

        key = key or f"{stem}_id"
        yield (
            lambda done: (
                [f for f in (done.by_key.get(key) or related(done)) if f.depth == 0]
                if done.method == "POST" and resource(done.collection) == stem
                else []
            )
        )
        yield lambda done: done.by_key.get(key) or related(done)


_Search = Callable[[Done], Iterable[Field]]


def _ids(done: Done) -> list[Field]:
    """The ids of objects: of `id`, or of the others where it is missing."""
    return next((found for name in IDS if (found := done.by_key.get(name))), [])


def _weak(stem: str) -> _Search:
    """Ids of an answer whose path has the resource before a verb: /carts/checkout, /me/cart/pay."""

    def search(done: Done) -> list[Field]:
        if is_plural(done.collection) and resource(done.collection) != stem:
            return [
                field
                for field in _ids(done)
                if any(name.endswith(f"_{stem}") for name in field.resources)
            ]
        if stem not in map(resource, done.literals):
            return []
        return [field for field in _ids(done) if field.depth == 0]

    return search


def _own(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The simple values that the session sent: fields of its body, and arguments."""
    body = arguments.get("body")
    for source in (body, arguments):
        for key, value in source.items() if isinstance(source, dict) else ():
            if isinstance(value, str | int | float) and key not in ("method", "path"):
                yield plain(key), value


def _readable(answer: dict[str, Any]) -> Any:
    """The body; of a page its form's fields, of a JSON text that was cut what it has whole."""
    body = answer.get("body")
    if not isinstance(body, str):
        return body
    if "<input" in body.lower():
        page = _Inputs()
        page.feed(body[:100_000])
        return page.values
    return _completed(body) if answer.get("truncated") and body[:1] in "{[" else None


class _Inputs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name"), given.get("value")
        if tag == "input" and name and value:
            self.values.setdefault(name, value)


def _completed(text: str) -> Any:
    """The value of a JSON text that was cut, without its last part."""
    closing: list[str] = []
    end, rest, in_text, escaped = 0, "", False, False
    for position, char in enumerate(text):
        if in_text:
            in_text = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_text = True
        elif char in "{[":
            closing.append("}" if char == "{" else "]")
        elif char in "}]" and closing:
            closing.pop()
        elif char == ",":
            end, rest = position, "".join(reversed(closing))
    try:
        return json.loads(text[:end] + rest)
    except (ValueError, RecursionError):
        return None


def _location(answer: dict[str, Any]) -> str:
    """The id at the end of the header Location of a new object."""
    headers = answer.get("headers")
    if answer.get("status") != 201 or not isinstance(headers, dict):
        return ""
    found = next((v for k, v in headers.items() if k.lower() == "location"), "")
    return unquote(urlsplit(str(found)).path.rstrip("/").rpartition("/")[2])
