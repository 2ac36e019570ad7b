"""How the proxy reaches a provider: URL, key, headers, certificates, HTTP proxy and time limits."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts import VERSION
from ape_contracts.providers import COMPLETIONS, MODELS, endpoint
from ape_contracts.service_settings import ProxySettings, ServiceSettingsError
from ape_proxy.__main__ import app_of
from ape_proxy.upstream import Connection, Upstream, upstream_of
from tests.support.provider import (
    ASK,
    FINISH,
    PATH,
    TEXT,
    Handler,
    Provider,
    certificate,
    good,
    metric,
    says,
    stream,
    tls_server,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("short_backoff")]
KEY = "k3y-of-the-stack"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api", "https://api/v1/chat/completions"),
        ("https://api/", "https://api/v1/chat/completions"),
        ("https://api/v1", "https://api/v1/chat/completions"),
        ("https://api/v1/", "https://api/v1/chat/completions"),
        ("http://10.0.0.7:8000//", "http://10.0.0.7:8000/v1/chat/completions"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/chat/completions"),
        ("https://api/v1/chat/completions", "https://api/v1/chat/completions"),
        ("https://api/openai/v1", "https://api/openai/v1/chat/completions"),
        ("https://api/v1beta/openai/", "https://api/v1beta/openai/chat/completions"),
        ("https://api/api/v3", "https://api/api/v3/chat/completions"),
        ("https://api?api-version=1", "https://api/v1/chat/completions?api-version=1"),
        (
            "https://api/openai/deployments/d/?api-version=2024-10-21&x=%2F",
            "https://api/openai/deployments/d/chat/completions?api-version=2024-10-21&x=%2F",
        ),
    ],
)
def test_endpoint_follows_from_the_base_url(base_url: str, url: str) -> None:
    assert endpoint(base_url, COMPLETIONS) == url
    assert endpoint(base_url, MODELS) == url.replace(COMPLETIONS, MODELS)


@pytest.mark.parametrize(
    ("base_url", "part"),
    [
        ("https://me:s3cret@api/v1", "credentials"),
        ("https://s3cret@api/v1", "credentials"),
        ("ftp://api?s3cret", "http://"),
        ("api.cerebras.ai/v1", "http://"),
        ("https:///v1", "host"),
        ("https://api:s3cret/v1", "not a URL"),
        ("https://[api/v1", "not a URL"),
        ("https://api/v1#s3cret", "fragment"),
        ("https://api /v1", "space"),
        ("https://api/v1\n", "control"),
        ("", "http://"),
    ],
)
def test_base_url_that_cannot_be_right_is_rejected_without_its_secrets(
    base_url: str, part: str
) -> None:
    with pytest.raises(ValueError, match=part) as caught:
        endpoint(base_url, COMPLETIONS)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ServiceSettingsError, match=r"APE_SETTINGS.base_url: .*" + part):
        app_of(ProxySettings(kind="provider", base_url=base_url))


segments = st.lists(st.from_regex(r"[a-z0-9.~-]{1,8}", fullmatch=True), max_size=4)


@given(segments, st.text("/", max_size=3), st.sampled_from(["", "?a=1", "?a=/v1&b=%20"]))
def test_endpoint_keeps_path_and_query_and_never_doubles_the_version(
    path: list[str], slashes: str, query: str
) -> None:
    base = "".join(f"/{segment}" for segment in path)
    url = endpoint(f"http://h:1{base}{slashes}{query}", MODELS)
    assert url == f"http://h:1{base or '/v1'}/models{query}"
    assert endpoint(f"http://h:1/v1{slashes}{query}", MODELS) == f"http://h:1/v1/models{query}"


def test_version_is_defined_once() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert 'attr = "ape_contracts.VERSION"' in text
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"Authorization": f"Bearer {KEY}"}),
        ({"key_header": "api-key"}, {"api-key": KEY, "Authorization": None}),
        ({"api_key_file": ""}, {"Authorization": None}),
        ({"headers": {"X-Title": "a b", "user-agent": "us/1"}}, {"X-Title": "a b"}),
    ],
)
async def test_key_and_headers_are_sent_as_the_settings_have_them(
    rig: Any, tmp_path: Path, settings: dict[str, Any], sent: dict[str, str | None]
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")

    def model(base_url: str) -> Upstream:
        fields = {"api_key_file": str(file), "name": "m"} | settings
        return upstream_of(ProxySettings(kind="provider", base_url=base_url, **fields))

    here = await rig(good, model=model)
    assert (await here.ask()).status == 200
    (got,) = here.provider.headers
    assert {name: got.get(name) for name in sent} == sent
    agents = [value for name, value in got.items() if name.lower() == "user-agent"]
    assert agents == ["us/1" if "headers" in settings else f"ape/{VERSION}"]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"headers": {"a b": "c"}}, "headers: 'a b' is not the name"),
        ({"headers": {"x": "s3cret\r\nHost: evil"}}, "headers: the value of x"),
        ({"headers": {"x": ["s3cret"]}}, "headers: the value of x"),
        ({"key_header": "api key"}, "key_header: 'api key' is not the name"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file: /nowhere/ca.pem: No such file"),
        ({"ca_file": __file__}, "not certificates in PEM"),
        ({"http_proxy": "proxy:3128"}, "http_proxy: "),
    ],
)
def test_settings_that_cannot_be_right_are_rejected_without_their_secrets(
    settings: dict[str, Any], part: str
) -> None:
    with pytest.raises(ServiceSettingsError) as caught:
        app_of(ProxySettings(kind="provider", base_url="http://h", **settings))
    assert part in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_settings_reach_requests_limits_and_paths(serve: Any) -> None:
    """The whole service, from its settings: shaping, query, concurrency and the model's name."""
    together = [0, 0]
    seen: list[tuple[str, Any]] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        together[0] += 1
        together[1] = max(together)
        seen.append((request.path_qs, await request.json()))
        await asyncio.sleep(0.03)
        together[0] -= 1
        return await good(request)

    provider = web.Application()
    provider.router.add_post("/deployments/d/chat/completions", slow)
    base_url = str((await serve(provider)).make_url("/deployments/d/?api-version=9"))
    client = await serve(
        app_of(
            ProxySettings(
                kind="provider",
                name="gpt",
                base_url=base_url,
                tokens_field="max_tokens",
                max_tokens=77,
                omit=["top_p"],
                parameters={"temperature": 0.5, "reasoning_effort": "low", "top_k": 3},
                tool_choice=False,
                concurrency=2,
            )
        )
    )
    sent = ASK | {"top_p": 1, "tool_choice": "required", "temperature": 0.1}
    answers = await asyncio.gather(*(client.post(PATH, json=sent) for _ in range(6)))
    assert {a.status for a in answers} == {200}
    assert together[1] == 2
    path, body = seen[0]
    assert path == "/deployments/d/chat/completions?api-version=9"
    more = {"model": "gpt", "max_tokens": 77, "temperature": 0.1}
    assert body == ASK | more | {"reasoning_effort": "low", "top_k": 3}


async def test_limit_of_tokens_that_the_stack_sends_is_charged(serve: Any) -> None:
    provider = Provider(good)
    base_url = str((await serve(provider.app)).make_url("/"))
    client = await serve(
        app_of(
            ProxySettings(
                kind="provider", base_url=base_url, max_tokens=5000, tokens_per_minute=4000
            )
        )
    )
    got = await client.post(PATH, json=ASK)
    assert (got.status, (await got.json())["error"]["code"]) == (400, "request_too_large")
    assert (await client.post(PATH, json=ASK | {"max_completion_tokens": 9})).status == 200


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificate_of_the_ca_file_is_trusted(
    serve: Any, tmp_path: Path, trusted: bool
) -> None:
    file = certificate(tmp_path)
    async with tls_server(Provider(good).app, file) as base_url:
        ca = str(file) if trusted else ""
        client = await serve(
            app_of(ProxySettings(kind="provider", base_url=base_url, ca_file=ca, retries=0))
        )
        assert (await client.post(PATH, json=ASK)).status == (200 if trusted else 502)


async def test_requests_go_through_the_http_proxy(serve: Any) -> None:
    asked: list[str] = []

    async def forward(request: web.Request) -> web.StreamResponse:
        asked.append(str(request.url))
        return await good(request)

    middle = web.Application()
    middle.router.add_route("*", "/{any:.*}", forward)
    http_proxy = str((await serve(middle)).make_url("/"))
    client = await serve(
        app_of(
            ProxySettings(
                kind="provider", base_url="http://model.invalid/v1", http_proxy=http_proxy
            )
        )
    )
    assert (await client.post(PATH, json=ASK)).status == 200
    assert asked == ["http://model.invalid/v1/chat/completions"]


def waits(seconds: float, *answers: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await (answers[0] if answers else good)(request)

    return answer


async def test_answer_must_begin_in_time_and_may_then_take_longer(rig: Any) -> None:
    def model(base_url: str) -> Upstream:
        return Upstream("m", Connection(base_url, first_byte=0.3))

    async def trickle(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "application/json"})
        await made.prepare(request)
        await made.write(b" ")
        await asyncio.sleep(0.5)
        await made.write(b'{"choices": [{"message": {"content": "Hi"}}]}')
        return made

    here = await rig(trickle, stream(TEXT, 0.5, FINISH), waits(1), model=model)
    assert (await here.ask()).status == 200
    got = await here.ask(stream=True)
    assert (got.status, await got.read()) == (200, TEXT + FINISH)
    for streaming in (False, True):
        got = await here.ask(stream=streaming)
        error = (await got.json())["error"]
        assert (got.status, error["code"]) == (504, "upstream_timeout")
        assert "did not answer within 0.3 s" in error["message"]
    assert len(here.provider.seen) == 4, "it may be at work on the first request still"


async def test_connection_must_be_made_in_time(serve: Any) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    # A TLS handshake that is never answered.
    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await serve(
        app_of(
            ProxySettings(
                kind="provider", base_url=f"https://127.0.0.1:{port}", connect_seconds=0.1
            )
        )
    )
    got = await client.post(PATH, json=ASK)
    error = (await got.json())["error"]
    assert (got.status, error["code"]) == (502, "upstream_unreachable")
    assert "no connection within 0.1 s" in error["message"]
    assert await metric(client, "ape_proxy_retries_total", cause="upstream_unreachable") == 2
    server.close()


async def test_extra_headers_are_not_in_the_log_or_in_answers(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def model(base_url: str) -> Upstream:
        return Upstream("m", Connection(base_url, headers={"X-Key": "s3cret-header"}))

    async def repeats(request: web.Request) -> web.StreamResponse:
        return await says({"error": {"message": request.headers["X-Key"]}}, 403)(request)

    here = await rig(repeats, model=model)
    assert "s3cret" not in await (await here.ask()).text()
    assert "s3cret" not in str([record.__dict__ for record in caplog.records])
