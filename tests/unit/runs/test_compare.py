"""The comparison of two runs: what is noise, what is a difference, and what is refused."""

import copy
import math
import statistics
from dataclasses import replace
from typing import Any

import pytest

from ape_contracts.sketch import Sketch
from ape_infra.runs import fail_on
from ape_infra.runs.compare import Difference, NotComparable, differences, holm
from ape_infra.runs.fail_on import ConditionError
from ape_infra.runs.student import two_sided, width
from tests.support.run_data import measurements

pytestmark = pytest.mark.unit
ONE = {"GET /": (1.0, 0.05)}
NOTHING = Sketch().plain()


def short_run(seed: int, slower: float = 1.0) -> dict[str, Any]:
    """Of 20 intervals, without what the tests of chance do not need."""
    run = measurements(seed, slower=slower, intervals=20, requests=50, endpoints=ONE)
    for interval in run["intervals"]:
        interval["ttft"] = None
        interval["sessions"]["seconds"] = NOTHING
    return run


def compared(seed: int, slower: float) -> list[Difference]:
    return differences(short_run(seed), short_run(1000 + seed, slower), resamples=60)


def by_name(found: list[Difference]) -> dict[str, Difference]:
    return {each.name: each for each in found}


def test_runs_of_the_same_target_differ_in_at_most_1_of_20_tries() -> None:
    tries = [compared(seed, 1.0) for seed in range(20)]
    assert sum(any(x.significant for x in found) for found in tries) <= 1
    # Without allowing for the number of rows, an interval leaves out the truth in 5 of 100 cases.
    outside = [
        not x.low <= 0 <= x.high
        for found in tries
        for x in found
        if x.low is not None and x.high is not None
    ]
    assert statistics.mean(outside) <= 0.08


def test_target_that_is_30_percent_slower_is_found_in_at_least_19_of_20_tries() -> None:
    tries = [compared(seed, 1.3) for seed in range(20)]
    slower = [x for found in tries for x in found if x.name == "http_req_duration.p95"]
    assert sum((x.low or 0) > 0 for x in slower) >= 19
    assert 25 < statistics.median(x.change or 0 for x in slower) < 35
    # Also where all rows are considered.
    found = [any(x.significant for x in rows if x.kind == "seconds") for rows in tries]
    assert sum(found) >= 19


def test_comparison_of_a_run_with_itself_finds_nothing_and_is_repeatable() -> None:
    run = short_run(1)
    found = differences(run, run, resamples=50)
    assert not [x for x in found if x.significant or x.change]
    other = short_run(2, 1.1)
    assert differences(run, other, resamples=50) == differences(run, other, resamples=50)


def test_comparison_names_endpoints_rates_and_shares() -> None:
    found = by_name(differences(measurements(1), measurements(2, failing=0.5)))
    assert 'http_req_duration{endpoint="POST /checkout"}.p95' in found
    assert found["http_reqs.rate"].a == found["http_reqs.rate"].b == pytest.approx(4)
    success = found["session_success"]
    assert success.change == pytest.approx(100 * ((success.b or 0) - (success.a or 0)))
    assert success.significant
    assert not found["ttft.p95"].significant


def test_warm_up_does_not_count() -> None:
    run, other = measurements(1, warm_up=3), measurements(1, warm_up=3)
    for interval in other["intervals"][:3]:
        interval["endpoints"], interval["requests_failed"] = {}, 10**6
    assert not [x for x in differences(run, other, resamples=50) if x.change]


def test_stages_are_compared_with_the_same_stage() -> None:
    # The second half of each run is ten times slower; that is not noise.
    def staged(seed: int, slower: float) -> dict[str, Any]:
        halves = [
            measurements(seed + n, slower=slower * 10**n, intervals=10, endpoints=ONE)
            for n in (0, 1)
        ]
        for interval in halves[1]["intervals"]:
            interval["stage"] = 1
        return halves[0] | {"intervals": [x for half in halves for x in half["intervals"]]}

    one, other = staged(1, 1), staged(5, 1.3)
    found = by_name(differences(one, other, resamples=100))
    assert found["http_req_duration.p50"].significant
    for run in (one, other):
        for interval in run["intervals"]:
            interval["stage"] = 0
    found = by_name(differences(one, other, resamples=100))
    assert not found["http_req_duration.p50"].significant


def test_short_runs_and_rare_requests_have_no_interval() -> None:
    short = measurements(1, intervals=3)
    assert {x.low for x in differences(short, short)} == {None}
    found = by_name(differences(measurements(1), measurements(2)))
    rare = 'http_req_duration{endpoint="POST /checkout"}'
    assert found[f"{rare}.p50"].low is not None
    assert found[f"{rare}.p99"].low is None, "of 120 requests, one is beyond it"
    assert found[f"{rare}.p99"].change is not None


def test_difference_within_the_accuracy_of_a_percentile_is_none() -> None:
    runs = [measurements(1, slower=slower, noise=0.0, endpoints=ONE) for slower in (1, 1.004)]
    assert not by_name(differences(*runs))["http_req_duration.p50"].significant


def test_empty_runs_are_compared_without_values() -> None:
    empty = measurements(1, intervals=0)
    assert {x.change for x in differences(empty, measurements(1))} == {None}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.update(version=2),
        lambda x: x["intervals"][0].pop("endpoints"),
        lambda x: x["intervals"][0]["endpoints"].update({"GET /": {"count": 1}}),
        lambda x: x.update(intervals=[1]),
    ],
)
def test_results_that_cannot_be_compared_are_refused(change: Any) -> None:
    run = short_run(1)
    other = copy.deepcopy(run)
    change(other)
    with pytest.raises(NotComparable, match=r"measurements.*\. Run"):
        differences(run, other)


def test_many_comparisons_need_smaller_probabilities() -> None:
    assert holm([0.04]) == [True]
    assert holm([0.04, 0.5]) == [False, False]
    assert holm([0.03, 0.001, 0.02]) == [True, True, True]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (10, 2.228), (29, 2.045)]
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert width(0.05, freedom) == pytest.approx(t, abs=0.001)
    assert two_sided(t, freedom) == pytest.approx(0.05, abs=1e-4)
    assert two_sided(0, freedom) == 1
    assert math.isclose(two_sided(-t, freedom), two_sided(t, freedom))


def test_condition_holds_where_the_change_is_beyond_the_limit_and_noise() -> None:
    found = [
        Difference("http_req_duration", "p95", None, "seconds", 1.0, 1.2, 20.0, 11.0, 30.0, True),
        Difference("session_success", "", None, "share", 0.95, 0.9, -5.0, -7.0, -3.0, True),
        Difference("ttft", "p50", "GET /", "seconds", 1.0, 1.2, 20.0),
    ]

    def holds(text: str) -> bool:
        return fail_on.judge(fail_on.parse(text), found).holds

    assert holds("http_req_duration.p95 > +10%")
    assert holds(" http_req_duration . p95>12 ")
    assert not holds("http_req_duration.p95 > 21%")
    assert not holds("http_req_duration.p95 < -5%")
    assert holds("session_success < -2%")
    assert not holds("session_success < -6 points")
    found[0] = replace(found[0], low=-1.0)
    assert not holds("http_req_duration.p95 > +10%"), "it may be noise"
    with pytest.raises(ConditionError, match="cannot be evaluated"):
        holds('ttft{endpoint="GET /"}.med > 5%')
    with pytest.raises(ConditionError, match=r"no http_req_duration\.p98\. Name one of"):
        holds("http_req_duration.p98 > 5%")


@pytest.mark.parametrize(
    "text", ["", "x", "p95 >", "ttft.p95 == 3", "ttft.p95 > 1s", "a.b.c > 1", "> 3%"]
)
def test_text_that_is_not_a_condition_is_refused(text: str) -> None:
    with pytest.raises(ConditionError, match="is not a condition"):
        fail_on.parse(text)
    with pytest.raises(ConditionError, match="would hold without any change"):
        fail_on.parse("ttft.p95 > -3%")
