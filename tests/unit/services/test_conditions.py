"""Success conditions on the target's answers."""

from __future__ import annotations

from typing import Any

import pytest

from ape_contracts.conditions import ConditionError, parse, problems, values

pytestmark = pytest.mark.unit
BODY = {"orders": [{"id": 7, "state": "paid"}, {"id": 8, "state": None}], "ok": True, "n": 0}
ANSWER = {"method": "POST", "path": "/orders/{id}/pay", "status": 201}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("ok", [True]),
        ("orders.0.id", [7]),
        ("$.orders[1].id", [8]),
        ("orders[*].id", [7, 8]),
        ("orders.*.state", ["paid", None]),
        ("orders[2].id", []),
        ("orders.id", []),
        ("['ok']", [True]),
        ("ok.deeper", []),
    ],
)
def test_value_path_finds_values_by_names_and_indices(path: str, found: list[Any]) -> None:
    assert values(BODY, path) == found


def test_condition_needs_method_path_status_and_value_of_the_answer() -> None:
    (condition,) = parse({**ANSWER, "value_path": "a.0.b"})
    body = {"a": [{"b": 0}]}
    assert condition.holds("POST", "/orders/7/pay", 201, body)
    assert not condition.holds("GET", "/orders/7/pay", 201, body)
    assert not condition.holds("POST", "/orders/7", 201, body)
    assert not condition.holds("POST", "/orders/7/pay", 200, body)
    assert not condition.holds("POST", "/orders/7/pay", 201, {"a": [{"b": None}]})
    assert not condition.holds("POST", "/orders/7/pay", 201, [])


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ({"value_path": "orders[*].state", "equals": "paid"}, True),
        ({"value_path": "orders[1].state", "equals": "paid"}, False),
        ({"value_path": "n", "equals": 0}, True),
        ({"value_path": "n", "equals": False}, False),
        ({"value_path": "ok", "equals": 1}, False),
        ({"value_path": "ok", "equals": True}, True),
        ({"value_path": "orders[0].id", "equals": "7"}, False),
        ({"value_path": "orders[0].id", "matches": "^[0-9]+$"}, True),
        ({"value_path": "orders[0].state", "matches": "^un"}, False),
        ({"text": '"state": "paid"'}, True),
        ({"text": "Thank you"}, False),
    ],
)
def test_body_condition_compares_the_values_that_its_path_finds(
    check: dict[str, Any], holds: bool
) -> None:
    for raw in ({**ANSWER, **check}, {**ANSWER, "checks": [check]}):
        (condition,) = parse(raw)
        assert condition.holds("POST", "/orders/7/pay", 201, BODY) == holds
    (both,) = parse({**ANSWER, **check, "checks": [{"value_path": "n"}, {"value_path": "none"}]})
    assert not both.holds("POST", "/orders/7/pay", 201, BODY)


def test_text_condition_finds_a_text_in_a_page() -> None:
    (condition,) = parse({**ANSWER, "text": "Thank you"})
    assert condition.holds("POST", "/orders/7/pay", 201, "<h1>Thank you</h1>")


def test_further_answers_are_conditions_of_their_own() -> None:
    found = parse({**ANSWER, "also": [{"method": "get", "path": "/cart", "status": 200}]})
    assert [(c.method, c.path) for c in found] == [("POST", "/orders/{id}/pay"), ("GET", "/cart")]


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        ({"value_path": "a", "text": "b"}, ""),
        ({"value_path": "a", "equals": 1, "matches": "b"}, ""),
        ({"equals": 1}, "equals"),
        ({"matches": "b"}, "matches"),
        ({"value_path": "a["}, "value_path"),
        ({"value_path": "a", "matches": "("}, "matches"),
        ({"checks": [{"text": "a"}, {}]}, "checks[1]"),
        ({"checks": [{"value_path": "", "equals": 1}]}, "checks[0].value_path"),
        ({"also": [{"value_path": "]"}]}, "also[0].value_path"),
    ],
)
def test_condition_with_a_broken_rule_is_rejected_with_the_key(
    raw: dict[str, Any], at: str
) -> None:
    assert at in [where for where, _ in problems({**ANSWER, **raw})]
    with pytest.raises(ConditionError):
        parse({**ANSWER, **raw})


@pytest.mark.parametrize(
    "raw",
    [
        *(None, [], {}, {"method": "GET"}, ANSWER | {"status": "201"}),
        *(ANSWER | {"text": ["ok"]}, ANSWER | {"checks": [{"text": 1}]}),
        ANSWER | {"also": [ANSWER | {"value_path": "a", "matches": b"a"}]},
    ],
)
def test_value_that_is_not_a_condition_is_rejected(raw: Any) -> None:
    with pytest.raises(ConditionError):
        parse(raw)


@pytest.mark.parametrize("key", ["value_path", "json_path"])
def test_condition_accepts_a_value_path_by_its_name_and_its_former_name(key: str) -> None:
    inner = [{key: "n", "equals": 0}]
    also = [{"method": "GET", "path": "/cart", "status": 200, key: "orders[0].id"}]
    order, cart = parse({**ANSWER, key: "orders[*].state", "checks": inner, "also": also})
    assert order.holds("POST", "/orders/7/pay", 201, BODY)
    assert not order.holds("POST", "/orders/7/pay", 201, {**BODY, "n": 1})
    assert cart.holds("GET", "/cart", 200, BODY)
    assert not cart.holds("GET", "/cart", 200, {})
    assert [where for where, _ in problems({**ANSWER, key: "a["})] == [key]


def test_condition_with_both_names_of_a_value_path_is_rejected() -> None:
    both = {"value_path": "a", "json_path": "a"}
    for raw, at in (({**ANSWER, **both}, ""), ({**ANSWER, "checks": [both]}, "checks[0]")):
        sentence = "has `value_path` and its former name `json_path`. Remove `json_path`."
        assert problems(raw) == [(at, sentence)]
        with pytest.raises(ConditionError, match="former name"):
            parse(raw)
