"""Streams of which nothing was passed on: those of agents, and the beginning of all others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ape_agent.stream import Stream
from ape_contracts.recording import load
from tests.support.provider import (
    DONE,
    FINISH,
    PATH,
    ROLE,
    TEXT,
    USAGE,
    Handler,
    chunk,
    good,
    says,
    status,
    stream,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("short_backoff")]
AGENT = {"X-APE-Agent": "agent-0001"}
ASK = {"messages": [], "stream": True, "stream_options": {"include_usage": True}}
ERROR = b'data: {"error": {"message": "later, k3y-of-the-stack", "code": %d}}\n\n'
LONG = [TEXT * 100] * 20
HALF = FINISH.partition(b"{")[0] + b'{"choices": [{"index": 0, "delta": {"content": "b"}'
EARLY: dict[str, tuple[Handler, str]] = {
    "reset": (stream(b": wait\n\n", 0.01, "abort"), "upstream_unreachable"),
    "nothing": (stream(b": wait\n\n" + DONE), "bad_answer"),
    "error": (stream(ERROR % 502), "502"),
    "named": (stream(b"event: error\n", b'data: {"message": "later", "code": 503}\n\n'), "503"),
    "object": (says(b'{"error": {"message": "x"}}', kind="text/event-stream"), "bad_answer"),
}
LATE: dict[str, tuple[Handler, str]] = {
    "reset": (stream(*LONG, 0.05, "abort"), "upstream_unreachable"),
    "end": (stream(*LONG), "bad_answer"),
    "done": (stream(*LONG, DONE), "bad_answer"),
    "error": (stream(*LONG, ERROR % 500), "500"),
    "choice": (stream(TEXT, HALF + b', "error": {"message": "gone"}}]}\n\n'), "502"),
}


def read(text: bytes) -> tuple[int, dict[str, Any]]:
    made = Stream()
    made.feed(text)
    made.end()
    return made.reply()


async def asked(here: Any) -> Any:
    return await here.client.post(PATH, json=ASK, headers=AGENT)


@pytest.mark.parametrize("name", EARLY)
async def test_stream_that_fails_before_its_first_chunk_is_retried(rig: Any, name: str) -> None:
    first, cause = EARLY[name]
    here = await rig(first, stream(ROLE, TEXT, FINISH, DONE))
    got = await here.ask(stream=True)
    assert (got.status, await got.read()) == (200, ROLE + TEXT + FINISH + DONE)
    assert await here.metric("ape_proxy_retries_total", cause=cause) == 1


@pytest.mark.parametrize("name", [*EARLY, *(f"late_{name}" for name in LATE)])
async def test_stream_of_an_agent_is_retried_whenever_it_fails(rig: Any, name: str) -> None:
    first, cause = (EARLY | {f"late_{name}": case for name, case in LATE.items()})[name]
    here = await rig(first, stream(ROLE, TEXT, TEXT, FINISH, USAGE, DONE))
    got = await asked(here)
    status, body = read(await got.read())
    assert (got.status, got.content_type, status) == (200, "text/event-stream", 200)
    assert body["choices"][0]["message"]["content"] == "aa"
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 2}
    assert await here.metric("ape_proxy_retries_total", cause=cause) == 1
    found = await (await here.client.get("/results")).json()
    # Of the last attempt only.
    assert (found["ttft"]["count"], found["itl"]["count"], found["retries"]) == (1, 1, 1)
    assert found["completions"] == {"success": 1}
    if name == "late_reset":
        assert found["ttft"]["min"] > 0.05


async def test_stream_of_an_agent_that_always_breaks_is_an_error_with_its_words(rig: Any) -> None:
    here = await rig(stream(TEXT, ERROR % 500), retries=1)
    got = await asked(here)
    assert (got.status, got.headers["x-should-retry"]) == (500, "false")
    assert await got.json() == {"error": {"message": "later, ***", "code": 500}}
    assert len(here.provider.seen) == 2


async def test_stream_that_begins_with_a_final_error_is_an_error(rig: Any) -> None:
    here = await rig(stream(b": wait\n\n", ERROR % 400))
    got = await here.ask(stream=True)
    assert (got.status, got.headers["x-should-retry"]) == (400, "false")
    assert await got.json() == {"error": {"message": "later, ***", "code": 400}}
    assert len(here.provider.seen) == 1


async def test_text_of_a_call_that_the_provider_could_not_read_reaches_the_agent(rig: Any) -> None:
    """Groq's, which comes in the middle of a stream."""
    error = {"message": "Failed to call a function.", "code": "tool_use_failed"}
    event = {"error": error | {"failed_generation": "<f>"}, "status_code": 400}
    here = await rig(stream(ROLE, b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"))
    got = await asked(here)
    assert (got.status, await got.json()) == (400, event)
    assert len(here.provider.seen) == 1


@pytest.mark.parametrize("headers", [{}, AGENT], ids=["client", "agent"])
@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
async def test_object_in_answer_to_a_stream_is_passed_on(
    rig: Any, kind: str, headers: dict[str, str]
) -> None:
    answer = {"choices": [{"message": {"content": "Hi"}}]}
    here = await rig(says(answer, kind=kind))
    got = await here.client.post(PATH, json=ASK, headers=headers)
    assert (got.status, json.loads(await got.text())) == (200, answer)


async def test_error_in_the_middle_of_a_stream_has_no_secret(rig: Any) -> None:
    here = await rig(stream(TEXT, 0.05, ERROR % 500))
    assert b"later, ***" in await (await here.ask(stream=True)).read()


async def test_stream_of_an_agent_must_end_in_time(rig: Any) -> None:
    here = await rig(stream(TEXT, 0.15, TEXT, 0.15, TEXT, 0.15, FINISH), timeout=0.3)
    got = await asked(here)
    assert (got.status, (await got.json())["error"]["code"]) == (504, "upstream_timeout")
    assert len(here.provider.seen) == 1, "it may be at work on it still"


async def test_stream_of_an_agent_that_is_too_large_is_an_error(rig: Any) -> None:
    here = await rig(stream(*[chunk(content="x" * 900_000)] * 5, FINISH))
    got = await asked(here)
    assert (got.status, (await got.json())["error"]["code"]) == (502, "answer_too_large")
    assert len(here.provider.seen) == 1


async def test_event_in_several_lines_is_measured_and_recorded(rig: Any) -> None:
    lines = TEXT.replace(b', "choices"', b',\ndata: "choices"')
    here = await rig(stream(lines, FINISH, USAGE, DONE), record=True)
    status, body = read(await (await asked(here)).read())
    assert (status, body["choices"][0]["message"]["content"]) == (200, "a")
    [recorded] = load(await (await here.client.get("/recording")).text()).values()
    assert recorded["choices"][0]["message"]["content"] == "a"


async def test_recording_of_an_agents_stream_has_what_providers_want_back(rig: Any) -> None:
    signed = {"index": 0, "id": "x", "extra_content": {"google": {"thought_signature": "s"}}}
    parts = chunk(tool_calls=[signed]), chunk(reasoning_details=[{"type": "t", "data": "d"}])
    here = await rig(stream(*parts, FINISH, USAGE, DONE), record=True)
    assert (await asked(here)).status == 200
    [recorded] = load(await (await here.client.get("/recording")).text()).values()
    message = recorded["choices"][0]["message"]
    assert message["tool_calls"] == [{k: v for k, v in signed.items() if k != "index"}]
    assert message["reasoning_details"] == [{"type": "t", "data": "d"}]


async def test_whole_answers_and_rejections_of_agents_are_as_for_others(rig: Any) -> None:
    here = await rig(good, status(404))
    for expected in (200, 404):
        got = await asked(here)
        assert (got.status, got.content_type) == (expected, "application/json")
