"""The operations of the target, as its OpenAPI document has them, and the search among them.

The file of the settings is what `ape_contracts.operations.encode` writes. Each operation stays the
text that it is in the file: parsed, a document of a thousand would take many times its size.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ape_contracts.operations import OperationsError
from ape_contracts.operations_file import unpack

# Up to so many, agents have a tool for each; beyond, they search.
MAX_LISTED = 64
MAX_LISTED_BYTES = 1 << 20
MAX_FOUND = 8
_MAX_QUERY_CHARS = 500
# How much a word counts, by where it is; of a path also those in braces.
_OF_ID, _OF_PATH, _OF_BRACES, _OF_TAG, _OF_SUMMARY, _OF_METHOD = 3.0, 3.0, 0.5, 1.0, 3.0, 1.5
# How much of an operation is about other things: its words that are not searched for count against
# it, so that /orders comes before /orders/{id}/items.
_LENGTH = 0.05
_STOP_WORDS = frozenset(
    ("a", "an", "and", "by", "for", "from", "in", "into", "is", "it", "of", "on", "or", "the", "to")
)
_METHOD_WORDS = {
    "GET": "get list show read find fetch view",
    "POST": "post create add new make send submit start",
    "PUT": "put replace set update change edit",
    "PATCH": "patch update change edit modify",
    "DELETE": "delete remove cancel",
}
# A shorter word is not taken for the stem of another.
_MIN_STEM = 4
_BRACES = re.compile(r"\{[^{}]*\}")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


class Described(msgspec.Struct, frozen=True):
    """What a search reads of an operation."""

    id: str
    method: str
    path: str
    summary: str = ""
    tags: tuple[str, ...] = ()


class _Document(msgspec.Struct):
    operations: list[msgspec.Raw]


def words(text: str) -> list[str]:
    """The words of a text or a name, in their singular: createOrders gives create and order."""
    found = [part.lower() for part in _PART.findall(text)]
    return [_singular(word) for word in found if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if re.search(r"(ch|sh|x|ss|us)es$", word) else word[:-1]


class Index:
    """Word -> number of an operation -> weight; and the weight of all words of an operation."""

    def __init__(self, operations: Iterable[Described]) -> None:
        self._weights: dict[str, dict[int, float]] = defaultdict(dict)
        self._totals: list[float] = []
        for number, each in enumerate(operations):
            path, inside = _BRACES.sub("", each.path), " ".join(_BRACES.findall(each.path))
            total = 0.0
            for weight, text in (
                (_OF_METHOD, _METHOD_WORDS.get(each.method, each.method)),
                (_OF_ID, each.id),
                (_OF_PATH, path),
                (_OF_BRACES, inside),
                (_OF_TAG, " ".join(each.tags)),
                (_OF_SUMMARY, each.summary),
            ):
                for word in set(words(text)):
                    known = self._weights[word]
                    known[number] = known.get(number, 0.0) + weight
                    total += 0.0 if weight == _OF_METHOD else weight
            self._totals.append(total)

    def best(self, text: str, most: int = MAX_FOUND) -> list[int]:
        """The numbers of the operations that fit the text best, the best first.

        A word counts more, the fewer operations have it. Equal ones stay in their order.
        """
        scores: dict[int, float] = defaultdict(float)
        for word in set(words(text[:_MAX_QUERY_CHARS])):
            found = self._with(word)
            rarity = math.log(1 + len(self._totals) / (len(found) or 1))
            for number, weight in found.items():
                scores[number] += weight * rarity
        for number in scores:
            scores[number] /= 1 + _LENGTH * self._totals[number]
        return sorted(scores, key=lambda number: (-scores[number], number))[:most]

    def _with(self, word: str) -> dict[int, float]:
        """The operations with the word, or else with a longer or shorter form of it: repo."""
        if word in self._weights or len(word) < _MIN_STEM:
            return self._weights.get(word, {})
        found: dict[int, float] = {}
        for known, weights in self._weights.items():
            if len(known) >= _MIN_STEM and (known.startswith(word) or word.startswith(known)):
                found |= weights
        return found


class Catalog:
    """The operations of route `api`, and the answers about them, as (status, JSON text).

    `sessions`: the target has sessions of its own, which agents end by DELETE /session.
    """

    def __init__(
        self, api: str, operations: Sequence[msgspec.Raw] = (), *, sessions: bool = False
    ) -> None:
        self._api = api
        self._more = b',"sessions":true' if sessions else b""
        self._operations = operations
        described = [msgspec.json.decode(raw, type=Described) for raw in operations]
        self._numbers = {each.id: number for number, each in enumerate(described)}
        self._index = Index(described)
        # (method, path) of each.
        self.templates = [(each.method, each.path) for each in described]

    def listed(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        """All operations if they are few, or the one with the `id` of the query, or those that

        `only` names: lines of a method and a path.
        """
        if query.get("api", self._api) != self._api:
            return _NOT_KNOWN
        if "id" in query:
            number = self._numbers.get(query["id"])
            return _NOT_KNOWN if number is None else (200, self._text([number]))
        if "only" in query:
            wanted = set(query["only"].split("\n")[:MAX_LISTED])
            named = (n for n, each in enumerate(self.templates) if " ".join(each) in wanted)
            return 200, self._text(named)
        size = sum(len(memoryview(raw)) for raw in self._operations)
        if len(self._operations) > MAX_LISTED or size > MAX_LISTED_BYTES:
            return 200, b'{"count":%d%b}' % (len(self._operations), self._more)
        return 200, self._text(range(len(self._operations)))

    def search(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        """The operations that fit the text `q` of the query best."""
        if query.get("api", self._api) != self._api:
            return _NOT_KNOWN
        return 200, self._text(self._index.best(query.get("q", "")))

    def _text(self, numbers: Iterable[int]) -> bytes:
        found = b",".join(bytes(self._operations[number]) for number in numbers)
        count = len(self._operations)
        return b'{"count":%d%b,"operations":[%b]}' % (count, self._more, found)


_NOT_KNOWN = (
    404,
    b'{"error":"not_found","message":"No such operation is known. Search for it, or list all."}',
)


def load(api: str, text: str, *, sessions: bool = False) -> Catalog:
    """The operations of a file; `sessions`: see Catalog. Raises OperationsError."""
    try:
        # Into one text, of which every operation is a part.
        found = msgspec.json.decode(unpack(text).encode(), type=_Document)
        return Catalog(api, found.operations, sessions=sessions)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise OperationsError(
            f"The operations are not as `ape_contracts.operations` has them ({error}). "
            "Make them by its `encode`."
        ) from None
