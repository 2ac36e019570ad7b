"""Which answers of a provider are tried again, and what the client gets in the end."""

from __future__ import annotations

import gzip
import json
import logging
from typing import Any

import pytest

from ape_proxy.answers import RETRIED
from ape_proxy.limiter import Limits
from tests.support.provider import (
    COMPLETION,
    Handler,
    completion,
    good,
    says,
    status,
    stream,
)

pytestmark = [
    pytest.mark.unit,
    pytest.mark.asyncio,
    pytest.mark.usefixtures("short_backoff"),
]


async def test_transient_errors_are_retried_and_counted(rig: Any) -> None:
    here = await rig(status(503), status(429, Retry_After="0.2"), good)
    got = await here.ask()
    assert (got.status, len(here.provider.seen)) == (200, 3)
    assert await here.metric("ape_proxy_retries_total", cause="503") == 1
    assert await here.metric("ape_proxy_retries_total", cause="429") == 1
    assert await here.metric("ape_proxy_requests_total") == 1


@pytest.mark.parametrize(
    ("answer", "tries"),
    [(status(400), 1), (status(500), 3), (status(500, x_should_retry="false"), 1)],
)
async def test_attempts_are_bounded_and_useless_retries_are_not_made(
    rig: Any, answer: Handler, tries: int
) -> None:
    here = await rig(answer)
    got = await here.ask()
    assert "own" in await got.text()
    assert len(here.provider.seen) == tries


async def test_cost_is_absent_without_prices(rig: Any) -> None:
    here = await rig(good)
    assert (await here.ask()).status == 200
    text = await (await here.client.get("/metrics")).text()
    assert "ape_proxy_cost_dollars_total{" not in text
    assert await here.metric("ape_proxy_input_tokens_total") == 1000


HTML = b"<html><style>h1 {}</style><h1>502 Bad\nGateway</h1><hr>cloudflare</html>"
NO_MESSAGE = [
    (says(b"<html><body>Sign in to the wifi</body></html>", kind="text/html"), "Sign in to the"),
    (says(b""), "an empty answer"),
    (says([1]), "[1]"),
    (says(COMPLETION | {"choices": []}), '"choices": []'),
    (says(COMPLETION | {"choices": None}), '"choices": null'),
    (says({"id": "c"}), '{"id": "c"}'),
    (says(COMPLETION | {"choices": [{"index": 0, "message": None}]}), '"message": null'),
    (says({"error": {"message": "Provider returned error", "code": 502}}), "502: Provider ret"),
    (says({"error": "no healthy upstream"}), "no healthy upstream"),
    (says(COMPLETION | {"error": {"message": "It broke."}}), "It broke."),
    (
        says({"choices": [{"message": {}, "error": {"code": 502, "message": "Disconnected"}}]}),
        "502: Disconnected",
    ),
]


@pytest.mark.parametrize(("answer", "words"), NO_MESSAGE)
async def test_answer_without_a_message_is_tried_again_and_then_gets_502_with_its_words(
    rig: Any, answer: Handler, words: str
) -> None:
    here = await rig(answer)
    got = await here.ask()
    error = (await got.json())["error"]
    assert (got.status, error["code"], len(here.provider.seen)) == (502, "bad_answer", 3)
    assert words in error["message"]
    assert got.headers["x-should-retry"] == "false"
    assert await here.metric("ape_proxy_retries_total", cause="bad_answer") == 2
    assert await here.metric("ape_proxy_requests_total", result="error", status="502") == 1
    here = await rig(answer, good)
    assert (await (await here.ask()).json())["choices"] == COMPLETION["choices"]


async def test_answer_without_a_message_to_a_stream_is_tried_again(rig: Any) -> None:
    here = await rig(says({"error": {"message": "busy"}}), good)
    got = await here.ask(stream=True)
    assert (got.status, len(here.provider.seen)) == (200, 2)
    assert (await got.json())["choices"] == COMPLETION["choices"]


@pytest.mark.parametrize("code", RETRIED)
async def test_status_of_a_busy_provider_is_tried_again(rig: Any, code: int) -> None:
    here = await rig(status(code), good)
    assert ((await here.ask()).status, len(here.provider.seen)) == (200, 2)


@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 413, 422, 501])
async def test_final_rejection_is_passed_on_at_once_and_nobody_retries(rig: Any, code: int) -> None:
    body = b'{"error":  {"message": "own", "code": "x"}}'
    here = await rig(says(body, code))
    got = await here.ask()
    assert (got.status, await got.read(), got.headers["x-should-retry"]) == (code, body, "false")
    assert len(here.provider.seen) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [(HTML, "502 Bad Gateway cloudflare"), (b"x" * 900, "x" * 200), (b"[1]", "[1]")],
)
async def test_rejection_that_is_not_json_gets_the_form_of_openai(
    rig: Any, body: bytes, words: str
) -> None:
    here = await rig(says(body, 502, "text/html", **{"X-Request-Id": "7"}), retries=1)
    got = await here.ask()
    error = (await got.json())["error"]
    assert (got.status, error["code"], error["message"]) == (502, "upstream_error", words)
    assert (got.headers["X-Request-Id"], len(here.provider.seen)) == ("7", 2)


async def test_redirect_is_a_bad_answer(rig: Any) -> None:
    here = await rig(says(b"", 301, Location="https://elsewhere"))
    got = await here.ask()
    assert (got.status, (await got.json())["error"]["code"]) == (502, "bad_answer")
    assert len(here.provider.seen) == 1


async def test_unpaid_account_is_not_asked_again(rig: Any) -> None:
    here = await rig(says({"error": {"message": "Pay.", "code": "insufficient_quota"}}, 429))
    assert ((await here.ask()).status, len(here.provider.seen)) == (429, 1)


async def test_provider_never_gets_the_key_into_an_answer_or_the_log(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for answer in (
        says({"error": {"message": "Wrong API key k3y-of-the-stack"}}, 401),
        says(b"<p>k3y-of-the-stack", 403),
        says({"error": {"message": "k3y-of-the-stack"}}),
        stream(b'data: {"error": {"message": "k3y-of-the-stack"}}\n\n'),
    ):
        here = await rig(answer, retries=0)
        got = await here.ask(stream=True)
        if got.status != 200:
            assert "***" in await got.text()
            assert "k3y" not in await got.text()
    assert "***" in logged(caplog)[-1]["error"]
    assert "k3y" not in str([record.__dict__ for record in caplog.records])


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of the completions' lines."""
    return [r.__dict__["ape"] for r in caplog.records if r.getMessage() == "completion"]


async def test_log_line_of_a_completion_has_the_providers_code_and_words(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    refused = {"error": {"message": "No such\nmodel. " * 50, "code": "model_not_found"}}
    here = await rig(says(refused, 404), says(completion("length", content="")))
    await here.ask()
    await here.ask()
    one, two = logged(caplog)
    assert (one["result"], one["status"], one["code"]) == ("error", 404, "model_not_found")
    assert one["error"].startswith("No such model. No such model.")
    assert len(one["error"]) == 200
    assert two == {"model": "llama", "result": "incomplete", "status": 200} | {
        "finish_reason": "length"
    }


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("answer", "finish", "result"),
    [
        (completion("stop", content="Hi"), "stop", "success"),
        (completion("stop", content=[{"type": "text", "text": "Hi"}]), "stop", "success"),
        (completion("tool_calls", tool_calls=[CALL]), "tool_calls", "success"),
        (completion("function_call", function_call={"name": "f"}), "function_call", "success"),
        (completion("stop", refusal="No."), "stop", "success"),
        (completion("length", content="Fir"), "length", "success"),
        (completion("stop", content=None), "stop", "incomplete"),
        (completion("stop", content="", tool_calls=[]), "stop", "incomplete"),
        (completion("length", reasoning="long"), "length", "incomplete"),
        (completion("content_filter", content=""), "content_filter", "incomplete"),
        (completion("eos", content="Hi"), "other", "success"),
        (completion(None, content="Hi"), "other", "success"),  # type: ignore[arg-type]
    ],
)
async def test_answer_counts_by_its_finish_reason_and_as_success_only_with_a_message(
    rig: Any, answer: Any, finish: str, result: str
) -> None:
    here = await rig(says(answer))
    got = await here.ask()
    assert (got.status, await got.json(), len(here.provider.seen)) == (200, answer, 1)
    assert await here.metric("ape_proxy_finished_total", model="llama", finish_reason=finish) == 1
    assert await here.metric("ape_proxy_requests_total", result=result, status="200") == 1
    assert await here.metric("ape_proxy_requests_total") == 1


async def test_compressed_and_marked_answers_are_right(rig: Any) -> None:
    plain = json.dumps(COMPLETION).encode()
    packed = says(gzip.compress(plain), 200, "application/json", **{"Content-Encoding": "gzip"})
    here = await rig(packed, says(b"\xef\xbb\xbf" + plain))
    for _ in range(2):
        got = await here.ask()
        assert json.loads(await got.read()) == COMPLETION
        assert "Content-Encoding" not in got.headers
    assert await here.metric("ape_proxy_output_tokens_total") == 1000


async def test_usage_of_any_form_is_counted_or_ignored(rig: Any) -> None:
    extra = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"x": 4}}
    without = {k: v for k, v in COMPLETION.items() if k != "usage"}
    answers = [without, COMPLETION | {"usage": None}, COMPLETION | {"usage": extra}]
    here = await rig(*map(says, answers))
    for answer in answers:
        assert await (await here.ask()).json() == answer
    assert await here.metric("ape_proxy_input_tokens_total") == 7
    assert await here.metric("ape_proxy_requests_total", result="success") == 3


async def test_answer_without_usage_is_charged_what_was_reserved(rig: Any) -> None:
    without = {k: v for k, v in COMPLETION.items() if k != "usage"}
    limits = Limits(tokens_per_minute=1000, queue_seconds=0.1)
    here = await rig(says(without), limits=limits)
    assert (await here.ask(max_tokens=900)).status == 200
    assert (await here.ask(max_tokens=900)).status == 429


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_completion_takes_at_most_one_and_its_retries_upstream(
    rig: Any, retries: int
) -> None:
    """Whatever goes wrong, in whichever order."""
    wrong: list[Handler] = [
        status(429, Retry_After="0"),
        says({"error": "x"}),
        stream(0.01, "abort"),
        status(529),
        says(HTML, 502, "text/html"),
    ]
    for turn in range(len(wrong)):
        here = await rig(*wrong[turn:], *wrong[:turn], retries=retries)
        got = await here.ask()
        assert got.status in (429, 502, 529)
        assert (len(here.provider.seen), got.headers["x-should-retry"]) == (1 + retries, "false")
