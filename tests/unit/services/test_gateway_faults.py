"""Targets that misbehave: the gateway reports the fault, stays small, and recovers."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ape_contracts.gateway_config import load
from ape_contracts.service_settings import VARIABLE, GatewaySettings, encode
from ape_gateway import app as gateway_app
from ape_gateway import limits
from ape_gateway.app import MAX_REQUEST_BYTES, make_app
from ape_gateway.limits import AdmissionController, Limits, Overloaded
from ape_gateway.upstream import MAX_ANSWER_BYTES
from tests.support.toxic import GOOD, Toxic, hang_up, reset, writes

pytestmark = pytest.mark.unit
SERVICES = Path(__file__).resolve().parents[3] / "services"


@pytest_asyncio.fixture
async def toxic() -> AsyncIterator[Toxic]:
    target = Toxic()
    yield target
    target.close()


@pytest.fixture
def gateway(serve: Any, toxic: Toxic) -> Any:
    async def start(base_url: str | None = None, limits: Limits | None = None, **route: Any) -> Any:
        given = {"base_url": base_url or await toxic.start(), "timeout": 0.4} | route
        return await serve(make_app(load(json.dumps({"routes": {"shop": given}})), limits=limits))

    return start


def ask(method: str = "GET", **more: Any) -> dict[str, Any]:
    return {"target_api_name": "shop", "http_method": method, "endpoint_path": "/x"} | more


async def sent(client: Any, body: Any, **more: Any) -> tuple[int, Any]:
    answer = await client.post("/mcp/request", json=body, **more)
    return answer.status, await answer.json()


async def metrics(client: Any, name: str) -> dict[str, float]:
    text = await (await client.get("/metrics")).text()
    lines = [x for x in text.splitlines() if x.startswith((name + "{", name + " "))]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


HALF = GOOD[:-5]
FAULTS = {
    "slow": (writes(b"", wait=1), 504, "target_timeout", "no complete answer within 0.4 s"),
    "stalled": (writes(HALF, wait=1), 504, "target_timeout", "no complete answer within 0.4 s"),
    "closed": (writes(b"", hang_up), 502, "target_unreachable", "closed or reset"),
    "reset": (writes(b"", reset), 502, "target_unreachable", "closed or reset"),
    "reset half-way": (writes(HALF, reset), 502, "target_unreachable", ""),
    "closed half-way": (
        writes(HALF, hang_up),
        502,
        "target_unreachable",
        "before the answer was complete",
    ),
    "no HTTP": (writes(b"220 mail ready\r\n\r\n", hang_up), 502, "target_unreachable", "HTTP"),
    "endless head": (
        writes(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, hang_up),
        502,
        "target_unreachable",
        "",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_target_fault_is_reported_and_the_next_request_succeeds(
    gateway: Any, toxic: Toxic, fault: str
) -> None:
    behavior, status, code, why = FAULTS[fault]
    client = await gateway()
    toxic.behaviors = [behavior]
    got, answer = await sent(client, ask("POST"))
    assert (got, answer["status_code"], answer["error"]) == (status, status, code)
    assert why in answer["error_message"]
    assert answer["attempts"] == 1
    assert (await sent(client, ask("POST")))[1]["body"] == {"ok": True}
    outcome = "timeout" if status == 504 else "connection"
    assert await metrics(client, "ape_gateway_first_attempts_total") == {
        f'ape_gateway_first_attempts_total{{method="POST",outcome="{o}",route="shop"}}': 1
        for o in (outcome, "200")
    }


@pytest.mark.parametrize(
    "body",
    [b'{"ok":tru', b'{"a":NaN}', b'"\xff"', b"[" * 100_000, b'{"a":1} x'],
    ids=["cut", "not a number", "not UTF-8", "deep", "words after it"],
)
async def test_malformed_json_is_forwarded_as_text(gateway: Any, toxic: Toxic, body: bytes) -> None:
    client = await gateway()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    toxic.behaviors = [writes(head.encode() + b"\r\n\r\n" + body)]
    _, answer = await sent(client, ask())
    assert (answer["status_code"], answer["body_encoding"]) == (200, "text")
    assert answer["body"] == body.decode("utf-8", "replace")


async def test_json_is_forwarded_unchanged(gateway: Any, toxic: Toxic) -> None:
    body = b'{ "n": 12345678901234567890123, "f": 1.10, "n": [] }'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    client = await gateway()
    toxic.behaviors = [writes(head.encode() + b"\r\n\r\n" + body)]
    answer = await client.post("/mcp/request", json=ask())
    assert b'"body":' + body in await answer.read()


async def test_huge_answer_is_truncated_and_not_read_further(gateway: Any, toxic: Toxic) -> None:
    client = await gateway(timeout=10)
    toxic.behaviors = [toxic.huge]
    _, answer = await sent(client, ask())
    assert answer["truncated"]
    assert len(answer["body"]) == MAX_ANSWER_BYTES
    assert toxic.written < 30 << 20
    assert (await sent(client, ask()))[1]["body"] == {"ok": True}


async def test_unknown_host_and_closed_port_get_502_with_the_reason(gateway: Any) -> None:
    for url, why in (
        ("http://no-such-host.invalid", "does not resolve"),
        ("http://127.0.0.1:1", "no connection"),
    ):
        client = await gateway(url, timeout=5)
        status, answer = await sent(client, ask())
        assert (status, answer["error"]) == (502, "target_unreachable")
        assert why in answer["error_message"]


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "both.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_target_with_an_untrusted_certificate_gets_no_request(
    gateway: Any, toxic: Toxic, self_signed: ssl.SSLContext
) -> None:
    status, answer = await sent(await gateway(await toxic.start(self_signed)), ask())
    assert (status, answer["error"]) == (502, "target_unreachable")
    assert "TLS failed" in answer["error_message"]
    assert toxic.requests == 0


async def test_retries_are_counted_in_answer_and_metrics(gateway: Any, toxic: Toxic) -> None:
    client = await gateway(
        retry_policy={"max_retries": 2, "backoff_factor": 0.01, "retry_on": [503, "connection"]}
    )
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    toxic.behaviors = [writes(busy), writes(b"", reset)]
    _, answer = await sent(client, ask())
    assert (answer["status_code"], answer["attempts"]) == (200, 3)
    first = await metrics(client, "ape_gateway_first_attempts_total")
    assert list(first) == [
        'ape_gateway_first_attempts_total{method="GET",outcome="503",route="shop"}'
    ]
    final = await metrics(client, "ape_gateway_requests_total")
    assert final == {'ape_gateway_requests_total{method="GET",route="shop",status="200"}': 1}
    retries = await metrics(client, "ape_gateway_retries_total")
    assert sum(retries.values()) == 2


async def test_kept_connection_that_the_target_closed_counts_as_a_retry(
    gateway: Any, toxic: Toxic
) -> None:
    client = await gateway()
    await sent(client, ask())
    toxic.behaviors = [writes(b"", hang_up)]
    _, answer = await sent(client, ask())
    assert (answer["status_code"], answer["attempts"], toxic.requests) == (200, 2, 3)
    retries = await metrics(client, "ape_gateway_retries_total")
    assert list(retries.values()) == [1]


async def test_retries_end_at_the_request_timeout(gateway: Any, toxic: Toxic) -> None:
    client = await gateway(
        limits=Limits(timeout=0.6),
        timeout=0.25,
        retry_policy={"max_retries": 10, "backoff_factor": 0, "retry_on": ["timeout"]},
    )
    toxic.behaviors = [writes(b"", wait=1)] * 20
    started = time.monotonic()
    status, answer = await sent(client, ask())
    assert (status, answer["attempts"]) == (504, 3)
    assert time.monotonic() - started < 1


async def test_batch_runs_at_once_and_is_answered_in_order(gateway: Any, toxic: Toxic) -> None:
    client = await gateway(timeout=5, endpoints=[{"path": "/x", "methods": ["GET", "PUT"]}])
    slow = writes(GOOD, wait=0.3)
    toxic.behaviors = [slow] * 3
    started = time.monotonic()
    batch = [
        ask(trace_id="ab" * 16),
        ask("BREW"),
        ask(endpoint_path="/admin"),
        {"api_name": "bank"},
        7,
        ask("PUT", request_payload={}),
        ask(),
    ]
    status, answers = await sent(client, batch, headers={"X-Trace-ID": "cd" * 16})
    assert time.monotonic() - started < 0.8
    assert status == 200
    assert [a["status_code"] for a in answers] == [200, 422, 403, 422, 422, 200, 200]
    assert answers[0]["trace_id"] == "ab" * 16
    assert {a["trace_id"] for a in answers[1:]} == {"cd" * 16}
    assert toxic.requests == 3


@pytest.mark.parametrize("batch", [[], [ask()] * 33])
async def test_batch_without_1_to_32_requests_is_rejected(
    gateway: Any, toxic: Toxic, batch: Any
) -> None:
    status, answer = await sent(await gateway(), batch)
    assert (status, answer["error"], toxic.requests) == (422, "bad_request", 0)


async def test_batch_beyond_the_limits_is_rejected_as_a_whole(gateway: Any, toxic: Toxic) -> None:
    client = await gateway(limits=Limits(in_flight=1, queue=2))
    answer = await client.post("/mcp/request", json=[ask()] * 4)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await answer.json())["error"] == "gateway_busy"
    assert toxic.requests == 0
    _, answers = await sent(client, [ask()] * 3)
    assert [a["status_code"] for a in answers] == [200] * 3


async def test_body_above_the_maximum_gets_413(gateway: Any, toxic: Toxic) -> None:
    client = await gateway(timeout=10)
    answer = await client.post("/mcp/request", data=b" " * (MAX_REQUEST_BYTES + 1))
    assert (answer.status, (await answer.json())["error"]) == (413, "too_large")
    answer = await client.post("/mcp", data=b" " * (MAX_REQUEST_BYTES + 1))
    assert answer.status == 413


async def test_incomplete_body_gets_408(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_app, "_TRANSFER_SECONDS", 0.2)
    client = await gateway()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /mcp/request HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_large_request_without_a_free_memory_permit_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LARGE_BODIES", 1)
    monkeypatch.setattr(limits, "_PERMIT_SECONDS", 0.1)
    admission = AdmissionController(Limits())
    with admission.memory_permit() as one, admission.memory_permit() as other:
        await other.acquire_for_body(limits.SMALL_BYTES)
        await asyncio.gather(one.acquire_for_body(1 << 20), one.acquire_for_answer(1 << 20))
        with pytest.raises(Overloaded):
            await other.acquire_for_body(1 << 20)
        await other.acquire_for_answer(1 << 20)
    with admission.memory_permit() as again:
        await again.acquire_for_body(1 << 20)


async def test_health_check_of_a_route_is_in_health_and_metrics(
    gateway: Any, toxic: Toxic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ape_gateway.health.EVERY_SECONDS", 0.05)
    toxic.behaviors = [writes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")]
    client = await gateway(health_check={"enabled": True, "path": "/up"})
    seen = []
    for _ in range(100):
        seen.append((await (await client.get("/health")).json())["routes"]["shop"])
        if seen[-1]["healthy"]:
            break
        await asyncio.sleep(0.02)
    assert seen[-1] == {"healthy": True, "outcome": "200"}
    assert {"healthy": False, "outcome": "500"} in seen
    up = await metrics(client, "ape_gateway_route_up")
    assert up == {'ape_gateway_route_up{route="shop"}': 1}
    unchecked = await gateway()
    assert (await (await unchecked.get("/health")).json())["routes"] == {}


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], tuple[psutil.Process, str]]]:
    """The gateway as a process of its own, as in its container."""
    running = []

    def start(base_url: str) -> tuple[psutil.Process, str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = tmp_path / "gateway.json"
        config.write_text(json.dumps({"routes": {"shop": {"base_url": base_url}}}))
        process = subprocess.Popen(
            [sys.executable, "-OO", "-m", "ape_gateway"],
            env={
                **os.environ,
                VARIABLE: encode(
                    GatewaySettings(config_file=str(config), bind="127.0.0.1", port=port)
                ),
                "MALLOC_ARENA_MAX": "2",
            },
            stdout=subprocess.DEVNULL,
        )
        running.append(process)
        return psutil.Process(process.pid), f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.terminate()
        assert process.wait(20) == 0


async def test_memory_of_the_gateway_is_bounded_with_huge_answers_and_requests(
    toxic: Toxic, started: Any
) -> None:
    process, url = started(await toxic.start())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        for _ in range(200):
            try:
                await (await http.get(url + "/health")).read()
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
        toxic.behaviors = [toxic.huge] * 100
        large = json.dumps(ask("POST", request_payload="x" * (MAX_REQUEST_BYTES - 1000))).encode()

        async def one(body: bytes) -> int:
            async with http.post(url + "/mcp/request", data=body) as answer:
                await answer.read()
                return answer.status

        small = json.dumps(ask()).encode()
        statuses = await asyncio.gather(*(one(small) for _ in range(100)))
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) >= limits.LARGE_ANSWERS
        statuses = await asyncio.gather(*(one(large) for _ in range(60)))
        assert set(statuses) <= {200, 502, 503}
        toxic.behaviors = []
        assert await one(small) == 200
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM"))
    # The container has 1024 MB.
    assert peak < 512 << 10
