"""A run from its beginning to its end, against services whose time is the test's."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ape_infra.runs import store
from ape_infra.runs.collector import Collector
from ape_infra.runs.conduct import Conductor, Plan, RunRefusedError
from ape_infra.runs.measured import Measured
from ape_infra.runs.snapshots import GatewayResults, Status
from ape_infra.runs.store import RunFolder
from ape_infra.runs.summary import Summary, ThresholdResult
from tests.support.run_services import RUN, InProcess, Ticking, World, base, document

pytestmark = pytest.mark.unit


class Judge:
    """One threshold: the most that the p95 of requests may be. `delay` None: it never aborts."""

    def __init__(self, limit: float = 1.0, delay: float | None = None) -> None:
        self.limit, self.delay = limit, delay

    def results(self, measured: Measured) -> list[ThresholdResult]:
        found = measured.durations("http_req_duration", {})
        value = found.quantile(0.95) if found else None
        passed = value is not None and value < self.limit
        return [ThresholdResult(expression="p95", value=value, passed=passed, abort=True)]

    def aborting(self, measured: Measured, elapsed: float) -> ThresholdResult | None:
        found = self.results(measured)[0]
        is_due = self.delay is not None and elapsed >= self.delay
        return found if is_due and found.value is not None and not found.passed else None


def conductor(
    tmp_path: Path,
    world: World,
    judge: Judge | None = None,
    *,
    files: bool = False,
    **more: Any,
) -> Conductor:
    """`files`: whether the run writes them, which takes most of a test's time."""
    path = tmp_path / RUN
    path.mkdir()
    made, folder = document(**more), RunFolder(path)
    if not files:
        folder.write = lambda *_: None  # type: ignore[method-assign]
    return Conductor(
        InProcess(world),
        folder,
        Plan.of(made, base(executor=made["executor"])),
        judge or Judge(),
        Ticking(world),
        clock=lambda: world.now,
        gone_seconds=30,
    )


def conducted(made: Conductor) -> Summary:
    made.begin()
    return made.conduct()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_run_that_comes_to_its_end_counts_everything_and_passes(tmp_path: Path) -> None:
    world = World()
    world.completions = 1000  # Of before the run.
    found = conducted(conductor(tmp_path, world))
    assert (found.state, found.exit_code) == ("passed", 0)
    assert found.measured_seconds == pytest.approx(60)
    assert found.requests.count == world.truth["requests"] == 120
    assert found.sessions.succeeded == 48
    assert found.sessions.failed == found.requests.failed == 12
    assert found.sessions.success_rate == pytest.approx(0.8)
    assert found.sessions.goodput == pytest.approx(0.8)
    assert found.requests.rate == pytest.approx(2)
    assert found.requests.duration.p50 == pytest.approx(0.1, rel=0.005)
    assert found.model_use.completions == 60
    assert found.model_use.cost_dollars == pytest.approx(0.6)
    assert found.model_use.ttft.p95 == pytest.approx(0.5, rel=0.005)
    assert [each.endpoint for each in found.endpoints] == ["GET /products/{id}"]


def test_what_the_model_does_before_the_first_poll_is_of_the_run(tmp_path: Path) -> None:
    world = World()
    world.completions = 1000
    made = conductor(tmp_path, world)
    made.begin()
    world.advance(1)
    assert made.conduct().model_use.completions == world.truth["sessions"]


def test_restart_between_two_answers_of_a_poll_counts_nothing_twice() -> None:
    world, found = World(), Collector(RUN, 60)
    world.begin(document())
    world.advance(10)
    status = Status.of(world.status())
    found.take(status, GatewayResults.of(world.gateway()), None)
    world.boot_gateway()
    found.take(status, GatewayResults.of(world.gateway()), None)
    assert found.measured().started == status.started > 0


def test_files_of_a_run_agree_with_its_summary(tmp_path: Path) -> None:
    found = conducted(conductor(tmp_path, World(), files=True))
    path = tmp_path / RUN
    assert store.load(path).summary == found
    endpoint = rows(path / "endpoints.csv")[0]
    assert (endpoint["count"], endpoint["5xx"]) == ("120", "12")
    sessions = rows(path / "sessions.csv")
    assert [int(row["n"]) for row in sessions] == list(range(1, 61))
    # A spreadsheet computes nothing of it.
    assert {row["detail"] for row in sessions} == {"", "'=HYPERLINK(1)"}
    timeline = rows(path / "timeline.csv")
    assert sum(int(row["requests"]) for row in timeline) == 120
    assert sum(int(row["tokens_in"]) for row in timeline) == 6000
    measured = json.loads((path / "measurements.json").read_text())
    counts = [i["endpoints"]["GET /products/{id}"]["count"] for i in measured["intervals"]]
    assert sum(counts) == 120
    assert len(counts) >= 6
    assert {p.name for p in (path / "transcripts").iterdir()} == {
        f"target_error-0001-{n:06d}.json" for n in (4, 9, 14)
    }
    assert not list(path.glob(".*"))


def test_restart_of_the_gateway_counts_nothing_twice_and_is_said(tmp_path: Path) -> None:
    world = World()
    world.events = [(31.5, world.boot_gateway)]
    found = conducted(conductor(tmp_path, world, files=True))
    lost = world.truth["requests"] - found.requests.count
    # What the gateway counted after the last poll, and no more.
    assert 0 < lost <= 6
    assert found.lost.gateway_restarts == 1
    assert any("restarted" in note for note in found.notes)
    assert (found.state, found.exit_code) == ("passed", 0)
    again = world.documents[1]
    assert again["elapsed_seconds"] == pytest.approx(32, abs=2)
    assert again["next_session"] >= 31
    sessions = rows(tmp_path / RUN / "sessions.csv")
    ended = found.sessions.succeeded + found.sessions.failed
    assert len(sessions) + found.lost.missed_sessions == ended
    assert len({row["session"] for row in sessions}) == len(sessions)
    timeline = rows(tmp_path / RUN / "timeline.csv")
    assert sum(int(row["requests"]) for row in timeline) == found.requests.count


def test_open_run_keeps_the_numbers_of_its_arrivals_over_a_restart(tmp_path: Path) -> None:
    world = World()
    world.events = [(31.0, world.boot_gateway)]
    found = conducted(conductor(tmp_path, world, executor="open"))
    # Arrivals of the gap are the gateway's to count, from the last one that was seen.
    assert world.documents[1]["next_session"] == 31
    assert found.sessions.planned == found.sessions.started + (found.sessions.dropped or 0)


def test_restart_of_the_proxy_counts_nothing_twice(tmp_path: Path) -> None:
    world = World()
    world.completions = 500
    world.events = [(30.9, world.boot_proxy)]
    found = conducted(conductor(tmp_path, world))
    assert 57 <= found.model_use.completions <= 60


def test_gateway_that_stays_away_ends_the_run_as_partial(tmp_path: Path) -> None:
    world = World()

    def away() -> None:
        world.up = False

    world.events = [(25.0, away)]
    found = conducted(conductor(tmp_path, world, files=True))
    assert (found.state, found.exit_code) == ("partial", 1)
    assert 40 <= found.requests.count <= 50
    assert any("stopped answering" in note for note in found.notes)
    assert store.load(tmp_path / RUN).summary == found


def test_gateway_that_comes_back_in_time_loses_nothing(tmp_path: Path) -> None:
    world = World()

    def answers(up: bool) -> None:
        world.up = up

    world.events = [(25.0, lambda: answers(False)), (40.0, lambda: answers(True))]
    found = conducted(conductor(tmp_path, world))
    assert (found.state, found.requests.count) == ("passed", 120)


def test_reports_that_come_after_the_end_are_waited_for(tmp_path: Path) -> None:
    world = World()
    world.report_delay = 3.0
    found = conducted(conductor(tmp_path, world))
    assert (found.sessions.started, found.sessions.succeeded, found.sessions.failed) == (60, 48, 12)


def test_session_that_is_never_reported_is_said(tmp_path: Path) -> None:
    world = World()
    world.report_delay = 1000.0
    found = conducted(conductor(tmp_path, world))
    assert "60 sessions that started have no result." in found.notes
    assert world.now <= 75


def test_threshold_with_abort_ends_the_run_after_its_delay(tmp_path: Path) -> None:
    world = World()
    found = conducted(conductor(tmp_path, world, Judge(limit=0.2, delay=20)))
    assert (found.state, found.exit_code) == ("aborted", 6)
    assert 20 <= found.measured_seconds <= 24
    assert any("p95" in note for note in found.notes)


def test_threshold_that_is_not_met_fails_the_run_at_its_end(tmp_path: Path) -> None:
    found = conducted(conductor(tmp_path, World(), Judge(limit=0.2)))
    assert (found.state, found.exit_code) == ("failed", 5)


def test_run_without_a_sample_does_not_pass_its_threshold(tmp_path: Path) -> None:
    world = World()
    made = conductor(tmp_path, world)
    world._session = lambda: None  # type: ignore[method-assign]
    found = conducted(made)
    assert (found.state, found.exit_code) == ("failed", 5)
    assert "No session ended in the measured time." in found.notes


def test_run_that_is_stopped_keeps_its_results(tmp_path: Path) -> None:
    world = World()
    made = conductor(tmp_path, world)
    world.events = [(20.0, made.stop.ask)]
    found = conducted(made)
    assert (found.state, found.exit_code) == ("stopped", 130)
    assert found.requests.count == world.truth["requests"]
    assert world.why == "stopped"


def test_second_request_to_stop_ends_at_once(tmp_path: Path) -> None:
    world = World()
    made = conductor(tmp_path, world)
    # The gateway does not end the run.
    world.stop = lambda: (200, world.status())  # type: ignore[method-assign]
    world.events = [(20.0, made.stop.ask), (23.0, made.stop.ask)]
    found = conducted(made)
    assert found.state == "stopped"
    assert world.now <= 25


def test_used_up_spend_limit_ends_the_run_which_does_not_pass(tmp_path: Path) -> None:
    world = World()

    def exhaust() -> None:
        world.exhausted = True

    world.events = [(20.0, exhaust)]
    found = conducted(conductor(tmp_path, world))
    assert (found.state, found.exit_code) == ("partial", 1)
    assert any("5 of 5 dollars are used." in note for note in found.notes)
    assert found.measured_seconds < 25


def test_run_that_another_command_ends_is_partial(tmp_path: Path) -> None:
    world = World()

    def stop() -> None:
        world.stop()

    world.events = [(20.0, stop)]
    found = conducted(conductor(tmp_path, world))
    assert (found.state, found.exit_code) == ("partial", 1)


@pytest.mark.parametrize("case", ["exhausted", "active", "away"])
def test_run_that_cannot_begin_is_refused_with_a_remedy(tmp_path: Path, case: str) -> None:
    world = World()
    made = conductor(tmp_path, world)
    if case == "exhausted":
        world.exhausted = True
    elif case == "active":
        world.begin(document(id="other"))
    else:
        world.up = False
    with pytest.raises(RunRefusedError, match=r"Raise|Wait|ape-load status"):
        made.begin()
    assert not (tmp_path / RUN / "summary.json").exists()


def test_run_of_a_command_that_was_killed_is_ended_for_the_next_one(tmp_path: Path) -> None:
    world = World()
    before = tmp_path / "20261127T000000Z-dev"
    before.mkdir()
    (before / store.SUMMARY).write_text("{}")
    world.begin(document(id=before.name))
    assert conducted(conductor(tmp_path, world)).state == "passed"
    assert world.documents[-1]["id"] == RUN


def test_run_of_a_command_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    world = World()
    (tmp_path / "20261127T000000Z-dev").mkdir()
    before = RunFolder(tmp_path / "20261127T000000Z-dev")
    (before.path / store.SUMMARY).write_text("{}")
    world.begin(document(id=before.name))
    with pytest.raises(RunRefusedError, match="Wait for it"):
        conductor(tmp_path, world).begin()
    assert world.state == "running"
    before.close()


def test_results_that_cannot_be_written_are_shown_and_do_not_pass(tmp_path: Path) -> None:
    world = World()
    made = conductor(tmp_path, world)
    made.begin()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    made.folder.write = fail  # type: ignore[method-assign,assignment]
    found = made.conduct()
    assert found.exit_code == 1
    assert found.requests.count == 120
    assert any("No space left" in note for note in found.notes)
