"""Thresholds: what a text stands for, what is refused where, and when a run meets one."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_infra.config.thresholds import AGGREGATES, METRICS, OPERATORS
from ape_infra.runs.thresholds import ThresholdError, evaluate, parse, unknown

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "metric", "labels", "aggregate", "operator", "limit"),
    [
        ("session_success >= 0.95", "session_success", {}, "rate", ">=", 0.95),
        ("session_success>=95%", "session_success", {}, "rate", ">=", 0.95),
        (
            'http_req_duration{endpoint="POST /checkout"}.p95 < 0.5',
            *("http_req_duration", {"endpoint": "POST /checkout"}, "p95", "<", 0.5),
        ),
        ("http_req_duration.p(99.9) <= 250ms", "http_req_duration", {}, "p99.9", "<=", 0.25),
        ("session_duration.med < 1.5m", "session_duration", {}, "p50", "<", 90),
        ("session_duration.avg < 30s", "session_duration", {}, "mean", "<", 30),
        ("ttft.count > 100", "ttft", {}, "count", ">", 100),
        ("http_reqs.rate > 10", "http_reqs", {}, "rate", ">", 10),
        (
            " http_reqs { status = '5xx' , scenario='buy' } == 0 ",
            *("http_reqs", {"status": "5xx", "scenario": "buy"}, "count", "==", 0),
        ),
        ("http_reqs{} != 0", "http_reqs", {}, "count", "!=", 0),
        ("cost_dollars < 5", "cost_dollars", {}, "", "<", 5),
    ],
)
def test_a_threshold_has_metric_labels_aggregate_and_limit(
    text: str, metric: str, labels: dict[str, str], aggregate: str, operator: str, limit: float
) -> None:
    found = parse(text)
    assert (found.metric, dict(found.labels)) == (metric, labels)
    assert (found.aggregate, found.operator, found.limit) == (aggregate, operator, limit)
    assert (found.text, found.abort, found.delay_seconds) == (text.strip(), False, 0)


@pytest.mark.parametrize(
    ("end", "delay"), [("abort", 0), ("abort after 1m30s", 90), ("  abort  after 0.5s ", 0.5)]
)
def test_a_threshold_may_abort_a_run_after_some_time(end: str, delay: float) -> None:
    found = parse(f"http_req_failed < 5% {end}")
    assert (found.text, found.abort) == ("http_req_failed < 5%", True)
    assert found.delay_seconds == delay


@pytest.mark.parametrize(
    ("text", "position", "rule", "remedy"),
    [
        ("", 1, "the end of the text is not a metric.", "Use one of: http_req_duration, "),
        ("http_req_durations.p95 < 1", 1, "is not a metric.", "Did you mean http_req_duration? "),
        ("  p95 < 1", 3, '"p95" is not a metric.', "Use one of"),
        ('ttft{scenario="a"}.p95 < 1', 6, '"scenario" is not a label of ttft.', "Remove the brac"),
        ('http_reqs{endpont="/"} < 1', 11, '"endpont" is not a label', "Did you mean endpoint?"),
        ('http_reqs{status="500"} < 1', 18, '"500" is not a value of status.', "5xx"),
        ('http_reqs{method="get"} < 1', 18, '"get" is not a value of method.', "GET"),
        ("http_reqs{scenario=buy} < 1", 20, "scenario has no value in quotes.", "Write scenario="),
        ('http_reqs{scenario="a" method="GET"} < 1', 24, " follows a label.", "Write a comma"),
        ('http_reqs{scenario="a",scenario="b"} < 1', 36, "scenario is given twice.", "Remove one."),
        ("http_reqs{scenario", 19, "the end of the text follows scenario.", "Write scenario="),
        ("http_reqs{", 11, "the end of the text is not a label", "Use one of: endpoint"),
        ("ttft < 1", 6, "ttft has no aggregate.", "Write ttft.p95, for example"),
        ("ttft.p9x < 1", 6, "p9x is not an aggregate of ttft.", "Did you mean p99?"),
        ("ttft.p950 < 1", 6, "p950 is above the 100th percentile.", "p99"),
        ("ttft.mode < 1", 6, "mode is not an aggregate of ttft.", "Use one of: min, mean"),
        ("cost_dollars.p95 < 1", 14, "p95 is not an aggregate", "Remove it: the metric is one"),
        ("session_success.p95 < 1", 17, "p95 is not an aggregate", "Use one of: rate."),
        ("sessions => 1", 10, "=> is not an operator.", "Use one of: <=, <"),
        ("sessions 1", 10, '"1" is not an operator.', "Use one of"),
        ("sessions < many", 12, '"many" is not a number.', "0.5"),
        ("sessions < 1.2.3", 12, '"1.2.3" is not a number.', "0.5"),
        ("sessions < 1 and 2", 14, 'has "and" after its end.', "Remove it, or write abort"),
        ("sessions < 1 abort soon", 20, 'has "soon" after its end.', "abort after 30s"),
        ("sessions < 1 after 5s", 14, 'has "after" after its end.', "abort after 30s"),
        ("sessions < 1 abort after 5", 26, "after has no duration: a duration is", "after 30s"),
        ("sessions < 1 abort after", 25, "after has no duration: a duration is", "after 30s"),
        ("sessions < 5ms", 13, "ms is not a unit of sessions.", "Write a number of sessions."),
        ("ttft.p95 < 5%", 13, "% is not a unit of ttft.", "Write a number of s."),
        ("session_success >= 95", 20, "95 is outside of 0 to 1", "0.95 or 95%"),
        ("x" * 501, 500, "has more than 500 characters.", "Shorten it."),
    ],
)
def test_a_text_that_is_not_a_threshold_is_refused_at_its_position(
    text: str, position: int, rule: str, remedy: str
) -> None:
    with pytest.raises(ThresholdError) as caught:
        parse(text)
    error = caught.value
    assert (error.position, rule in error.rule) == (position, True), str(error)
    assert remedy in error.remedy


@given(st.text(max_size=60))
@settings(max_examples=30)
def test_any_text_is_a_threshold_or_refused(text: str) -> None:
    found: list[ThresholdError] = []
    try:
        parse(text)
    except ThresholdError as error:
        found.append(error)
    assert all(1 <= each.position <= len(text) + 1 for each in found)
    assert all(str(each).isprintable() for each in found)


def test_every_metric_can_be_named_with_each_of_its_labels_and_aggregates() -> None:
    values = {"method": "GET", "status": "2xx"}
    for metric in METRICS.values():
        labels = ", ".join(f'{name}="{values.get(name, "x")}"' for name in metric.labels)
        for aggregate in AGGREGATES[metric.kind] or ("",):
            braces = f"{{{labels}}}" if labels else ""
            dot = f".{aggregate}" if aggregate else ""
            for operator in OPERATORS:
                found = parse(f"{metric.name}{braces}{dot} {operator} 1")
                assert (found.aggregate, found.operator) == (aggregate, operator)


class Values:
    """A distribution of plain numbers."""

    def __init__(self, *values: float) -> None:
        self.values = sorted(values)
        self.count = len(values)
        self.min = self.values[0] if values else None
        self.max = self.values[-1] if values else None
        self.mean = sum(values) / len(values) if values else None

    def quantile(self, q: float) -> float | None:
        return self.values[math.ceil(q * self.count) - 1] if self.values else None


class Fake:
    """Measurements of a run: metric -> values, or (number, samples)."""

    seconds = 10.0

    def __init__(self, **found: Any) -> None:
        self.found = found
        self.labels: dict[str, str] = {}

    def durations(self, metric: str, labels: Mapping[str, str]) -> Values | None:
        self.labels = dict(labels)
        found = self.found.get(metric)
        return Values(*found) if found is not None else None

    def number(self, metric: str, labels: Mapping[str, str]) -> tuple[float | None, int]:
        self.labels = dict(labels)
        found: tuple[float | None, int] = self.found.get(metric, (None, 0))
        return found


@pytest.mark.parametrize(
    ("text", "found", "value", "passed"),
    [
        ("ttft.p50 <= 2", {"ttft": [1, 2, 3]}, 2, True),
        ("ttft.p50 < 2", {"ttft": [1, 2, 3]}, 2, False),
        ("ttft.max < 3", {"ttft": [1, 2, 3]}, 3, False),
        ("ttft.min >= 1", {"ttft": [1, 2, 3]}, 1, True),
        ("ttft.mean == 2", {"ttft": [1, 2, 3]}, 2, True),
        ("ttft.count > 2", {"ttft": [1, 2, 3]}, 3, True),
        ("http_req_failed < 1%", {"http_req_failed": (0.01, 100)}, 0.01, False),
        ("http_reqs > 99", {"http_reqs": (100, 100)}, 100, True),
        ("http_reqs.rate >= 10", {"http_reqs": (100, 100)}, 10, True),
        ("goodput > 2", {"goodput": (3, 9)}, 3, True),
        ("dropped_sessions == 0", {"dropped_sessions": (0, 100)}, 0, True),
        ("dropped_sessions == 0", {"dropped_sessions": (1, 100)}, 1, False),
    ],
)
def test_a_threshold_is_met_by_what_was_measured(
    text: str, found: dict[str, Any], value: float, passed: bool
) -> None:
    outcome = evaluate(parse(text), Fake(**found))
    assert (outcome.value, outcome.passed) == (value, passed)
    assert outcome.samples > 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ttft.p95 < 1", {}),
        ("ttft.p95 < 1", {"ttft": []}),
        ("ttft.count < 1", {"ttft": []}),
        ("http_req_failed < 1%", {"http_req_failed": (0.0, 0)}),
        ("dropped_sessions == 0", {"dropped_sessions": (0, 0)}),
        ("http_req_failed < 1%", {"http_req_failed": (math.nan, 5)}),
        ("cost_dollars < 5", {"cost_dollars": (None, 5)}),
    ],
)
def test_a_threshold_without_a_sample_is_not_passed(text: str, found: dict[str, Any]) -> None:
    outcome = evaluate(parse(text), Fake(**found))
    assert (outcome.value, outcome.passed) == (None, False)


def test_a_threshold_asks_for_the_values_of_its_labels() -> None:
    measured = Fake(http_req_duration=[1.0])
    evaluate(parse('http_req_duration{scenario="buy"}.p95 < 2'), measured)
    assert measured.labels == {"scenario": "buy"}


def test_names_that_the_run_lacks_are_found_with_their_position() -> None:
    texts = (
        'http_reqs{endpoint="GET /cart"} > 1',
        'http_reqs{endpoint="GET /carts"} > 1',
        'sessions{scenario="by"} > 1',
    )
    found = dict(unknown([parse(text) for text in texts], ["buy"], ["GET /cart", "POST /checkout"]))
    assert list(found) == [1, 2]
    assert found[1].position == 21
    assert "Did you mean GET /cart?" in found[1].remedy
    assert "Did you mean buy?" in str(found[2])
