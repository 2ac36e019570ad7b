"""The progress of a command on stderr: a page, lines, or events."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from ape_infra.automation.events import (
    Message,
    Step,
    StepBegun,
    StepEnded,
    StepFailed,
    name_of,
    phase_of,
)
from ape_infra.automation.update_log import KEPT_LOGS, UpdateLog
from ape_infra.cli import common
from ape_infra.cli import display as shown
from ape_infra.cli.display import EVENTS, LINES, PAGE, Display
from ape_infra.cli.progress_page import levels, page
from ape_infra.rollout.progress import (
    OBSERVE,
    LevelBegun,
    LevelEnded,
    RollbackBegun,
    RolloutBegun,
    RolloutProgress,
    SeenCheck,
    Waiting,
)

pytestmark = pytest.mark.unit
STACK = "urn:pulumi:dev::ape::"
FLEET = f"{STACK}ape:fleet:AgentFleet$docker:index/container:Container::agent"
FIRST_UP = [
    *(f"{STACK}ape:i:I$docker:index/image:Image::image-{n}" for n in range(6)),
    *(f"{STACK}docker:index/network:Network::net-{n}" for n in range(4)),
    *(f"{STACK}docker:index/container:Container::service-{n}" for n in range(14)),
    *(f"{FLEET}-{n:04d}" for n in range(1, 6)),
]


class Screen:
    """A display of a test: its lines, its events, its clock."""

    def __init__(self, root: Path, style: str, *, verbose: bool = False) -> None:
        self.lines: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.clock = 0.0
        self.file = io.StringIO()
        self.display = Display(
            "up",
            "dev",
            root,
            style=style,
            verbose=verbose,
            console=Console(file=self.file, force_terminal=True, width=80, height=24),
            write=self.lines.append,
            send=self.sent.append,
            now=lambda: self.clock,
        )

    def step(self, kind: type[Step], urn: str) -> None:
        event = kind(urn, phase_of(urn), name_of(urn), "create")
        assert isinstance(event, StepBegun | StepEnded | StepFailed)
        self.display.take(event)

    def up(self, urns: list[str]) -> None:
        """A preview and an update that create these resources, with the output of builds."""
        for operation in ("preview", "update"):
            self.display.began(operation, "up, 5 agents" if operation == "update" else "")
            for urn in urns:
                self.step(StepBegun, urn)
                for line in range(10):
                    self.clock += 0.1
                    self.display.take(Message("info", f"Step {line}", urn, name_of(urn)))
                self.step(StepEnded, urn)
            self.display.take(Message("warning", "no price is known"))
            self.display.ended(succeeded=True)
            self.display.expect_planned()


def drawn(state: Any, now: float, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(page(state, now))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    return str(text)


def test_log_of_a_first_up_has_few_lines_and_each_warning_once(tmp_path: Path) -> None:
    screen = Screen(tmp_path, LINES)
    with screen.display:
        screen.up(FIRST_UP)
        for healthy, sessions in ((0, 0), (2, 0), (5, 0), (5, 2), (5, 4)):
            screen.display.health(healthy, 5, sessions)
    assert screen.lines == [
        "previewing ...",
        "previewed in 29 s: 6 images, 4 networks, 14 services, 5 agents",
        "applying: up, 5 agents",
        "images: 6 of 6 (6 s)",
        "networks: 4 of 4 (4 s)",
        "services: 14 of 14 (14 s)",
        "agents: 5 of 5 (5 s)",
        "applied in 29 s: 6 images (6 s), 4 networks (4 s), 14 services (14 s), 5 agents (5 s)",
        "waiting: 0 of 5 agents are healthy",
        "waiting: 2 of 5 agents are healthy",
        "waiting: 5 of 5 agents are healthy, and 0 of their first sessions have ended",
        "warning: no price is known",
    ]


def test_log_names_what_is_waited_for_after_a_silence(tmp_path: Path) -> None:
    screen = Screen(tmp_path, LINES)
    screen.display.began("update", "up")
    screen.step(StepBegun, FIRST_UP[0])
    screen.clock = 29.0
    screen.display.tick()
    assert screen.lines[1:] == []
    screen.clock = 31.0
    screen.display.tick()
    screen.display.tick()
    assert screen.lines[1:] == ["waiting for image-0 (31 s)"]


def test_failed_build_is_shown_in_full_with_the_path_of_the_log(tmp_path: Path) -> None:
    screen = Screen(tmp_path, LINES)
    screen.display.began("update", "up")
    for urn in FIRST_UP[:2]:
        screen.step(StepBegun, urn)
        for line in ("Step 1", "\x1b[31mRUN pip"):
            screen.display.take(Message("info", line, urn, name_of(urn)))
    screen.step(StepEnded, FIRST_UP[1])
    screen.step(StepFailed, FIRST_UP[0])
    screen.display.output("Pulumi's own words")
    screen.display.ended(succeeded=False)
    (log,) = tmp_path.glob(".ape/logs/up-dev-*.log")
    assert screen.lines[1:] == [
        "The build of image-0 failed. Its output:",
        "  Step 1",
        "  \\x1b[31mRUN pip",
        f"Pulumi's own output: {log.relative_to(tmp_path)}",
    ]
    assert "Pulumi's own words\n" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_error_of_many_lines_is_shown_in_full(tmp_path: Path) -> None:
    screen = Screen(tmp_path, LINES)
    screen.display.began("update", "up")
    screen.step(StepBegun, FIRST_UP[-1])
    for text in ("error: a short one", "error: cannot start:\n  port 8080 is in use"):
        screen.display.take(Message("error", text, FIRST_UP[-1], "agent-0005"))
    screen.step(StepFailed, FIRST_UP[-1])
    screen.display.ended(succeeded=False)
    found = [line for line in screen.lines if line.startswith("agent-0005")]
    assert found == ["agent-0005: error: cannot start:\n  port 8080 is in use"]


def test_verbose_shows_the_output_of_pulumi_and_no_lines_of_its_own(tmp_path: Path) -> None:
    screen = Screen(tmp_path, LINES, verbose=True)
    screen.display.began("update", "up")
    screen.display.output(" +  docker:index:Image image-0 creating")
    screen.display.ended(succeeded=True)
    assert screen.lines == [" +  docker:index:Image image-0 creating"]


def test_events_leave_out_the_output_of_builds(tmp_path: Path) -> None:
    screen = Screen(tmp_path, EVENTS)
    with screen.display:
        screen.up(FIRST_UP[:1])
        screen.display.health(1, 5)
        screen.display.health(1, 5)
    one = ["update_begun", "step_begun", "step_ended", "message", "update_ended"]
    assert [event["event"] for event in screen.sent] == [*one, *one, "health"]
    assert screen.sent[4]["changes"] == {"images": 1}
    assert screen.lines == []


def test_page_shows_phases_and_what_is_waited_for(tmp_path: Path) -> None:
    screen = Screen(tmp_path, PAGE)
    with screen.display as display:
        screen.up(FIRST_UP)
        display.expect_planned()
        display.began("update", "up")
        for urn in FIRST_UP[:6]:
            screen.step(StepBegun, urn)
        display.take(Message("info", "Step 3/9 : RUN pip install " + "x" * 90, FIRST_UP[0]))
        text = drawn(display.state, screen.clock + 12)
        display.ended(succeeded=True)
    assert "images     " in text
    assert "0 of 6" in text
    assert "waits for  image-0 (create, 12 s): Step 3/9 : RUN pip install xxx" in text
    assert "and 2 more" in text
    assert "previewed in 29 s: 6 images, 4 networks, 14 services, 5 agents" in screen.lines
    assert not any(line.startswith("images:") for line in screen.lines), "the page has them"
    assert "\x1b[?25h" in screen.file.getvalue(), "the cursor is shown again"


def test_page_of_a_scale_shows_levels_checks_and_the_time_left(tmp_path: Path) -> None:
    screen = Screen(tmp_path, PAGE)
    display = screen.display
    display.restart(90.0)
    display.rollout_event(RolloutBegun((10, 20, 40)))
    display.rollout_event(LevelBegun(1, 10))
    display.rollout_event(LevelEnded(1, passed=True))
    display.rollout_event(LevelBegun(2, 20))
    checks = (SeenCheck("memory", "ok", "memory: 50 % at maximum (below 90 %)"),)
    display.rollout_event(Waiting(OBSERVE, 30.0, 30.0, 19, 20, checks))
    text = drawn(display.state, 8.0)
    for part in (
        "0:08 of about 1:30",
        "10 done → 20 now → 40",
        "19 of 20",
        "22 s left",
        "while the level is observed",
        "ok         memory: 50 % at maximum",
    ):
        assert part in text
    display.rollout_event(LevelEnded(2, passed=False, reasons=("memory: 91 %",)))
    display.rollout_event(RollbackBegun())
    text = drawn(display.state, 9.0)
    assert "10 done → 20 failed → 40" in text
    assert "memory: 91 %" in text
    assert "to the last good level" in text


def test_levels_around_the_current_one_are_shown_of_many() -> None:
    many = RolloutProgress(levels=tuple(range(1, 41)), current=20, passed=19)
    shown_levels = levels(many)
    assert shown_levels.startswith("... → 17 done")
    assert "20 now" in shown_levels
    assert shown_levels.endswith("17 more")
    assert levels(replace(many, current=40, passed=39)).endswith("→ 39 done → 40 now")
    few = replace(many, levels=(5, 9), current=1, passed=0)
    assert levels(few) == "5 now → 9"


class Gone(io.StringIO):
    """A terminal that is gone after its first bytes."""

    left = 2

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "Input/output error")
        return len(text)

    def isatty(self) -> bool:
        return True


def test_work_continues_when_the_terminal_is_gone(tmp_path: Path) -> None:
    screen = Screen(tmp_path, PAGE)
    console = Console(file=Gone(), force_terminal=True, width=80)
    display = Display("up", "dev", tmp_path, style=PAGE, console=console, write=screen.lines.append)
    with display:
        display.began("update", "up")
        for _ in range(3):
            display.tick()
        display.ended(succeeded=True)
    assert screen.lines[-1].startswith("applied in")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_style_follows_from_the_terminal_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    closed = Terminal()
    closed.close()
    for stream in (Terminal(), io.StringIO(), closed, None):
        assert shown.style_of(stream, json=True, verbose=False) == EVENTS
        assert shown.style_of(stream, json=False, verbose=True) == LINES
        is_open = isinstance(stream, Terminal) and not stream.closed
        assert shown.style_of(stream, json=False, verbose=False) == (PAGE if is_open else LINES)
    monkeypatch.setenv("TERM", "dumb")
    assert shown.style_of(Terminal(), json=False, verbose=False) == LINES


def test_lines_are_notes_among_events(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        common.log("4 → 5")
        return 0

    for events in (True, False):
        with pytest.raises(typer.Exit):
            common.run_command(work, events=events)
    first, second = capsys.readouterr().err.splitlines()
    assert '"event": "note", "text": "4 → 5"' in first
    assert second == "4 → 5"


def test_old_logs_of_the_command_are_removed_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / ".ape/logs"
    folder.mkdir(parents=True)
    for second in range(KEPT_LOGS + 5):
        (folder / f"up-dev-20260101-0000{second:02d}.log").touch()
    for kept in ("plugin.log", "up-dev2-20260101-000000.log"):
        (folder / kept).touch()
    log = UpdateLog(tmp_path, "up", "dev")
    log.line("words")
    log.close()
    assert len(list(folder.glob("up-dev-*.log"))) == KEPT_LOGS
    assert (folder / "plugin.log").exists()
    assert (folder / "up-dev2-20260101-000000.log").exists()


def test_log_that_cannot_be_written_stops_nothing_and_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".ape").touch()
    screen = Screen(tmp_path, LINES)
    with screen.display as display:
        display.began("update", "up")
        display.output("words")
        display.ended(succeeded=True)
    assert screen.lines[-1].startswith("warning: Pulumi's output cannot be written to .ape/logs")
