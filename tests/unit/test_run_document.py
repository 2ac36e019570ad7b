"""The document of a run: what it may hold, and what is said of what it may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ape_contracts.load_shape import Stage
from ape_contracts.run_document import MAX_BYTES, RunDocumentError, of, parse

pytestmark = pytest.mark.unit
USERS: dict[str, Any] = {
    "columns": ["email", "password"],
    "rows": [["a@x", "secret-a"], ["b@x", "secret-b"]],
    "secret": ["password"],
    "mode": "unique",
}


def document(**changed: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "executor": "closed",
        "stages": [{"seconds": 10, "start": 0, "end": 5}],
        "scenarios": [{"name": "default"}],
    } | changed


def test_document_has_its_defaults() -> None:
    made = parse(json.dumps(document(users=USERS)))
    assert (made.id, made.is_open, made.arrivals, made.seed) == ("r1", False, "constant", None)
    assert made.stages == (Stage(10, 0, 5),)
    assert (made.lease_seconds, made.drain_seconds, made.max_late_seconds) == (60, 30, 1)
    (scenario,) = made.scenarios
    assert (scenario.name, scenario.weight, scenario.plain["goal"]) == ("default", 1, None)
    assert made.users is not None
    assert made.users.row(1) == {"email": "b@x", "password": "secret-b"}
    assert made.users.secrets() == {"secret-a", "secret-b"}


def test_ten_thousand_users_fit() -> None:
    rows = [[f"user-{n}@example.org", f"password-{n}"] for n in range(10_000)]
    made = parse(json.dumps(document(users=USERS | {"rows": rows})))
    assert made.users is not None
    assert len(made.users.rows) == 10_000


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"id": "a/b"}, "id"),
        ({"id": None}, "id"),
        ({"executor": "both"}, "executor"),
        ({"executor": ["open"]}, "executor"),
        ({"stages": []}, "stages"),
        ({"stages": [{"seconds": 0, "start": 1, "end": 1}]}, "stages[0].seconds"),
        ({"stages": [{"seconds": 1, "start": True, "end": 1}]}, "stages[0].start"),
        ({"stages": [{"seconds": 1, "start": 1, "end": float("nan")}]}, "stages[0].end"),
        ({"stages": [{"seconds": 1, "start": 0, "end": 0}]}, "stages"),
        ({"stages": [{"seconds": 1, "start": 1, "end": 1, "more": 1}]}, "stages[0].more"),
        ({"executor": "open", "stages": [{"seconds": 1e5, "start": 1e5, "end": 1}]}, "stages"),
        ({"scenarios": []}, "scenarios"),
        ({"scenarios": [{"name": "A"}]}, "scenarios[0].name"),
        ({"scenarios": [{"name": "a"}, {"name": "a"}]}, "scenarios[1].name"),
        ({"scenarios": [{"name": "a", "weight": 0}]}, "scenarios[0].weight"),
        ({"scenarios": [{"name": "a", "success": {"method": "GET"}}]}, "scenarios[0].success"),
        ({"scenarios": [{"name": "a", "operations": [["get", "/"]]}]}, "scenarios[0].operations"),
        ({"scenarios": [{"name": "a", "session_max_steps": 0}]}, "session_max_steps"),
        ({"users": USERS | {"columns": ["email"]}}, "users.rows[0]"),
        ({"users": USERS | {"columns": ["email", "email"]}}, "users.columns"),
        ({"users": USERS | {"rows": [["a@x"]]}}, "users.rows[0]"),
        ({"users": USERS | {"rows": []}}, "users.rows"),
        ({"users": USERS | {"secret": ["pin"]}}, "users.secret"),
        ({"users": USERS | {"mode": "each"}}, "users.mode"),
        ({"seed": ""}, "seed"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"next_session": 1.5}, "next_session"),
        ({"warm_up_seconds": 6, "ramp_down_seconds": 4}, "warm_up_seconds"),
        ({"threshold": 1}, "threshold"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_broken_rule_is_refused_with_its_path(changed: dict[str, Any], where: str) -> None:
    with pytest.raises(RunDocumentError) as caught:
        of(document(**changed))
    assert where in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"id": ' + "[1," * 2_000_000, " " * (MAX_BYTES + 1)]
)
def test_text_that_is_not_a_document_is_refused(text: str) -> None:
    with pytest.raises(RunDocumentError):
        parse(text)


def test_refusal_shows_no_value_of_a_user() -> None:
    with pytest.raises(RunDocumentError) as caught:
        of(document(users=USERS | {"rows": [["a@x", "top-secret", "more"]]}))
    assert "top-secret" not in str(caught.value)
