"""The operations that agents get from the gateway, and the search among them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ape_contracts import operations as contract
from ape_contracts import operations_file
from ape_contracts.gateway_config import load as load_config
from ape_contracts.operations import Operation, Operations, OperationsError, Parameter
from ape_contracts.operations_file import MAX_FILE_BYTES, PLAIN_BYTES, pack, unpack
from ape_contracts.service_settings import GatewaySettings, ServiceSettingsError
from ape_gateway.__main__ import app_of
from ape_gateway.app import make_app
from ape_gateway.operations import MAX_FOUND, MAX_LISTED, Catalog, Described, Index, load, words

pytestmark = pytest.mark.unit
CONFIG = json.dumps(
    {"routes": {"shop": {"base_url": "http://shop"}, "other": {"base_url": "http://o"}}}
)


def operation(method: str, path: str, summary: str = "", tag: str = "", **more: Any) -> Operation:
    tags = (tag,) if tag else ()
    return Operation(
        id=f"{method} {path}", method=method, path=path, summary=summary, tags=tags, **more
    )


SHOP = (
    operation("GET", "/products", "List the products.", "catalog"),
    operation("GET", "/products/{id}", "One product.", "catalog"),
    operation(
        "POST",
        "/carts/{cart}/items",
        "Add a product to the cart.",
        parameters=(Parameter(name="cart", location="path", schema={"type": "string"}),),
    ),
    operation("GET", "/orders/{id}/items", "Items of an order."),
    operation("POST", "/orders", "Place an order."),
    operation("GET", "/orders", "List orders."),
    operation("GET", "/orders/{id}", "One order."),
    operation("PATCH", "/categories/{id}", "Change a category."),
)


def text_of(found: tuple[Operation, ...]) -> str:
    return contract.encode(Operations(operations=found))


def many(count: int, summary: str = "") -> tuple[Operation, ...]:
    return tuple(operation("GET", f"/things{n}", summary) for n in range(count))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("place an order", "POST /orders"),
        ("create order", "POST /orders"),
        ("list all orders", "GET /orders"),
        ("show me ORDER 7", "GET /orders"),
        ("order", "POST /orders"),
        ("items in the order", "GET /orders/{id}/items"),
        ("add product to cart", "POST /carts/{cart}/items"),
        ("catalog", "GET /products"),
        ("categories", "PATCH /categories/{id}"),
        ("prod", "GET /products"),
    ],
)
def test_search_finds_the_operation_that_the_words_mean(text: str, first: str) -> None:
    index = Index(Described(o.id, o.method, o.path, o.summary, o.tags) for o in SHOP)
    assert SHOP[index.best(text)[0]].id == first


def test_rare_word_counts_more_than_a_common_one() -> None:
    found = [*(f"/things{n}" for n in range(50)), "/figures"]
    index = Index(
        Described(path, "GET", path, "Weekly." * (n == 50)) for n, path in enumerate(found)
    )
    assert index.best("things weekly")[0] == 50


@pytest.mark.parametrize("text", ["", "the", "weather", "?" * 9999, "\ud800"])
def test_search_without_a_known_word_finds_nothing(text: str) -> None:
    assert Index([Described("a", "GET", "/a")]).best(text) == []


def test_words_are_those_of_names_in_their_singular() -> None:
    assert words("createHTTPOrders for_repositories/boxes statuses ÄÖ v2") == [
        *("create", "http", "order", "repository", "box", "status", "äö", "v", "2")
    ]


def test_search_is_quick_and_bounded_among_a_thousand_operations() -> None:
    found = tuple(
        operation(
            "GET", f"/repos/{{owner}}/{{repo}}/thing{n % 90}/part{n}", f"List part {n} of it."
        )
        for n in range(1000)
    )
    catalog = load("shop", text_of(found))
    started = time.perf_counter()
    status, body = catalog.search({"q": "list repos of the owner and part 970"})
    assert time.perf_counter() - started < 0.02
    answer = json.loads(body)
    assert (status, answer["count"], len(answer["operations"])) == (200, 1000, MAX_FOUND)
    assert answer["operations"][0]["path"].endswith("/part970")


def test_few_operations_are_listed_as_the_document_has_them_and_many_are_counted() -> None:
    few = load("shop", text_of(SHOP))
    status, body = few.listed({"api": "shop"})
    answer = json.loads(body)
    assert (status, answer["count"]) == (200, len(SHOP))
    assert contract.of(answer).operations == SHOP
    assert json.loads(load("shop", text_of(many(MAX_LISTED))).listed({})[1])["operations"]
    beyond = load("shop", text_of(many(MAX_LISTED + 1)))
    assert beyond.listed({}) == (200, b'{"count":65}')
    large = load("shop", text_of(many(60, "x" * 20_000)))
    assert large.listed({}) == (200, b'{"count":60}'), "also of few that are large"
    status, body = beyond.listed({"id": "GET /things64"})
    assert (status, [o["path"] for o in json.loads(body)["operations"]]) == (200, ["/things64"])


def test_gateway_without_operations_counts_none() -> None:
    assert Catalog("shop").listed({"api": "shop"}) == (200, b'{"count":0,"operations":[]}')
    assert Catalog("shop").search({"q": "order"}) == (200, b'{"count":0,"operations":[]}')


def test_operation_or_route_that_is_not_known_gets_404() -> None:
    catalog = load("shop", text_of(SHOP))
    assert catalog.listed({"id": "GET /nothing"})[0] == 404
    assert catalog.listed({"api": "other"})[0] == 404
    assert catalog.search({"api": "other", "q": "order"})[0] == 404


@pytest.mark.parametrize("count", [1, 3000])
def test_file_of_operations_is_read_as_it_was_written(count: int) -> None:
    text = text_of(many(count, "Größe" * 20))
    packed = pack(text)
    assert packed.isascii() if len(text) > PLAIN_BYTES else packed == text
    assert len(packed) < MAX_FILE_BYTES
    assert unpack(packed) == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "cut, or have over 32 MiB"),
        ("[1]", "neither JSON nor compressed"),
        ("eJw=", "cut, or have over"),
        ('{"operations": 1}', "not as `ape_contracts.operations` has them"),
        ('{"operations": [{"id": 1}]}', "not as `ape_contracts.operations` has them"),
        ('{"operations": [', "not as `ape_contracts.operations` has them"),
    ],
)
def test_broken_file_of_operations_stops_the_gateway_with_a_sentence(
    text: str, part: str, tmp_path: Path
) -> None:
    (tmp_path / "gateway.json").write_text(CONFIG)
    (tmp_path / "operations.json").write_text(text)
    settings = GatewaySettings(
        config_file=str(tmp_path / "gateway.json"),
        operations_file=str(tmp_path / "operations.json"),
    )
    with pytest.raises(ServiceSettingsError, match=r"APE_SETTINGS.operations_file: ") as caught:
        app_of(settings)
    assert part in str(caught.value)


def test_operations_that_become_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(text_of(many(3000, "x" * 100)))
    monkeypatch.setattr(operations_file, "MAX_BYTES", 300_000)
    with pytest.raises(OperationsError, match="cut, or have over"):
        unpack(packed)
    monkeypatch.setattr(operations_file, "MAX_FILE_BYTES", 1000)
    with pytest.raises(OperationsError, match=r"has \d+ KB of operations, compressed, above the"):
        pack(unpack(text_of(many(3000))))


@pytest.mark.asyncio
async def test_agents_get_operations_from_the_gateway(serve: Any) -> None:
    app = make_app(load_config(CONFIG), operations=load("shop", text_of(SHOP)))
    client = await serve(app)
    answer = await client.get("/operations", params={"api": "shop"})
    assert (answer.status, (await answer.json())["count"]) == (200, len(SHOP))
    assert answer.headers["Content-Type"] == "application/json"
    one = await client.get("/operations", params={"api": "shop", "id": "GET /orders/{id}"})
    assert [o["path"] for o in (await one.json())["operations"]] == ["/orders/{id}"]
    found = await client.get("/operations/search", params={"api": "shop", "q": "place an order"})
    assert (await found.json())["operations"][0]["id"] == "POST /orders"
    assert (await client.post("/operations", json={})).status == 405
