"""Which operations of a document count: targetInclude and targetExclude."""

from __future__ import annotations

from typing import Any

import pytest

from ape_infra.config.openapi.selection import is_selector
from tests.support.openapi_documents import document, lines, operations, read_data

pytestmark = pytest.mark.unit
SHOP = document(
    {
        "/orders": {
            "get": {"tags": ["orders"], "operationId": "listOrders"},
            "post": {"tags": ["orders"]},
        },
        "/orders/{id}": {
            "get": {"tags": ["orders"]},
            "delete": {"tags": ["orders"], "operationId": "cancel"},
        },
        "/orders/{id}/items": {"get": {}},
        "/old": {"get": {"deprecated": True, "operationId": "old"}},
    },
    servers=[{"url": "/v1"}],
)
DEFAULT = ["GET /orders", "POST /orders", "GET /orders/{id}", "GET /orders/{id}/items"]


def selected(**wanted: Any) -> list[str]:
    return [f"{o.method} {o.path.removeprefix('/v1')}" for o in operations(SHOP, **wanted)]


@pytest.mark.parametrize(
    ("include", "operations"),
    [
        ([], DEFAULT),
        (["tag:orders"], DEFAULT[:3]),
        (["/orders/*"], ["GET /orders/{id}"]),
        (["/v1/orders/*"], ["GET /orders/{id}"]),
        (["/orders/**"], ["GET /orders/{id}", "GET /orders/{id}/items"]),
        (["POST"], ["POST /orders"]),
        (["GET /orders"], ["GET /orders"]),
        (["id:listOrders", "id:cancel"], ["GET /orders", "DELETE /orders/{id}"]),
        (["/**", "DELETE"], [*DEFAULT[:3], "DELETE /orders/{id}", DEFAULT[3]]),
        (["DELETE /orders/*"], ["DELETE /orders/{id}"]),
        (["/**", "deprecated"], [*DEFAULT, "GET /old"]),
        (["GET /old"], ["GET /old"]),
        (["id:old"], ["GET /old"]),
    ],
)
def test_include_selects_operations(include: list[str], operations: list[str]) -> None:
    assert selected(include=include) == operations


def test_exclude_takes_precedence() -> None:
    assert selected(exclude=["POST", "/orders/**"]) == ["GET /orders"]
    assert selected(include=["tag:orders"], exclude=["id:listOrders"]) == DEFAULT[1:3]


def test_what_is_off_and_what_selects_nothing_is_reported() -> None:
    assert lines(read_data(SHOP)) == [
        "1 operation with method DELETE is off (DELETE /orders/{id}).",
        "1 deprecated operation is off (GET /old).",
    ]
    found = read_data(SHOP, include=["tag:orders", "tag:nope"], exclude=["POST"])
    assert lines(found) == [
        "1 selector selects no operation of the document: tag:nope.",
        "1 operation is excluded by targetExclude (POST /orders).",
        "1 operation with method DELETE is off (DELETE /orders/{id}).",
        "2 operations are not selected by targetInclude (GET /orders/{id}/items, GET /old).",
    ]


@pytest.mark.parametrize("text", ["tag:a b", "id:x", "/", "/**", "GET", "PUT /x/*", "deprecated"])
def test_a_selector_is_accepted(text: str) -> None:
    assert is_selector(text)


@pytest.mark.parametrize("text", ["", "orders", "get", "tag:", "HEAD /x", "GET x", "/a b"])
def test_anything_else_is_not_a_selector(text: str) -> None:
    assert not is_selector(text)
