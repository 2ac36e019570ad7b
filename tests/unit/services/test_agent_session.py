"""One session with the demo target: its reasons, its steps, what the model gets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from ape_agent import sign_in
from ape_agent.model import is_too_long, problem_of
from ape_agent.results import SessionResult, printable
from tests.support.agent_world import CHECKOUT, call, model_of, results_of, scripted_model

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


@pytest.mark.parametrize(
    ("calls", "changed", "reason"),
    [
        (lambda n: None, {}, "gave_up"),
        (lambda n: 500, {}, "model_error"),
        (lambda n: {"method": "GET", "path": "/products"} if n == 0 else None, {}, "target_error"),
        (lambda n: {"method": "GET", "path": "/admin"} if n == 0 else None, {}, "gateway_error"),
        (lambda n: {"method": "GET", "path": "/cart"}, {"session_max_steps": 3}, "step_limit"),
        (
            lambda n: {"method": "GET", "path": "/cart"},
            {"session_max_seconds": 0.3, "think_time_seconds": 0.2},
            "time_limit",
        ),
        (lambda n: {"method": "GET"}, {"session_max_steps": 2}, "step_limit"),
        (
            lambda n: {"method": "GET", "path": "/cart"},
            {"gateway_url": "http://127.0.0.1:1"},
            "gateway_error",
        ),
    ],
)
@pytest.mark.usefixtures("short_backoff")
async def test_failed_session_reports_the_reason(
    world: Any, calls: Any, changed: dict[str, Any], reason: str
) -> None:
    here = await world(scripted_model(calls))
    outcome, _ = await here.session(**changed)
    assert (outcome.result, outcome.reason) == ("failure", reason)


async def test_session_at_its_time_limit_reports_no_step_without_an_answer(world: Any) -> None:
    here = await world()

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/mcp/request", slow)
    gateway = await here.serve(app)
    url = str(gateway.make_url("")).rstrip("/")
    outcome, steps = await here.session(gateway_url=url, session_max_seconds=0.3)
    assert (outcome.reason, outcome.steps, steps) == ("time_limit", 1, [])


async def test_model_gets_persona_endpoints_values_and_answers(world: Any) -> None:
    asked: list[dict[str, Any]] = []
    turns = [{"method": "GET", "path": "/products"}, {"method": "GET"}]
    here = await world(scripted_model(lambda n: turns[n] if n < len(turns) else None, asked))
    _, steps = await here.session(persona="A pensioner who reads every label.")
    system = asked[0]["messages"][0]["content"]
    brief = json.loads(system[system.index('{"goal"') :])
    assert brief["persona"] == "A pensioner who reads every label."
    assert brief["endpoints"] == here.settings.endpoints
    assert brief["values"]["agent"] == "agent-0001"
    results = [json.loads(m["content"]) for m in asked[-1]["messages"] if m["role"] == "tool"]
    assert results[0]["status"] == 401
    assert "method and path" in results[1]["error"]
    assert [step.result for step in steps] == ["target_error", "bad_call"]


async def test_session_succeeds_by_the_targets_answers_and_not_by_the_models_words(
    world: Any,
) -> None:
    here = await world()
    success = {**CHECKOUT, "value_path": "no_such_field"}
    outcome, _ = await here.session(success=success)
    assert (outcome.result, outcome.reason, await here.orders()) == ("failure", "gave_up", 1)
    # Conditions on two answers: the cart must have held something, and the order has an id.
    cart = {"method": "GET", "path": "/cart", "status": 200, "value_path": "items[0].product_id"}
    success = {**CHECKOUT, "value_path": "order_id", "matches": "^order-", "also": [cart]}
    outcome, steps = await here.session(success=success)
    assert (outcome.result, outcome.reason, outcome.steps) == ("success", "goal_met", 6)
    assert [step.result for step in steps] == ["ok"] * 6
    assert steps[0].since is None
    assert all(step.seconds and step.seconds > 0 for step in steps)
    assert all(step.since and step.since > 0 for step in steps[1:])


SIGN_IN = [
    {"kind": "json", "path": "/login", "fields": {"username": "{username}", "password": "{pin}"}},
    {"kind": "logout", "path": "/orders/stats", "method": "GET"},
]


async def test_a_declared_sign_in_comes_before_the_model_which_sees_none_of_it(world: Any) -> None:
    asked: list[dict[str, Any]] = []
    login = {"method": "POST", "path": "/login", "body": {"username": "a", "password": "b"}}
    turns = [{"method": "GET", "path": "/products"}, login]
    here = await world(scripted_model(lambda n: turns[n] if n < len(turns) else None, asked))
    outcome, steps = await here.session(
        sign_in=SIGN_IN, credentials={"username": "ada", "pin": "very-secret"}
    )
    assert (outcome.reason, outcome.steps, len(steps)) == ("gave_up", 2, 2)
    assert "You are signed in." in asked[0]["messages"][0]["content"]
    products, hidden = results_of(asked[-1])
    assert (products["status"], len(products["body"]["products"]) > 1) == (200, True)
    assert (hidden["status"], hidden["body"]) == (200, sign_in.NOTE)
    assert "very-secret" not in json.dumps(asked)


async def test_a_sign_in_that_is_refused_ends_the_session_before_the_model(world: Any) -> None:
    asked: list[dict[str, Any]] = []
    here = await world(scripted_model(lambda n: None, asked))
    steps = [{"kind": "json", "path": "/login", "fields": {"username": "{username}"}}]
    outcome, _ = await here.session(sign_in=steps, credentials={"username": "ada"})
    assert (outcome.reason, outcome.acted, len(asked)) == ("target_error", False, 0)
    assert outcome.detail.startswith("Sign-in: POST /login: status 422.")
    elsewhere = [{"kind": "oauth2", "path": "/no"}]
    user = {"username": "ada", "password": "very-secret"}
    outcome, _ = await here.session(sign_in=elsewhere, credentials=user)
    assert (outcome.reason, len(asked)) == ("target_error", 0)
    assert outcome.detail.startswith("Sign-in: POST /no: ")


LOGIN = {"method": "POST", "path": "/login", "body": {"username": "a", "password": "b"}}
LOOK = {"method": "GET", "path": "/products"}
ERROR_HEADERS = {"x-should-retry": "false"}


def refusal(status: int, code: Any, message: str, **headers: str) -> Any:
    error = {"error": {"message": message, "type": "t", "param": None, "code": code}}
    return status, error, ERROR_HEADERS | headers


CUT = {"role": "assistant", "content": "First I", "finish_reason": "length"}
TOO_LONG = refusal(400, "context_length_exceeded", "Please reduce the length of the messages.")


@pytest.mark.parametrize(
    ("answer", "reason", "detail", "requests"),
    [
        (CUT, "model_truncated", 'raise modelMaxTokens. The model: "First I"', 1),
        (call("{", finish_reason="length"), "model_truncated", "raise modelMaxTokens", 2),
        ({"content": None, "refusal": "No."}, "model_refused", 'The model: "No."', 1),
        ({"content": "", "finish_reason": "content_filter"}, "model_refused", "content_filter", 1),
        (refusal(400, "content_filter", "Filtered."), "model_refused", "400 content_filter", 1),
        (refusal(401, None, "Wrong key sk-abcdefgh123"), "model_error", "Wrong key [key]", 1),
        (refusal(429, "too_many", "Slow down."), "model_error", "429 too_many: Slow down.", 1),
        (refusal(503, "busy", "Later."), "model_error", "503 busy: Later.", 1),
        (refusal(429, "quota_exhausted", "Until 10:00 UTC."), "model_quota", "10:00 UTC", 1),
        (TOO_LONG, "context_full", "400 context_length_exceeded: Please reduce", 1),
        ((200, {"choices": []}, {}), "model_error", "has no message", 1),
        ((200, {"error": {"message": "Broken.", "code": 502}}, {}), "model_error", "Broken.", 1),
        ((200, [], {}), "model_error", "not a JSON object", 1),
        ({"content": "I  think\nso."}, "gave_up", 'The model: "I think so."', 2),
        ({"content": None}, "gave_up", "The model: nothing.", 2),
        (call("{"), "step_limit", "not valid JSON", 3),
    ],
)
async def test_session_that_fails_by_the_model_reports_reason_and_detail(
    world: Any, answer: Any, reason: str, detail: str, requests: int
) -> None:
    asked: list[Any] = []
    fixed = json.dumps(answer)
    here = await world(model_of(lambda _: json.loads(fixed), asked))
    outcome, _ = await here.session(session_max_steps=3)
    assert (outcome.result, outcome.reason) == ("failure", reason)
    assert detail in outcome.detail
    assert len(asked) == requests
    assert not outcome.acted
    assert not outcome.unreachable


async def test_model_that_only_talks_is_reminded_once_in_a_session(world: Any) -> None:
    answers = [{"content": "Sure!"}, call(LOGIN), call(LOOK), {"content": "Done."}]
    asked: list[Any] = []
    here = await world(model_of(lambda n: answers[n], asked))
    outcome, _ = await here.session()
    assert (outcome.reason, outcome.detail) == ("gave_up", 'The model: "Done."')
    assert [m["role"] for m in asked[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert "call_api" in asked[1]["messages"][-1]["content"]
    assert [body.get("tool_choice") for body in asked] == ["required", "required", None, None]
    assert not asked[0].keys() & {"temperature", "max_tokens", "max_completion_tokens"}


async def test_model_that_stops_because_the_target_is_broken_is_not_reminded(world: Any) -> None:
    asked: list[Any] = []
    answers = [call(LOGIN), call({"method": "POST", "path": "/checkout"}), {"content": "Broken."}]
    here = await world(model_of(lambda n: answers[n], asked))
    await here.target.put("/_faults", json={"checkout": 500})
    outcome, _ = await here.session()
    assert (outcome.reason, outcome.detail) == ("target_error", 'The model: "Broken."')
    assert len(asked) == 3


async def test_model_learns_what_was_wrong_and_its_broken_call_is_not_sent_again(
    world: Any,
) -> None:
    asked: list[Any] = []
    broken = [call('{"method": "POST", "path": "/lo', finish_reason="length"), call("", "c")]
    answers = [*broken, call(LOGIN), call(LOOK | {"path": "products"}), {"content": "Done."}]
    here = await world(model_of(lambda n: answers[min(n, 4)], asked))
    outcome, steps = await here.session()
    assert [step.result for step in steps] == ["bad_call", "bad_call", "ok", "ok"]
    assert outcome.repaired == {"path": 1}
    assert outcome.report()["repaired"] == {"path": 1}
    cut, empty, *_ = results_of(asked[-1])
    assert "not valid JSON: Unterminated string" in cut["error"]
    assert "cut at its limit of tokens" in cut["error"]
    assert "empty" in empty["error"]
    made = [c for m in asked[-1]["messages"] for c in m.get("tool_calls", [])]
    arguments = [json.loads(c["function"]["arguments"]) for c in made]
    assert arguments == [{}, {}, LOGIN, LOOK]
    assert len({c["id"] for c in made}) == 4
    assert [c["id"] for c in made] == [
        m["tool_call_id"] for m in asked[-1]["messages"] if m["role"] == "tool"
    ]


async def test_call_that_the_provider_could_not_read_is_read_by_the_agent(world: Any) -> None:
    text = f"<function=call_api>{json.dumps(LOGIN)}</function>"
    failed = {"error": {"code": "tool_use_failed", "message": "x", "failed_generation": text}}
    answers = [(400, failed, ERROR_HEADERS), {"content": "Done."}, {"content": "Done."}]
    here = await world(model_of(lambda n: answers[n]))
    outcome, steps = await here.session()
    assert [step.result for step in steps] == ["ok"]
    assert outcome.repaired == {"text_call": 1}


@pytest.mark.parametrize("known", [0, 1500])
async def test_session_continues_when_the_context_is_full(world: Any, known: int) -> None:
    """The provider rejects what is longer than 6000 bytes, and the session's answers are."""
    large, asked, refused = {"note": "x" * 3000}, list[Any](), [0]

    async def reply(_: web.Request) -> web.Response:
        status = 201 if len(asked) > 11 else 200
        return web.json_response({"status_code": status, "headers": {}, "body": large})

    app = web.Application()
    app.router.add_post("/mcp/request", reply)

    def answer(n: int) -> Any:
        if len(json.dumps(asked[-1]["messages"])) > 6000:
            refused[0] += 1
            return TOO_LONG
        return call({"method": "POST", "path": "/checkout"})

    here = await world(model_of(answer, asked))
    url = str((await here.serve(app)).make_url("")).rstrip("/")
    outcome, _ = await here.session(gateway_url=url, success=CHECKOUT, context_tokens=known)
    assert outcome.reason == "goal_met"
    # Without a limit of the settings, it is learned.
    assert refused[0] == 0 if known else 0 < refused[0] <= 4


async def test_context_that_is_always_full_ends_the_session_after_few_requests(world: Any) -> None:
    answers, asked = [call(LOGIN), call(LOOK), call(LOOK)], list[Any]()
    here = await world(model_of(lambda n: answers[n] if n < 3 else TOO_LONG, asked))
    outcome, _ = await here.session()
    assert outcome.reason == "context_full"
    assert len(asked) <= 3 + 6


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"message": "m", "type": "t", "code": None}}, "t", "m"),
        ({"message": "m", "type": "t", "code": "c"}, "c", "m"),
        ({"error": "m"}, "", "m"),
        ({"detail": "m"}, "", "m"),
        ({"detail": [{"msg": "m", "type": "missing"}]}, "missing", "m"),
        ({"error": {"code": 502, "message": "m", "metadata": {"raw": "r"}}}, "502", "m r"),
        ({"error": []}, "", ""),
        ({}, "", ""),
    ],
)
async def test_error_of_a_provider_is_found_in_any_form(body: Any, code: str, message: str) -> None:
    assert problem_of(body) == (code, message)


@pytest.mark.parametrize(
    ("status", "message", "wanted"),
    [
        (400, "This model's maximum context length is 4096 tokens.", True),
        (400, "the request exceeds the available context size", True),
        (400, "prompt is too long: 208310 tokens > 200000 maximum", True),
        (400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", True),
        (413, "Request too large", True),
        (400, "max_tokens must be positive", False),
        (429, "Tokens per minute: reduce the length of your messages", False),
    ],
)
async def test_rejection_for_the_length_is_known_by_its_words(
    status: int, message: str, wanted: bool
) -> None:
    assert is_too_long(status, problem_of({"error": {"message": message}})) is wanted


async def test_words_of_somebody_else_are_printable_short_and_without_keys() -> None:
    assert printable("a\n\x00 b\u202e\ud800", 300) == "a b"
    assert printable("x" * 400, 300) == "x" * 299 + "…"
    for key in ("sk-proj-abc_DEF-123", "gsk_abcdefgh1234", "Bearer abc.def-ghi", "a1" * 20):
        assert printable(f"Key {key} is wrong", 300) == "Key [key] is wrong"
    name = "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8"
    assert printable(name, 300) == name


async def test_report_of_a_session_without_failure_is_as_short_as_before() -> None:
    report = SessionResult(1, "success", "goal_met", 6, 1.5, acted=True).report()
    assert set(report) == {"slot", "result", "reason", "steps", "seconds"}
