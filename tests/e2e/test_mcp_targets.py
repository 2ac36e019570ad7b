"""MCP servers as targets: the real gateway before a server made with the SDK."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ape_contracts.gateway_config import Route
from ape_gateway import mcp_sessions, mcp_upstream
from ape_gateway.upstream import PoolSizes
from ape_infra.checks.target import mcp_probe
from tests.support.mcp_target import Target, gateway, target

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]
SESSION, VERSION = "mcp-session-id", "mcp-protocol-version"


def ids(found: Target, rpc: str = "tools/call") -> list[str]:
    return [headers.get(SESSION, "") for headers in found.headers(rpc)]


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("stateless", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
async def test_server_of_every_kind_lists_its_tools_and_answers_a_call(
    is_old: bool, stateless: bool, as_json: bool
) -> None:
    options = {"stateless_http": stateless, "json_response": as_json}
    async with target(is_old=is_old, **options) as (found, url), gateway(url) as gate:
        status, listed = await gate.get("/operations")
        assert (status, listed["sessions"]) == (200, True)
        add = listed["operations"][0]
        assert (add["id"], add["method"], add["path"]) == ("add", "POST", "/tools/add")
        assert add["summary"] == "Add two numbers."
        assert list(add["body"]["schema"]["properties"]) == ["a", "b"]
        answer = await gate.call("add", {"a": 2, "b": 3}, session="s1")
        assert (answer["status_code"], answer["body"]) == (200, {"result": 5}), answer
    [headers] = found.headers("tools/call")
    assert headers[VERSION] == ("2025-11-25" if is_old else "2026-07-28")
    assert (SESSION in headers) is (is_old and not stateless)


async def test_tools_that_were_listed_and_the_end_of_a_session_are_known() -> None:
    async with target() as (_, url):
        route = Route(base_url=url, mcp=True)
        upstream = mcp_upstream.McpUpstream("tools", route, PoolSizes(), "")
        assert upstream.has_tool("/tools/any")
        await upstream.open()
        try:
            await upstream.catalog({})
        finally:
            await upstream.close()
    paths = ("/tools/add", "/tools/any", "/", "/session", "/sessions")
    assert [path for path in paths if upstream.has_tool(path)] == ["/tools/add", "/session"]


async def test_result_of_each_kind_is_an_answer_that_agents_understand() -> None:
    async with target() as (_, url), gateway(url) as gate:

        async def got(tool: str, **arguments: Any) -> tuple[int, Any]:
            answer = await gate.call(tool, arguments)
            assert answer["error"] is None, answer
            return answer["status_code"], answer["body"]

        assert await got("put", item={"sku": "S1", "quantity": 2}) == (
            200,
            {"order_id": "S1", "total": 2},
        )
        assert await got("say", text="hello") == (200, "hello")
        assert await got("say", text='{"id": 7}') == (200, {"id": 7})
        picture = {"type": "image", "content_type": "image/png", "bytes": 100}
        assert await got("picture") == (200, ["A picture", picture])
        status, words = await got("fail", why="no stock")
        assert status == 422
        assert "fail" in words
        assert (await got("add", a="x"))[0] == 422
        assert (await got("nothing"))[0] in (404, 422)
        assert await got("broken") == (502, {"error": "out of order (-32603)"})


async def test_arguments_without_an_object_and_other_paths_show_what_to_send() -> None:
    async with target() as (_, url), gateway(url) as gate:
        answer = await gate.send("POST", "/tools/add", [1])
        assert (answer["status_code"], answer["error"]) == (400, None)
        for method, path in (("GET", "/tools/add"), ("POST", "/orders"), ("POST", "/tools/a/b")):
            answer = await gate.send(method, path)
            assert answer["status_code"] == 404
            assert "POST /tools/NAME" in answer["body"]["error"]


async def test_each_session_of_an_agent_has_a_session_of_its_own_until_it_ends() -> None:
    async with target() as (found, url), gateway(url) as gate:
        await asyncio.gather(
            *(gate.call("add", {"a": n, "b": 1}, session=f"s{n % 3}") for n in range(9))
        )
        assert len(set(ids(found))) == 3
        assert len(found.headers("initialize")) == 3
        ended = await gate.send("DELETE", "/session", session="s1")
        assert ended["status_code"] == 204
        assert found.methods().count("DELETE") == 1
        await gate.call("add", {"a": 1, "b": 1}, session="s1")
        assert len(set(ids(found))) == 4
    # The others, when the gateway stops.
    assert found.methods().count("DELETE") == 4


async def test_idle_session_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_sessions, "IDLE_SECONDS", 0.05)
    async with target() as (found, url), gateway(url) as gate:
        await gate.call("add", {"a": 1, "b": 1}, session="s1")
        await asyncio.sleep(0.1)
        await gate.call("add", {"a": 1, "b": 1}, session="s2")
        async with asyncio.timeout(3):
            while "DELETE" not in found.methods():
                await asyncio.sleep(0.01)
        assert len(set(ids(found))) == 2


async def test_least_used_session_is_ended_beyond_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_sessions, "MAX_SESSIONS", 2)
    async with target() as (found, url), gateway(url) as gate:
        for name in ("s1", "s2", "s1", "s3", "s1"):
            await gate.call("add", {"a": 1, "b": 1}, session=name)
        assert len(found.headers("initialize")) == 3
        assert ids(found)[0] == ids(found)[2] == ids(found)[4]


@pytest.mark.parametrize("status", [404, 400])
async def test_session_that_has_expired_is_opened_again_and_the_call_repeated(status: int) -> None:
    async with target() as (found, url), gateway(url) as gate:
        await gate.call("add", {"a": 1, "b": 1}, session="s1")
        found.statuses["tools/call"] = [status]
        answer = await gate.call("add", {"a": 1, "b": 2}, session="s1")
        assert (answer["status_code"], answer["body"]["result"], answer["attempts"]) == (200, 3, 2)
        assert len(set(ids(found))) == 2
        _, metrics = await gate.get("/metrics")
        assert f'outcome="{status}"' in metrics


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_http_error_of_the_server_is_the_targets_answer(status: int) -> None:
    async with target() as (found, url), gateway(url) as gate:
        await gate.call("add", {"a": 1, "b": 1})
        found.statuses["tools/call"] = [status]
        answer = await gate.call("add", {"a": 1, "b": 1})
        assert (answer["status_code"], answer["error"], answer["body"]) == (
            status,
            None,
            "No session.",
        )
        assert answer["headers"]["www-authenticate"] == "Bearer"
        assert (await gate.call("add", {"a": 1, "b": 1}))["status_code"] == 200


async def test_http_error_to_initialize_is_the_targets_answer_and_asked_again() -> None:
    async with target() as (found, url), gateway(url) as gate:
        found.statuses["initialize"] = [401]
        assert (await gate.call("add", {"a": 1, "b": 1}, session="s"))["status_code"] == 401
        assert (await gate.call("add", {"a": 1, "b": 1}, session="s"))["status_code"] == 200


@pytest.mark.parametrize("tool", ["slow", "large"])
async def test_tool_that_takes_too_long_or_answers_too_much_is_bounded(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with target() as (_, url), gateway(url, timeout=0.5) as gate:
        started = time.monotonic()
        if tool == "slow":
            answer = await gate.call("slow", {"seconds": 5})
            assert (answer["status_code"], answer["error"]) == (504, "target_timeout")
        else:
            answer = await gate.call("large", {"size": 2 << 20})
            assert (answer["status_code"], answer["truncated"]) == (502, True)
            assert "larger than" in answer["body"]["error"]
        assert time.monotonic() - started < 2
        # The session continues.
        assert (await gate.call("add", {"a": 1, "b": 1}))["status_code"] == 200


async def test_only_a_tool_that_its_server_calls_read_only_is_called_again() -> None:
    policy = {"max_retries": 2, "backoff_factor": 0, "retry_on": [503]}
    async with target() as (found, url), gateway(url, retry_policy=policy) as gate:
        await gate.get("/operations")
        found.statuses["tools/call"] = [503, 503]
        answer = await gate.call("slow", {"seconds": 0})
        assert (answer["status_code"], answer["attempts"]) == (200, 3)
        found.statuses["tools/call"] = [503]
        answer = await gate.call("add", {"a": 1, "b": 1})
        assert (answer["status_code"], answer["attempts"]) == (503, 1)


async def test_server_that_is_away_is_unreachable_and_used_when_it_is_back() -> None:
    async with gateway("http://127.0.0.1:9/mcp") as gate:
        answer = await gate.call("add", {"a": 1, "b": 1})
        assert (answer["status_code"], answer["error"]) == (502, "target_unreachable")
        status, listed = await gate.get("/operations")
        assert (status, listed["error"]) == (503, "target_unreachable")
        assert "no connection" in listed["message"]


async def test_headers_of_agents_pass_but_none_of_the_protocol() -> None:
    async with target() as (found, url), gateway(url, auth={"headers": {"X-Key": "own"}}) as gate:
        sent = {"Authorization": "Bearer t1", "Mcp-Session-Id": "forged", "X-Key": "forged"}
        await gate.call("add", {"a": 1, "b": 1}, session="s1", headers=sent)
        [headers] = found.headers("tools/call")
        assert (headers["authorization"], headers["x-key"]) == ("Bearer t1", "own")
        assert headers[SESSION] != "forged"
        assert found.headers("initialize")[0]["authorization"] == "Bearer t1"
        status, _ = await gate.get("/operations", Authorization="Bearer t2")
        assert (status, found.headers("tools/list")[0]["authorization"]) == (200, "Bearer t2")


async def test_health_of_the_route_is_a_ping() -> None:
    async with target() as (found, url), gateway(url, health_check={"enabled": True}) as gate:
        async with asyncio.timeout(3):
            while (await gate.get("/health"))[1]["routes"]["tools"]["healthy"] is None:
                await asyncio.sleep(0.02)
        assert (await gate.get("/health"))[1]["routes"]["tools"] == {
            "healthy": True,
            "outcome": "200",
        }
        assert "ping" in found.methods()


async def test_list_is_kept_for_a_while_and_when_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with target() as (found, url), gateway(url) as gate:
        await gate.get("/operations")
        _, one = await gate.get("/operations?id=add")
        _, best = await gate.get("/operations/search?q=add+two+numbers")
        assert one["operations"][0]["id"] == best["operations"][0]["id"] == "add"
        assert len(found.headers("tools/list")) == 1
        monkeypatch.setattr(mcp_upstream, "LISTED_SECONDS", 0.0)
        found.statuses["tools/list"] = [500]
        assert (await gate.get("/operations"))[0] == 200
        assert len(found.headers("tools/list")) == 2


@pytest.mark.parametrize("as_json", [False, True])
async def test_check_before_a_test_names_the_server_and_ends_its_session(as_json: bool) -> None:
    async with target(json_response=as_json) as (found, url):
        check = await asyncio.to_thread(mcp_probe, url)
        assert check.status == "ok"
        assert "the MCP server cases (protocol 2025-11-25) answers" in check.observed
        assert found.methods() == ["initialize", "DELETE"]
        wrong = await asyncio.to_thread(mcp_probe, url.removesuffix("/mcp"))
        assert (wrong.status, wrong.remedy[:16]) == ("fail", "Correct the path")


async def test_only_tools_that_the_config_allows_are_offered_and_called() -> None:
    allowed = [{"path": "/tools/add", "methods": ["POST"]}]
    async with target() as (_, url), gateway(url, endpoints=allowed) as gate:
        _, listed = await gate.get("/operations")
        assert [each["id"] for each in listed["operations"]] == ["add"]
        assert (await gate.call("add", {"a": 1, "b": 1}))["status_code"] == 200
        answer = await gate.call("say", {"text": "x"})
        assert (answer["status_code"], answer["error"]) == (403, "not_allowed")
