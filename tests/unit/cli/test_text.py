"""What a target, a model or a container says is shown, and not obeyed."""

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import requests
import typer
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.text import plain
from ape_infra.checks.check import Check
from ape_infra.cli.common import NotRunning, run_command
from ape_infra.cli.logs import from_docker
from ape_infra.cli.logs.lines import Line, printer
from ape_infra.cli.plan import print_checks
from ape_infra.reporting.panels import main_panels
from ape_infra.reporting.prometheus import Series
from ape_infra.reporting.run_report import RunReport
from ape_infra.reporting.summary import Summary
from ape_infra.runs.pages.stack import page
from monitoring.text import clean

pytestmark = pytest.mark.unit
# Clears the screen, sets the title, goes back to the start of the line, turns the text around.
EVIL = "\x1b[2J\x1b]0;x\x07\rOK\n2026-01-01 gateway fine\u202egnp.\u200b\x85\u2028\x9b31m"
OBEYED = ("\x1b", "\x07", "\r", "\u202e", "\u200b", "\x85", "\u2028", "\x9b")


def assert_shown(text: str) -> None:
    assert not [c for c in OBEYED if c in text]
    assert r"\x1b[2J" in text
    assert r"\u202e" in text


@given(st.text())
def test_a_plain_text_is_printable_and_on_one_line(text: str) -> None:
    for found in (plain(text), clean(text)):
        assert found.isprintable()
        assert len(found.splitlines()) <= 1
    assert len(clean(text)) == len(text), "columns keep their width"
    if text.isprintable():
        assert plain(text) == text
    assert plain(text, lines=True).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "raw", [EVIL, json.dumps({"msg": EVIL, "path": EVIL, EVIL: 1}), "{" + EVIL]
)
def test_logs_show_what_a_container_writes_on_one_line(
    raw: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line.of(f"agent-{EVIL}", f"2026-01-01T00:00:00.5Z {raw}".encode())
    printer(4, as_json=False)(line)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert_shown(out)
    assert r"\n2026" in out


def test_json_logs_stay_exact_and_name_their_own_container(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forged = {"msg": EVIL, "container": "gateway", "ts": "9999"}
    printer(4, as_json=True)(Line.of("agent-0001", b"2026 " + json.dumps(forged).encode()))
    out = capsys.readouterr().out
    assert json.loads(out) == {"container": "agent-0001", "ts": "2026", "msg": EVIL}
    for text in ('{"a": NaN}', '{"a": 1e999}', '{"a": ' + "[" * 100_000):
        line = Line.of("agent-0001", f"2026 {text}".encode())
        printer(4, as_json=True)(line)
        assert json.loads(capsys.readouterr().out)["msg"] == text


def test_a_carriage_return_or_an_endless_line_begins_no_line_of_another_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pieces(*_: object, **__: object) -> Iterator[bytes]:
        yield b"2026-01-01T00:00:00.5Z x\r2025-01-01T00:00:00.5Z forged\n"

    monkeypatch.setattr(from_docker, "pieces", pieces)
    found = from_docker.written(SimpleNamespace(), {"id": "agent"}, 5, swarm=False)  # type: ignore[arg-type]
    assert [line.ts for line in found] == ["2026-01-01T00:00:00.5Z"]

    def endless(*_: object, **__: object) -> Iterator[bytes]:
        for _piece in range(30):
            yield b"x" * 65536

    monkeypatch.setattr(from_docker, "pieces", endless)
    followed = from_docker.follow(SimpleNamespace(), {"id": "agent"}, 5, swarm=False)  # type: ignore[arg-type]
    assert len(next(followed).ts) <= from_docker.MAX_LINE_BYTES + 65536


@pytest.mark.parametrize("error", [NotRunning(EVIL), requests.RequestException(EVIL)])
def test_an_error_shows_what_it_quotes(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> int:
        raise error

    with pytest.raises(typer.Exit):
        run_command(fails)
    assert_shown(capsys.readouterr().err)


def test_status_and_checks_show_what_agents_report(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary(sessions={"success": 0, "failure": 1, "by_reason": {EVIL: 1}})
    assert_shown(summary.lines()[-1])
    from rich.console import Console

    print_checks(Console(soft_wrap=True), [Check("target", "fail", EVIL)])
    assert_shown(capsys.readouterr().out)


def test_the_report_escapes_what_it_quotes() -> None:
    html = f"\"'><script>alert(1)</script><img src=x onerror=alert(1)>&{EVIL}"
    points = tuple((1000.0 + i, float(i)) for i in range(10))

    def ask(query: str) -> list[Series]:
        names = ("result", "state", "reason", "agent", "service", "route", "name", "tier", "status")
        return [Series(dict.fromkeys(names, html), points)]

    report = RunReport(html, 1000, 1060, {html: html}, [(html, 3)], [(1005.0, html, html)])
    made = page(report, main_panels(ask))
    for tag in ("<script>alert", "<img", "onerror=alert(1)>"):
        assert tag not in made
    assert made.count("&lt;script&gt;alert(1)") == 7
    assert_shown(made)
    assert made.count(r"\u003cscript\u003ealert(1)") >= 8, "names of lines"
