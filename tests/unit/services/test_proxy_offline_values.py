from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from ape_proxy import offline
from ape_proxy.offline.answers import Done, Known, Missing
from ape_proxy.offline.messages import Exchange
from ape_proxy.offline.schemas import Filler
from ape_proxy.offline.tasks import Task

pytestmark = pytest.mark.unit


def done(method: str, path: str, body: Any) -> Done:
    return Done(method, path, path, Exchange("t", {}, {"status": 200, "body": body}))


ITEMS = done("GET", "/items", {"items": [{"sku": "S1", "id": 4}], "next": None})
CART = done("POST", "/carts", {"owner": {"id": "u1"}, "id": "c1"})


@pytest.mark.parametrize(
    ("answers", "name", "segment", "value"),
    [
        ([ITEMS, CART], "sku", "items", "S1"),
        ([ITEMS, CART], "item_id", "", 4),
        ([CART, ITEMS], "cart_id", "", "c1"),
        ([CART, ITEMS], "cartId", "carts", "c1"),
        ([CART, ITEMS], "id", "carts", "c1"),
        ([CART], "owner_id", "", "u1"),
        ([done("GET", "/orders", {"data": {"results": [{"id": 9}]}}), CART], "order_id", "", 9),
        ([CART, done("GET", "/carts/c1/lines", [{"id": 7}])], "cart_id", "", "c1"),
        ([done("GET", "/api/lamps/records", {"items": [{"id": "l1"}]})], "lamp_id", "", "l1"),
    ],
)
def test_value_is_that_of_the_nearest_matching_object(
    answers: list[Done], name: str, segment: str, value: Any
) -> None:
    assert Known(answers, {}).find(name, segment) == value


@pytest.mark.parametrize(
    ("answer", "name", "segment"),
    [(CART, "sku", "items"), (done("GET", "/me", {"id": 1}), "id", "orders")],
)
def test_value_without_a_matching_object_is_missing(answer: Done, name: str, segment: str) -> None:
    with pytest.raises(Missing):
        Known([answer], {}).find(name, segment)


def test_id_of_a_path_is_that_of_its_collection_also_where_a_word_wraps_it() -> None:
    made = done("POST", "/api/orders/records", {"id": "o1"})
    task = Task("t", "GET", "/api/orders/records/{id}", {"properties": {"id": {}}})
    assert Filler(Known([made], {}), task, frozenset()).arguments() == {"id": "o1"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}[^x]$"},
        {"type": "string", "format": "email"},
        {"type": "string", "format": "date-time", "maxLength": 30},
        {"type": "string", "minLength": 40, "maxLength": 50},
        {"type": "integer", "minimum": 7, "maximum": 20, "multipleOf": 6},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"enum": [1, 2, 3]}},
        # An example that is not of the schema, as documents have them.
        {"type": "array", "items": {"type": "integer"}, "examples": [["1296269"]]},
        {
            "oneOf": [
                {"type": "object", "required": ["a"], "properties": {"a": {"const": "x"}}},
                {"type": "object", "required": ["b"], "properties": {"b": {"type": "boolean"}}},
            ]
        },
    ],
)
def test_made_value_is_valid_and_the_same_for_a_session(schema: dict[str, Any]) -> None:
    arguments = {"properties": {"value": schema}, "required": ["value"]}
    made = []
    for session in ("a", "a", "b"):
        task = Task("t", "GET", "/x", arguments)
        made.append(Filler(Known([], {"session": session}), task, frozenset()).arguments())
        jsonschema.validate(made[-1]["value"], schema, format_checker=jsonschema.FormatChecker())
    assert made[0] == made[1]


def test_offline_model_reports_which_value_is_missing() -> None:
    endpoints = [{"method": "POST", "path": "/users", "body": {"email": "{email}"}}]
    system = {"role": "system", "content": json.dumps({"endpoints": endpoints, "values": {}})}
    tools = [{"type": "function", "function": {"name": "call_api", "parameters": {}}}]
    words = offline.next_decision([system], tools)
    assert str(words).startswith("No value for email:")


LAMP = done("GET", "/lamps", [{"id": 7}])


@pytest.mark.parametrize(
    ("schema", "answers", "value"),
    [
        ({"type": "integer"}, [LAMP], 7),
        ({"type": "integer"}, [], Missing),
        ({"type": "string", "format": "uuid"}, [], Missing),
        ({"type": "integer", "default": 3}, [LAMP], 3),
        ({"type": "string"}, [done("GET", "/lamps", [{"id": "L7"}])], "L7"),
    ],
)
def test_a_field_with_the_name_of_a_listed_object_has_its_id(
    schema: dict[str, Any], answers: list[Done], value: Any
) -> None:
    task = Task("t", "POST", "/orders", {"properties": {"lamp": schema}, "required": ["lamp"]})
    filler = Filler(Known(answers, {}), task, frozenset(), {"lamp": True})
    if value is Missing:
        with pytest.raises(Missing):
            filler.arguments()
    else:
        assert filler.arguments() == {"lamp": value}
