"""The proxy's API, metrics and faults, with the official clients and all kinds of providers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import cerebras.cloud.sdk as cerebras
import openai
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from ape_proxy import app as proxy_app
from ape_proxy.app import Options, make_app
from ape_proxy.metrics import Prices
from ape_proxy.models import Offline
from ape_proxy.upstream import Upstream

pytestmark = [
    pytest.mark.unit,
    pytest.mark.asyncio,
    pytest.mark.usefixtures("short_backoff"),
]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "call_api", "parameters": {"type": "object"}}}
]
ASK = {"messages": [{"role": "user", "content": "Go."}]}
TOKEN = "t0ken"
PATH = "/v1/chat/completions"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def chunk(**delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "llama"}
    return b"data: " + json.dumps(event | {"choices": [choice]}).encode() + b"\n\n"


ROLE, TEXT = chunk(role="assistant", content=""), chunk(content="a")
FINISH = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "llama",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
}


class Provider:
    """A provider with OpenAI's API: each call is answered by the next of `answers`, or the last."""

    def __init__(self, *answers: Handler) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, Any]] = []
        self.app = web.Application()
        self.app.router.add_post(PATH, self.handle)
        self.app.router.add_get("/v1/models", self.models)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.headers["Authorization"], await request.json()))
        return await self.answers[min(len(self.seen), len(self.answers)) - 1](request)

    async def models(self, _: web.Request) -> web.StreamResponse:
        listed = {"id": "llama", "object": "model", "created": 1, "owned_by": "them"}
        return web.json_response({"object": "list", "data": [listed]})


def status(code: int, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return web.json_response({"error": {"message": f"own {code}"}}, status=code, headers=named)

    return answer


async def good(_: web.Request) -> web.StreamResponse:
    return web.json_response(COMPLETION)


def stream(*parts: bytes | float | str) -> Handler:
    """Bytes are sent, a number is a pause in seconds, "abort" resets the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await made.prepare(request)
        for part in parts:
            if isinstance(part, bytes):
                await made.write(part)
            elif isinstance(part, str):
                assert request.transport is not None
                request.transport.abort()
            else:
                await asyncio.sleep(part)
        return made

    return answer


class Rig:
    def __init__(self, provider: Provider, client: Any) -> None:
        self.provider, self.client = provider, client

    async def ask(self, **more: Any) -> aiohttp.ClientResponse:
        found: aiohttp.ClientResponse = await self.client.post(PATH, json=ASK | more)
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        return await metric(self.client, name, **labels)


async def metric(client: Any, name: str, **labels: str) -> float:
    text = await (await client.get("/metrics")).text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture
def rig(serve: Any) -> Any:
    async def start(*answers: Handler, timeout: float = 5, **options: Any) -> Rig:
        provider = Provider(*answers)
        server = await serve(provider.app)
        model = Upstream("llama", str(server.make_url("/v1")), "k3y", timeout)
        app = make_app(model, Options(timeout=timeout, **options))
        return Rig(provider, await serve(app))

    return start


CLIENTS: list[Any] = [
    pytest.param(openai.AsyncOpenAI, openai, "/v1", id="openai"),
    pytest.param(cerebras.AsyncCerebras, cerebras, "", id="cerebras"),
]


def official(kind: Any, client: Any, path: str, token: str = TOKEN, **more: Any) -> Any:
    if kind is cerebras.AsyncCerebras:
        more["warm_tcp_connection"] = False
    return kind(base_url=str(client.make_url(path)), api_key=token, **more)


@pytest.mark.parametrize(("kind", "sdk", "path"), CLIENTS)
async def test_official_clients_work_unchanged(serve: Any, kind: Any, sdk: Any, path: str) -> None:
    server = await serve(make_app(Offline(), Options(token=TOKEN)))
    brief = {"endpoints": [{"method": "GET", "path": "/a"}], "values": {}}
    messages: Any = [{"role": "system", "content": json.dumps(brief)}]
    async with official(kind, server, path) as client:
        assert [m.id for m in (await client.models.list()).data] == ["ape-offline"]
        asked: Any = {"model": "any", "messages": messages, "tools": TOOLS}
        answer = await client.chat.completions.create(**asked)
        assert answer.model == "ape-offline"
        call = answer.choices[0].message.tool_calls[0].function
        assert json.loads(call.arguments) == {"method": "GET", "path": "/a"}
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.usage.prompt_tokens > 0

        events = await client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        chunks = [event async for event in events]
        assert chunks[0].choices[0].delta.tool_calls[0].function.arguments == call.arguments
        assert chunks[1].choices[0].finish_reason == "tool_calls"
        assert chunks[-1].usage.completion_tokens > 0
        events = await client.chat.completions.create(**asked, stream=True)
        assert all([event.choices async for event in events]), "no usage without stream_options"

        words = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hello"}]
        )
        assert "ape-offline" in words.choices[0].message.content
        with pytest.raises(sdk.BadRequestError, match="messages"):
            await client.chat.completions.create(model="any", messages="no")
    async with official(kind, server, path, token="wrong") as stranger:
        with pytest.raises(sdk.AuthenticationError) as caught:
            await stranger.chat.completions.create(**asked)
        assert caught.value.body["code"] == "invalid_api_key"
    count = "ape_proxy_requests_total"
    assert await metric(server, count, result="success", status="200") == 4
    assert await metric(server, count, result="error", status="400") == 1
    first = "ape_proxy_time_to_first_token_seconds_count"
    assert await metric(server, first, model="ape-offline") == 2, "only streams have a first token"


@pytest.mark.parametrize(("kind", "sdk", "path"), CLIENTS)
@pytest.mark.parametrize(
    ("number", "error"),
    [(429, "RateLimitError"), (401, "AuthenticationError"), (500, "InternalServerError")],
)
async def test_official_clients_raise_the_providers_errors(
    rig: Any, kind: Any, sdk: Any, path: str, number: int, error: str
) -> None:
    here = await rig(status(number), retries=0)
    async with official(kind, here.client, path) as client:
        with pytest.raises(getattr(sdk, error), match=f"own {number}") as caught:
            await client.chat.completions.create(model="llama", messages=ASK["messages"])
    assert caught.value.status_code == number
    assert len(here.provider.seen) == 1, "only the proxy retries"


@pytest.mark.parametrize("shown", [None, "Bearer wrong", "Bearer ", "Basic t0ken", "t0ken"])
async def test_request_without_the_token_gets_401(serve: Any, shown: str | None) -> None:
    client = await serve(make_app(Offline(), Options(token=TOKEN, record=True)))
    headers = {"Authorization": shown} if shown else {}
    for method, path in (("POST", PATH), ("GET", "/v1/models"), ("GET", "/recording")):
        got = await client.request(method, path, headers=headers, json={})
        assert (got.status, (await got.json())["error"]["code"]) == (401, "invalid_api_key")
    for path in ("/health", "/metrics"):
        assert (await client.get(path, headers=headers)).status == 200
    assert await metric(client, "ape_proxy_refusals_total", code="invalid_api_key") == 3


async def test_rejections_have_the_form_of_openai(serve: Any) -> None:
    client = await serve(make_app(Offline()))
    for content, number in ((b"{", 400), (b"[]", 400), (b"x" * (5 << 20), 413)):
        got = await client.post(PATH, data=content)
        assert got.status == number
        assert {"message", "type", "param", "code"} == set((await got.json())["error"])
    assert (await (await client.get("/nothing")).json())["error"]["code"] == "not_found"


async def test_provider_429_keeps_its_body_and_headers(rig: Any) -> None:
    here = await rig(status(429, Retry_After="7", X_RateLimit_Limit_Requests="9"), timeout=3)
    got = await here.ask()
    assert (got.status, got.headers["Retry-After"]) == (429, "7")
    assert (got.headers["X-RateLimit-Limit-Requests"], got.headers["x-should-retry"]) == (
        "9",
        "false",
    )
    assert await got.json() == {"error": {"message": "own 429"}}
    # The proxy does not wait for longer than the request may take.
    assert here.provider.seen == [("Bearer k3y", {"model": "llama"} | ASK)]
    assert await here.metric("ape_proxy_requests_total", result="error", status="429") == 1


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


async def test_all_requests_pause_after_a_429_and_then_succeed(rig: Any) -> None:
    """While the provider rejects, later requests wait, and all get an answer."""
    clock = asyncio.get_running_loop().time
    until, refused = clock() + 0.4, [0]

    async def stormy(request: web.Request) -> web.StreamResponse:
        if clock() < until:
            refused[0] += 1
            return await status(429, Retry_After="0.5")(request)
        return await good(request)

    here = await rig(stormy)
    asked = [asyncio.create_task(here.ask()) for _ in range(5)]
    await asyncio.sleep(0.2)
    asked += [asyncio.create_task(here.ask()) for _ in range(15)]
    assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
    assert refused[0] == 5


async def test_stream_is_forwarded_as_it_comes_and_measured(rig: Any) -> None:
    go_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await made.prepare(request)
        await made.write(ROLE)
        await asyncio.sleep(0.3)
        await made.write(TEXT)
        await go_on.wait()
        await made.write(TEXT + FINISH + USAGE + DONE)
        return made

    here = await rig(answer, prices=Prices(2, 4))
    got = await here.ask(stream=True)
    passed = await asyncio.wait_for(got.content.readexactly(len(ROLE + TEXT)), 3)
    assert passed == ROLE + TEXT
    go_on.set()
    # The usage was asked for by the proxy, not by the client.
    assert (await got.content.read()).replace(b"\n", b"") == (TEXT + FINISH + DONE).replace(
        b"\n", b""
    )
    assert here.provider.seen[0][1]["stream_options"] == {"include_usage": True}
    assert await here.metric("ape_proxy_input_tokens_total", model="llama") == 5
    assert await here.metric("ape_proxy_output_tokens_total", model="llama") == 2
    assert await here.metric("ape_proxy_cost_dollars_total") == pytest.approx(18e-6)
    first = "ape_proxy_time_to_first_token_seconds"
    assert await here.metric(f"{first}_count") == 1
    assert await here.metric(f"{first}_sum") >= 0.3, "a role is not a token"
    assert await here.metric("ape_proxy_inter_token_seconds_count") == 1
    assert await here.metric("ape_proxy_output_tokens_per_second_count") == 1


async def test_events_in_pieces_of_any_size_are_measured_alike(rig: Any) -> None:
    whole = ROLE + TEXT * 5 + FINISH + USAGE + DONE
    for size in (1, 7, 64):
        parts = [whole[i : i + size] for i in range(0, len(whole), size)]
        here = await rig(stream(*parts))
        got = await here.ask(stream=True, stream_options={"include_usage": True})
        assert await got.read() == whole
        assert await here.metric("ape_proxy_inter_token_seconds_count") == 4
        assert await here.metric("ape_proxy_output_tokens_total") == 2


async def test_cost_is_absent_without_prices(rig: Any) -> None:
    here = await rig(good)
    assert (await here.ask()).status == 200
    text = await (await here.client.get("/metrics")).text()
    assert "ape_proxy_cost_dollars_total{" not in text
    assert await here.metric("ape_proxy_input_tokens_total") == 1000


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("reset", stream(TEXT, 0.1, "abort")),
        ("stalled", stream(TEXT, 3)),
        ("cut short", stream(TEXT)),
    ],
)
async def test_broken_stream_is_incomplete_for_the_client_and_counted(
    rig: Any, name: str, answer: Handler
) -> None:
    here = await rig(answer, timeout=0.5)
    got = await here.ask(stream=True)
    assert await asyncio.wait_for(got.content.readany(), 3) == TEXT
    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(got.content.read(), 3)
    assert await here.metric("ape_proxy_requests_total", result="incomplete", status="200") == 1
    assert await here.metric("ape_proxy_requests_total") == 1
    assert len(here.provider.seen) == 1, "no retry after the first byte"


async def test_slow_client_gets_all_of_a_stream_before_its_break(rig: Any) -> None:
    here = await rig(stream(*[TEXT * 100] * 500))
    got = await here.ask(stream=True)
    await asyncio.sleep(0.3)
    came = bytearray()

    async def read() -> None:
        async for part in got.content.iter_any():
            came.extend(part)

    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(read(), 10)
    assert len(came) == len(TEXT) * 50_000


async def test_stream_that_breaks_before_its_first_byte_is_retried(rig: Any) -> None:
    here = await rig(stream(0.1, "abort"), stream(TEXT, FINISH, DONE))
    got = await here.ask(stream=True)
    assert (got.status, await got.read()) == (200, TEXT + FINISH + DONE)
    assert await here.metric("ape_proxy_retries_total", cause="upstream_unreachable") == 1


async def test_error_inside_a_stream_is_forwarded_and_counted_as_incomplete(rig: Any) -> None:
    error = b'data: {"error": {"message": "overloaded"}}\n\n'
    here = await rig(stream(TEXT, error))
    assert await (await here.ask(stream=True)).read() == TEXT + error
    assert await here.metric("ape_proxy_requests_total", result="incomplete") == 1


async def test_stream_of_a_client_that_disconnects_is_cancelled(rig: Any) -> None:
    here = await rig(stream(TEXT, *([TEXT * 100] * 20000), DONE), good)
    got = await here.ask(stream=True)
    await got.content.readany()
    got.close()

    async with asyncio.timeout(5):
        while await here.metric("ape_proxy_requests_total", result="cancelled") < 1:
            await asyncio.sleep(0.05)
    assert await here.metric("ape_proxy_in_flight_requests") == 0
    assert (await here.ask()).status == 200


async def test_request_of_a_client_that_disconnects_is_cancelled(rig: Any) -> None:
    ended = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        raise AssertionError("it is cancelled")

    # aiohttp's test server cancels as the service's own `run` does.
    here = await rig(slow, timeout=20)
    with pytest.raises(TimeoutError):
        await here.client.post(PATH, json=ASK, timeout=aiohttp.ClientTimeout(total=0.3))
    await asyncio.wait_for(ended.wait(), 3)
    assert await here.metric("ape_proxy_in_flight_requests") == 0
    assert await here.metric("ape_proxy_requests_total", result="cancelled") == 1


async def test_slow_provider_gets_504(rig: Any) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1)
        return web.json_response({})

    here = await rig(slow, timeout=0.2)
    for streaming in (False, True):
        got = await here.ask(stream=streaming)
        assert (got.status, (await got.json())["error"]["code"]) == (504, "upstream_timeout")
    assert len(here.provider.seen) == 2


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1", "tls"]
)
async def test_unreachable_provider_gets_502_without_the_key(
    serve: Any, base_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def unknown(host: Any, *args: Any, **more: Any) -> Any:
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **more)

    # The answer of a resolver, without its delay.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    app: dict[str, Any] = {}
    if base_url == "tls":
        provider = Provider(good)
        runner = web.AppRunner(provider.app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self_signed(tmp_path))
        await site.start()
        base_url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1"
        app["close"] = runner.cleanup
    client = await serve(make_app(Upstream("llama", base_url, "k3y", 5), Options(timeout=2)))
    for method, path in (("POST", PATH), ("GET", "/v1/models")):
        got = await client.request(method, path, json=ASK)
        assert (got.status, (await got.json())["error"]["code"]) == (502, "upstream_unreachable")
        assert "k3y" not in await got.text()
    tls = "close" in app
    retried = await metric(client, "ape_proxy_retries_total") > 0
    assert retried != tls, "an untrusted certificate is not retried"
    if tls:
        await app["close"]()


def self_signed(folder: Any) -> ssl.SSLContext:
    """A server's context with a certificate that nobody vouches for."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize("content", [b"<html>", b"[1]", b'{"no": "choices"}', b""])
async def test_answer_that_is_not_a_completion_gets_502(rig: Any, content: bytes) -> None:
    async def garbage(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type="application/json")

    here = await rig(garbage)
    got = await here.ask()
    assert (got.status, (await got.json())["error"]["code"]) == (502, "bad_answer")


async def test_malformed_events_of_a_stream_are_forwarded_unchanged(rig: Any) -> None:
    junk = b'data: {"choices": [7]}\n\ndata: {{{\n\n: a comment\n\ndata: [1]\n\n'
    here = await rig(stream(junk, TEXT, FINISH, DONE))
    assert await (await here.ask(stream=True)).read() == junk + TEXT + FINISH + DONE
    assert await here.metric("ape_proxy_requests_total", result="success") == 1


def huge(content_type: str, piece: bytes) -> Handler:
    """200 MB."""

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": content_type})
        await made.prepare(request)
        for _ in range((200 << 20) // len(piece)):
            await made.write(piece)
        return made

    return answer


@pytest.mark.parametrize("streaming", [False, True])
async def test_huge_answer_takes_bounded_memory_and_gets_502(rig: Any, streaming: bool) -> None:
    kind = "text/event-stream" if streaming else "application/json"
    here = await rig(huge(kind, b"x" * (1 << 16)), good)
    tracemalloc.start()
    try:
        got = await here.ask(stream=streaming)
        assert (got.status, (await got.json())["error"]["code"]) == (502, "answer_too_large")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * proxy_app.MAX_ANSWER_BYTES
    assert (await here.ask()).status == 200, "the next request succeeds"


async def test_large_answers_beyond_the_memory_budget_get_503(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_app, "MAX_HELD_BYTES", 1 << 20)
    together = asyncio.Event()
    large = json.dumps(COMPLETION | {"padding": "x" * 300_000}).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse(headers={"Content-Type": "application/json"})
        await made.prepare(request)
        await made.write(large[:-1])
        await together.wait()
        await made.write(large[-1:])
        return made

    here = await rig(answer, retries=0)
    asked = [asyncio.create_task(here.ask()) for _ in range(8)]
    async with asyncio.timeout(5):
        # Three answers fit into the budget.
        while sum(each.done() for each in asked) < 5:
            await asyncio.sleep(0.01)
    done = [each for each in asked if each.done()]
    together.set()
    answers = await asyncio.gather(*asked)
    assert {a.status for a in answers} == {200, 503}
    assert [t.result().status for t in done] == [503] * len(done)
    assert all("Retry-After" in a.headers for a in answers if a.status == 503)
    assert (await here.ask()).status == 200, "reserved memory is given back"


async def test_models_are_those_of_the_provider(rig: Any) -> None:
    here = await rig(good)
    got = await here.client.get("/v1/models")
    assert [m["id"] for m in (await got.json())["data"]] == ["llama"]
