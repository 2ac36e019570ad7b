"""Malformed requests: as many as a caller likes, and a line of the log a minute."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from ape_contracts.gateway_config import load
from ape_gateway.app import make_app
from ape_service import malformed as module
from ape_service.connections import Runner
from ape_service.malformed import MalformedRequests
from ape_service.web import application

pytestmark = pytest.mark.unit
HEADS = [
    b"GET / HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
    b"\xff\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
] * 5


class _Server(TestServer):
    """With the runner of the services."""

    async def _make_runner(self, **_: Any) -> Any:
        return Runner(self.app)


@pytest.mark.parametrize("service", ["gateway", "aiohttp"])
async def test_malformed_heads_are_logged_at_most_once_a_minute(
    serve: Any, service: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("ape_service.connections", "ape_gateway.connections"):
        monkeypatch.setattr(f"{place}.malformed", MalformedRequests())
    if service == "gateway":
        client = await serve(
            make_app(load(json.dumps({"routes": {"shop": {"base_url": "http://127.0.0.1:1"}}})))
        )
    else:
        client = _Server(application("shop", CollectorRegistry()))
        await client.start_server()
    for head in HEADS:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head)
        assert b" 40" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    lines = [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")]
    assert [record.name for record in lines] == [module.__name__]
    if service == "aiohttp":
        await client.close()


def test_line_has_the_number_of_malformed_requests_since_the_line_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 100.0
    counted = MalformedRequests(lambda: now)
    for moment in (100.0, 101.0, 159.0, 161.0, 170.0):
        now = moment
        counted.count()
    assert [record.ape for record in caplog.records] == [  # type: ignore[attr-defined]
        {"requests": 1},
        {"requests": 3},
    ]
