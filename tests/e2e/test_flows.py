"""Flows of real applications by a scripted model: forms, headers, uploads, redirects, pages."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from ape_agent.host import toolbox
from ape_agent.peers import Peer
from ape_agent.results import SessionResult, Step
from ape_agent.session import Session
from ape_contracts.operations import Operation
from ape_contracts.service_settings import AgentSettings
from ape_proxy.app import make_app as proxy_app
from ape_proxy.models import Offline
from tests.support import flow_gateway
from tests.support.agent_world import call, model_of, results_of
from tests.support.flow_target import OPERATIONS, FlowTarget
from tests.support.model_world import address
from tests.unit.services.conftest import AsgiServer

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
# A call of a tool, or what makes one from the results of the calls before it.
Turn = dict[str, Any] | Callable[[list[dict[str, Any]]], dict[str, Any]]
FORM = "application/x-www-form-urlencoded"
USER = {"username": "ann", "password": "secret"}


def use(tool: str, **arguments: Any) -> dict[str, Any]:
    made = call(arguments)
    made["tool_calls"][0]["function"]["name"] = tool
    return made


@dataclass
class Flow:
    """A target with a gateway before it. `asked`: the requests to the model of the last session."""

    target: FlowTarget
    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    async def session(
        self,
        turns: Sequence[Turn],
        *,
        success: dict[str, Any],
        operations: Sequence[Operation] = OPERATIONS,
        allowed: Sequence[str] = (),
        **changed: Any,
    ) -> SessionResult:
        """Run the turns, and then end with words."""
        self.asked, self.steps = [], []

        def answer(n: int) -> dict[str, Any]:
            if n >= len(turns):
                return {"role": "assistant", "content": "I cannot go on."}
            turn = turns[n]
            return json.loads(json.dumps(turn)) if isinstance(turn, dict) else turn(self.results)

        async with (
            self.gateway(operations, allowed) as gateway,
            TestServer(model_of(answer, self.asked)) as model,
        ):
            settings = AgentSettings(
                gateway_url=gateway,
                proxy_url=address(model),
                goal="Use the shop.",
                api=flow_gateway.API,
                success=success,
                target_host=self.url.removeprefix("http://"),
                think_time_seconds=0.0,
                session_max_seconds=10.0,
            )
            settings = replace(settings, **changed)
            before, proxy = Peer(settings.gateway_url, 5), Peer(settings.proxy_url, 5)
            tools = await toolbox(settings, before)
            result = await Session(1, settings, tools, before, proxy, self.steps.append).run()
            before.close()
            proxy.close()
        return result

    @asynccontextmanager
    async def gateway(
        self, operations: Sequence[Operation], allowed: Sequence[str]
    ) -> AsyncIterator[str]:
        server = AsgiServer(flow_gateway.app_of(self.url, operations, allowed))
        await server.start_server()
        try:
            yield address(server)
        finally:
            await server.close()

    @property
    def results(self) -> list[dict[str, Any]]:
        """What the model was answered."""
        return results_of(self.asked[-1])


@pytest_asyncio.fixture(loop_scope="module")
async def flow() -> AsyncIterator[Flow]:
    target = FlowTarget()
    async with TestServer(target.app()) as server:
        yield Flow(target, address(server))


def met(method: str, path: str, status: int, **more: Any) -> dict[str, Any]:
    return {"method": method, "path": path, "status": status, **more}


NEVER = met("GET", "/never", 200)


async def test_typed_tools_send_form_header_array_and_file_as_the_document_says(flow: Flow) -> None:
    turns = [
        use("login_form", body=USER),
        use("order", **{"idempotency-key": "k1", "body": {"skus": ["SKU-001"]}}),
        use("search", state="paid", tags=["a b", "c&d"]),
        use("avatar", body={"file": "me.png"}),
    ]
    success = met("PUT", "/me/avatar", 200, also=[met("POST", "/orders", 201)])
    result = await flow.session(turns, success=success)
    assert (result.reason, result.repaired) == ("goal_met", {}), flow.results
    assert [step.result for step in flow.steps] == ["ok"] * 4
    assert flow.target.seen[0] == ("POST", "/auth/token", FORM)
    assert flow.results[2]["body"]["tags"] == ["a b", "c&d"]
    [(name, kind, size)] = flow.target.uploads
    assert (name, kind, size) == ("me.png", "image/png", 1024)


def csrf_of(results: list[dict[str, Any]]) -> str:
    found = re.search(r'value="(\w+)"', results[-1]["body"])
    assert found is not None
    return found[1]


BY_FORM: list[Turn] = [
    use("web_login"),
    lambda seen: use("web_login_post", body={**USER, "csrf_token": csrf_of(seen)}),
]


async def test_redirect_after_a_form_is_followed_with_its_cookie_in_the_same_step(
    flow: Flow,
) -> None:
    success = met(
        "GET", "/web/account", 200, text="Hello ann", also=[met("POST", "/web/login", 303)]
    )
    result = await flow.session(BY_FORM, success=success)
    assert (result.reason, result.steps, len(flow.steps)) == ("goal_met", 2, 2), flow.results
    assert [seen[:2] for seen in flow.target.seen] == [
        ("GET", "/web/login"),
        ("POST", "/web/login"),
        ("GET", "/web/account"),
    ]
    assert flow.target.seen[-1][2] is None


async def test_answer_after_a_redirect_names_its_place(flow: Flow) -> None:
    await flow.session(BY_FORM, success=NEVER)
    last = flow.results[-1]
    assert (last["status"], last["body"]) == (200, "<h1>Hello ann</h1>")
    assert last["redirected_to"] == "GET /web/account"
    assert last["headers"]["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("redirects", "headers"), [("report", {"location": "/web/account"}), ("off", None)]
)
async def test_redirect_is_shown_with_or_without_its_location_as_the_setting_says(
    flow: Flow, redirects: str, headers: Any
) -> None:
    await flow.session(BY_FORM, success=NEVER, redirects=redirects)
    last = flow.results[-1]
    assert (last["status"], last.get("headers")) == (303, headers)
    assert flow.target.seen[-1][:2] == ("POST", "/web/login")


async def test_redirect_that_the_gateway_refuses_is_shown(flow: Flow) -> None:
    await flow.session(BY_FORM, success=NEVER, allowed=["/web/login"])
    assert flow.results[-1]["status"] == 303
    assert flow.results[-1]["headers"]["location"] == "/web/account"
    assert [step.result for step in flow.steps] == ["ok", "ok"]


async def test_redirect_to_another_host_is_shown_and_not_followed(flow: Flow) -> None:
    await flow.session([use("call_api", method="GET", path="/away")], success=NEVER)
    assert flow.results[-1]["status"] == 302
    assert flow.results[-1]["headers"]["location"] == "https://elsewhere.example/items"
    assert len(flow.target.seen) == 1


async def test_redirects_without_an_end_are_followed_ten_times(flow: Flow) -> None:
    await flow.session([use("call_api", method="GET", path="/loop")], success=NEVER)
    assert flow.results[-1]["status"] == 302
    assert len(flow.target.seen) == 11
    assert len(flow.steps) == 1


async def test_model_is_shown_the_headers_that_lead_on_and_those_of_the_document(
    flow: Flow,
) -> None:
    await flow.session([use("items"), use("items", cursor="5", limit=5)], success=NEVER)
    first, second = flow.results
    assert first["headers"] == {
        "link": '</items?cursor=5>; rel="next"',
        "etag": '"1"',
        "x-total": "12",
    }
    assert first["body"]["items"][0]["sku"] == "SKU-001"
    assert second["body"]["items"][0]["sku"] == "SKU-006"
    assert flow.target.seen[-1][1] == "/items?cursor=5&limit=5"


async def test_of_a_picture_the_model_is_shown_type_and_size(flow: Flow) -> None:
    await flow.session([use("picture", sku="SKU-001")], success=NEVER)
    assert flow.results[-1]["body"] == {"type": "image/png", "bytes": 600}


async def test_missing_argument_is_stated_and_nothing_is_sent(flow: Flow) -> None:
    turns = [use("order", body={"skus": []}), use("item"), use("item", sku="{sku}")]
    await flow.session(turns, success=NEVER)
    first, second, third = (result["error"] for result in flow.results)
    assert "order needs a value for idempotency-key." in first
    assert "item needs a value for sku." in second
    assert flow.target.seen == []
    assert "item: {sku} is not a value for sku. Fill it in." in third
    assert [step.result for step in flow.steps] == ["bad_call"] * 3


async def test_call_api_alone_has_headers_query_and_content_type(flow: Flow) -> None:
    def api(method: str, path: str, **more: Any) -> dict[str, Any]:
        return use("call_api", method=method, path=path, **more)

    turns: list[Turn] = [
        api("POST", "/auth/token", body=USER, content_type=FORM),
        api("GET", "/orders/search", query={"state": "open", "tags": ["x", "y"], "no": None}),
        api("PUT", "/me/avatar", body={"file": {"$file": {}}}, content_type="multipart/form-data"),
        api("GET", "/web/login"),
        lambda seen: api(
            "POST",
            "/web/login",
            body={**USER, "csrf_token": csrf_of(seen)},
            headers={"Content-Type": FORM},
        ),
        api("POST", "/orders", body={"skus": []}, headers={"Idempotency-Key": "1"}),
    ]
    success = met("POST", "/orders", 201)
    result = await flow.session(turns, success=success, operations=())
    assert (result.reason, result.repaired) == ("goal_met", {}), flow.results
    assert flow.target.seen[1][1] == "/orders/search?state=open&tags=x&tags=y"
    assert flow.results[4]["body"] == "<h1>Hello ann</h1>"
    assert len(flow.target.uploads) == 1


async def test_beyond_64_operations_a_search_states_how_to_use_call_api(flow: Flow) -> None:
    many = [replace(OPERATIONS[2], id=f"list_{n}", path=f"/lists/{n}") for n in range(200)]
    turns = [
        use("find_operations", text="login_form"),
        # Without its content type, which the document has.
        use("call_api", method="POST", path="/auth/token", body=USER),
    ]
    result = await flow.session(
        turns, success=met("POST", "/auth/token", 200), operations=[*many, *OPERATIONS]
    )
    assert result.reason == "goal_met", flow.results
    names = [tool["function"]["name"] for tool in flow.asked[0]["tools"]]
    assert names == ["call_api", "find_operations"]
    found = next(o for o in flow.results[0]["operations"] if o["path"] == "/auth/token")
    assert (found["method"], found["path"], found["content_type"]) == ("POST", "/auth/token", FORM)
    assert set(found["body"]["properties"]) == {"username", "password"}
    assert flow.target.seen == [("POST", "/auth/token", FORM)]
    assert [step.result for step in flow.steps] == ["ok"]
    assert result.steps == 2


async def test_typed_call_in_the_text_or_with_flat_arguments_is_put_right(flow: Flow) -> None:
    text = f"<tool_call>{json.dumps({'name': 'login_form', 'arguments': USER})}</tool_call>"
    turns: list[Turn] = [
        {"role": "assistant", "content": text},
        use("order", Idempotency_Key="k", skus=["a"], note="n"),
        use("functions.item", arguments={"sku": "SKU-002"}),
    ]
    result = await flow.session(turns, success=met("GET", "/items/SKU-002", 200))
    assert result.reason == "goal_met", flow.results
    assert result.repaired == {"text_call": 1, "nested": 2, "tool_name": 1}
    history = flow.asked[-1]["messages"]
    made = [c["function"] for m in history for c in m.get("tool_calls", [])]
    assert [each["name"] for each in made] == ["login_form", "order"]
    assert json.loads(made[1]["arguments"]) == {
        "idempotency-key": "k",
        "body": {"skus": ["a"], "note": "n"},
    }


async def test_session_that_the_target_ended_is_signed_in_again_and_its_request_repeated_once(
    flow: Flow,
) -> None:
    def order(_: list[dict[str, Any]]) -> dict[str, Any]:
        flow.target.end_sessions()
        return use("order", **{"idempotency-key": "k", "body": {"skus": ["SKU-001"]}})

    step = {"kind": "json", "path": "/auth/login", "fields": USER}
    await flow.session([use("items"), order, order], success=NEVER, sign_in=[step])
    assert [each["status"] for each in flow.results] == [200, 201, 401]
    assert [each.result for each in flow.steps] == ["ok", "ok", "target_error"]
    logins = [seen for seen in flow.target.seen if seen[1] == "/auth/login"]
    assert len(logins) == 2


async def test_offline_model_finds_its_operations_among_many_by_searching(flow: Flow) -> None:
    many = [replace(OPERATIONS[3], id=f"report_{n}", path=f"/reports/{n}") for n in range(200)]
    async with (
        flow.gateway([*many, *OPERATIONS], ()) as gateway,
        TestServer(proxy_app(Offline())) as model,
    ):
        settings = AgentSettings(
            gateway_url=gateway,
            proxy_url=address(model),
            goal="List the items, and order.",
            api=flow_gateway.API,
            success=met("POST", "/orders", 201),
            sign_in=[{"kind": "json", "path": "/auth/login", "fields": USER}],
            think_time_seconds=0.0,
        )
        before, proxy = Peer(settings.gateway_url, 5), Peer(settings.proxy_url, 5)
        tools = await toolbox(settings, before)
        result = await Session(1, settings, tools, before, proxy, flow.steps.append).run()
        before.close()
        proxy.close()
    assert (result.reason, result.repaired) == ("goal_met", {}), result.detail
    assert "/orders" in [seen[1] for seen in flow.target.seen]
