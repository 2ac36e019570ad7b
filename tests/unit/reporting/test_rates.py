"""Rates and quantiles from two expositions."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ape_contracts import metrics
from ape_infra.reporting.rates import added, quantile, rates, samples
from ape_infra.rollout.probe import counters
from ape_service import prom

pytestmark = pytest.mark.unit


def test_rates_follow_from_two_expositions_of_gateway_and_proxy() -> None:
    registry = CollectorRegistry()
    requests = prom.counter(metrics.GATEWAY_REQUESTS, registry)
    errors = prom.counter(metrics.GATEWAY_ERRORS, registry)
    seconds = prom.histogram(metrics.GATEWAY_SECONDS, registry)
    sessions = prom.counter(metrics.SESSIONS, registry)
    tokens = prom.counter(metrics.PROXY_TOKENS_OUT, registry)
    model = prom.counter(metrics.PROXY_REQUESTS, registry)
    before = samples(generate_latest(registry))
    requests.labels("shop", "GET", "200").inc(30)
    requests.labels("shop", "GET", "500").inc(5)
    errors.labels("shop", "GET", "502", "unreachable").inc(5)
    model.labels("m", "error", "429").inc(10)
    sessions.labels("success", "goal_met").inc(8)
    sessions.labels("failure", "gave_up").inc(2)
    tokens.labels("m").inc(100)
    for _ in range(100):
        seconds.labels("shop", "GET").observe(0.03)
    after = samples(generate_latest(registry))
    found = rates(before, after, 10.0)
    assert found.sessions_per_second == 1.0
    assert found.success_rate == 0.8
    assert found.requests_per_second == 4.0
    assert found.tokens_out_per_second == 10.0
    assert found.request_seconds[0.5] == pytest.approx(0.0375)
    assert found.first_token_seconds[0.5] is None
    seen = counters(after, {"success": 8, "failure": 2})
    assert (seen.requests, seen.errors) == (50.0, 20.0)
    assert seen.failure_rate == 0.2


def test_reset_counter_counts_from_zero() -> None:
    assert added([("a", {}, 9.0)], [("a", {}, 4.0)]) == [("a", {}, 4.0)]


def test_quantile_above_the_last_bound_is_that_bound() -> None:
    found = [("h_bucket", {"le": "1.0"}, 1.0), ("h_bucket", {"le": "+Inf"}, 10.0)]
    assert quantile(found, "h", 0.99) == 1.0
    assert quantile([], "h", 0.5) is None
