"""Recorded answers: what is the same request, and a whole test run again for free."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ape_contracts.recording import MAX_BYTES, RecordingError, load
from ape_demo_target.app import make_app as demo_app
from ape_proxy.app import Options, make_app
from ape_proxy.completion import as_events
from ape_proxy.models import Local, Offline
from ape_proxy.recording import Recorded, Recorder, Request
from ape_service.completion_stream import Assembly

pytestmark = pytest.mark.unit
PATH = "/v1/chat/completions"
SESSIONS = ("0123456789abcdef0123456789abcdef", "7d444840-9dc0-11d1-b245-5ffdce74fad2")


def body(session: str, agent: str, slot: int, **more: Any) -> dict[str, Any]:
    values = json.dumps({"values": {"agent": agent, "slot": slot, "session": session}})
    made = {"model": "llama", "messages": [{"role": "system", "content": values}]}
    return made | more


def completion(text: str) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "call_api", "arguments": json.dumps({"path": text})},
            }
        ],
    }
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "llama",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def test_recorded_request_ignores_names_and_transport() -> None:
    one = Request(body(SESSIONS[0], "agent-0001", 1))
    assert one.key == Request(body(SESSIONS[1], "agent-0720", 720)).key
    assert one.key == Request(body(SESSIONS[1], "agent-0720", 720, stream=True, user="x")).key
    assert one.key == Request(dict(reversed(body(SESSIONS[0], "agent-0001", 1).items()))).key
    # Two names where there was one are another request.
    mixed = body(SESSIONS[0], "agent-0001", 1)
    twice = {"messages": [*mixed["messages"], {"role": "user", "content": SESSIONS[0]}]}
    other = {"messages": [*mixed["messages"], {"role": "user", "content": SESSIONS[1]}]}
    assert Request(mixed | twice).key != Request(mixed | other).key
    changed: dict[str, Any]
    for changed in ({"temperature": 1}, {"model": "qwen"}, {"messages": []}):
        assert one.key != Request(body(SESSIONS[0], "agent-0001", 1, **changed)).key


def test_recorded_answer_gets_the_names_of_the_request() -> None:
    recorder = Recorder()
    recorder.add(
        body(SESSIONS[0], "agent-0001", 1), completion(f"/s/{SESSIONS[0]}?by=agent-0001&n=1")
    )
    text = recorder.text()
    assert SESSIONS[0] not in text
    assert "agent-0001" not in text
    model = Recorded("llama", load(text))
    answer = model.complete(body(SESSIONS[1], "agent-0720", 720))
    arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"path": f"/s/{SESSIONS[1]}?by=agent-0720&n=1"}


def test_recording_is_bounded_and_keeps_the_first_answer() -> None:
    recorder = Recorder()
    recorder.add(body(SESSIONS[0], "agent-0001", 1), completion("/first"))
    recorder.add(body(SESSIONS[0], "agent-0001", 1), completion("/second"))
    assert recorder.text().count("\n") == 1
    for number in range(300):
        recorder.add({"messages": [number]}, completion("/" + "x /" * 2000))
    assert MAX_BYTES * 0.9 < len(recorder.text().encode()) <= MAX_BYTES
    assert "/first" in recorder.text()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no answers"),
        ("\n{", "line 2"),
        ("[]", "line 1"),
        ('{"key": "k", "completion": {"choices": []}}', "line 1"),
        (json.dumps({"key": "0" * 64, "completion": {}}), "line 1"),
        ("x" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_text_that_is_not_a_recording_is_rejected(text: str, part: str) -> None:
    with pytest.raises(RecordingError, match=part):
        load(text)


def test_assembled_stream_is_the_completion() -> None:
    for whole in (completion("/a"), Offline().complete({"messages": [{"role": "user"}]})):
        assembly = Assembly()
        for event in as_events(whole):
            if event != b"data: [DONE]\n\n":
                assembly.add(json.loads(event[5:]))
        made = assembly.completion()
        for choice in whole["choices"]:
            choice.pop("logprobs", None)
        assert made == whole


async def test_tool_calls_in_pieces_are_assembled() -> None:
    assembly = Assembly()
    for delta in (
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
        {"content": "Hel"},
        {"content": "lo"},
    ):
        assembly.add({"id": "c", "choices": [{"index": 0, "delta": delta}]})
    assembly.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    (choice,) = assembly.completion()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Hello"
    assert [(c["id"], c["function"]) for c in choice["message"]["tool_calls"]] == [
        ("a", {"name": "f", "arguments": '{"x":1}'}),
        ("b", {"name": "g", "arguments": "{}"}),
    ]


class Counting(Local):
    """The offline model in the place of a real one, with a count of what it is asked."""

    def __init__(self) -> None:
        super().__init__("llama")
        self.asked = 0
        self._inner = Offline()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        return self._inner.complete(body)


@pytest.mark.parametrize("streaming", [False, True])
async def test_answers_recorded_with_one_client_are_served_to_another(
    serve: Any, streaming: bool
) -> None:
    real = Counting()
    first = await serve(make_app(real, Options(record=True)))
    brief = {"endpoints": [{"method": "GET", "path": "/a/{session}"}]}
    tools: Any = [{"type": "function", "function": {"name": "call_api", "parameters": {}}}]

    def asked(session: str) -> dict[str, Any]:
        text = json.dumps(brief | {"values": {"session": session}})
        messages = [{"role": "system", "content": text}]
        return {"model": "llama", "messages": messages, "tools": tools}

    # Its import takes 0.7 s, in each worker where the module has it.
    import openai

    async def call(server: Any, session: str, stream: bool) -> Any:
        async with openai.AsyncOpenAI(
            base_url=str(server.make_url("/v1")), api_key="x", max_retries=0
        ) as client:
            answer: Any = await client.chat.completions.create(**asked(session), stream=stream)
            if not stream:
                return json.loads(answer.choices[0].message.tool_calls[0].function.arguments)
            parts = [event async for event in answer]
            return json.loads(parts[0].choices[0].delta.tool_calls[0].function.arguments)

    assert (await call(first, SESSIONS[0], streaming))["path"] == f"/a/{SESSIONS[0]}"
    text = await (await first.get("/recording")).text()

    second = await serve(make_app(Recorded("llama", load(text))))
    for stream in (False, True):
        assert (await call(second, SESSIONS[1], stream))["path"] == f"/a/{SESSIONS[1]}"
    assert real.asked == 1
    got = await second.post(PATH, json={"messages": [{"role": "user", "content": "New"}]})
    assert (got.status, (await got.json())["error"]["code"]) == (404, "not_recorded")
    got = await second.get("/recording")
    assert (got.status, (await got.json())["error"]["code"]) == (404, "not_recording")


async def session(
    model: Any, shop: Any, scenario: dict[str, Any], agent: str, slot: int, number: str
) -> list[tuple[str, int]]:
    """An agent's conversation: what it called, and the statuses it got."""
    values = {"agent": agent, "slot": slot, "session": number}
    brief = json.dumps(
        {"goal": scenario["goal"], "endpoints": scenario["endpoints"], "values": values}
    )
    messages: list[Any] = [{"role": "system", "content": brief}]
    tools = [{"type": "function", "function": {"name": "call_api", "parameters": {}}}]
    headers: dict[str, str] = {}
    made: list[tuple[str, int]] = []
    while True:
        answer = await model.post(
            PATH, json={"model": "llama", "messages": messages, "tools": tools}
        )
        assert answer.status == 200, await answer.text()
        message = (await answer.json())["choices"][0]["message"]
        if not message.get("tool_calls"):
            return made
        (call,) = message["tool_calls"]
        wanted = json.loads(call["function"]["arguments"])
        got = await shop.request(
            wanted["method"], wanted["path"], json=wanted.get("body"), headers=headers
        )
        found = await got.json()
        if "token" in found:
            headers = {"Authorization": f"Bearer {found['token']}"}
        made.append((wanted["path"], got.status))
        shown = json.dumps({"status": got.status, "body": found})
        messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": shown}]


async def test_recorded_session_runs_again_with_other_agents(
    serve: Any, scenario: dict[str, Any]
) -> None:
    real = Counting()
    first = await serve(make_app(real, Options(record=True)))
    shop = await serve(demo_app(faults=False))
    one = await session(first, shop, scenario, "agent-0001", 1, SESSIONS[0])
    assert one[-1] == ("/checkout", 201)
    recorded = load(await (await first.get("/recording")).text())
    assert len(recorded) == real.asked == len(one) + 1

    second = await serve(make_app(Recorded("llama", recorded)))
    for slot, number in ((2, SESSIONS[1]), (1999, "f" * 32)):
        assert one == await session(second, shop, scenario, f"agent-{slot:04d}", slot, number)
