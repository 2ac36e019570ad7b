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
