"""What is left out of a conversation that does not fit, and what stays."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_agent.answers import shown
from ape_agent.conversation import Conversation, Result, room
from ape_agent.digests import DIGEST_CHARS, SHORT_CHARS, digest, short
from ape_agent.model import Model
from ape_agent.peers import Peer, Reply
from ape_contracts.service_settings import AgentSettings

pytestmark = pytest.mark.unit

CATALOG = {"products": [{"id": i, "name": f"Product {i}", "text": "x" * 50} for i in range(40)]}


def conversation(steps: int, body: Any = CATALOG) -> Conversation:
    """A login, and further steps with the same answer."""
    made = Conversation("The rules.", "The goal.")
    for n in range(steps + 1):
        call = {"id": f"c{n}", "function": {"name": "call_api", "arguments": "{}"}}
        made.decision({"role": "assistant", "content": None, "tool_calls": [call]})
        answer = {"token": "t" * 100} if n == 0 else body
        label = f"GET /p/{n} 200"
        made.result(Result(f"c{n}", shown(200, answer), label, digest(answer), keep=n == 0))
    return made


def contents(made: Conversation) -> list[dict[str, Any]]:
    return [json.loads(m["content"]) for m in made.messages if m["role"] == "tool"]


def is_paired(messages: list[dict[str, Any]]) -> bool:
    """Whether each call is followed by its answer, and no answer has none."""
    asked: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if not asked or asked.pop(0) != message["tool_call_id"]:
                return False
        elif asked:
            return False
        asked += [call["id"] for call in message.get("tool_calls", [])]
    return not asked


def test_oldest_answers_are_shortened_first_and_the_rest_stays() -> None:
    made = conversation(6)
    before = contents(made)
    assert not made.fit(made.size)
    assert made.fit(made.size - 1)
    after = contents(made)
    assert after[0] == before[0]
    assert after[2:] == before[2:]
    assert after[1]["body"]["products"][:2] == [
        {"id": 0, "name": "Product 0", "text": "x" * 50},
        {"id": 1, "name": "Product 1", "text": "x" * 50},
    ]
    assert "shortened" in after[1]["note"]
    assert after[1]["status"] == 200


def test_ids_of_old_answers_stay_when_the_answers_are_left_out() -> None:
    made = conversation(6)
    most = 8000
    assert made.fit(most)
    assert made.size <= most
    _, first, *_, last = contents(made)
    assert first["body"] == {"products": [{"id": n} for n in range(5)]}
    assert "left out" in first["note"]
    assert len(last["body"]["products"]) == 40


@given(steps=st.integers(0, 12), most=st.integers(0, 60_000))
def test_conversation_that_is_fitted_keeps_its_form(steps: int, most: int) -> None:
    made = conversation(steps)
    before = made.size
    assert made.fit(most) == (made.size < before)
    messages = made.messages
    assert is_paired(messages)
    assert messages[0] == {"role": "system", "content": "The rules."}
    assert messages[1]["content"].startswith("The goal.")
    login, *_, last = [m["tool_call_id"] for m in messages if m["role"] == "tool"] * 2
    assert (login, last) == ("c0", f"c{steps}")
    assert made.size <= most or not made.fit(0)


def test_steps_that_are_left_out_are_named_in_a_note() -> None:
    made = conversation(5)
    made.fit(0)
    assert "[4 earlier steps were left out" in made.messages[1]["content"]
    assert "GET /p/4 200" in made.messages[1]["content"]
    assert "GET /p/5 200" not in made.messages[1]["content"]


def test_single_large_answer_is_shortened() -> None:
    made = conversation(1, "x" * 100_000)
    assert made.fit(2000)
    assert made.size <= 2000


def test_words_alternate_between_model_and_user() -> None:
    made = conversation(1)
    made.words("", "Go on.")
    assert [m["role"] for m in made.messages[-2:]] == ["assistant", "user"]
    assert made.messages[-2]["content"]


def test_room_is_the_context_without_tools_and_answer() -> None:
    assert room(0, []) == float("inf")
    assert room(8000, ["x" * 96]) == (8000 - 1024) * 4 - 100
    assert room(1000, []) == 750 * 4 - 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "a", "orderId"]), inner),
)


@given(JSON)
def test_shorter_forms_are_bounded(body: Any) -> None:
    assert len(json.dumps(digest(body))) <= DIGEST_CHARS
    if not isinstance(body, str):
        assert len(json.dumps(short(body))) <= SHORT_CHARS


def test_digest_has_what_identifies_something() -> None:
    body = {
        "order": {"orderId": "o-1", "total": 3, "csrf_token": "t", "valid": True},
        "items": [{"id": 7, "name": "x"}],
        "uuid": "u" * 200,
    }
    assert digest(body) == {"order": {"orderId": "o-1", "csrf_token": "t"}, "items": [{"id": 7}]}
    assert digest({"total": 3}) is None


class Proxy(Peer):
    """Answers every request with an empty message, and keeps the request."""

    def __init__(self) -> None:
        self.asked: Any = None

    async def post(self, path: str, body: Any, *_: Any, **__: Any) -> Reply:
        self.asked = body
        return Reply(200, {"choices": [{"message": {}}]})


@pytest.mark.parametrize("tools", [1, 20])
def test_conversation_leaves_room_for_all_tools(tools: int) -> None:
    settings = AgentSettings(
        gateway_url="http://g",
        proxy_url="http://p",
        goal="g",
        api="a",
        success={"method": "GET", "path": "/", "status": 200},
        context_tokens=8000,
    )
    proxy, definitions = Proxy(), [{"function": {"description": "x" * 1000}}] * tools
    model = Model(settings, definitions, proxy, "", {})
    asyncio.run(model.ask(conversation(12), required=False))
    size = len(json.dumps(proxy.asked["messages"])) + len(json.dumps(proxy.asked["tools"]))
    assert size < (8000 - 1024) * 4
    assert proxy.asked["tools"] == definitions
