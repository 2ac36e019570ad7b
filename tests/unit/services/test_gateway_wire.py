"""What a caller of POST /mcp/request and a target see: paths, the HTTP status, the User-Agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from ape_agent.peers import Peer
from ape_agent.results import Step
from ape_agent.session import Session
from ape_agent.tools import Toolbox
from ape_contracts import VERSION
from ape_contracts.gateway_config import load
from ape_contracts.service_settings import AgentSettings
from ape_gateway import wire
from ape_gateway.app import make_app
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline

pytestmark = pytest.mark.unit


class Target:
    """Answers with the status that the path names, or that of `then`; keeps its requests."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.then: list[int] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        last = request.path.rpartition("/")[2]
        status = self.then.pop(0) if self.then else int(last) if last.isdigit() else 200
        return web.json_response({"at": request.path_qs}, status=status)


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def gateway(serve: Any, target: Target) -> Any:
    async def start(user_agent: str = "", **route: Any) -> Any:
        upstream = await serve(target.app)
        given = {"base_url": str(upstream.make_url("")).rstrip("/")} | route
        config = load(json.dumps({"routes": {"shop": given}}))
        return await serve(make_app(config, user_agent=user_agent))

    return start


async def sent(client: Any, path: str, **more: Any) -> tuple[Any, dict[str, Any]]:
    asked = {"target_api_name": "shop", "http_method": "GET", "endpoint_path": path} | more
    answer = await client.post("/mcp/request", json=asked)
    return answer, await answer.json()


@pytest.mark.parametrize("status", [200, 201, 302, 401, 404, 429, 500, 503])
async def test_route_that_passes_the_status_answers_with_that_of_the_target(
    gateway: Any, status: int
) -> None:
    passing, plain = await gateway(passTargetStatus=True), await gateway()
    answer, body = await sent(passing, f"/{status}")
    assert (answer.status, body["status_code"], body["error"]) == (status, status, None)
    assert body["body"] == {"at": f"/{status}"}
    again = answer.headers.get("x-should-retry")
    assert again == (None if status == 200 else "false")
    answer, body = await sent(plain, f"/{status}")
    assert (answer.status, body["status_code"]) == (200, status)
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_status_that_allows_no_body_is_passed_only_inside_the_answer(
    gateway: Any, status: int
) -> None:
    client = await gateway(passTargetStatus=True)
    for _ in range(2):
        answer, body = await sent(client, f"/{status}")
        assert (answer.status, body["status_code"]) == (200, status)


async def test_gateways_own_answers_and_lists_keep_their_status_when_that_of_the_target_is_passed(
    gateway: Any,
) -> None:
    client = await gateway(passTargetStatus=True, endpoints=[{"path": "/404", "rateLimit": 2}])
    answer, body = await sent(client, "/other")
    assert (answer.status, body["error"]) == (403, "not_allowed")
    assert "x-should-retry" not in answer.headers
    one = {"api_name": "shop", "method": "GET", "path": "/404"}
    answer = await client.post("/mcp/request", json=[one])
    assert (answer.status, [a["status_code"] for a in await answer.json()]) == (200, [404])
    await sent(client, "/404")
    answer, body = await sent(client, "/404")
    assert (answer.status, body["error"]) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("statuses", "reason", "results"),
    [
        ([200, 200, 201], "goal_met", ["ok"] * 3),
        ([200, 401], "target_error", ["ok", "target_error"]),
        ([429], "target_error", ["target_error"]),
        ([503], "target_error", ["target_error"]),
    ],
)
async def test_agents_see_the_same_session_whether_or_not_the_status_is_passed(
    gateway: Any, serve: Any, target: Target, statuses: list[int], reason: str, results: list[str]
) -> None:
    """The offline model makes one request per endpoint, and stops at the first error."""
    for passing in (False, True):
        client = await gateway(passTargetStatus=passing)
        proxy = await serve(proxy_app(Offline()))
        target.then, before = list(statuses), len(target.seen)
        options = AgentSettings(
            gateway_url=str(client.make_url("")).rstrip("/"),
            proxy_url=str(proxy.make_url("")).rstrip("/"),
            goal="Look at the pages.",
            api="shop",
            endpoints=[{"method": "GET", "path": f"/{page}"} for page in "abc"],
            success={"method": "GET", "path": "/c", "status": 201},
            think_time_seconds=0.0,
        )
        one, other = Peer(options.gateway_url, 5), Peer(options.proxy_url, 5)
        steps: list[Step] = []
        result = await Session(
            1, options, Toolbox(options, options.endpoints), one, other, steps.append
        ).run()
        one.close()
        other.close()
        assert [step.result for step in steps] == results
        # No answer of the target makes the agent send a request again.
        assert len(target.seen) - before == len(steps)
        assert result.reason == reason


async def test_path_without_its_first_slash_gets_one(gateway: Any, target: Target) -> None:
    client = await gateway(endpoints=[{"path": "/products/{id}"}])
    answer, _ = await sent(client, "products/lamp?full=1")
    assert answer.status == 200
    assert target.seen[0].path_qs == "/products/lamp?full=1"
    answer, body = await sent(client, "orders")
    assert (answer.status, body["error"]) == (403, "not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//evil.example/x",
        "http://evil.example/x",
        "HTTPS://evil.example",
        "x://y",
        "../x",
        "a/../../x",
        "./x",
        "%2e%2e/x",
        "%2f%2fevil.example",
        "%2Fevil.example",
        "\\evil.example",
        "a\\..\\x",
        "%5cx",
        "a b",
        "a\r\nb",
        "#x",
    ],
)
async def test_path_that_leaves_the_base_url_is_rejected(
    gateway: Any, target: Target, path: str
) -> None:
    client = await gateway()
    answer, body = await sent(client, path)
    assert (answer.status, body["error"]) == (422, "bad_request")
    assert body["error_message"].startswith("endpoint_path: ")
    assert not target.seen


@given(st.text(alphabet="/.:@?%2eEfF5cC\\#ab", max_size=12))
@settings(max_examples=400)
def test_accepted_path_stays_on_the_host_and_below_the_base_url(path: str) -> None:
    try:
        call = wire.make_call("shop", "GET", path, None, b"")
    except wire.WireError:
        return
    url = URL("http://shop:8080/api" + call.path)
    assert (url.host, url.port) == ("shop", 8080)
    assert url.path.startswith("/api/")


async def test_user_agent_names_the_product_unless_the_setting_the_route_or_the_agent_does(
    gateway: Any, target: Target
) -> None:
    own, route = "my-test/1", {"user-agent": "route/1"}
    for client, headers, expected in (
        (await gateway(), {}, f"ape/{VERSION}"),
        (await gateway(own), {}, own),
        (await gateway(own, headers=route), {}, "route/1"),
        (await gateway(own, headers=route), {"USER-AGENT": "agent/1"}, "agent/1"),
    ):
        await sent(client, "/x", session_headers=headers)
        assert target.seen[-1].headers.getall("User-Agent") == [expected]
