from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from aiohttp import web

from ape_contracts.gateway_config import Logging, load
from ape_gateway.access import AccessLog
from ape_gateway.app import make_app
from ape_gateway.limits import Limits
from ape_gateway.upstream import MAX_ANSWER_BYTES
from ape_service import logs

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


class Target:
    """An app that keeps its requests and gives the answers of a list."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answers: list[web.Response] = []
        self.delay = 0.0
        self.app = web.Application()
        self.app.router.add_route("*", "/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        self.bodies.append(await request.read())
        await asyncio.sleep(self.delay)
        return self.answers.pop(0) if self.answers else web.json_response({"ok": True})


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def gateway(serve: Any, target: Target) -> Any:
    async def start(limits: Limits | None = None, **route: Any) -> Any:
        upstream = await serve(target.app)
        given = {"base_url": str(upstream.make_url("")).rstrip("/")} | route
        config = load(json.dumps({"routes": {"shop": given}}))
        return await serve(make_app(config, declared=3, limits=limits))

    return start


def ask(method: str = "GET", path: str = "/x", **more: Any) -> dict[str, Any]:
    return {"target_api_name": "shop", "http_method": method, "endpoint_path": path} | more


async def sent(client: Any, body: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/mcp/request", json=body, **more)
    return answer.status, await answer.json()


async def metric(client: Any, line: str) -> float | None:
    text = await (await client.get("/metrics")).text()
    found = [x for x in text.splitlines() if x.startswith(line + " ")]
    return float(found[0].split()[-1]) if found else None


async def test_both_request_forms_forward_headers_body_and_trace_id(
    gateway: Any, target: Target
) -> None:
    client = await gateway(headers={"X-A": "route"}, auth={"headers": {"Authorization": "own"}})
    trace_id = "ab" * 16
    status, body = await sent(
        client,
        ask(
            "POST",
            "/items?q=1",
            session_headers={"X-B": "b", "authorization": "agent", "Host": "evil"},
            request_payload=[1, {"a": None}],
            trace_id=trace_id,
        ),
    )
    assert (status, body["status_code"], body["body"]) == (200, 200, {"ok": True})
    assert body["error_message"] is None
    assert body["trace_id"] == trace_id
    assert 0 < body["execution_time"] < 5
    seen = target.seen[0]
    assert (seen.method, seen.path_qs) == ("POST", "/items?q=1")
    assert json.loads(target.bodies[0]) == [1, {"a": None}]
    assert (seen.headers["X-A"], seen.headers["X-B"]) == ("route", "b")
    assert seen.headers.getall("Authorization") == ["own"]
    assert seen.headers["Host"] != "evil"
    assert seen.headers["traceparent"].split("-")[1] == trace_id == seen.headers["X-Trace-ID"]

    short = {"api_name": "shop", "method": "get", "path": "/y", "data": {"n": 1}}
    status, body = await sent(client, short, headers={"X-Trace-ID": trace_id})
    assert (status, body["trace_id"], target.seen[1].path_qs) == (200, trace_id, "/y?n=1")


async def test_status_of_the_target_is_returned_and_counted(gateway: Any, target: Target) -> None:
    client = await gateway()
    target.answers = [web.json_response({"e": 1}, status=418), web.Response(status=204)]
    status, body = await sent(client, ask("POST"))
    assert (status, body["status_code"], body["body"]) == (200, 418, {"e": 1})
    status, body = await sent(client, ask("DELETE"))
    assert (body["status_code"], body["body"], body["body_encoding"]) == (204, None, "none")
    line = 'ape_gateway_requests_total{method="POST",route="shop",status="418"}'
    assert await metric(client, line) == 1


async def test_answer_keeps_every_set_cookie_header(gateway: Any, target: Target) -> None:
    client = await gateway()
    answer = web.json_response({})
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2", httponly=True)
    target.answers = [answer]
    _, body = await sent(client, ask())
    assert [c.split(";")[0] for c in body["headers"]["set-cookie"]] == ["a=1", "b=2"]


async def test_answer_is_text_or_base64_and_truncated_when_large(
    gateway: Any, target: Target
) -> None:
    client = await gateway()
    target.answers = [
        web.Response(text="grüß", content_type="text/plain", charset="latin-1"),
        web.Response(body=b"\x00\xff", content_type="image/png"),
        web.Response(body=b"{oops", content_type="application/json"),
        web.Response(body=b"x" * (3 * MAX_ANSWER_BYTES), content_type="text/plain"),
    ]
    got = [(await sent(client, ask()))[1] for _ in range(4)]
    assert [g["body_encoding"] for g in got] == ["text", "base64", "text", "text"]
    assert got[0]["body"] == "grüß"
    assert base64.b64decode(got[1]["body"]) == b"\x00\xff"
    assert [g["truncated"] for g in got] == [False, False, False, True]
    assert len(got[3]["body"]) == MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (ask() | {"target_api_name": "bank"}, 404, "unknown_route"),
        ({}, 422, "bad_request"),
        (ask("BREW"), 422, "bad_request"),
        (ask(path=""), 422, "bad_request"),
        (ask(path="/a/../b"), 422, "bad_request"),
        (ask(session_headers={"A": "x\r\nB: y"}), 422, "bad_request"),
        (ask(session_headers=[1]), 422, "bad_request"),
        (ask(request_payload=[1]), 422, "bad_request"),
        (ask("GET", "/admin"), 403, "not_allowed"),
        (ask("POST", "/products/1"), 403, "not_allowed"),
        (ask("GET", "/products/1%2f2"), 403, "not_allowed"),
        (ask("GET", "/products/1"), 200, None),
    ],
)
async def test_request_that_breaks_a_rule_is_rejected_with_status_and_code(
    gateway: Any, target: Target, body: dict[str, Any], status: int, code: str | None
) -> None:
    client = await gateway(endpoints=[{"path": "/products/{id}", "methods": ["GET"]}])
    got, answer = await sent(client, body)
    assert (got, answer["status_code"], answer["error"]) == (status, status, code)
    assert bool(answer["error_message"]) == (code is not None)
    assert len(target.seen) == (code is None)


async def test_body_that_is_not_json_gets_422(gateway: Any) -> None:
    client = await gateway()
    assert (await client.post("/mcp/request", data=b"{")).status == 422


async def test_unreachable_target_gets_502_and_slow_target_504(
    serve: Any, gateway: Any, target: Target
) -> None:
    client = await serve(make_app(load('{"routes": {"shop": {"base_url": "http://127.0.0.1:1"}}}')))
    status, body = await sent(client, ask())
    assert (status, body["error"]) == (502, "target_unreachable")
    line = (
        'ape_gateway_errors_total{error="target_unreachable",method="GET",'
        'route="shop",status="502"}'
    )
    assert await metric(client, line) == 1
    target.delay = 1
    client = await gateway(timeout=0.1)
    status, body = await sent(client, ask())
    assert (status, body["error"]) == (504, "target_timeout")


async def test_only_idempotent_methods_are_retried(gateway: Any, target: Target) -> None:
    client = await gateway(
        retry_policy={"max_retries": 2, "backoff_factor": 0.01, "retry_on": [503]}
    )
    target.answers = [web.Response(status=503), web.Response(status=503)]
    assert (await sent(client, ask()))[1]["status_code"] == 200
    assert len(target.seen) == 3
    line = 'ape_gateway_retries_total{cause="503",method="GET",route="shop"}'
    assert await metric(client, line) == 2
    target.answers = [web.Response(status=503)]
    assert (await sent(client, ask("POST")))[1]["status_code"] == 503
    assert len(target.seen) == 4


async def test_retry_waits_as_long_as_retry_after_asks_for(gateway: Any, target: Target) -> None:
    client = await gateway(retry_policy={"max_retries": 1, "backoff_factor": 0, "retry_on": [503]})
    target.answers = [web.Response(status=503, headers={"Retry-After": "0.3"})]
    started = time.monotonic()
    assert (await sent(client, ask()))[1]["status_code"] == 200
    assert time.monotonic() - started >= 0.3


async def test_request_beyond_the_rate_limit_gets_429_with_retry_after(gateway: Any) -> None:
    client = await gateway(endpoints=[{"path": "/x", "rateLimit": 2}])
    got = [await client.post("/mcp/request", json=ask()) for _ in range(3)]
    assert [g.status for g in got] == [200, 200, 429]
    assert int(got[2].headers["Retry-After"]) >= 1


async def test_requests_beyond_the_queue_are_rejected(gateway: Any, target: Target) -> None:
    target.delay = 0.3
    client = await gateway(limits=Limits(in_flight=1, queue=1))
    got = await asyncio.gather(*(sent(client, ask()) for _ in range(4)))
    assert sorted(status for status, _ in got) == [200, 200, 503, 503]


async def test_tools_list_endpoints_without_secrets(gateway: Any) -> None:
    client = await gateway(
        auth={"headers": {"X-Key": "hunter2"}},
        endpoints=[{"path": "/x", "methods": ["GET"], "description": "An x."}],
    )
    text = await (await client.get("/tools")).text()
    endpoint = json.loads(text)["tools"][0]["endpoints"][0]
    assert endpoint == {"path": "/x", "methods": ["GET"], "description": "An x."}
    assert "hunter2" not in text


async def test_logs_have_the_trace_id_but_no_body_and_no_credentials(
    gateway: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "ape_gateway")
    caplog.handler.setFormatter(logs.JsonLines("gateway"))
    client = await gateway(auth={"headers": {"X-Key": "hunter2"}})
    trace_id = "cd" * 16
    for method in ("POST", "BREW"):
        await sent(
            client,
            ask(
                method,
                "/x?p=hunter2",
                session_headers={"C": "hunter2"},
                request_payload={"p": "hunter2"},
            ),
            headers={"X-Trace-ID": trace_id},
        )
    await client.close()
    lines = [json.loads(x) for x in (capsys.readouterr().out + caplog.text).splitlines()]
    own = [x for x in lines if x.get("service") == "gateway" and x["msg"].startswith("request")]
    assert [(x["msg"], x["trace_id"], x["status"]) for x in own] == [
        ("request", trace_id, 200),
        ("request rejected", trace_id, 422),
    ]
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    ("level", "form", "lines"), [("info", "text", 1), ("info", "json", 1), ("warning", "json", 0)]
)
async def test_access_log_has_the_level_and_format_of_the_config(
    level: str, form: str, lines: int
) -> None:
    text: list[str] = []
    log = AccessLog(Logging.model_validate({"level": level, "format": form}), text.append)
    log.request("t1", "shop", "GET", "/x", 200, 0.25, 1)
    log.flush()
    log.flush()
    assert len("".join(text).splitlines()) == lines
    if lines:
        for part in ("request", "t1", "shop", "/x", "0.25"):
            assert part in text[0]
        assert text[0].startswith("{") == (form == "json")
