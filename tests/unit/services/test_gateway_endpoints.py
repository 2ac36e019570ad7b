"""The endpoint of a request in results: the template of its path, never an id."""

from __future__ import annotations

import json

import pytest

from ape_contracts.gateway_config import load
from ape_gateway.endpoints import MAX_CHARS, UNKNOWN, Templates, without_ids

pytestmark = pytest.mark.unit
CONFIG = load(
    json.dumps(
        {
            "routes": {
                "shop": {
                    "base_url": "http://shop",
                    "endpoints": [
                        {"path": "/products/{id}", "methods": ["GET", "PUT"]},
                        {"path": "/products/search", "methods": ["GET"]},
                        {"path": "/files/{name}.json", "methods": ["GET"]},
                        {"path": "/products/{id}/items/{item}", "methods": ["GET"]},
                    ],
                    "templates": ["POST /carts/{id}/lines", "GET /carts/{any}"],
                },
                "payments": {"base_url": "http://payments"},
            }
        }
    )
)
OPERATIONS = [("GET", "/carts/{cartId}"), ("POST", "/carts"), ("GET", "/products/{sku}")]


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("GET", "/products/lamp?x=/carts", "/products/{id}"),
        ("GET", "/products/search", "/products/search"),
        ("PUT", "/products/search", "/products/{id}"),
        ("GET", "/products/a%20b", "/products/{id}"),
        ("GET", "/products/%73earch", "/products/search"),
        ("GET", "/products/1/items/2", "/products/{id}/items/{item}"),
        ("GET", "/files/a.json", "/files/{name}.json"),
        ("GET", "/files/a.txt", "/files/a.txt"),
        ("POST", "/carts/mine/lines", "/carts/{id}/lines"),
        # The name in a route's config counts before that of an operation.
        ("GET", "/carts/mine", "/carts/{any}"),
        ("POST", "/carts", "/carts"),
        # No template has them: their ids are recognized.
        ("POST", "/carts/17", "/carts/{id}"),
        ("GET", "/products/", "/products/"),
        ("GET", "/", "/"),
    ],
)
def test_endpoint_is_the_most_literal_template_that_matches(
    method: str, path: str, endpoint: str
) -> None:
    assert Templates(CONFIG, OPERATIONS).endpoint("shop", method, path) == endpoint


def test_endpoints_of_further_routes_have_their_name() -> None:
    templates = Templates(CONFIG, OPERATIONS)
    assert templates.endpoint("payments", "POST", "/refunds/7") == "payments:/refunds/{id}"
    assert templates.endpoint("payments", "GET", "/carts/mine") == "payments:/carts/mine"
    assert templates.endpoint("elsewhere", "GET", "/secret-of-a-model") == UNKNOWN


@pytest.mark.parametrize(
    "segment",
    [
        *("1", "007", "2024-01-31", "1.5", "8f14e45fceea167a", "DEADBEEF1"),
        *("c56a4180-65aa-42ec-a945-5fd21dec0538", "order-17", "ord_8f3a9c", "SKU-001"),
        *("01ARZ3NDEKTSV4RRFFQ69G5FAV", "a@example.com", "a%20b", "x" * 65),
        "cus_NffrFeUfNV2Hib",
    ],
)
def test_segment_that_looks_like_an_id_is_one(segment: str) -> None:
    assert without_ids(f"/a/{segment}/items") == "/a/{id}/items"


@pytest.mark.parametrize(
    "segment",
    [
        *("v1", "v2beta1", "oauth2", "products", "shopping-cart", "order_items", ".well-known"),
        *("facade", "deadbeef", "me", "i18n", "internationalization", "a", "", "files.json"),
    ],
)
def test_segment_that_is_a_word_is_none(segment: str) -> None:
    assert without_ids(f"/a/{segment}/items") == f"/a/{segment}/items"


def test_endpoint_is_of_bounded_length() -> None:
    assert len(without_ids("/word" * 1000)) == MAX_CHARS


def test_tools_that_a_server_does_not_have_are_one_endpoint() -> None:
    config = load(json.dumps({"routes": {"tools": {"base_url": "http://mcp", "mcp": True}}}))
    listed = {"/tools/add"}
    templates = Templates(config, has_tool=lambda _, path: path in listed)
    assert templates.endpoint("tools", "POST", "/tools/add") == "/tools/add"
    assert templates.endpoint("tools", "POST", "/tools/12345678") == UNKNOWN
    listed.add("/tools/12345678")
    assert templates.endpoint("tools", "POST", "/tools/12345678") == "/tools/12345678"
