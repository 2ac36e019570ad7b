"""What each behavior of real models and providers comes to, from the agent to the upstream."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ape_contracts import metrics
from tests.support import model_answers as answers
from tests.support import model_behaviors as known
from tests.support import model_forms as forms
from tests.support import model_world
from tests.support.model_step import turn
from tests.support.model_world import KEY, STEPS, Shop

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
RETRIES = 2
ANY = "any kind"


@dataclass(frozen=True)
class Case:
    """`repaired`: the kinds; ANY: one at least; None: whether or not. `requests`: to the upstream.

    `told`, `detail`: patterns of what the model is answered, and of the session's detail.
    """

    behavior: str
    reason: str | tuple[str, ...] = metrics.GOAL_MET
    repaired: tuple[str, ...] | None = ()
    requests: int | None = None
    detail: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    proxy: dict[str, Any] = field(default_factory=dict)
    echo: tuple[str, ...] = ()


# By near miss: the kind of its repair.
KINDS: dict[str, str | None] = {
    "encoded_twice": "encoded_twice",
    "encoded_three_times": "encoded_twice",
    "words_after": "text_around",
    "words_before": "text_around",
    "fenced_arguments": "text_around",
    "twice_in_a_row": "text_around",
    "end_token": "text_around",
    "python_literal": ANY,
    "trailing_comma": ANY,
    "line_break_in_text": None,
    "object": "object",
    "nested_parameters": "nested",
    "nested_arguments": "nested",
    "nested_text": ANY,
    "nested_request": "nested",
    "nested_tool_name": "nested",
    "nested_in_a_list": ANY,
    "upper_case_keys": ANY,
    "title_case_keys": ANY,
    "key_url": ANY,
    "keys_of_the_gateway": ANY,
    "key_data": ANY,
    "body_text": "body_text",
    "body_null": "",
    "body_empty_text": None,
    "no_slash": "path",
    "own_host": "host",
    "blanks_around": None,
    "line_break_after_path": None,
    "method_in_path": "method",
    "method_only_in_path": "method",
    "lower_case_method": None,
    "other_tool_name": "tool_name",
    "prefixed_tool_name": "tool_name",
    "tool_name_with_token": "tool_name",
    "function_call": ANY,
    "empty_id": None,
    "null_id": None,
    "no_type": None,
    "same_id_each_time": None,
}
FINE = [
    *(Case(name, requests=STEPS) for name in forms.FINE),
    *(Case(n, requests=STEPS) for n in ("no_usage", "rich_usage", "byte_order_mark", "gzip")),
    Case("query_in_path", requests=STEPS),
    Case("parallel", requests=STEPS - 1),
    Case("wants_signature", requests=STEPS, echo=("extra_content",)),
    Case("wants_reasoning", requests=STEPS, echo=("reasoning_details",)),
    Case("length_with_call", requests=STEPS),
]
CALLS = [
    *(
        Case(name, repaired=None if kind is None else (kind,) if kind else (), requests=STEPS)
        for name, kind in KINDS.items()
    ),
    *(Case(name, repaired=("text_call",), requests=STEPS) for name in forms.TEXT_CALLS),
    Case("text_parallel", repaired=("text_call",), requests=STEPS - 1),
    Case("wants_short_ids", repaired=("text_call",), requests=STEPS),
    # Not the target's: the model gets the problem, and nothing is sent there.
    Case("other_host_first", requests=STEPS + 1, told=("elsewhere|host",)),
]
TALK = [
    Case("talks_once", requests=STEPS + 1, told=("call_api",)),
    Case("empty_once", requests=STEPS + 1),
    Case("null_once", requests=STEPS + 1),
    Case("talks", "gave_up", requests=2, detail=("begin with the login",)),
    Case("talks_in_parts", "gave_up", requests=2, detail=("begin with the login",)),
    Case("talks_with_json", "gave_up", requests=2, detail=("I stop here",)),
    Case("stops_later", "gave_up", detail=("The shop is closed",)),
    Case("empty", "gave_up", requests=2),
    Case("blank", "gave_up", requests=2),
    Case("null", "gave_up", requests=2),
    Case("no_calls_in_list", "gave_up", requests=2),
    Case("only_thinks", "gave_up", requests=2),
]
BROKEN = [
    Case("broken_once", requests=STEPS + 1, told=("JSON",)),
    Case("broken_text_once", requests=STEPS + 1, repaired=None, told=("JSON|call_api",)),
    Case("empty_arguments_once", requests=STEPS + 1, told=("(?i)empty|JSON",)),
    Case("null_arguments_once", requests=STEPS + 1, told=("(?i)null|empty|JSON|arguments",)),
    Case("list_arguments_once", requests=STEPS + 1, repaired=None, told=("(?i)object|method",)),
    Case("number_arguments_once", requests=STEPS + 1, repaired=None, told=("(?i)object",)),
    Case("no_path_once", requests=STEPS + 1, told=("path",)),
    Case("no_method_once", repaired=None),
    Case("fields_beside_once", repaired=None),
    Case("path_is_a_number_once", requests=STEPS + 1, told=("path",)),
    Case("no_function_once", requests=STEPS + 1, told=("(?i)method|function|arguments|call_api",)),
    Case("deep_arguments_once", requests=STEPS + 1, told=("JSON|nested",)),
    Case("length_arguments_once", requests=STEPS + 1, told=("(?i)JSON|token|cut",)),
    Case("length_arguments", "model_truncated", detail=("modelMaxTokens",)),
    Case("broken", "step_limit"),
]
ENDS = [
    *(
        Case(
            name, "model_truncated", requests=1, detail=("length|limit of tokens", "modelMaxTokens")
        )
        for name in ("length_reasoning", "length_reasoning_content", "length_text")
    ),
    Case("refusal", "model_refused", requests=1, detail=("can't help with that",)),
    Case("refusal_later", "model_refused", requests=3, detail=("can't buy that",)),
    Case("content_filter", "model_refused", requests=1, detail=("content_filter",)),
    Case("content_filter_azure", "model_refused", requests=1, detail=("content_filter",)),
]
REFUSED = {
    "key_wrong": ("Wrong API Key", "wrong_api_key"),
    "key_wrong_flat": ("Wrong API Key", "wrong_api_key"),
    "key_wrong_text": ("Unauthorized: bad key",),
    "key_wrong_empty": ("401",),
    "no_credits": ("Insufficient credits",),
    "forbidden": ("Forbidden",),
    "forbidden_page": ("Access denied",),
    "no_model": ("does not exist", "model_not_found"),
    "no_model_ollama": ("not found, try pulling it first",),
    "no_model_vllm": ("The model `m` does not exist",),
    "no_deployment_azure": ("DeploymentNotFound", "API deployment does not exist"),
    "extra_inputs": ("Extra inputs",),
    "extra_inputs_mistral": ("Extra inputs",),
    "invalid_google": ("Invalid value",),
    "invalid_cloudflare": ("Could not route to model",),
    "no_path": ("Not Found",),
    "refused_behind_openrouter": ("tools are not supported by this model",),
    "long_words": ("Unknown field",),
    "redirect": ("307",),
}
FAILED = {
    **{
        f"status_{n}": (f"own words of {n}",) for n in (408, 500, 502, 503, 504, 520, 522, 524, 529)
    },
    "page_502": ("Bad Gateway",),
    "busy_ollama": ("server busy",),
    "rate_limit": ("token_quota_exceeded", "Tokens per minute limit exceeded"),
    "rate_limit_bad_header": ("token_quota_exceeded",),
    "cut": ("upstream_unreachable",),
    "reset": ("upstream_unreachable",),
    "no_choices": ("bad_answer",),
    "null_choices": ("bad_answer",),
    "null_message": ("bad_answer",),
    "error_in_200": ("Provider returned error",),
    "error_text_in_200": ("out of memory",),
    "error_in_choice": ("Provider disconnected",),
    "page_200": ("Sign in to the wifi",),
    "empty_200": ("bad_answer",),
    "list_200": ("bad_answer",),
    "event_stream_200": (),
}
ERRORS = [
    *(
        Case(f"always_{name}", "model_error", requests=1, detail=words)
        for name, words in REFUSED.items()
    ),
    # By its size, whatever measures it.
    Case("always_too_large", "context_full", detail=("Request Entity Too Large",)),
    *(
        Case(f"always_{name}", "model_error", requests=1 + RETRIES, detail=words)
        for name, words in FAILED.items()
    ),
    *(Case(f"once_{name}", requests=2 * STEPS) for name in FAILED),
    Case("always_status_503", "model_error", requests=1, proxy={"retries": 0}),
    Case("always_rate_limit", "model_error", requests=1, proxy={"retries": 0}),
    Case("no_credit", ("model_quota", "model_error"), detail=("insufficient_quota",)),
    *(
        Case(f"quota_{name}", "model_quota", requests=1, detail=(r"\d\d:\d\d.*UTC",))
        for name in answers.QUOTAS
    ),
    *(Case(f"full_{name}", "context_full") for name in answers.CONTEXT_REFUSALS),
]
CASES = [*FINE, *CALLS, *TALK, *BROKEN, *ENDS, *ERRORS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Shop]:
    async with model_world.shop() as made:
        yield made


def _name(case: Case) -> str:
    return "-".join([case.behavior, *(f"{k}={v}" for k, v in case.proxy.items())])


@pytest.mark.parametrize("streams", [True, False], ids=["events", "object"])
@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_session_ends_as_it_should_whatever_the_model_and_its_provider_do(
    case: Case, streams: bool, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents ask for streams; some servers answer with one object anyway."""
    model_world.shorten_backoff(monkeypatch)
    behavior = known.behaviors(shop.target)[case.behavior]
    rigged = model_world.rig(
        shop, behavior, tmp_path, echo=case.echo, streams=streams, **case.proxy
    )
    async with rigged as rig:
        outcome = await rig.session()
    found = outcome.report()
    reasons = (case.reason,) if isinstance(case.reason, str) else case.reason
    assert found["reason"] in reasons, found
    assert not rig.upstream.broken
    assert all(seen.body["stream"] for seen in rig.upstream.seen)
    if case.requests is not None:
        assert rig.upstream.requests == case.requests, found
    assert rig.upstream.most_attempts <= 1 + case.proxy.get("retries", RETRIES)
    for pattern in case.told:
        assert re.search(pattern, rig.told), rig.told
    _check_detail(found, case)
    _check_repaired(found.get("repaired", {}), case.repaired)


def _check_detail(found: dict[str, Any], case: Case) -> None:
    detail = found.get("detail", "")
    assert len(detail) <= 300
    assert detail or case.reason in (metrics.GOAL_MET, "step_limit")
    for pattern in case.detail:
        assert re.search(pattern, detail), detail


def _check_repaired(found: dict[str, int], kinds: tuple[str, ...] | None) -> None:
    assert set(found) <= set(metrics.REPAIR_KINDS)
    assert all(count > 0 for count in found.values())
    if kinds == (ANY,):
        assert found
    elif kinds is not None:
        assert set(kinds) <= set(found), found
        if not kinds:
            assert not found


async def test_table_has_every_behavior() -> None:
    """The windows are in test_model_limits."""
    tested = {case.behavior for case in CASES}
    assert {n for n in known.behaviors() if not n.startswith("window_")} <= tested


async def test_detail_of_a_session_has_no_key_when_the_provider_quotes_it(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = answers.Answer(answers.openai_error(f"Incorrect API key provided: {KEY}"), 401)
    caplog.set_level("INFO")
    async with model_world.rig(shop, known.always(refusal), tmp_path) as rig:
        outcome = await rig.session()
    assert "Incorrect API key" in outcome.report()["detail"]
    assert KEY not in outcome.report()["detail"]
    assert not [r for r in caplog.records if KEY in f"{r.getMessage()} {getattr(r, 'ape', {})}"]


async def test_log_line_of_a_session_has_the_last_words_and_the_repaired_calls(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ape_agent")
    nested = known.each(forms.NEAR_MISSES["nested_parameters"])
    closed = known.says(forms.text("The shop is closed."))

    def behavior(body: dict[str, Any], count: int) -> answers.Answer:
        return (closed if turn(body) >= 2 else nested)(body, count)

    async with model_world.rig(shop, behavior, tmp_path) as rig:
        await rig.session()
    [line] = [getattr(r, "ape", {}) for r in caplog.records if r.getMessage() == "session"]
    assert line["reason"] == "gave_up"
    assert "The shop is closed." in line["detail"]
    assert line["repaired"] == {"nested": 2}
