"""What agents are ordered by the gateway, and what they do of it: grants, users, transcripts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from ape_agent.calls import Target
from ape_agent.orders import FREE, MAX_TRANSCRIPT_BYTES, WAIT, Grant, Orders, bounded
from ape_agent.peers import Peer, PeerError
from ape_agent.session import Session
from ape_agent.sign_in import SignIn
from ape_agent.tools import Toolbox
from ape_agent.user_row import NOBODY, UserRow
from tests.support.agent_world import call as call_of
from tests.support.agent_world import model_of, results_of

pytestmark = pytest.mark.unit
ROW = UserRow({"name": "Ann B", "pin": "12", "token": "s/3cret"}, ["pin", "token"])
START = {"run": "r1", "session": 3, "scenario": {"name": "buy"}, "phase": "main", "pause": False}


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/users/{name}", "/users/Ann%20B"),
        ("/users/%7Bname%7D/x", "/users/Ann%20B/x"),
        ("/by-{name}", "/by-Ann%20B"),
        ("/tokens/{token}", "/tokens/s%2F3cret"),
        ("/a?key={token}&n={name}", "/a?key=s%2F3cret&n=Ann%20B"),
        # Logs would have it.
        ("/by-{token}", "/by-{token}"),
        ("/items/{id}", "/items/{id}"),
    ],
)
def test_column_stands_in_a_path(path: str, sent: str) -> None:
    assert ROW.path(path) == sent


def test_columns_stand_in_bodies_and_the_model_sees_all_but_secret_ones() -> None:
    body = {"who": "{name}", "all": ["{pin}-{name}", 1, None], "{name}": "{other}"}
    assert ROW.filled(body) == {"who": "Ann B", "all": ["12-Ann B", 1, None], "Ann B": "{other}"}
    assert ROW.shown == {"name": "Ann B", "pin": "{pin}", "token": "{token}"}
    assert ROW.described("Sign in as {name} with {pin}.") == "Sign in as Ann B with {pin}."
    assert NOBODY.filled(body) == body


def test_secret_is_masked_in_whatever_form_the_target_returns_it() -> None:
    user = UserRow({"name": "ann", "pin": "12", "token": "s3cr+et"}, ["pin", "token"])
    masked = SignIn([], {}, {}, Target(), user=user).redacted
    given = {"at": "/u/s3cr%2Bet?n=ann", "s3cr+et": 12, "all": ["12", "a 12.", "120", 120, True]}
    assert masked(given) == {
        "at": "/u/[secret]?n=ann",
        "[secret]": "[secret]",
        "all": ["[secret]", "a [secret].", "120", 120, True],
    }


def test_transcript_has_the_beginning_and_the_end_within_its_bound() -> None:
    messages = [{"role": "user", "content": f"{n} " + "é" * 3000} for n in range(40)]
    messages[1] = {"role": "user", "content": "x" * 100_000}
    made = bounded(messages)
    assert len(json.dumps(made)) <= MAX_TRANSCRIPT_BYTES
    assert made[0]["content"].startswith("0 ")
    assert len(made[1]["content"]) < 20_000
    assert made[-1]["content"].startswith("39 ")
    assert made[2]["role"] == "note"
    assert bounded(messages[:1]) == messages[:1]
    call = {"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 100_000}}]}
    assert len(json.dumps(bounded([call] * 9))) <= MAX_TRANSCRIPT_BYTES


@pytest.mark.parametrize(
    ("status", "body", "order"),
    [
        (200, {"free": True}, FREE),
        (200, {"wait": True}, WAIT),
        (200, {"idle": True}, WAIT),
        # A gateway of an earlier version.
        (404, {"error": "not_found"}, FREE),
        (405, {}, FREE),
        (401, {}, None),
        (503, {}, None),
        (200, {"start": {"run": "r1"}}, None),
    ],
)
async def test_order_is_what_the_gateway_answers(
    serve: Any, status: int, body: Any, order: Any
) -> None:
    app = web.Application()
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json(), request.headers.get("Authorization")))
        return web.json_response(body, status=status)

    app.router.add_post("/agents/next", answer)
    client = await serve(app)
    peer = Peer(str(client.make_url("")), 5)
    orders = Orders(peer, {"Authorization": "Bearer t"}, "0" * 32)
    if order is None:
        with pytest.raises(PeerError):
            await orders.next(7)
    else:
        assert await orders.next(7) == order
    assert seen == [({"slot": 7}, "Bearer t")]
    peer.close()


def grant(**changed: Any) -> Grant:
    return Grant("r1", 3, {"name": "buy"}, "main", {})._replace(**changed)


def test_scenario_replaces_the_agents_own_settings(settings_of_agent: Any) -> None:
    scenario = {"name": "buy", "goal": "Look.", "persona": None, "session_max_steps": 2}
    made = grant(scenario=scenario).settings(settings_of_agent)
    assert made == replace(settings_of_agent, goal="Look.", session_max_steps=2)


@pytest.fixture
def settings_of_agent() -> Any:
    from ape_contracts.service_settings import AgentSettings

    return AgentSettings(
        gateway_url="http://g",
        proxy_url="http://p",
        goal="Buy.",
        api="shop",
        success={"method": "GET", "path": "/", "status": 200},
    )


async def _held(world: Any, given: Grant, **changed: Any) -> tuple[Any, Session]:
    settings = given.settings(replace(world.settings, **changed))
    gateway, proxy = (Peer(u, 5) for u in (settings.gateway_url, settings.proxy_url))
    tools = Toolbox(settings, settings.endpoints)
    session = Session(1, settings, tools, gateway, proxy, lambda _: None, None, given)
    result = await session.run()
    gateway.close()
    proxy.close()
    return result, session


async def test_secret_of_a_user_is_sent_and_nowhere_shown(world: Any, caplog: Any) -> None:
    bodies: list[Any] = []
    login = {"username": "{name}", "password": "{pin}"}
    calls = [
        {"method": "POST", "path": "/login", "body": login},
        {"method": "POST", "path": "/login", "body": {"username": "{token}", "password": "x"}},
        {"method": "GET", "path": "/products/{token}"},
    ]

    def answer(n: int) -> Any:
        if n < len(calls):
            return call_of(calls[n], f"c{n}")
        return {"role": "assistant", "content": "I saw s3cr+et."}

    here = await world(model_of(answer, bodies))
    given = grant(
        user={"name": "ann", "pin": "12", "token": "s3cr+et"},
        secret=("pin", "token"),
        scenario={"name": "buy", "goal": "Be {name}: {pin}."},
    )
    with caplog.at_level("INFO"):
        result, session = await _held(here, given)
    assert (result.reason, result.detail) == ("target_error", 'The model: "I saw [secret]."')
    assert bodies[0]["messages"][1]["content"] == "Be ann: {pin}."
    assert '"pin": "{pin}"' in bodies[0]["messages"][0]["content"]
    assert [answer["status"] for answer in results_of(bodies[-1])] == [200, 200, 404]
    lines = [str(getattr(r, "ape", "")) for r in caplog.records if r.name.startswith("ape_agent")]
    # In its last request the model reads its own words.
    for text in (
        json.dumps(bodies[:-1]),
        json.dumps(session.transcript()),
        str(result),
        str(lines),
    ):
        assert "s3cr+et" not in text
        assert "s3cr%2Bet" not in text


async def test_scenario_has_its_operations_only(world: Any) -> None:
    bodies: list[Any] = []

    def answer(n: int) -> Any:
        paths = ["/cart", "/products/1", "/products"]
        if n < len(paths):
            return call_of({"method": "GET", "path": paths[n]}, f"c{n}")
        return {"role": "assistant", "content": "Done."}

    here = await world(model_of(answer, bodies))
    steps: list[Any] = []
    operations = [["GET", "/products"], ["GET", "/products/{id}"]]
    given = grant(scenario={"name": "look", "operations": operations})
    settings = here.settings
    gateway, proxy = (Peer(u, 5) for u in (settings.gateway_url, settings.proxy_url))
    tools = Toolbox(settings, settings.endpoints)
    await Session(1, settings, tools, gateway, proxy, steps.append, None, given).run()
    gateway.close()
    proxy.close()
    first, second, third = results_of(bodies[-1])
    assert first == {"error": "GET /cart is not one of the operations."}
    assert (second["status"], third["status"]) == (401, 401)
    assert [step.result for step in steps] == ["refused", "target_error", "target_error"]


async def test_requests_of_a_run_name_it_to_both_peers(world: Any, serve: Any) -> None:
    seen: list[str | None] = []
    app = web.Application()

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-APE-Run"))
        if request.path.startswith("/mcp"):
            return web.json_response({"status_code": 200, "body": {}, "headers": {}})
        message = call_of({"method": "GET", "path": "/"})
        return web.json_response({"choices": [{"message": message}]})

    app.router.add_post("/{tail:.*}", answer)
    client = await serve(app)
    url = str(client.make_url("")).rstrip("/")
    here = await world()
    here.settings = replace(here.settings, gateway_url=url, proxy_url=url, session_max_steps=1)
    result, _ = await _held(here, grant(late=0.5))
    assert seen == ["r1/buy/main"] * 2
    assert {
        key: result.report()[key] for key in ("run", "session", "scenario", "phase", "late")
    } == {
        "run": "r1",
        "session": 3,
        "scenario": "buy",
        "phase": "main",
        "late": 0.5,
    }


async def test_seed_gives_a_session_the_same_values(world: Any) -> None:
    async def prompt(seed: str | None) -> str:
        bodies: list[Any] = []
        here = await world(model_of(lambda _: {"role": "assistant", "content": "No."}, bodies))
        await _held(here, grant(seed=seed))
        return str(bodies[0]["messages"][0]["content"])

    assert await prompt("a") == await prompt("a")
    assert await prompt("a") != await prompt("b")
    assert await prompt(None) != await prompt(None)
