"""`ape-load import gateway`: what becomes of a gateway config of the original project."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ape_contracts.gateway_config import METHODS, load
from ape_infra.cli import app
from ape_infra.cli.common import EXIT_OK, EXIT_PRECONDITION_FAILED
from ape_infra.config import gateway_import
from ape_infra.config.gateway_import import Converted, GatewayImportError, convert
from tests.support import original

pytestmark = pytest.mark.unit


def converted(**route: Any) -> Converted:
    """The conversion of a config with one route."""
    return convert(json.dumps({"routes": {"shop": {"base_url": "http://shop"} | route}}))


def route_of(found: Converted) -> dict[str, Any]:
    made: dict[str, Any] = found.config["routes"]["shop"]
    return made


def endpoint(**given: Any) -> dict[str, Any]:
    """The converted endpoint."""
    made: dict[str, Any] = route_of(converted(endpoints=[{"path": "/x"} | given]))["endpoints"][0]
    return made


def test_config_of_the_original_keeps_what_the_gateway_knows() -> None:
    found = convert(json.dumps(original.gateway_config()))
    assert found.config == {
        "routes": {
            "sut_api": {
                "name": "Shop",
                "description": "The application under test.",
                "base_url": "http://shop.example:3000",
                "timeout": 30,
                "retry_policy": {
                    "max_retries": 3,
                    "backoff_factor": 1.5,
                    "retry_on": [502, 503, 504, 408, 429],
                },
                "endpoints": [
                    {
                        "path": "/api/products",
                        "methods": ["GET"],
                        "description": "All products.",
                        "rateLimit": 100,
                    },
                    {
                        "path": "/api/cart",
                        "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"],
                        "description": "The cart.",
                        "rateLimit": 300,
                    },
                ],
                "health_check": {"enabled": True, "path": "/health"},
                "passTargetStatus": True,
            }
        },
        "logging": {"level": "INFO", "format": "json"},
    }
    assert not load(found.text).warnings


def test_each_key_without_effect_is_named_once_with_a_reason() -> None:
    given = original.gateway_config()
    given["plugins"] = given["routes"]["sut_api"]["cache"] = {}
    found = convert(json.dumps(given))
    assert {note.key: note.times for note in found.dropped} == {
        "gateway": 1,
        "metrics": 1,
        "plugins": 1,
        "routes.sut_api.cache": 1,
        "routes.sut_api.sessionHandling": 1,
        "routes.sut_api.paginationHandling": 1,
        "routes.sut_api.dataModels": 1,
        "routes.sut_api.errorHandling": 1,
        "routes.sut_api.health_check.interval": 1,
        "routes.sut_api.endpoints[*].metadata": 2,
        "routes.cerebras_api": 1,
        "logging.tracing": 1,
    }
    unknown = {note.key for note in found.dropped if note.reason.startswith("unknown key")}
    assert unknown == {"plugins", "routes.sut_api.cache"}


@pytest.mark.parametrize(
    ("limit", "per_minute"),
    [
        ({"windowMs": 60000, "max": 100}, 100),
        ({"windowMs": 1000, "max": 5}, 300),
        ({"windowMs": 3600000, "max": 90}, 1),
        ({"max": 7}, 7),
        (7, 7),
        ({"enabled": False, "windowMs": 60000, "max": 5}, None),
        ({"windowMs": 0, "max": 5}, None),
        ({"windowMs": 60000, "max": "many"}, None),
        ({"windowMs": 60000, "max": 10**400}, None),
        (None, None),
    ],
)
def test_rate_limit_becomes_requests_per_minute(limit: Any, per_minute: int | None) -> None:
    assert endpoint(rateLimit=limit).get("rateLimit") == per_minute


def test_limit_that_cannot_be_read_is_named_as_dropped() -> None:
    found = converted(endpoints=[{"path": "/x", "rateLimit": {"max": -1}}])
    assert [n.key for n in found.dropped] == ["routes.shop.endpoints[*].rateLimit"]


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"type": "bearer", "credentials": {"token": "t0p"}}, {"Authorization": "Bearer t0p"}),
        (
            {"type": "Basic", "credentials": {"username": "u", "password": "p"}},
            {"Authorization": f"Basic {base64.b64encode(b'u:p').decode()}"},
        ),
        ({"type": "session", "credentials": {"token": "t0p"}}, None),
        (
            {
                "type": "bearer",
                "headers": {"authorization": "own"},
                "credentials": {"token": "t0p"},
            },
            {"authorization": "own"},
        ),
        ({"type": "bearer", "headers": {"X-Key": "k"}, "credentials": None}, {"X-Key": "k"}),
    ],
)
def test_credentials_become_headers_and_never_appear_in_a_line(
    auth: dict[str, Any], headers: dict[str, str] | None
) -> None:
    found = converted(auth=auth)
    assert route_of(found)["auth"].get("headers") == headers
    lines = str([*found.dropped, *found.changed])
    assert "t0p" not in lines
    assert ("routes.shop.auth.credentials" in lines) == bool(auth["credentials"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/products/:id/items/:itemId", "/products/{id}/items/{itemId}"),
        ("products", "/products"),
        ("/search?q=1", "/search"),
        ("/a:b/{id}", "/a:b/{id}"),
    ],
)
def test_path_of_an_endpoint_becomes_a_template(path: str, expected: str) -> None:
    assert endpoint(path=path)["path"] == expected


def test_methods_are_those_that_the_gateway_allows() -> None:
    assert endpoint(methods=["get", "TRACE", "Get", 7])["methods"] == ["GET"]
    assert endpoint(methods=["*"])["methods"] == list(METHODS)
    found = converted(endpoints=[{"path": "/x", "methods": ["TRACE"]}, {"path": "/y"}])
    assert [e["path"] for e in route_of(found)["endpoints"]] == ["/y"]
    # Without an endpoint the gateway would allow everything.
    with pytest.raises(GatewayImportError, match="no endpoint has a method"):
        converted(endpoints=[{"path": "/x", "methods": ["TRACE"]}])


def test_values_beyond_the_gateways_limits_are_cut_and_named() -> None:
    policy = {"max_retries": 50, "backoff_factor": 1.5, "retry_on": [503, 0, "timeout", "x", {}]}
    found = converted(timeout=5000, retry_policy=policy, health_check={"path": "up"})
    made = route_of(found)
    assert made["timeout"] == 5
    assert made["retry_policy"] == {
        "max_retries": 10,
        "backoff_factor": 1.5,
        "retry_on": [503, "timeout"],
    }
    assert made["health_check"] == {"enabled": True, "path": "/up"}
    assert {n.key: n.times for n in found.dropped} == {"routes.shop.retry_policy.retry_on[*]": 3}
    assert {"routes.shop.timeout", "routes.shop.retry_policy.max_retries"} <= {
        n.key for n in found.changed
    }


def test_status_of_the_target_is_passed_unless_the_config_decides() -> None:
    assert route_of(converted())["passTargetStatus"] is True
    assert route_of(converted(passTargetStatus=False))["passTargetStatus"] is False


BAD = [
    ("", "line 1, column 1: not JSON"),
    ('{"routes": {"a": {}},}', "not JSON"),
    ('{"routes": {"a": {"base_url": "http://x", "timeout": NaN}}}', "not JSON"),
    ("1" * 5000, "not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ("[]", "is not a gateway config"),
    ('{"mcpServers": {}}', "ape.mcp-gateway.json"),
    ('{"routes": {}}', "is not a gateway config"),
    ('{"routes": [1]}', "is not a gateway config"),
    ('{"routes": {"a": 7}}', "routes.a: must be a JSON object"),
    ('{"routes": {"a": {"name": "x"}}}', "routes.a.base_url: missing"),
    ('{"routes": {"a": {"base_url": "http://u:hunter2@x"}}}', "auth.headers"),
    ('{"routes": {"a": {"base_url": "http://x", "timeout": 1e999}}}', "routes.a.timeout"),
    ('{"routes": {"m": {"base_url": "http://cerebras_proxy:8000"}}}', "no route to an application"),
    ('{"routes": {"a\\u001b[31m\\n": {"base_url": 1}}}', "routes.a\\x1b[31m\\n.base_url"),
    ('{"routes": {"\\ud800": {"base_url": "http://x"}}}', '"\\ud800" is not'),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_file_that_is_not_a_gateway_config_is_rejected_with_a_sentence(
    tmp_path: Path, text: str, message: str
) -> None:
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(text)
    told = run(str(file), "-o", str(out), code=EXIT_PRECONDITION_FAILED)
    assert message in told
    assert "Traceback" not in told
    assert "hunter2" not in told
    assert "\x1b" not in told
    assert not out.exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(["windowMs", "max", "path", "methods", "headers"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value inside `value`."""
    if not isinstance(value, dict | list):
        return [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [at, *(p for k, v in inner for p in places(v, (*at, k)))]


PLACES = places(original.gateway_config())[1:]


@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), max_size=3))
@settings(max_examples=300)
def test_any_change_of_a_config_is_converted_or_rejected(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    config = original.gateway_config()
    for at, value in changes:
        inner: Any = config
        try:
            for key in at[:-1]:
                inner = inner[key]
            inner[at[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    try:
        found = convert(json.dumps(config))
    except GatewayImportError:
        return
    assert load(found.text).routes
    for note in (*found.dropped, *found.changed):
        assert str(note).isprintable()


def run(*arguments: str, code: int = EXIT_OK) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, ["import", "gateway", *arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "ape.mcp-gateway.json"
    # Editors on Windows begin a file with this mark.
    made.write_text("\ufeff" + json.dumps(original.gateway_config()), encoding="utf-8")
    return made


def test_command_writes_the_config_and_a_line_per_key(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "gateway.json"
    told = run(str(file), "-o", str(out))
    assert set(load(out.read_text()).routes) == {"sut_api"}
    found = [line.split(": ")[0] for line in told.splitlines() if line.startswith("dropped ")]
    assert "dropped gateway" in found
    assert "dropped routes.sut_api.endpoints[*].metadata (2 times)" in found
    assert len(found) == len(set(found)) == 10


def test_command_never_overwrites_without_force(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "gateway.json"
    out.write_text("mine")
    told = run(str(file), "--out", str(out), code=EXIT_PRECONDITION_FAILED)
    assert "--force" in told
    assert out.read_text() == "mine"
    run(str(file), "--out", str(out), "--force")
    assert load(out.read_text()).routes


def test_command_prints_the_config_or_one_json_document(file: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["import", "gateway", str(file)])
    assert load(done.stdout).routes
    assert "dropped metrics" in done.stderr
    found = json.loads(CliRunner().invoke(app, ["import", "gateway", str(file), "--json"]).stdout)
    assert found["written"] is None
    assert load(json.dumps(found["config"])).routes
    assert {"key", "reason", "times"} == set(found["dropped"][0])
    out = tmp_path / "out.json"
    found = json.loads(run(str(file), "--json", "-o", str(out)))
    assert (found["written"], found["config"]) == (str(out), None)


def test_command_names_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"\xff\xfe{")
    large.write_bytes(b" " * (gateway_import.MAX_BYTES + 1))
    for path, reason in (
        (tmp_path / "no.json", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "not UTF-8"),
        (large, "larger than"),
    ):
        assert reason in run(str(path), code=EXIT_PRECONDITION_FAILED)


def test_command_limits_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    config = original.gateway_config() | {f"key{n}": 1 for n in range(5000)}
    file.write_text(json.dumps(config))
    told = run(str(file))
    assert len(re.findall("(?m)^dropped ", told)) == gateway_import.MAX_LINES + 1
    config["routes"]["sut_api"]["endpoints"] = [{"path": 7}] * 5000
    file.write_text(json.dumps(config))
    told = run(str(file), code=EXIT_PRECONDITION_FAILED)
    assert len(told.splitlines()) < 30
