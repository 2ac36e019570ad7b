"""The document of a run follows from the settings, the users file and the target's operations."""

import json
from pathlib import Path
from typing import Any

import pytest

from ape_contracts.gateway_config import load
from ape_gateway.endpoints import Templates
from ape_infra.config import files
from ape_infra.config.errors import SettingsError
from ape_infra.config.openapi.selection import Candidate
from ape_infra.config.parsing import parse
from ape_infra.config.settings import Settings
from ape_infra.config.users import Users
from ape_infra.runs import document as documents
from ape_infra.runs.document import document, encode
from ape_infra.runs.preparation import checks, prepare
from tests.support.openapi_documents import document as openapi_document

pytestmark = pytest.mark.unit
DEFAULT = {
    "id": "r1",
    "executor": "closed",
    "arrivals": "constant",
    "stages": [{"seconds": 300.0, "start": 5.0, "end": 5.0}],
    "max_late_seconds": 1.0,
    "warm_up_seconds": 0.0,
    "ramp_down_seconds": 0.0,
    "graceful_stop_seconds": 30.0,
    "drain_seconds": 30.0,
    "lease_seconds": 60.0,
    "seed": None,
    "scenarios": [{"name": "default", "weight": 1}],
    "users": None,
    "transcripts": 3,
    "elapsed_seconds": 0,
    "next_session": 0,
}
OPERATIONS = [
    Candidate("GET", "/products", {"tags": ["catalog"]}),
    Candidate("GET", "/products/{id}", {"tags": ["catalog"]}),
    Candidate("POST", "/checkout", {"operationId": "buy"}),
]
USERS = Users(("name", "password"), tuple((f"u{n}", f"p{n}") for n in range(5)))


def settings_of(**given: Any) -> Settings:
    return parse({k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()})


def refused(settings: Settings, **more: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        document(settings, run_id="r1", operations=OPERATIONS, **more)
    return str(caught.value)


def test_settings_without_a_run_are_one_scenario_under_constant_load() -> None:
    assert document(settings_of(), run_id="r1") == DEFAULT


def test_every_setting_of_a_run_is_in_its_document() -> None:
    settings = settings_of(
        executor="open",
        arrivals="poisson",
        stages=[{"duration": "1m", "target": 2.5}, {"duration": "10s", "target": 0, "from": 1}],
        maxLate="500ms",
        warmUp="10s",
        rampDown="5s",
        gracefulStop="1m",
        seed="7",
        transcripts="0",
        users="users.csv",
        usersSecret=["password"],
        usersMode="random",
        usersWhenUsedUp="stop",
        scenarios=[
            {
                "name": "buy",
                "weight": 2.5,
                "goal": "Log in as {name} ({agent}), and buy.",
                "persona": "A customer.",
                "operations": ["tag:catalog", "id:buy"],
                "success": {"method": "POST", "path": "/checkout", "status": 201},
                "thinkTime": "1500ms",
                "maxSteps": 9,
                "maxSeconds": 60,
            },
            {"name": "off", "weight": 0},
        ],
    )
    assert document(settings, run_id="r1", operations=OPERATIONS, users=USERS) == DEFAULT | {
        "executor": "open",
        "arrivals": "poisson",
        "stages": [
            {"seconds": 60.0, "start": 0.0, "end": 2.5},
            {"seconds": 10.0, "start": 1.0, "end": 0.0},
        ],
        "max_late_seconds": 0.5,
        "warm_up_seconds": 10.0,
        "ramp_down_seconds": 5.0,
        "graceful_stop_seconds": 60.0,
        "seed": "7",
        "transcripts": 0,
        "scenarios": [
            {
                "name": "buy",
                "weight": 2.5,
                "goal": "Log in as {name} ({agent}), and buy.",
                "persona": "A customer.",
                "success": {"method": "POST", "path": "/checkout", "status": 201},
                "operations": [
                    ["GET", "/products"],
                    ["GET", "/products/{id}"],
                    ["POST", "/checkout"],
                ],
                "think_time_seconds": 1.5,
                "session_max_steps": 9,
                "session_max_seconds": 60,
            }
        ],
        "users": {
            "columns": ["name", "password"],
            "rows": [[f"u{n}", f"p{n}"] for n in range(5)],
            "secret": ["password"],
            "mode": "random",
            "when_used_up": "stop",
        },
    }


def test_an_operation_may_be_a_method_with_its_path() -> None:
    settings = settings_of(scenarios=[{"name": "a", "operations": ["GET /products/{id}"]}])
    made = document(settings, run_id="r1", operations=OPERATIONS)
    assert made["scenarios"][0]["operations"] == [["GET", "/products/{id}"]]


@pytest.mark.parametrize(
    ("given", "users", "line"),
    [
        (
            {"scenarios": [{"name": "a", "operations": ["GET /product"]}]},
            None,
            'ape:scenarios[0].operations[0]: is "GET /product", which selects none of the 3 '
            "operations of the target. Did you mean GET /products?",
        ),
        (
            {"scenarios": [{"name": "a", "goal": "Log in as {name}."}]},
            None,
            "ape:scenarios[0].goal: has {name}, but users is not set",
        ),
        (
            {"scenarios": [{"name": "a", "goal": "Log in as {names}."}]},
            USERS,
            "ape:scenarios[0].goal: has {names}, which is not a column of users. Did you "
            "mean name?",
        ),
        ({"targetGoal": "Log in as {nick}."}, USERS, "ape:targetGoal: has {nick}, which is not"),
        ({"persona": "You are {nick}."}, USERS, "ape:persona: has {nick}, which is not"),
        (
            {"users": "x", "usersSecret": ["name", "pasword"]},
            USERS,
            'ape:usersSecret[1]: is "pasword", which is not a column of users. Did you mean '
            "password?",
        ),
        (
            {"agents": "6"},
            USERS,
            "ape:users: has 5 rows, fewer than the 6 agents, but usersMode is unique. Add rows",
        ),
    ],
)
def test_settings_that_contradict_the_files_are_refused(
    given: dict[str, Any], users: Users | None, line: str
) -> None:
    assert line in refused(settings_of(**given), users=users)


def test_rows_suffice_for_the_agents_that_become_active() -> None:
    settings = settings_of(agents="50", stages=[{"duration": "1m", "target": 5}])
    assert document(settings, run_id="r1", users=USERS)["users"]["mode"] == "unique"
    assert document(settings_of(agents="50", usersMode="shared"), run_id="r1", users=USERS)


def test_braces_in_the_goal_of_a_stack_without_users_are_kept() -> None:
    assert document(settings_of(targetGoal="Send {item}."), run_id="r1")


def test_a_document_above_the_limit_of_the_gateway_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 2000)
    users = Users(("name",), tuple(("x" * 90,) for _ in range(20)))
    assert "ape:users: would make a run of 0.0 MiB" in refused(settings_of(), users=users)
    long = settings_of(scenarios=[{"name": "a", "goal": "x" * 3000}])
    assert "ape:scenarios: would make a run" in refused(long)


def test_ten_thousand_users_fit_into_a_document() -> None:
    rows = tuple(
        (f"user-{n}@shop.example", f"password of {n}", "Ada Lovelace") for n in range(10**4)
    )
    made = document(settings_of(), run_id="r1", users=Users(("mail", "password", "name"), rows))
    assert len(encode(made)) < documents.MAX_BYTES // 4


FILES = {
    "missing.csv": (None, "No such file or directory. Set the path of a readable CSV or JSON"),
    "latin.csv": ("name\nAdèle\n".encode("latin-1"), "is not UTF-8 text"),
    "short.csv": (b"name,password\nada\n", "short.csv: line 2: lacks column password. Add it."),
    "empty.csv": (b"name\n\nada\n", "empty.csv: line 2: is an empty row."),
}


@pytest.mark.parametrize("name", FILES)
def test_a_users_file_that_cannot_be_read_fails_the_check_of_the_run(
    name: str, tmp_path: Path
) -> None:
    content, rule = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (found,) = checks(settings_of(users=name), tmp_path)
    assert (found.name, found.status) == ("run", "fail")
    assert found.observed.startswith("ape:users: ")
    assert rule in found.observed


def test_a_users_file_above_its_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "users.csv").open("wb") as file:
        file.truncate(33 << 20)
    (found,) = checks(settings_of(users="users.csv"), tmp_path)
    assert "has 33 MiB, above the maximum of 32 MiB. Remove rows." in found.observed


def test_the_check_of_a_run_sums_it_up(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("name\n" + "ada\n" * 9)
    (found,) = checks(settings_of(), tmp_path)
    assert found.observed == "closed, 5 agents for 5m, scenario default."
    settings = settings_of(
        executor="open",
        stages=[{"duration": "90s", "target": 2}],
        scenarios=[{"name": "a"}, {"name": "b", "operations": ["POST /checkout"]}],
        users="users.csv",
        thresholds=['http_reqs{endpoint="GET /products/{id}"} > 1'],
    )
    (found,) = checks(settings, tmp_path)
    assert found.observed == (
        "open, up to 2 sessions per second for 1m30s, 2 scenarios, 9 rows of users (unique), "
        "1 threshold."
    )


def test_a_threshold_on_what_the_target_lacks_is_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    settings = settings_of(thresholds=["ttft.p95 < 1", 'http_reqs{endpoint="POST /checkouts"} > 1'])
    with pytest.raises(SettingsError) as caught:
        prepare(settings, tmp_path, "r1")
    assert str(caught.value) == (
        'ape:thresholds[1]: at character 21: "POST /checkouts" is not the name of an endpoint of '
        "the run. Did you mean POST /checkout? Use one of: POST /login, GET /products, "
        "GET /products/{id}, POST /cart/items, GET /cart, POST /checkout."
    )


def test_scenarios_select_operations_of_a_document(tmp_path: Path) -> None:
    paths = {
        "/orders": {"post": {"operationId": "createOrder"}},
        "/lamps/{id}": {"get": {"tags": ["lamps"]}},
        "/lamps": {"get": {"tags": ["lamps"]}},
    }
    (tmp_path / "api.json").write_text(json.dumps(openapi_document(paths)))
    settings = settings_of(
        target="http://shop",
        targetGoal="Order.",
        targetSuccess={"method": "GET", "path": "/", "status": 200},
        targetOpenapi="api.json",
        scenarios=[{"name": "a", "operations": ["tag:lamps"]}, {"name": "b"}],
    )
    found = prepare(settings, tmp_path, "r1")
    first, second = found.document["scenarios"]
    assert first["operations"] == [["GET", "/lamps/{id}"], ["GET", "/lamps"]]
    assert "operations" not in second
    assert set(found.endpoints) == {"POST /orders", "GET /lamps/{id}", "GET /lamps"}


@pytest.mark.parametrize("target", ["http://shop", "http://shop/api", "http://shop/api/v1"])
@pytest.mark.parametrize("path", ["/lamps/*", "/v1/lamps/*", "/api/v1/lamps/*"])
def test_selectors_have_the_base_path_of_a_document_or_not(
    target: str, path: str, tmp_path: Path
) -> None:
    paths: dict[str, Any] = {"/lamps/{id}": {"get": {}}, "/lamps": {"get": {}}}
    servers = [{"url": "/api/v1"}]
    (tmp_path / "api.json").write_text(json.dumps(openapi_document(paths, servers=servers)))
    settings = settings_of(
        target=target,
        targetGoal="Look.",
        targetSuccess={"method": "GET", "path": "/", "status": 200},
        targetOpenapi="api.json",
        targetInclude=[path, "GET /lamps"],
        scenarios=[{"name": "a", "operations": [f"GET {path}"]}],
    )
    ((method, found),) = prepare(settings, tmp_path, "r1").document["scenarios"][0]["operations"]
    whole = target.removeprefix("http://shop") + found
    assert (method, whole) == ("GET", "/api/v1/lamps/{id}")


def test_endpoints_have_the_names_that_the_gateway_gives_them(tmp_path: Path) -> None:
    own = {
        "target": "http://shop",
        "targetGoal": "Order.",
        "targetSuccess": {"method": "GET", "path": "/", "status": 200},
    }
    endpoints = [{"method": "GET", "path": "/lamps/{lamp}?color={color}"}]
    settings = settings_of(**own, targetEndpoints=endpoints)
    assert prepare(settings, tmp_path, "r1").endpoints == ("GET /lamps/{lamp}",)
    config = load(files.gateway_config(settings, tmp_path)[0])
    assert Templates(config).endpoint("target", "GET", "/lamps/red?color=1") == "/lamps/{lamp}"
    routes = {
        "shop": {
            "base_url": "http://shop",
            "endpoints": [{"path": "/lamps/{lamp}", "methods": ["GET", "PUT"]}],
        },
        "pay": {"base_url": "http://pay", "endpoints": [{"path": "/refunds"}]},
    }
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": routes}))
    found = prepare(settings_of(**own, gatewayConfig="gateway.json"), tmp_path, "r1")
    assert found.endpoints == ("GET /lamps/{lamp}", "PUT /lamps/{lamp}", "GET pay:/refunds")
