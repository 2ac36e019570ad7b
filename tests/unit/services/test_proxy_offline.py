from __future__ import annotations

import json
from typing import Any

import pytest

from ape_proxy import offline

pytestmark = pytest.mark.unit
TOOLS = [{"type": "function", "function": {"name": "call_api", "parameters": {}}}]


def brief(endpoints: list[dict[str, Any]], session: str = "s") -> list[dict[str, Any]]:
    values = {"session": session, "agent": "agent-0007"}
    text = "A {name} is a value. " + json.dumps({"endpoints": endpoints, "values": values})
    return [{"role": "system", "content": text}, {"role": "user", "content": "Go."}]


def played(
    endpoints: list[dict[str, Any]], answers: list[dict[str, Any]], session: str = "s"
) -> tuple[list[dict[str, Any]], str]:
    """The calls that the model makes when these answers come back, and its last words."""
    messages, calls = brief(endpoints, session), []
    while isinstance(turn := offline.next_decision(messages, TOOLS), offline.ToolCall):
        calls.append(json.loads(turn.arguments))
        function = {"name": turn.name, "arguments": turn.arguments}
        call_id = f"c{len(calls)}"
        messages += [
            {"role": "assistant", "tool_calls": [{"id": call_id, "function": function}]},
            {
                "role": "tool",
                "tool_call_id": call_id,
                "content": json.dumps(answers[len(calls) - 1]),
            },
        ]
    return calls, turn


def test_offline_model_calls_the_endpoints_with_values_of_earlier_answers() -> None:
    endpoints: list[dict[str, Any]] = [
        {"method": "POST", "path": "/signup", "body": {"mail": "{agent}@x", "deep": ["{agent}"]}},
        {"method": "GET", "path": "/boards"},
        {"method": "POST", "path": "/boards/{id}/cards", "body": {"owner": "{user_id}"}},
        {"method": "GET", "path": "/cards/{card_id}"},
    ]
    answers = [
        {"status": 201, "body": {"user": {"id": "u 1"}}},
        {"status": 200, "body": [{"id": 41, "tags": [{"id": 9}]}]},
        {"status": 201, "body": {"card": {"id": "a/b"}}},
        {"status": 200, "body": {}},
    ]
    calls, words = played(endpoints, answers)
    assert calls == [
        {
            "method": "POST",
            "path": "/signup",
            "body": {"mail": "agent-0007@x", "deep": ["agent-0007"]},
        },
        {"method": "GET", "path": "/boards"},
        {"method": "POST", "path": "/boards/41/cards", "body": {"owner": "u 1"}},
        {"method": "GET", "path": "/cards/a%2Fb"},
    ]
    assert "nothing left" in words


def test_offline_model_stops_at_an_error_and_at_a_missing_value() -> None:
    endpoints = [{"method": "GET", "path": "/a"}, {"method": "GET", "path": "/b/{b_id}"}]
    calls, words = played(endpoints, [{"status": 500, "body": None}])
    assert (len(calls), "500" in words) == (1, True)
    calls, words = played(endpoints, [{"status": 200, "body": {"c_id": 1}}])
    assert (len(calls), "{b_id}" in words) == (1, True)


def test_offline_model_chooses_by_session_and_always_alike() -> None:
    endpoints = [
        {"method": "GET", "path": "/products"},
        {"method": "GET", "path": "/products/{id}"},
    ]
    answers = [
        {"status": 200, "body": {"products": [{"id": i} for i in range(10)]}},
        {"status": 200, "body": {}},
    ]
    chosen = [played(endpoints, answers, f"s{i}")[0][1]["path"] for i in range(30)]
    assert chosen == [played(endpoints, answers, f"s{i}")[0][1]["path"] for i in range(30)]
    assert len(set(chosen)) > 3


def test_offline_model_searches_for_the_goal_and_for_what_makes_a_missing_value() -> None:
    lamps = {"method": "GET", "path": "/lamps"}
    order: dict[str, Any] = {
        "method": "POST",
        "path": "/carts/{cart_id}/order",
        "path_values": {"cart_id": {"type": "integer"}},
        "headers": {"X-Kind": {"enum": ["a"]}},
        "query": {"dry": {"type": "boolean"}},
        "body": {"type": "object", "properties": {"lamp_id": {}}, "required": ["lamp_id"]},
        "content_type": "application/x-www-form-urlencoded",
        "required": ["cart_id", "X-Kind", "body"],
    }
    found = {
        "List lamps": [lamps, order],
        "order one": [order],
        "create or list cart": [{"method": "POST", "path": "/carts"}],
    }
    answers = {
        "/lamps": {"status": 200, "body": [{"id": "L1"}]},
        "/carts": {"status": 201, "body": {"id": 7}},
        "/carts/7/order": {"status": 201, "body": {}},
    }
    text = json.dumps({"goal": "List lamps, and order one.", "values": {"session": "s"}})
    messages: list[dict[str, Any]] = [{"role": "system", "content": text}]
    calls = []
    tools = [{"function": {"name": name}} for name in ("call_api", "find_operations")]
    while isinstance(turn := offline.next_decision(messages, tools), offline.ToolCall):
        given = json.loads(turn.arguments)
        calls.append(given)
        is_search = turn.name == "find_operations"
        answer = {"operations": found[given["text"]]} if is_search else answers[given["path"]]
        function = {"name": turn.name, "arguments": turn.arguments}
        messages += [
            {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]},
            {"role": "tool", "tool_call_id": "c", "content": json.dumps(answer)},
        ]
    assert [call.get("text") or call["path"] for call in calls] == [
        *("List lamps", "order one", "/lamps", "create or list cart", "/carts", "/carts/7/order")
    ]
    assert calls[-1] == {
        "method": "POST",
        "path": "/carts/7/order",
        "headers": {"X-Kind": "a"},
        "body": {"lamp_id": "L1"},
        "content_type": "application/x-www-form-urlencoded",
    }
    assert "nothing left" in turn
