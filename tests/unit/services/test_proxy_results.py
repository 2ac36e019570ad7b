"""GET /results of the proxy: exact counts and percentiles since its start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ape_contracts.sketch import Sketch
from ape_proxy import events
from ape_proxy.app import Options, make_app
from ape_proxy.budget import Prices
from ape_proxy.metrics import Measured, Metrics
from ape_proxy.models import Offline
from ape_service import prom
from tests.support.provider import (
    DONE,
    FINISH,
    ROLE,
    TEXT,
    chunk,
    good,
    status,
    stream,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("short_backoff")]
SKETCHES = ("ttft", "itl", "seconds", "queue", "tokens_per_second")


def usage(completion: int, reasoning: int | None = None) -> bytes:
    hidden = f', "completion_tokens_details": {{"reasoning_tokens": {reasoning}}}'
    return (
        b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": %d%s}}\n\n'
        % (completion, hidden.encode() if reasoning is not None else b"")
    )


async def results(here: Any) -> dict[str, Any]:
    found: dict[str, Any] = await (await here.client.get("/results")).json()
    return found


async def test_results_have_each_completion_once(rig: Any) -> None:
    here = await rig(good, status(400), status(500), good, prices=Prices(2, 4))
    before = await results(here)
    assert before["version"] == 1
    assert [before[name]["count"] for name in SKETCHES] == [0] * 5
    for _ in range(3):
        await (await here.ask()).read()
    await (await here.client.get("/nothing")).read()
    after = await results(here)
    assert after["boot"] == before["boot"]
    assert after["completions"] == {"success": 2, "error": 1}
    assert after["statuses"] == {"200": 2, "400": 1}
    assert after["finish"] == {"stop": 2}
    assert (after["retries"], after["tokens_in"], after["tokens_out"]) == (1, 2000, 1000)
    assert after["cost_dollars"] == pytest.approx(2 * 0.004)
    assert after["refused"] == {}
    assert after["budget"] is None
    seconds = Sketch.of(after["seconds"])
    assert (seconds.count, after["queue"]["count"]) == (3, 3)
    assert seconds.sum == pytest.approx(
        await here.metric("ape_proxy_request_duration_seconds_sum"), rel=0.01
    )
    assert after["ttft"]["count"] == after["itl"]["count"] == 0, "only streams have them"


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        # Three events with 16 tokens, and without a count.
        ([ROLE, TEXT, 0.03, TEXT, 0.03, TEXT, FINISH, usage(16), DONE], 0.06 / 15),
        ([ROLE, TEXT, 0.03, TEXT, 0.03, TEXT, FINISH, DONE], 0.06 / 2),
        # Reasoning before the first event is not part of the time; a part of the stream is.
        ([ROLE, TEXT, 0.06, TEXT, FINISH, usage(105, 100), DONE], 0.06 / 4),
        ([chunk(reasoning="hm"), 0.06, TEXT, FINISH, usage(105, 100), DONE], 0.06 / 104),
        ([ROLE, TEXT, FINISH, usage(16), DONE], None),
    ],
    ids=["usage", "events", "hidden_reasoning", "reasoning", "one_event"],
)
def test_latency_between_tokens_is_by_the_models_count(
    monkeypatch: pytest.MonkeyPatch, parts: list[Any], seconds: float | None
) -> None:
    now = [0.0]
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: now[0]))
    measured = Measured(Metrics(prom.registry(), "llama", Prices()))
    stream_of = events.Events(measured, show_usage=False)
    for part in parts:
        if isinstance(part, float):
            now[0] += part
        else:
            stream_of.feed(part)
    assert measured.seconds_per_token == (None if seconds is None else pytest.approx(seconds))


async def test_results_have_the_latencies_of_a_stream(rig: Any) -> None:
    here = await rig(stream(ROLE, TEXT, 0.03, TEXT, FINISH, usage(16), DONE))
    await (await here.ask(stream=True)).read()
    found = await results(here)
    assert found["ttft"]["count"] == found["itl"]["count"] == 1
    assert 0 < found["itl"]["max"] < found["seconds"]["max"]
    assert await here.metric("ape_proxy_inter_token_seconds_count") == 1


async def test_results_show_that_the_budget_is_exhausted(rig: Any) -> None:
    here = await rig(good, most_tokens=2000)
    assert (await results(here))["budget"] == {
        "used_ratio": 0.0,
        "exhausted": False,
        "words": "0 of 2000 tokens (maxTokens)",
    }
    await (await here.ask()).read()
    assert (await here.ask()).status == 402
    found = await results(here)
    assert found["budget"]["exhausted"]
    assert found["budget"]["used_ratio"] == 0.75
    assert found["refused"] == {"budget_exhausted": 1}


async def test_results_are_for_callers_with_the_token(serve: Any) -> None:
    server = await serve(make_app(Offline(), Options(token="s3cret")))
    assert (await server.get("/results")).status == 401
    got = await server.get("/results", headers={"Authorization": "Bearer s3cret"})
    assert (got.status, (await got.json())["refused"]) == (200, {"invalid_api_key": 1})
