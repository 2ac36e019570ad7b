"""Completions that come as events: what agents make of them, and what the proxy records."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_agent.peers import Peer, PeerError
from ape_agent.stream import MAX_EVENT_BYTES, Stream
from ape_contracts.recording import load
from ape_proxy.app import Options, make_app
from ape_proxy.completion import as_events
from ape_proxy.models import Offline
from ape_proxy.recording import Recorded
from ape_service.completion_stream import (
    MAX_CALLS,
    MAX_CHARS,
    Assembly,
    TooLarge,
    status_of,
)
from tests.support import model_answers, model_forms, model_streams
from tests.support.agent_world import model_of

pytestmark = pytest.mark.unit
STEP = {"method": "POST", "path": "/login", "body": {"username": "zoë 😀", "n": 1}}
FORMS = model_forms.FINE | model_forms.NEAR_MISSES
PATH = "/v1/chat/completions"


def chunk(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish} | more
    return model_streams.event({"choices": [choice]})


def call(index: int | None, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [({} if index is None else {"index": index}) | more]}


def function(name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    given = {"name": name, "arguments": arguments}
    return {"function": {k: v for k, v in given.items() if v is not None}}


END = chunk({}, "tool_calls") + model_streams.DONE


def fed(*parts: bytes) -> Stream:
    made = Stream()
    made.begin({})
    for part in parts:
        made.feed(part)
    made.end()
    return made


def message_of(*parts: bytes) -> dict[str, Any]:
    status, body = fed(*parts).reply()
    assert status == 200, body
    found: dict[str, Any] = body["choices"][0]["message"]
    return found


def calls_of(*deltas: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = message_of(*map(chunk, deltas), END)["tool_calls"]
    return found


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """Without what a stream does not tell apart from what is not there."""
    made = {k: v for k, v in message.items() if v is not None or k == "content"}
    if made.get("tool_calls"):
        made["content"] = made["content"] or None
        made["tool_calls"] = [
            {k: v for k, v in each.items() if k != "index"} for each in made["tool_calls"]
        ]
    return made


@pytest.mark.parametrize("name", FORMS)
def test_message_of_a_stream_is_that_of_the_whole_answer(name: str) -> None:
    whole = FORMS[name](STEP)
    completion = model_answers.completion(whole)
    assert message_of(model_streams.events(completion, 3)) == plain(whole)
    assert message_of(b"".join(as_events(completion))) == plain(whole)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 400), max_size=12), st.sampled_from([b"\n", b"\r\n"]))
def test_stream_may_be_cut_anywhere(sizes: list[int], line_break: bytes) -> None:
    whole = model_forms.proper(STEP, content="I go on, zoë.", reasoning="Hm 😀.")
    text = model_streams.events(model_answers.completion(whole)).replace(b"\n", line_break)
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    assert message_of(*parts, text[at:]) == whole | {"content": "I go on, zoë."}


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + chunk({"content": "Hi"}) + chunk({}, "stop"),
        (chunk({"content": "Hi"}) + chunk({}, "stop")).replace(b"data: ", b"data:"),
        (chunk({"content": "Hi"}) + chunk({}, "stop")).replace(b"\n\n", b"\n"),
        (chunk({"content": "Hi"}) + chunk({}, "stop")).replace(b"data:", b"event: x\nid: 1\ndata:"),
        (chunk({"content": "Hi"}) + chunk({}, "stop")).replace(b', "delta"', b',\ndata: "delta"'),
        (chunk({"content": "Hi"}) + chunk({}, "stop")).rstrip(),
        b": one\n\n" + chunk({"content": "Hi"}) + b": two\n\ndata: [1]\n\n" + chunk({}, "stop"),
        chunk({"content": "Hi"}) + b'data: {"choices": [7]}\n\ndata: {{\n\n' + chunk({}, "stop"),
        chunk(None, "stop", message={"role": "assistant", "content": "Hi"}),
        b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": "\\ude00"}, "finish_reason": "stop"}]}\n\n',
    ],
    ids=[
        "mark",
        "no_space",
        "single_breaks",
        "fields",
        "lines",
        "no_end",
        "comments",
        "junk",
        "message",
        "halves",
    ],
)
def test_event_is_read_in_each_form_of_servers(text: bytes) -> None:
    assert message_of(text)["content"] in ("Hi", "😀")


def test_calls_of_a_stream_are_told_apart_with_and_without_an_index() -> None:
    a, b = function("f", '{"a"'), function("g", "{")
    rest = function(None, ": 1}")
    two = [("x", "f", '{"a": 1}'), ("y", "g", "{")]
    for deltas in (
        [call(0, id="x", **a), call(1, id="y", **b), call(0, **rest)],
        # No index, and the same index with each call.
        [call(None, id="x", **a), call(None, **rest), call(None, id="y", **b)],
        [call(0, id="x", **a), call(0, **rest), call(0, id="y", **b)],
        # Id and name with each piece.
        [call(0, id="x", **a), call(0, id="x", **function("f", ": 1}")), call(1, id="y", **b)],
        [call(0, id="x", **a), call(0, id="", **function("", ": 1}")), call(1, id="y", **b)],
    ):
        found = calls_of(*deltas)
        assert [(c["id"], *c["function"].values()) for c in found] == two, deltas
    whole = calls_of(call(None, **function("f", "{}")), call(None, **function("f", "{}")))
    assert len(whole) == 2
    assert calls_of(call(0, id="x", **function("f", {"a": 1})))[0]["function"]["arguments"] == {
        "a": 1
    }
    named = calls_of(call(0, id="x", **function("call_")), call(0, **function("api", "{}")))
    assert named[0]["function"]["name"] == "call_api"


def test_reasoning_that_providers_want_back_is_kept() -> None:
    signed = {"google": {"thought_signature": "abc"}}
    details = [
        {"type": "reasoning.text", "text": "I ", "index": 0, "signature": None},
        {"type": "reasoning.text", "text": "think", "index": 0, "signature": "s"},
        {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
    ]
    found = message_of(
        chunk({"reasoning_content": "Hm"}),
        chunk({"reasoning_content": " hm"}),
        *(chunk({"reasoning_details": [each]}) for each in details),
        chunk(call(0, id="x", extra_content=signed, **function("f", "{}"))),
        END,
    )
    assert found["reasoning_content"] == "Hm hm"
    assert found["reasoning_details"] == [details[1] | {"text": "I think"}, details[2]]
    assert found["tool_calls"][0]["extra_content"] == signed


ERRORS: dict[str, tuple[bytes, int]] = {
    "object": (model_streams.event({"error": {"message": "broken", "code": "server_error"}}), 502),
    "status": (model_streams.event({"error": {"message": "broken", "code": 429}}), 429),
    "named": (b"event: error\n" + model_streams.event({"message": "broken", "code": "503"}), 503),
    "groq": (
        model_streams.event({"error": {"message": "broken", "status_code": 400}}),
        400,
    ),
    "openai": (
        model_streams.event({"error": {"message": "broken", "type": "invalid_request_error"}}),
        400,
    ),
    "vllm": (model_streams.event({"object": "error", "message": "broken", "code": 400}), 400),
    "choice": (chunk({}, "error", error={"message": "broken", "code": 502}), 502),
    "text": (model_streams.event({"error": "broken"}), 502),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_in_a_stream_is_the_reply_with_its_status(name: str) -> None:
    text, expected = ERRORS[name]
    status, body = fed(chunk({"content": "Hi"}), text).reply()
    assert (status, "broken" in json.dumps(body)) == (expected, True)
    text = text.replace(b"\n", b"\r\n")
    assert fed(*(text[at : at + 1] for at in range(len(text)))).reply() == (status, body)


def test_stream_without_a_finish_reason_has_ended_early() -> None:
    for end in (b"", model_streams.DONE, b"data: {"):
        status, body = fed(chunk({"content": "Hi"}), end).reply()
        assert (status, body["error"]["code"]) == (502, "stream_ended")


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: " + b"x" * (MAX_EVENT_BYTES + 1)],
        [b"data: {\ndata: " + b"x" * MAX_EVENT_BYTES + b"\ndata: 1"],
        [chunk({"content": "x" * 1_000_000})] * (MAX_CHARS // 1_000_000 + 1),
        [chunk(call(n, **function("f"))) for n in range(MAX_CALLS + 1)],
    ],
    ids=["line", "lines", "text", "calls"],
)
def test_stream_has_bounds(parts: list[bytes]) -> None:
    with pytest.raises(TooLarge):
        fed(*parts)


def test_status_of_an_error_is_one_of_an_error() -> None:
    assert status_of({"error": {"code": True, "status": 399}}) == 502


def test_assembly_of_the_proxy_has_the_head_of_the_chunks() -> None:
    whole = model_answers.completion(model_forms.proper(STEP))
    made = Assembly()
    for line in b"".join(as_events(whole)).split(b"\n\n")[:-2]:
        made.add(json.loads(line[5:]))
    assert made.completion() == whole


class Server:
    """Sends these parts; "cut" closes, a number waits."""

    def __init__(self, *parts: bytes | float | str, **headers: str) -> None:
        self._parts, self._headers = parts, {"Content-Type": "text/event-stream"} | headers
        self.app = web.Application()
        self.app.router.add_post(PATH, self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers=self._headers)
        await made.prepare(request)
        for part in self._parts:
            if isinstance(part, bytes):
                await made.write(part)
            elif isinstance(part, float):
                await asyncio.sleep(part)
            else:
                assert request.transport is not None
                request.transport.close()
        return made


async def asked(serve: Any, server: Server, timeout: float = 2.0) -> Any:
    peer = Peer(str((await serve(server.app)).make_url("")).rstrip("/"), timeout)
    try:
        return await peer.post(PATH, {}, "0" * 32, stream=True)
    finally:
        peer.close()


async def test_peer_returns_the_completion_of_a_stream(serve: Any) -> None:
    text = model_streams.events(model_answers.completion(model_forms.proper(STEP)))
    half = len(text) // 2
    reply = await asked(serve, Server(text[:half], 0.01, text[half:], **{"X-Own": "1"}))
    assert (reply.status, reply.in_stream, reply.headers["x-own"]) == (200, True, "1")
    [made] = reply.body["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == STEP


async def test_peer_keeps_a_whole_answer_of_a_connection_that_breaks_after_it(serve: Any) -> None:
    whole = chunk({"content": "Hi"}) + chunk({}, "stop")
    assert (await asked(serve, Server(whole, 0.01, "cut"))).status == 200
    with pytest.raises(PeerError):
        await asked(serve, Server(chunk({"content": "Hi"}), 0.01, "cut"))
    overloaded = model_streams.event({"error": {"message": "later", "code": 503}})
    assert not (await asked(serve, Server(overloaded))).retry_helps


async def test_peer_gives_up_a_stream_that_is_too_slow_or_too_large(serve: Any) -> None:
    large = Server(*[chunk({"content": "x" * 900_000})] * 5)
    for server, seconds in ((Server(chunk({"content": "Hi"}), 1.0), 0.2), (large, 5.0)):
        with pytest.raises(PeerError) as caught:
            await asked(serve, server, seconds)
        assert ("too large" in str(caught.value)) == (server is large)


async def test_agent_asks_for_streams_unless_its_settings_say_otherwise(world: Any) -> None:
    bodies: list[Any] = []
    here = await world(model_of(lambda _: {"content": "I stop."}, bodies))
    await here.session()
    assert (bodies[0]["stream"], bodies[0]["stream_options"]) == (True, {"include_usage": True})
    bodies.clear()
    await here.session(stream=False)
    assert not {"stream", "stream_options"} & bodies[0].keys()


@pytest.mark.parametrize("streams", [True, False])
async def test_recording_of_agents_is_answered_with_and_without_streams(
    world: Any, streams: bool
) -> None:
    here = await world(make_app(Offline(), Options(record=True)))
    assert (await here.session(stream=streams))[0].reason == "goal_met"
    recorded = load(await (await here.proxy.get("/recording")).text())
    for stream in (False, True):
        again = await world(make_app(Recorded("ape-offline", recorded)))
        assert (await again.session(stream=stream))[0].reason == "goal_met"
