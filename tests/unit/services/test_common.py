from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts import gateway_config, metrics, paths
from ape_service import logs, pacing, trace
from ape_service.healthcheck import healthy

pytestmark = pytest.mark.unit
SERVICES = Path(__file__).resolve().parents[3] / "services"


@given(st.floats(0, 1), st.floats(0.1, 60))
def test_start_delays_are_in_range_and_differ_between_slots(seed: float, most: float) -> None:
    delays = [pacing.startup_delay(slot, seed, most) for slot in range(1, 2001)]
    assert all(0 <= d < most for d in delays)
    assert len({round(d / most, 9) for d in delays}) == 2000


@given(st.integers(0, 10_000))
def test_backoff_is_bounded_and_never_zero(attempt: int) -> None:
    assert 0.25 <= pacing.backoff(attempt, base=0.5, cap=15) <= 15


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{\n  routes}", ["line 2, column 3", "not JSON"]),
        ("[]", ["config: must be a JSON object"]),
        ("{}", ["routes: missing", "at least one route"]),
        ('{"routes": {}}', ["routes: names no route", "http://shop:8080"]),
        (
            '{"routes": {"shop": {}}}',
            [
                "routes.shop.base_url: missing. Every route needs the base URL of an API, "
                'for example "base_url": "http://shop:8080".'
            ],
        ),
        ('{"routes": {"s": {"base_url": "shop:8080"}}}', ["routes.s.base_url: has no scheme"]),
        ('{"routes": {"s": {"base_url": "http://"}}}', ["routes.s.base_url: has no scheme"]),
        (
            '{"routes": {"s": {"base_url": "http://s", "tmeout": 3}}}',
            ["routes.s.tmeout: unknown key"],
        ),
        (
            '{"routes": {"s": {"base_url": "http://s", "timeout": 0}}}',
            ["routes.s.timeout: must be greater than 0"],
        ),
        (
            '{"routes": {"s": {"base_url": "http://s", "retry_policy": {"retry_on": ["x"]}}}}',
            ["routes.s.retry_policy.retry_on: must be a list of statuses"],
        ),
        (
            '{"routes": {"s": {"base_url": "http://s", "endpoints": [{"path": "x"}]}}}',
            ["routes.s.endpoints.0.path: must start with /"],
        ),
        ('{"routes": {"a b": {"base_url": "http://s"}}}', ["a route's name must be"]),
        ('{"routes": {"s": []}}', ["routes.s: must be a"]),
    ],
)
def test_config_errors_name_path_rule_and_remedy(text: str, expected: list[str]) -> None:
    with pytest.raises(gateway_config.GatewayConfigError) as caught:
        gateway_config.load(text)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "route",
    [
        {"base_url": "http://u:hunter2@s"},
        {"base_url": "http://s", "auth": {"headers": {"X-Key": ["hunter2"]}}},
        {"base_url": "http://s", "auth": {"headers": {"X-Key": "hunter2\n"}}},
        {"base_url": "http://s", "headers": "hunter2"},
        {"base_url": "http://s", "auth": "hunter2"},
    ],
)
def test_config_errors_quote_no_value(route: dict[str, object]) -> None:
    with pytest.raises(gateway_config.GatewayConfigError) as caught:
        gateway_config.load(json.dumps({"routes": {"s": route}}))
    assert "routes.s" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_full_config_is_accepted_with_a_warning_about_milliseconds() -> None:
    config = gateway_config.load(
        json.dumps(
            {
                "routes": {
                    "b": {
                        "name": "B",
                        "description": "d",
                        "base_url": "https://b/api/",
                        "timeout": 1500,
                        "retry_policy": {
                            "max_retries": 2,
                            "backoff_factor": 0.1,
                            "retry_on": [503, "timeout"],
                        },
                        "auth": {"headers": {"X-Key": "k"}},
                        "headers": {"Accept": "application/json"},
                        "health_check": {"enabled": True, "path": "/h"},
                        "endpoints": [
                            {"path": "/p/{id}", "methods": ["get", "PUT"], "rateLimit": 60}
                        ],
                    },
                    "a": {"base_url": "http://a", "timeout": 999},
                },
                "logging": {"level": "info", "format": "json"},
            }
        )
    )
    assert list(config.routes) == ["b", "a"]
    assert config.routes["b"].timeout_seconds == 1.5
    assert config.routes["a"].timeout_seconds == 999
    assert [w.split(":")[0] for w in config.warnings] == ["routes.b.timeout"]
    assert config.routes["b"].endpoint("GET", "/p/7?x=1") is not None
    assert config.routes["b"].endpoint("DELETE", "/p/7") is None


def test_demo_config_allows_the_endpoints_of_the_scenario(scenario: dict[str, object]) -> None:
    config = gateway_config.load((SERVICES / "ape_demo_target" / "gateway.json").read_text())
    route = config.routes[str(scenario["api"])]
    assert route.base_url == "http://target:8080"
    for endpoint in scenario["endpoints"]:  # type: ignore[attr-defined]
        assert route.endpoint(endpoint["method"], endpoint["path"].replace("{id}", "1"))


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("/products/7", True),
        ("/products/7?full=1", True),
        ("/products/", False),
        ("/products/7/x", False),
        ("/products/7%2Fx", False),
        ("/productsX7", False),
    ],
)
def test_placeholder_of_a_path_matches_exactly_one_segment(path: str, fits: bool) -> None:
    assert paths.matches("/products/{id}", path) is fits


@pytest.mark.parametrize(
    "path", ["x", "//h", "/a/../b", "/a/%2e%2e/b", "/a b", "/a#b", "/a\\b", "/\n"]
)
def test_path_that_leaves_the_base_url_is_rejected(path: str) -> None:
    assert paths.problem(path)


def test_trace_id_is_read_from_headers_and_invalid_ones_are_ignored() -> None:
    made = trace.new_trace_id()
    assert trace.from_headers(trace.headers(made)) == made
    assert trace.from_headers({"X-Trace-ID": made}) == made
    assert trace.valid_trace_id("12345678-1234-1234-1234-1234567890AB") == (
        "12345678123412341234" + "1234567890ab"
    )
    assert trace.from_headers({"traceparent": f"00-{'0' * 32}-{'1' * 16}-01"}) is None
    assert trace.valid_trace_id("x" * 32) is None


def test_log_line_has_the_type_of_an_exception_but_not_its_message() -> None:
    logs.trace_id.set("t1")
    try:
        raise ValueError("hunter2")
    except ValueError:
        record = logging.LogRecord("n", 40, "f", 1, "failed", (), sys.exc_info())
    record.ape = {"route": "shop"}
    text = logs.JsonLines("gateway").format(record)
    line = json.loads(text)
    assert (line["msg"], line["route"], line["error"]) == ("failed", "shop", "ValueError")
    assert (line["trace_id"], line["level"], line["service"]) == ("t1", "error", "gateway")
    assert "hunter2" not in text
    plain = logs.TextLines("gateway").format(record)
    assert " ERROR failed trace_id=t1 route=shop error=ValueError at=" in plain
    assert "hunter2" not in plain


@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False)])
@pytest.mark.asyncio
async def test_healthcheck_succeeds_only_with_status_200(
    serve: Any, status: int, expected: bool
) -> None:
    app = web.Application()

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app.router.add_get("/health", health)
    client = await serve(app)
    assert await asyncio.to_thread(healthy, str(client.make_url("/health"))) is expected


def test_healthcheck_exits_1_without_a_server() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "ape_service.healthcheck", "http://127.0.0.1:1/health"],
        check=False,
    )
    assert ran.returncode == 1


def test_metric_names_are_unique_and_well_formed() -> None:
    assert len({m.name for m in metrics.ALL}) == len(metrics.ALL) >= 15
    for metric in metrics.ALL:
        # container_: cAdvisor's own names, where the meaning is the same.
        assert metric.name.startswith(("ape_", "container_"))
        assert metric.name.endswith("_total") == (metric.kind in ("counter", "untyped"))
