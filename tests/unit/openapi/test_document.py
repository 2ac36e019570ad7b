"""The document of a stack: its size for agents, its URL, and its lines in `validate` and `up`."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ape_contracts.operations import decode
from ape_contracts.operations_file import MAX_FILE_BYTES, unpack
from ape_infra.checks import openapi
from ape_infra.checks import settings as settings_checks
from ape_infra.checks.connection import PreflightError
from ape_infra.config import document as documents
from ape_infra.config.credentials import Credentials
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import MAX_SCENARIO_BYTES, Scenario
from ape_infra.config.parsing import parse
from ape_infra.config.settings import Settings
from tests.support.openapi_documents import document

pytestmark = pytest.mark.unit
ONE = '[{"method": "GET", "path": "/"}]'
SHOP = document({"/lamps": {"get": {}, "delete": {}}, "/form": {"head": {}}})


def settings_of(**more: str) -> Settings:
    return parse(
        {
            "target": "https://shop.example",
            "targetGoal": "Order.",
            "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
            "targetOpenapi": "api.json",
            **more,
        }
    )


def write(root: Path, data: Any) -> None:
    (root / "api.json").write_text(json.dumps(data))


def path_in(settings: Settings, root: Path) -> str:
    """The path of the first operation."""
    return documents.read(settings, root).operations.operations[0].path


class Server:
    """A target that serves its document. `status` 200 answers with `content`."""

    status, content = 200, json.dumps(SHOP).encode()


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state, f"http://127.0.0.1:{http.server_port}/openapi.json"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("setting", "value", "has"),
    [
        (
            "targetEndpoints",
            [{"method": "GET", "path": "/", "description": "x" * MAX_SCENARIO_BYTES}],
            "has 1 endpoints: an agent would get 121 KiB, above the maximum of 120 KiB. Remove",
        ),
        ("targetGoal", "{{" * (MAX_SCENARIO_BYTES // 7), "is too long: an agent would get 121 KiB"),
    ],
)
def test_a_scenario_that_is_too_large_for_a_variable_is_rejected_with_the_setting(
    setting: str, value: Any, has: str, tmp_path: Path
) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    given = {"targetOpenapi": "", "targetEndpoints": ONE, setting: text}
    with pytest.raises(SettingsError) as caught:
        Scenario.of(settings_of(**given), tmp_path, "target")
    assert f"ape:{setting}: {has}" in str(caught.value)


def test_operations_of_any_number_reach_the_gateway_and_no_variable(tmp_path: Path) -> None:
    many = {f"/orders/{n}": {"get": {"summary": "x" * 190}} for n in range(2000)}
    write(tmp_path, document(many))
    told = Scenario.of(settings_of(), tmp_path, "target").plain()
    assert len(json.dumps(told)) < 200
    file = documents.operations_file(settings_of(), tmp_path)
    assert file is not None
    assert len(file) < MAX_FILE_BYTES
    assert len(decode(unpack(file)).operations) == 2000
    (check,) = settings_checks.scenario(settings_of(), tmp_path)
    assert check.observed == "route target, 2000 operations, goal: Order."
    assert (
        documents.operations_file(settings_of(targetOpenapi="", targetEndpoints=ONE), tmp_path)
        is None
    )


def test_operations_that_the_gateway_cannot_be_given_are_rejected_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, SHOP)
    monkeypatch.setattr("ape_contracts.operations_file.MAX_FILE_BYTES", 50)
    (check,) = settings_checks.scenario(settings_of(), tmp_path)
    assert check.observed.startswith("ape:targetOpenapi: has 1 KB of operations")
    assert "Select fewer of the 1 with targetInclude, such as" in check.observed


def test_the_base_path_is_relative_to_the_route_of_the_gateway_config(tmp_path: Path) -> None:
    write(tmp_path, SHOP | {"servers": [{"url": "/api/v3"}]})
    route = {"base_url": "https://shop.example/api/v3"}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": {"shop": route}}))
    assert path_in(settings_of(), tmp_path) == "/api/v3/lamps"
    assert path_in(settings_of(gatewayConfig="gateway.json"), tmp_path) == "/lamps"


def test_operations_that_no_endpoint_of_the_gateway_config_allows_are_left_out(
    tmp_path: Path,
) -> None:
    paths: dict[str, Any] = {
        path: {"get": {}, "post": {}} for path in ("/a", "/b/{id}", "/c/{id}/d", "/b")
    }
    write(tmp_path, document(paths))
    endpoints = [{"path": "/a"}, {"path": "/b/7", "methods": ["POST"]}, {"path": "/{x}/{y}/d"}]
    route = {"base_url": "https://shop.example", "endpoints": endpoints}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": {"shop": route}}))
    settings = settings_of(gatewayConfig="gateway.json")
    found = documents.read(settings, tmp_path).operations.operations
    assert [each.id for each in found] == ["GET /a", "POST /b/{id}", "GET /c/{id}/d"]
    (check,) = openapi.report(settings, tmp_path)
    assert check.observed.startswith("5 operations are left out: no endpoint of the route")
    assert len(check.details) == 5


def test_what_is_left_out_is_one_check_for_each_kind_with_all_its_places(tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    found = list(openapi.report(settings_of(), tmp_path))
    assert [check.data() for check in found] == [
        {
            "name": "openapi",
            "state": "warn",
            "saw": "1 operation has method HEAD, which agents do not call: left out (HEAD /form).",
            "mend": "",
            "path": "ape:targetOpenapi",
            "details": ["HEAD /form"],
        },
        {
            "name": "openapi",
            "state": "ok",
            "saw": "1 operation with method DELETE is off (DELETE /lamps).",
            "mend": "Name them in targetInclude to use them.",
            "path": "ape:targetOpenapi",
            "details": ["DELETE /lamps"],
        },
    ]
    logged: list[str] = []
    openapi.check(settings_of(), tmp_path, on_line=logged.append)
    assert logged == [check.text for check in found]


def test_a_scheme_that_agents_sign_in_with_is_not_reported_as_missing(tmp_path: Path) -> None:
    scheme = {"bearer": {"type": "http", "scheme": "bearer"}}
    paths: dict[str, Any] = {"/lamps": {"get": {"security": [{"bearer": []}]}}}
    write(tmp_path, document(paths, components={"securitySchemes": scheme}))
    logged: list[str] = []
    check = functools.partial(openapi.check, settings_of(), tmp_path, on_line=logged.append)
    check()
    assert "need" in logged.pop()
    credentials = Credentials.of('{"token": "t"}')
    check(signs_in=lambda: settings_checks.signs_in(settings_of(), tmp_path, lambda: credentials))
    assert logged == []
    step = {"kind": "header", "name": "Authorization", "path": "/key", "value": {"header": "X"}}
    settings = settings_of(targetSignIn=json.dumps([step]))
    assert list(openapi.report(settings, tmp_path)) == []


def test_a_document_that_cannot_be_used_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text("<html></html>")
    assert list(openapi.report(settings_of(), tmp_path)) == []
    (check,) = settings_checks.scenario(settings_of(), tmp_path)
    assert check.status == "fail"
    assert "is an HTML or XML page" in check.observed


def test_a_url_is_fetched_by_commands_and_read_from_its_copy_by_a_preview(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    state, url = server
    settings = settings_of(targetOpenapi=url)
    with pytest.raises(SettingsError, match="has not been fetched yet"):
        documents.read(settings, tmp_path)
    (check,) = openapi.fetch(settings, tmp_path)
    assert (check.status, url in check.observed) == ("ok", True)
    state.status = 503
    assert path_in(settings, tmp_path) == "/lamps"
    (check,) = openapi.fetch(settings, tmp_path)
    assert check.status == "warn"
    assert "status 503. Its copy of 0 hours ago is used." in check.observed
    state.status, state.content = 200, json.dumps(document({"/new": {"get": {}}})).encode()
    openapi.check(settings, tmp_path, on_line=lambda _: None)
    assert path_in(settings, tmp_path) == "/new"


def test_a_url_that_was_never_fetched_fails_the_command(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    state, url = server
    state.status = 404
    with pytest.raises(PreflightError) as caught:
        openapi.check(settings_of(targetOpenapi=url), tmp_path, on_line=lambda _: None)
    assert "cannot be fetched: status 404." in str(caught.value)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"targetInclude": '["orders"]'}, 'targetInclude[0]: is "orders", which is not a selector'),
        ({"targetExclude": '["GET", "x"]'}, 'targetExclude[1]: is "x", which is not a selector'),
        (
            {
                "targetInclude": '["GET"]',
                "targetOpenapi": "",
                "targetEndpoints": ONE,
            },
            "targetInclude: is set, but targetOpenapi is not. Set both, or neither.",
        ),
    ],
)
def test_selectors_that_are_wrong_are_rejected(more: dict[str, str], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(**more)
    assert f"ape:{line}" in str(caught.value)
