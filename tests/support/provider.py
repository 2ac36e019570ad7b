"""A provider with OpenAI's API, and the proxy in front of it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families

from ape_proxy.app import Options, make_app
from ape_proxy.upstream import Connection, Upstream

PATH = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Go."}]}
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
        self.headers: list[dict[str, str]] = []
        listed = {"id": "llama", "object": "model", "created": 1, "owned_by": "them"}
        self.models_answer = says({"object": "list", "data": [listed]})
        self.app = web.Application()
        self.app.router.add_post(PATH, self.handle)
        self.app.router.add_get("/v1/models", self.models)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.headers.get("Authorization", ""), await request.json()))
        self.headers.append(dict(request.headers))
        return await self.answers[min(len(self.seen), len(self.answers)) - 1](request)

    async def models(self, request: web.Request) -> web.StreamResponse:
        return await self.models_answer(request)


def status(code: int, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return web.json_response({"error": {"message": f"own {code}"}}, status=code, headers=named)

    return answer


def says(answer: Any, code: int = 200, kind: str = "application/json", **headers: str) -> Handler:
    """An answer with this JSON, or with these bytes."""

    async def handler(_: web.Request) -> web.StreamResponse:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return web.Response(body=body, status=code, headers={"Content-Type": kind} | headers)

    return handler


def completion(finish: str = "stop", **message: Any) -> dict[str, Any]:
    made = {"role": "assistant", "content": None} | message
    return COMPLETION | {"choices": [{"index": 0, "message": made, "finish_reason": finish}]}


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


async def rig_of(
    serve: Any, *answers: Handler, timeout: float = 5, model: Any = None, **options: Any
) -> Rig:
    """A proxy of that provider; `model` makes the Upstream from the provider's base URL."""
    provider = Provider(*answers)
    base_url = str((await serve(provider.app)).make_url("/v1"))
    upstream = (
        model(base_url)
        if model
        else Upstream("llama", Connection(base_url, "k3y-of-the-stack", timeout=timeout))
    )
    return Rig(provider, await serve(make_app(upstream, Options(timeout=timeout, **options))))


def certificate(folder: Path) -> Path:
    """A PEM file with a key and a certificate of 127.0.0.1, which nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
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
    return file


@asynccontextmanager
async def tls_server(app: web.Application, file: Path) -> AsyncIterator[str]:
    """Serve with TLS; yields the base URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
