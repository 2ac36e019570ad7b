"""A short form of bench/fuzz: the services in this process, and the parsers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ape_contracts import gateway_config
from ape_demo_target.app import make_app as demo_app
from ape_gateway.app import make_app as gateway_app
from ape_proxy.app import Options
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from ape_socket_proxy.proxy import HEAD_BYTES, Proxy
from ape_socket_proxy.views import Scope
from bench.fuzz import parsers, services, ways
from bench.fuzz.client import health, tried
from bench.fuzz.requests import Request, Service, requests

pytestmark = pytest.mark.unit
# More by bench/fuzz/run.py.
REQUESTS, TEXTS, IDLE_SECONDS = 100, 60, 0.005
short = settings(
    max_examples=REQUESTS,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


async def fuzz(service: Service) -> None:
    """Send requests from another thread, so that a service that hangs is seen."""

    @short
    @given(requests(service))
    def each(request: Request) -> None:
        assert not tried(service, request, IDLE_SECONDS)[0]

    await asyncio.to_thread(each)
    assert not await asyncio.to_thread(health, service)


def address(client: Any) -> tuple[str, int]:
    return client.host, client.port


async def test_any_request_to_the_gateway_is_answered_without_a_failure(serve: Any) -> None:
    demo = await serve(demo_app(faults=True))
    config = services.gateway_config(str(demo.make_url("")).rstrip("/"))
    app = gateway_app(gateway_config.load(config), report_key=ways.REPORT_KEY, max_agents=2)
    client = await serve(app)
    await fuzz(services.service("gateway", address(client)))


async def test_any_request_to_the_proxy_is_answered_without_a_failure(serve: Any) -> None:
    client = await serve(proxy_app(Offline(), Options(token=ways.TOKEN, record=True)))
    await fuzz(services.service("proxy", address(client)))


async def test_any_request_to_the_demo_target_is_answered_without_a_failure(serve: Any) -> None:
    client = await serve(demo_app(faults=True))
    await fuzz(services.service("demo_target", address(client)))


async def test_any_request_to_the_socket_proxy_is_answered_without_a_failure(
    tmp_path: Path,
) -> None:
    daemon = services.fake_docker(tmp_path)
    proxy = Proxy(str(daemon.path), Scope("ape", "dev"), with_logs=True)
    listen = str(tmp_path / "proxy.sock")
    async with await asyncio.start_unix_server(proxy.handle, listen, limit=HEAD_BYTES):
        await fuzz(services.service("socket_proxy", listen))
    daemon.close()


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_any_text_is_read_or_rejected_by_its_parser(name: str) -> None:
    parser = parsers.PARSERS[name]

    @settings(short, max_examples=TEXTS)
    @given(parser.texts)
    def each(text: bytes) -> None:
        assert not parsers.broken(parser, text)

    each()
