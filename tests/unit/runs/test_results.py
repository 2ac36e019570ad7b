"""The folder of results, the command that shows it, and its documentation."""

import json
import re
import types
import typing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import typer.testing
from pydantic import BaseModel
from rich.console import Console

from ape_infra.cli import app
from ape_infra.config.parsing import parse
from ape_infra.runs import files, live, store, verdict
from ape_infra.runs.begin import Options, OptionsError, flat_settings, images, overrides
from ape_infra.runs.collector import Collector
from ape_infra.runs.junit import junit
from ape_infra.runs.store import RunFolder, StoreError
from ape_infra.runs.summary import (
    Endpoint,
    Failure,
    Sessions,
    Stats,
    Summary,
    ThresholdResult,
)
from tests.support.run_services import base

pytestmark = pytest.mark.unit
DOCUMENT = Path(__file__).resolve().parents[3] / "docs/reference/results.md"
EVIL = "\x1b[2J=cmd()\u202e"
NOT_MET = ThresholdResult(expression="ttft.p95 < 1", value=1.5, passed=False, samples=9)
NO_SAMPLE = ThresholdResult(expression="itl.p95 < 1", value=None, passed=False)
MET = ThresholdResult(expression="sessions > 1", value=8, passed=True, samples=8)


def stored(results: Path, **more: Any) -> RunFolder:
    folder = RunFolder.create(results, "dev", 0)
    collector = Collector(folder.name, 60)
    folder.write(base(run=folder.name, **more), collector.plain(), [])
    return folder


def ape_load(*arguments: str) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, ["results", *arguments])


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    names = [stored(tmp_path).name for _ in range(3)]
    assert names == ["19700101T000000Z-dev", *(f"19700101T000000Z-dev-{n}" for n in (2, 3))]
    assert all(store.RUN_NAME.fullmatch(store.run_name("s" * 100 + "/é", 0)) for _ in (1,))


def test_run_is_running_while_its_process_has_it_and_partial_after(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    assert store.load(folder.path).is_running
    assert "running" in ape_load("--results", str(tmp_path)).stdout
    folder.close()
    assert not store.load(folder.path).is_running
    assert "partial" in ape_load("--results", str(tmp_path)).stdout


def test_file_that_could_not_be_replaced_keeps_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.json"
    store.write(file, "before")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        store.write(file, "after")
    assert file.read_text() == "before"


def test_words_that_are_not_text_are_written_as_escapes(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    folder.add_transcripts([{"session": 1, "slot": 1, "reason": "gave_up", "said": "\ud800"}])
    folder.add_sessions([{"n": 1, "detail": "\ud800"}])
    assert store.load(folder.path).transcripts()[0]["said"] == "\ud800"
    assert r"\ud800" in (folder.path / store.SESSIONS).read_text()


def test_folder_that_cannot_be_written_is_refused_with_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="--results"):
        RunFolder.create(file / "results", "dev", 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"version": 2}', "version 2"),
        ("{", "is not JSON"),
        ("[]", "Is it from"),
        ('{"version": 1, "run": 3}', "Is it from"),
    ],
)
def test_damaged_summary_is_a_sentence_and_hides_no_other_run(
    tmp_path: Path, content: str, words: str
) -> None:
    good, bad = stored(tmp_path), stored(tmp_path)
    (bad.path / store.SUMMARY).write_text(content)
    found = ape_load("--results", str(tmp_path))
    assert found.exit_code == 0
    assert good.name in found.stdout
    assert words in found.stderr
    refused = ape_load(bad.name, "--results", str(tmp_path))
    assert refused.exit_code == 2
    assert words in refused.stderr


def test_run_is_found_by_the_beginning_of_its_name_or_as_the_latest(tmp_path: Path) -> None:
    first, second = stored(tmp_path), stored(tmp_path)
    assert store.find(tmp_path, first.name).path == first.path
    assert store.find(tmp_path, f"{second.name[:-1]}2").path == second.path
    for name, words in (("1970", "2 runs"), ("other", "ape-load results"), ("..", "has no run")):
        with pytest.raises(StoreError, match=words):
            store.find(tmp_path, name)
    latest = ape_load("latest", "--json", "--results", str(tmp_path))
    assert json.loads(latest.stdout)["run"] == second.name


def test_results_are_shown_as_json_csv_and_junit(tmp_path: Path) -> None:
    endpoint = Endpoint(endpoint="GET /a", scenario="default", count=3, statuses={"2xx": 3})
    folder = stored(tmp_path, endpoints=[endpoint], state="failed", thresholds=[MET, NOT_MET])
    options = ("--results", str(tmp_path))
    assert "default,GET /a,3," in ape_load(folder.name, "--csv", *options).stdout
    file = tmp_path / "junit.xml"
    assert ape_load(folder.name, "--junit", str(file), *options).exit_code == 0
    suite = Xml.XML(file.read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    nowhere = ape_load(folder.name, "--junit", str(tmp_path / "no" / "file"), *options)
    assert nowhere.exit_code == 2
    assert ape_load("--csv", *options).exit_code == 2


@pytest.mark.parametrize("state", ["aborted", "stopped", "partial"])
def test_run_that_has_not_come_to_its_end_fails_in_junit(state: Any) -> None:
    suite = Xml.XML(junit(base(state=state, thresholds=[MET], notes=[EVIL])))
    assert suite.get("failures") == "1"
    text = Xml.tostring(suite, "unicode")
    assert "\x1b" not in text


def test_threshold_without_a_sample_fails_in_junit() -> None:
    suite = Xml.XML(junit(base(state="failed", thresholds=[NO_SAMPLE])))
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "No sample was measured."


def test_cells_of_csv_have_neither_formulas_nor_control_characters() -> None:
    text = files.sessions([{"n": 1, "reason": EVIL[4:], "detail": EVIL, "slot": None}])
    assert "\x1b" not in text
    assert ",'=cmd()" in text


@pytest.mark.parametrize(
    ("reason", "thresholds", "expected"),
    [
        (verdict.PLANNED, [MET], ("passed", 0)),
        (verdict.PLANNED, [MET, NOT_MET], ("failed", 5)),
        (verdict.PLANNED, [NO_SAMPLE], ("failed", 5)),
        (verdict.USERS, [MET], ("passed", 0)),
        (verdict.STOPPED, [NOT_MET], ("stopped", 130)),
        (verdict.ABORTED, [NOT_MET], ("aborted", 6)),
        (verdict.BUDGET, [MET], ("partial", 1)),
        (verdict.BUDGET, [NOT_MET], ("partial", 5)),
        (verdict.LEASE, [], ("partial", 1)),
    ],
)
def test_state_and_exit_code_of_a_run(
    reason: str, thresholds: list[ThresholdResult], expected: tuple[str, int]
) -> None:
    assert verdict.verdict(reason, thresholds) == expected


def rendered(found: Summary) -> list[str]:
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(live.summary(found))
    return captured.get().splitlines()


def test_summary_fits_a_screen_whatever_is_in_it() -> None:
    endpoint = Endpoint(
        endpoint=f"POST /{'x' * 200}{EVIL}",
        scenario="default",
        count=10**9,
        failed=10**8,
        duration=Stats(count=1, p50=1e4, p95=1e4, p99=1e4),
    )
    sessions = Sessions(
        failed=5,
        reasons={f"reason{n}": 1 for n in range(20)},
        failures=[Failure(reason="reason0", detail=EVIL * 50, sessions=1)],
    )
    thresholds = [NOT_MET.model_copy(update={"expression": "x" * 300})] * 40
    lines = rendered(
        base(
            endpoints=[endpoint] * 100,
            sessions=sessions,
            thresholds=thresholds,
            notes=["note"] * 50,
        )
    )
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert "\x1b[2J" not in "".join(lines)


def test_options_replace_the_stages_by_constant_load() -> None:
    given = parse({"agents": "9", "stages": '[{"duration": "30s", "target": 4}]'})
    found = parse({"agents": "9", **overrides(Options("10m", 5), given, "dev")}).run
    stages = found.planned(9)
    assert [(s.seconds, s.start, s.end) for s in stages] == [(600, 5, 5)]
    assert found.executor == "closed"
    # Without a duration, that of the settings.
    found = parse({"agents": "9", **overrides(Options(agents=2), given, "dev")}).run
    assert found.planned_seconds(9) == 30
    found = parse({"agents": "9", **overrides(Options(rate="2.5"), given, "dev")}).run
    assert (found.executor, found.planned(9)[0].end) == ("open", 2.5)


def test_thresholds_of_the_command_come_on_top_of_those_of_the_settings() -> None:
    given = parse({"thresholds": '["sessions > 1"]'})
    found = overrides(Options(thresholds=("ttft.p95 < 1",)), given, "dev")
    assert json.loads(found["thresholds"]) == ["sessions > 1", "ttft.p95 < 1"]


@pytest.mark.parametrize("options", [Options(agents=10), Options(agents=1, rate="2")])
def test_options_that_cannot_be_are_refused_with_a_remedy(options: Options) -> None:
    with pytest.raises(OptionsError, match=r"ape-load scale --agents 10|Leave one"):
        overrides(options, parse({"agents": "9"}), "dev")


def test_settings_of_a_summary_hold_no_secret() -> None:
    found = flat_settings(
        parse({"model": "provider", "modelHeaders": '{"X-Key": "secret-1"}'}, ["modelApiKey"])
    )
    assert found["modelHeaders"] == {"X-Key": "***"}
    assert found["agents"] == 5


def test_images_have_the_id_of_what_ran() -> None:
    container = {"Labels": {"ape.service": "proxy"}, "Image": "p:1", "ImageID": "sha256:ab"}
    by_id = {"Labels": {"ape.service": "agent"}, "Image": "sha256:cd", "ImageID": "sha256:cd"}
    assert images([container, by_id]) == {"agent": "sha256:cd", "proxy": "p:1@sha256:ab"}


def keys(model: type[BaseModel], path: str = "") -> set[str]:
    """Every key of the summary, such as sessions.duration.p95."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{path}{name}")
        for inner in _models(field.annotation):
            found |= keys(inner, f"{path}{name}.")
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (list, dict, typing.Union, types.UnionType):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []


def test_documentation_has_exactly_the_keys_of_the_summary() -> None:
    text = DOCUMENT.read_text("utf-8")
    part = text.partition("## `summary.json`")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", part, re.MULTILINE))
    # The statistics of durations, and the sessions of a scenario, are described once.
    described_once = re.compile(r"scenarios\..*|.*\.(p\d\d|min|mean|max)|(.*\.)?[a-z_]+\.count")
    counts = {"requests.count", "endpoints.count"}
    expected = {k for k in keys(Summary) if k in counts or not described_once.fullmatch(k)}
    assert named == expected


def test_documentation_has_exactly_the_columns_of_the_files() -> None:
    text = DOCUMENT.read_text("utf-8")
    for columns in (files.ENDPOINT_COLUMNS, files.SESSION_COLUMNS, files.TIMELINE_COLUMNS):
        assert f"`{','.join(columns)}`" in text
