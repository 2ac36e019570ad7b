"""`ape-load compare`: exit codes, refusals, and the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ape_infra.cli import app
from ape_infra.cli.common import EXIT_OK, EXIT_PRECONDITION_FAILED
from ape_infra.runs.summary import Summary
from ape_infra.runs.verdict import EXIT_THRESHOLD
from tests.support.run_data import measurements, summary

pytestmark = pytest.mark.unit
SLOWER = "http_req_duration.p95 > +10%"


def stored(folder: Path, name: str, found: dict[str, Any]) -> None:
    (folder / name).mkdir()
    text = json.dumps(summary(found, name))
    Summary.model_validate_json(text)
    (folder / name / "summary.json").write_text(text)
    (folder / name / "measurements.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    endpoints = {"GET /": (1.0, 0.05)}
    for name, seed, slower in (("good", 1, 1.0), ("same", 2, 1.0), ("slow", 3, 1.4)):
        stored(folder, name, measurements(seed, slower=slower, intervals=12, endpoints=endpoints))
    stored(folder, "short", measurements(1, intervals=2))
    return folder


def compare(results: Path, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["compare", *arguments, "--results", str(results)])
    return done.exit_code, done.stdout, done.stderr


def test_comparison_reports_changes_and_passes_without_a_condition(results: Path) -> None:
    code, out, _ = compare(results, "good", "slow")
    assert code == EXIT_OK
    line = next(x for x in out.splitlines() if x.startswith("http_req_duration.p95"))
    assert "beyond noise" in line
    assert "values differ beyond noise." in out


def test_condition_that_holds_beyond_noise_exits_with_5(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("good", "slow", "--fail-on", SLOWER, "--json", "--output", str(page))
    code, out, err = compare(results, *arguments)
    assert code == EXIT_THRESHOLD
    found = json.loads(out)
    assert found["fail_on"] == [
        {"condition": SLOWER, "metric": "http_req_duration.p95", "holds": True}
    ]
    assert found["differences"][0].keys() >= {"name", "a", "b", "change", "low", "high"}
    assert "Comparison of two runs" in page.read_text()
    assert str(page) in err


def test_noise_is_no_reason_to_fail(results: Path) -> None:
    code, out, _ = compare(results, "good", "same", "--fail-on", "http_req_duration.p95 > 0%")
    assert code == EXIT_OK
    assert "No difference beyond noise." in out
    assert "http_req_duration.p95 > 0%: no" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("good", "absent"), "has no run 'absent'"),
        (("good", "./absent"), "cannot be read"),
        (("good", "slow", "--fail-on", "p95 is bad"), "is not a condition"),
        (("good", "slow", "--fail-on", "ttfb.p95 > 1%"), "Name one of"),
        (("good", "short", "--fail-on", SLOWER), "cannot be evaluated"),
        (("good", "slow", "--output", "/absent/page.html"), "cannot be written"),
    ],
)
def test_comparison_that_is_not_possible_is_refused(
    results: Path, arguments: tuple[str, ...], reason: str
) -> None:
    code, out, err = compare(results, *arguments)
    assert (code, out) == (EXIT_PRECONDITION_FAILED, "")
    assert reason in err


@pytest.mark.parametrize("file", ["summary.json", "measurements.json"])
def test_results_of_different_schema_versions_are_refused(tmp_path: Path, file: str) -> None:
    run = measurements(1, intervals=5)
    stored(tmp_path, "old", run)
    stored(tmp_path, "new", run)
    path = tmp_path / "new" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    code, _, err = compare(tmp_path, "old", "new")
    assert code == EXIT_PRECONDITION_FAILED
    assert "version" in err
    assert "2" in err
