"""What the gateway records of a run, and who can read it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from aiohttp import web
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ape_contracts import metrics
from ape_contracts.gateway_config import load
from ape_contracts.report_token import control, sign
from ape_contracts.sketch import Sketch
from ape_gateway import results as of_results
from ape_gateway.app import make_app
from ape_gateway.endpoints import Templates
from ape_gateway.reports import MAX_TRANSCRIPT_BYTES, ReportError, parse, parse_transcript
from ape_gateway.results import Results

pytestmark = pytest.mark.unit
CONFIG = load('{"routes": {"shop": {"base_url": "http://127.0.0.1:1"}}}')
PLACE = ("shop", "GET", "/products/17")


class Recorded:
    def __init__(self, *scenarios: str, transcripts: int = 2) -> None:
        self.now = 1000.0
        self.results = Results(Templates(CONFIG), clock=lambda: self.now, boot="b00t")
        self.results.begin("r1", scenarios or ("default",), transcripts)

    def report(self, slot: int = 1, **changed: Any) -> None:
        """A session of the run, as an agent reports it."""
        one = {"slot": slot, "result": "success", "seconds": 2, "steps": 5}
        one |= {"run": "r1", "session": 0, "scenario": "default", "phase": "main", "late": 0}
        given = {"source": "a", "number": 1, "agents": [[slot, "running"]], "memory_bytes": 1}
        for session in parse(given | {"sessions": [one | changed]}, 100).sessions:
            self.results.session(session)

    def transcript(self, slot: int = 1, **changed: Any) -> bool:
        one = {"slot": slot, "run": "r1", "session": 0, "scenario": "default"}
        one |= {"reason": "gave_up", "messages": [{"role": "user", "content": "x"}]}
        return self.results.transcript(parse_transcript(one | changed, 100))

    @property
    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.results.plain()["requests"]
        return found

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.results.sessions_json(0))["sessions"]
        return found


def test_only_the_active_run_its_scenarios_and_known_phases_have_labels() -> None:
    here = Recorded("buy", "look")
    assert here.results.label("r1/buy/main") is not None
    for header in (
        None,
        "",
        "r1/buy",
        "r1/sell/main",
        "r2/buy/main",
        "r1/buy/later",
        "r1/buy/main/",
    ):
        assert here.results.label(header) is None
    late = here.results.label("r1/buy/main")
    assert late is not None
    here.results.begin("r2", ["buy"])
    assert here.results.label("r1/buy/main") is None
    # A request of the last run that ends now counts nowhere.
    late.answered(PLACE, 200, 0.1)
    assert here.requests == []


def test_requests_count_by_scenario_phase_method_and_template() -> None:
    here = Recorded("buy", "look")
    for header, place, status in (
        ("r1/buy/main", PLACE, 200),
        ("r1/buy/main", ("shop", "GET", "/products/18?x=1"), 404),
        ("r1/buy/warm_up", PLACE, 200),
        ("r1/look/main", ("shop", "POST", "/products"), 500),
    ):
        label = here.results.label(header)
        assert label is not None
        label.answered(place, status, 0.5, sent=10, received=100)
    of = {(r["scenario"], r["phase"], r["method"], r["endpoint"]): r for r in here.requests}
    assert of.keys() == {
        ("buy", "main", "GET", "/products/{id}"),
        ("buy", "warm_up", "GET", "/products/{id}"),
        ("look", "main", "POST", "/products"),
    }
    found = of["buy", "main", "GET", "/products/{id}"]
    assert found["statuses"] == {"2xx": 1, "4xx": 1}
    assert (found["bytes_sent"], found["bytes_received"], found["errors"]) == (20, 200, {})
    assert Sketch.of(found["seconds"]).count == 2


def test_errors_of_the_gateway_have_a_time_only_if_the_target_was_asked() -> None:
    here = Recorded()
    label = here.results.label("r1/default/main")
    assert label is not None
    label.failed(PLACE, "target_timeout", 30.0, sent=7)
    label.failed(PLACE, "not_allowed")
    label.failed(None, "gateway_busy")
    known, unknown = here.requests
    assert known["errors"] == {"target_timeout": 1, "not_allowed": 1}
    assert (known["bytes_sent"], known["seconds"]["count"]) == (7, 1)
    assert (unknown["method"], unknown["endpoint"]) == ("unknown", "unknown")


def test_endpoints_beyond_the_bound_count_as_other() -> None:
    here = Recorded()
    label = here.results.label("r1/default/main")
    assert label is not None
    most = of_results.MAX_ENDPOINTS
    for number in range(most + 50):
        label.answered(("shop", "GET", f"/page{number}"), 200, 0.1)
    label.answered(("shop", "GET", "/page0"), 200, 0.1)
    endpoints = {r["endpoint"]: r["statuses"]["2xx"] for r in here.requests}
    assert len(endpoints) == most + 1
    assert (endpoints["other"], endpoints["/page0"]) == (50, 2)


def test_series_of_all_scenarios_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_results, "MAX_SERIES", 5)
    here = Recorded("a", "b")
    for scenario in ("a", "b"):
        label = here.results.label(f"r1/{scenario}/main")
        assert label is not None
        for number in range(4):
            label.answered(("shop", "GET", f"/page{number}"), 200, 0.1)
    assert [(r["scenario"], r["endpoint"], r["statuses"]["2xx"]) for r in here.requests][4:] == [
        ("b", "/page0", 1),
        ("b", "other", 3),
    ]


def test_session_counts_once_and_only_for_the_agent_that_was_granted_it() -> None:
    here = Recorded()
    here.results.granted(0, 1, "default", "main", 0.5)
    here.report(slot=2)
    assert here.rows == []
    here.report(run="r0")
    here.report()
    here.report()
    (found,) = here.results.plain()["sessions"]
    assert (found["succeeded"], found["failed"], found["steps"]) == (1, 0, 5)
    # The forged one and the repeated one.
    assert here.results.plain()["lost"] == 2
    assert [row["session"] for row in here.rows] == [0]


def test_scenario_phase_and_lateness_are_those_of_the_grant() -> None:
    here = Recorded("buy", "default")
    here.results.granted(4, 1, "buy", "warm_up", 1.5)
    here.now += 10
    here.report(session=4, late=0.0)
    (found,) = here.results.plain()["sessions"]
    assert (found["scenario"], found["phase"]) == ("buy", "warm_up")
    # Two seconds, from its planned start: no coordinated omission.
    assert (found["seconds"]["sum"], found["late"]["sum"]) == (3.5, 1.5)
    assert here.rows == [
        {
            "n": 1,
            "slot": 1,
            "session": 4,
            "scenario": "buy",
            "phase": "warm_up",
            "result": "success",
            "reason": "goal_met",
            "steps": 5,
            "seconds": 3.5,
            "late": 1.5,
            "ended": 10.0,
            "detail": "",
        }
    ]


def test_failed_and_aborted_sessions_are_told_apart() -> None:
    here = Recorded()
    for number, reason in enumerate(("gave_up", "gave_up", "aborted", "step_limit")):
        here.results.granted(number, 1, "default", "main")
        here.report(session=number, result="failure", reason=reason, detail="why")
    (found,) = here.results.plain()["sessions"]
    assert (found["succeeded"], found["failed"], found["aborted"]) == (0, 3, 1)
    assert found["reasons"] == {"gave_up": 2, "step_limit": 1}
    # An aborted session has no length of its own.
    assert found["seconds"]["count"] == 3
    assert here.results.plain()["failures"][0] == {
        "reason": "gave_up",
        "detail": "why",
        "sessions": 2,
    }
    assert [row["result"] for row in here.rows] == ["failure", "failure", "aborted", "failure"]


def test_rows_come_in_pieces_and_old_ones_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_results, "MAX_ROWS", 10)
    monkeypatch.setattr(of_results, "MAX_ROWS_PER_ANSWER", 4)
    here = Recorded()
    empty = {"boot": "b00t", "sessions": [], "missed": 0}
    assert json.loads(here.results.sessions_json(0)) == empty
    for number in range(15):
        here.results.granted(number, 1, "default", "main")
        here.report(session=number)

    def read(after: int) -> tuple[list[int], int]:
        found = json.loads(here.results.sessions_json(after))
        return [row["n"] for row in found["sessions"]], found["missed"]

    assert read(0) == ([6, 7, 8, 9], 5)
    assert read(3) == ([6, 7, 8, 9], 2)
    assert read(9) == ([10, 11, 12, 13], 0)
    assert read(13) == ([14, 15], 0)
    assert read(15) == read(99) == ([], 0)
    assert here.results.plain()["last_session"] == 15


def test_grants_that_are_never_reported_are_bounded() -> None:
    here = Recorded()
    for number in range(of_results.MAX_GRANTED + 3):
        here.results.granted(number, 1, "default", "main")
    assert here.results.plain()["lost"] == 3
    here.report(session=2)
    here.report(session=3)
    assert [row["session"] for row in here.rows] == [3]


def test_transcripts_are_kept_of_granted_sessions_up_to_their_number() -> None:
    here = Recorded(transcripts=2)
    for number in range(5):
        here.results.granted(number, 1, "default", "main")
    assert not here.transcript(slot=2)
    assert not here.transcript(run="r0")
    # Before its report, and after it.
    assert here.transcript(session=0)
    assert not here.transcript(session=0)
    here.report(session=1, result="failure", reason="gave_up")
    here.report(session=2)
    assert not here.transcript(session=1, reason="step_limit")
    assert not here.transcript(session=2)
    assert here.results.full() == []
    assert here.transcript(session=1)
    assert here.results.full() == ["gave_up"]
    assert not here.transcript(session=3)
    kept = json.loads(here.results.transcripts_json())["transcripts"]
    assert [(each["session"], each["messages"][0]["content"]) for each in kept] == [
        (0, "x"),
        (1, "x"),
    ]
    assert set(Recorded(transcripts=0).results.full()) == set(metrics.FAILURE_REASONS)


def test_transcripts_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Recorded(transcripts=1000)
    monkeypatch.setattr(of_results, "MAX_TRANSCRIPT_BYTES", 1000)
    for number in range(20):
        here.results.granted(number, 1, "default", "main")
        here.transcript(session=number)
    assert len(here.results.transcripts_json()) < 1100


@pytest.mark.parametrize(
    "changed",
    [
        {"slot": 0},
        {"slot": 101},
        {"run": "../x"},
        {"session": -1},
        {"scenario": "A B"},
        {"reason": "goal_met"},
        {"messages": [{"content": "x"}]},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": "x" * MAX_TRANSCRIPT_BYTES}]},
        {"detail": 1},
    ],
)
def test_transcript_that_breaks_the_format_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ReportError):
        Recorded().transcript(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"run": ""},
        {"run": "a/b"},
        {"run": 1},
        {"run": "x" * 65},
        {"scenario": None},
        {"scenario": "x" * 41},
        {"phase": "later"},
        {"phase": []},
        {"late": -1},
        {"late": float("nan")},
        {"session": None},
        {"session": 1.0},
        {"steps": -1},
        {"steps": "many"},
    ],
)
def test_report_of_a_session_of_a_run_is_checked(changed: dict[str, Any]) -> None:
    with pytest.raises(ReportError):
        Recorded().report(**changed)


KEY = "k" * 64
CONTROL = {"Authorization": f"Bearer {control(KEY)}"}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Results]:
    """Each gateway's results, with a run r1 that is active."""
    made: list[Results] = []
    init = Results.__init__

    def begin(self: Results, *args: Any, **more: Any) -> None:
        init(self, *args, **more)
        self.begin("r1", ["default"])
        made.append(self)

    monkeypatch.setattr(Results, "__init__", begin)
    return made


async def target(request: web.Request) -> web.Response:
    if request.path == "/gone":
        assert request.transport is not None
        request.transport.close()
    return web.json_response({"x": "y"}, status=404 if "missing" in request.path else 200)


@pytest.fixture
def gateway(serve: Any) -> Any:
    async def start(key: str = "") -> Any:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", target)
        upstream = await serve(app)
        url = str(upstream.make_url("")).rstrip("/")
        config = load(json.dumps({"routes": {"shop": {"base_url": url}}}))
        return await serve(make_app(config, report_key=key))

    return start


async def read(client: Any, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = await client.get(path, headers=headers)
    return answer.status, await answer.json()


@pytest.mark.asyncio
async def test_requests_with_the_header_of_the_run_are_recorded(
    gateway: Any, begun: list[Results]
) -> None:
    client = await gateway()

    async def ask(path: str, header: str | None, **more: Any) -> None:
        body = {"api_name": "shop", "method": "GET", "path": path} | more
        headers = {} if header is None else {"X-APE-Run": header}
        await client.post("/mcp/request", json=body, headers=headers)

    await ask("/a/1", "r1/default/main")
    await ask("/a/2", "r1/default/main")
    await ask("/missing", "r1/default/main", method="POST", data={"x": 1})
    await ask("/gone", "r1/default/main")
    await ask("", "r1/default/main")
    await ask("/a/3", None)
    await ask("/a/3", "r2/default/main")
    one = {"api_name": "shop", "method": "GET", "path": "/b"}
    headers = {"X-APE-Run": "r1/default/warm_up"}
    await client.post("/mcp/request", json=[one, one], headers=headers)
    await client.post("/mcp/request", data=b"x" * (5 << 20), headers=headers)
    status, found = await read(client, "/results")
    assert (status, found["version"], found["boot"], found["run"]) == (200, 1, begun[0].boot, "r1")
    assert {
        (r["phase"], f"{r['method']} {r['endpoint']}"): (
            r["statuses"] | r["errors"],
            r["bytes_sent"],
            r["bytes_received"],
            r["seconds"]["count"],
        )
        for r in found["requests"]
    } == {
        ("main", "GET /a/{id}"): ({"2xx": 2}, 0, 20, 2),
        ("main", "POST /missing"): ({"4xx": 1}, 8, 10, 1),
        ("main", "GET /gone"): ({"target_unreachable": 1}, 0, 0, 1),
        ("main", "unknown unknown"): ({"bad_request": 1}, 0, 0, 0),
        ("warm_up", "GET /b"): ({"2xx": 2}, 0, 20, 2),
        ("warm_up", "unknown unknown"): ({"too_large": 1}, 0, 0, 0),
    }


@pytest.mark.asyncio
async def test_requests_by_mcp_are_recorded_too(gateway: Any, begun: list[Results]) -> None:
    client = await gateway()
    url = str(client.make_url("/mcp"))
    async with (
        httpx2.AsyncClient(headers={"X-APE-Run": "r1/default/main"}) as http,
        Client(streamable_http_client(url, http_client=http)) as session,
    ):
        await session.call_tool("http_get", {"path": "/a/1"})
    (found,) = begun[0].plain()["requests"]
    assert (found["endpoint"], found["statuses"]) == ("/a/{id}", {"2xx": 1})


@pytest.mark.asyncio
async def test_results_need_the_control_token(gateway: Any) -> None:
    client = await gateway(KEY)
    agents = sign(KEY, 1, 10, 10)
    for path in ("/results", "/results/sessions", "/results/transcripts"):
        for token in ("", "x", "\xe9", agents, control("another key"), KEY):
            status, found = await read(client, path, Authorization=f"Bearer {token}")
            assert (status, found["error"]) == (401, "unauthorized")
        assert (await read(client, path))[0] == 401
        assert (await read(client, path, **CONTROL))[0] == 200
    for wrong in ("-1", "x", "1e3", "", "9" * 5000, "\u0663"):
        assert (await read(client, f"/results/sessions?after={wrong}", **CONTROL))[0] == 422
    _, found = await read(client, "/results", **CONTROL)
    assert (found["run"], found["requests"], found["sessions"]) == (None, [], [])


@pytest.mark.asyncio
async def test_agents_report_and_send_transcripts_for_their_own_slots(
    gateway: Any, begun: list[Results]
) -> None:
    client = await gateway(KEY)
    begun[0].granted(0, 1, "default", "main")
    begun[0].granted(1, 11, "default", "main")
    mine = {"Authorization": f"Bearer {sign(KEY, 1, 10, 10)}"}
    transcript = {"slot": 1, "run": "r1", "session": 0, "scenario": "default"}
    transcript |= {"reason": "gave_up", "messages": []}

    async def send(body: Any, **headers: str) -> tuple[int, Any]:
        answer = await client.post("/agents/transcript", data=json.dumps(body), headers=headers)
        return answer.status, await answer.json()

    assert (await send(transcript))[0] == 401
    assert (await send(transcript | {"slot": 11, "session": 1}, **mine))[0] == 403
    assert (await send([], **mine))[0] == 422
    assert await send(transcript, **mine) == (200, {"kept": True})
    assert await send(transcript, **mine) == (200, {"kept": False})
    session = {"slot": 1, "result": "failure", "reason": "gave_up", "seconds": 1, "steps": 2}
    session |= {"run": "r1", "session": 0, "scenario": "default", "phase": "main", "late": 0.1}
    report = {"source": "a", "number": 1, "agents": [[1, "running"]], "sessions": [session]}
    for _ in range(2):
        answer = await client.post("/agents/report", data=json.dumps(report), headers=mine)
        assert answer.status == 200
    # Another process of the same container: the session was counted.
    again = json.dumps(report | {"source": "b", "lost": 3})
    assert (await client.post("/agents/report", data=again, headers=mine)).status == 200
    _, found = await read(client, "/results", **CONTROL)
    assert found["sessions"][0]["failed"] == 1
    assert found["lost"] == 1 + 3
    _, rows = await read(client, "/results/sessions?after=0", **CONTROL)
    assert [row["session"] for row in rows["sessions"]] == [0]
