"""The values of a run's metrics, and sums and differences of what was counted."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_contracts.sketch import Sketch
from ape_infra.runs.measured import Measured, Number
from ape_infra.runs.snapshots import GatewayResults, ProxyResults, SnapshotError, Status
from ape_infra.runs.tally import Key, Tally, above, minus, plus

pytestmark = pytest.mark.unit


def sketch(*values: float) -> Sketch:
    made = Sketch()
    for value in values:
        made.add(value)
    return made


def requests(endpoint: str, scenario: str, statuses: dict[str, int], **errors: int) -> Tally:
    key = Key("requests", "status", scenario, "main", endpoint)
    made = Tally({key._replace(label=name): n for name, n in statuses.items()})
    for code, n in errors.items():
        made.add(key._replace(what="error", label=code), n)
    made.sketches[key._replace(what="seconds")] = sketch(*[0.1] * sum(statuses.values()))
    return made


def sessions(scenario: str, succeeded: int, failed: int) -> Tally:
    key = Key("sessions", "succeeded", scenario, "main")
    made = Tally({key: succeeded, key._replace(what="failed"): failed})
    made.sketches[key._replace(what="seconds")] = sketch(*[2.0] * (succeeded + failed))
    return made


MODEL = Tally(
    {
        Key("model", "completions", label="success"): 8,
        Key("model", "completions", label="error"): 1,
        Key("model", "completions", label="cancelled"): 1,
        Key("model", "tokens_in"): 100,
        Key("model", "tokens_out"): 20,
    },
    {Key("model", "ttft"): sketch(0.5)},
)
FOUND = Measured(
    plus(
        [
            requests("GET /a", "buy", {"2xx": 6, "5xx": 1}),
            requests("POST /a", "look", {"2xx": 1, "4xx": 1}, timeout=1),
            sessions("buy", 3, 1),
            sessions("look", 1, 0),
            MODEL,
        ]
    ),
    seconds=10,
    started=6,
    dropped=2,
)


@pytest.mark.parametrize(
    ("metric", "labels", "expected"),
    [
        ("http_reqs", {}, (10, 10)),
        ("http_reqs", {"status": "5xx"}, (1, 1)),
        ("http_reqs", {"method": "POST"}, (3, 3)),
        ("http_reqs", {"scenario": "look", "status": "2xx"}, (1, 1)),
        ("http_reqs", {"endpoint": "GET /b"}, (None, 0)),
        ("http_req_failed", {}, (0.3, 10)),
        ("http_req_failed", {"endpoint": "POST /a"}, (2 / 3, 3)),
        ("session_success", {}, (0.8, 5)),
        ("session_success", {"scenario": "look"}, (1.0, 1)),
        ("session_success", {"scenario": "other"}, (None, 0)),
        ("sessions", {}, (5, 5)),
        ("goodput", {}, (0.4, 5)),
        ("dropped_sessions", {}, (2, 8)),
        # The gateway counts them for the run only.
        ("dropped_sessions", {"scenario": "buy"}, (None, 0)),
        ("tokens", {}, (120, 10)),
        ("tokens_out", {}, (20, 10)),
        ("cost_dollars", {}, (None, 0)),
        ("model_failed", {}, (0.1, 10)),
        ("model_failed", {"scenario": "buy"}, (None, 0)),
    ],
)
def test_numbers_of_metrics_and_their_samples(
    metric: str, labels: dict[str, str], expected: Number
) -> None:
    value, samples = FOUND.number(metric, labels)
    assert (value, samples) == (pytest.approx(expected[0]) if expected[0] else None, expected[1])


@pytest.mark.parametrize(
    ("metric", "labels", "samples"),
    [
        ("http_req_duration", {}, 9),
        ("http_req_duration", {"endpoint": "GET /a"}, 7),
        ("session_duration", {"scenario": "buy"}, 4),
        ("ttft", {}, 1),
        ("itl", {}, 0),
    ],
)
def test_durations_of_metrics(metric: str, labels: dict[str, str], samples: int) -> None:
    found = FOUND.durations(metric, labels)
    assert found is not None
    assert found.count == samples


@pytest.mark.parametrize(
    ("metric", "labels"), [("ttft", {"scenario": "buy"}), ("http_reqs", {}), ("none", {})]
)
def test_metric_without_durations_has_none(metric: str, labels: dict[str, str]) -> None:
    assert FOUND.durations(metric, labels) is None


def test_dropped_sessions_of_a_run_in_which_none_was_due_have_no_sample() -> None:
    assert Measured(Tally(), 10).number("dropped_sessions", {}) == (None, 0)
    assert Measured(Tally(), 10, started=3).number("dropped_sessions", {}) == (0, 3)


def test_endpoints_are_by_scenario_and_their_sum_is_that_of_all_requests() -> None:
    rows = FOUND.endpoints()
    assert [(row.endpoint, row.scenario, row.count, row.failed) for row in rows] == [
        ("GET /a", "buy", 7, 1),
        ("POST /a", "look", 3, 2),
    ]
    whole = FOUND.requests()
    assert (whole.count, whole.failed, whole.rate) == (10, 3, 1.0)
    assert rows[1].errors == {"timeout": 1}


@given(st.lists(st.sampled_from([0.0, 0.05, 0.2, 1.0, 30.0]), max_size=20))
@settings(max_examples=20)
def test_number_above_a_limit_is_counted(values: list[float]) -> None:
    assert above(sketch(*values), 0.1) == sum(value > 0.1 for value in values)


@given(
    st.lists(st.lists(st.floats(0.001, 100), max_size=4), min_size=1, max_size=4),
    st.integers(0, 3),
)
@settings(max_examples=20)
def test_differences_of_states_add_up_to_the_last_state(
    parts: list[list[float]], label: int
) -> None:
    key, number = Key("requests", "seconds"), Key("requests", "status", label=str(label))
    states = [Tally()]
    for part in parts:
        added = Tally({number: len(part)}, {key: sketch(*part)})
        states.append(plus([states[-1], added]))
    changes = [minus(later, earlier) for earlier, later in pairwise(states)]
    total = plus(changes)
    assert total.counts.get(number, 0) == states[-1].counts[number]
    merged = total.sketches.get(key, Sketch())
    assert merged.count == states[-1].sketches[key].count
    assert merged.sum == pytest.approx(states[-1].sketches[key].sum)


BROKEN: list[Any] = [None, [], {}, {"version": 2}, {"version": 1, "requests": {}}]


@pytest.mark.parametrize("answer", [*BROKEN, {"version": 1, "requests": [{"seconds": 1}]}])
def test_answer_of_another_form_is_an_error(answer: Any) -> None:
    with pytest.raises(SnapshotError):
        GatewayResults.of(answer)


@pytest.mark.parametrize("answer", [*BROKEN[:4], {"version": 1, "tokens_in": "many"}])
def test_answer_of_the_proxy_of_another_form_is_an_error(answer: Any) -> None:
    with pytest.raises(SnapshotError):
        ProxyResults.of(answer)


def test_status_without_a_run_is_none() -> None:
    found = Status.of({"id": None, "state": "none", "active": 0, "idle": 3, "agents": 3})
    assert (found.id, found.state, found.agents) == ("", "none", 3)
