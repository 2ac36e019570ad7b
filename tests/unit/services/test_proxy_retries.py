"""Which answers of a provider are tried again, and what the client gets in the end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.provider import (
    Handler,
    good,
    status,
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
