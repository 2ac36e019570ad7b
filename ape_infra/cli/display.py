"""Shows the progress of a command on stderr: as a live page, as lines, or as JSON events."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pulumi import automation as auto
from rich.console import Console, RenderableType
from rich.live import Live

from ape_contracts.text import plain
from ape_infra.automation.events import (
    REFRESH,
    SAME,
    Message,
    Step,
    UpdateBegun,
    UpdateEnded,
    UpdateEvent,
    data,
    translated,
)
from ape_infra.automation.progress import UpdateProgress
from ape_infra.automation.update_log import UpdateLog
from ape_infra.cli import progress_page as pages
from ape_infra.cli.common import emit, log
from ape_infra.config.project import current
from ape_infra.rollout.progress import LevelEnded, RolloutEvent

REFRESH_SECONDS = 0.25
# After this long without a line, a log names what is waited for.
SILENT_SECONDS = 30.0
PAGE, LINES, EVENTS = "page", "lines", "events"


class TerminalConsole(Console):
    """A console whose terminal may go away; the work continues."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def style_of(stream: TextIO | None, *, json: bool, verbose: bool) -> str:
    """How progress is shown on this stream; None: it was closed before the process began."""
    if json:
        return EVENTS
    if verbose or stream is None or stream.closed or not stream.isatty():
        return LINES
    return LINES if Console(file=stream).is_dumb_terminal else PAGE


class Display:
    """Follows the updates and the rollout of one command; a watcher of its engine.

    `root`: of the project; Pulumi's own output goes into its logs, with `verbose` to stderr, too.
    """

    def __init__(
        self,
        command: str,
        stack: str,
        root: Path,
        *,
        style: str,
        verbose: bool = False,
        console: Console | None = None,
        write: Callable[[str], None] = log,
        send: Callable[[dict[str, Any]], None] = emit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._style, self._verbose, self._write, self._send = style, verbose, write, send
        self._now = now
        self.state = pages.State(f"{command} {stack}", now())
        self._output = UpdateLog(root, command, stack)
        self._root = root
        self._warnings: list[str] = []
        self._planned: dict[str, int] = {}
        self._reported: set[str] = set()
        self._last_line = now()
        self._lock = threading.RLock()
        self._console = console or TerminalConsole(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._shown = 0
        self._end = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._hide(everything=True)
        self._ticker.join(1)
        if self._output.problem:
            self._warnings.append(self._output.problem)
        if self._style != EVENTS:
            for warning in dict.fromkeys(self._warnings):
                self._write(f"warning: {plain(warning, lines=True)}")
        self._output.close()

    # The engine's updates.

    def began(self, operation: str, text: str) -> None:
        began = UpdateBegun(operation, text)
        with self._lock:
            planned = self._planned if operation == "update" else {}
            self.state.update = UpdateProgress(began, self._now(), dict(planned))
            self.state.rollout.waiting = None
            self._planned, self._reported = {}, set()
            self._emit(began)
        self._output.heading(f"{operation} {text}".rstrip())
        self._line(pages.begin_line(self.state.update))
        self._show()

    def event(self, event: auto.EngineEvent) -> None:
        if (found := translated(event)) is not None:
            self.take(found)

    def take(self, event: UpdateEvent) -> None:
        """Take an event of the update into account, and show it."""
        with self._lock:
            update = self.state.update
            if update is None:
                return
            update.add(event, self._now())
            self._emit(event)
            done = [
                name
                for name, phase in update.phases.items()
                if phase.complete and name not in self._reported
            ]
            self._reported.update(done)
        for name in done:
            self._line(pages.phase_line(update, name))

    def output(self, line: str) -> None:
        self._output.line(line)
        if self._verbose:
            self._write(line)

    def ended(self, *, succeeded: bool) -> None:
        with self._lock:
            update, now = self.state.update, self._now()
            if update is None:
                return
            changes = {name: len(phase.done) for name, phase in update.phases.items() if phase.done}
            if update.began.operation == "preview":
                changes = update.found
            end = UpdateEnded(succeeded, round(now - update.since, 1), changes)
            update.add(end, now)
            self._emit(end)
            self._warnings += update.warnings
        self._hide()
        if succeeded:
            self._line(pages.end_line(update, now), page=True)
        else:
            self._failed(update)

    def _failed(self, update: UpdateProgress) -> None:
        for name, lines in update.failed_builds.items():
            self._write(f"The build of {name} failed. Its output:")
            for line in lines:
                self._write(f"  {plain(line)}")
        for error in update.errors:
            # The reason of the failure, which follows, has errors of one line.
            if "\n" in error and not error.startswith(tuple(update.failed_builds)):
                self._write(plain(error, lines=True))
        if path := self._output.path:
            self._write(f"Pulumi's own output: {path.relative_to(self._root)}")

    def expect_planned(self) -> None:
        """Expect of the next update what the last preview found."""
        with self._lock:
            self._planned = dict(self.state.update.found) if self.state.update else {}

    # The rollout and what follows.

    def restart(self, estimate: float | None = None) -> None:
        """Count the time from now on; `estimate`: of the whole rollout, in seconds."""
        with self._lock:
            self.state.since, self.state.estimate = self._now(), estimate

    def rollout_event(self, event: RolloutEvent) -> None:
        with self._lock:
            rollout = self.state.rollout
            rollout.add(event, self._now())
            self._emit(event)
        if isinstance(event, LevelEnded) and event.passed:
            self._line(
                f"level {event.number} of {len(rollout.levels)} passed: "
                f"{rollout.levels[event.number - 1]} agents",
                page=True,
            )

    def rollout_line(self, text: str) -> None:
        """Write a line of the controller; a page shows the checks itself."""
        if not (self._style == PAGE and text.startswith("  ")):
            self._write(text)
            self._last_line = self._now()

    def health(self, healthy: int, agents: int, sessions: int = 0) -> None:
        """Show the health that the command waits for; in a log where it changes."""
        with self._lock:
            before, self.state.health = self.state.health, pages.Health(healthy, agents, sessions)
            if before is None:
                self.state.health_since = self._now()
            if self._style == EVENTS and before != self.state.health:
                self._send(
                    {"event": "health", "healthy": healthy, "agents": agents, "sessions": sessions}
                )
            is_old = self._now() - self._last_line >= SILENT_SECONDS
            changed = before is None or before.healthy != healthy
        if changed or is_old:
            self._line(self.state.health.text)

    def warn(self, text: str) -> None:
        """Show a warning at the end; among events, at once."""
        with self._lock:
            self._warnings.append(text)
            self._emit(Message("warning", text))

    # The ways of showing.

    def _emit(self, event: Any) -> None:
        quiet = isinstance(event, Step) and event.operation in (SAME, REFRESH)
        # The output of builds is in the log.
        quiet |= isinstance(event, Message) and event.severity == "info"
        if self._style == EVENTS and not quiet:
            self._send(data(event))

    def _line(self, text: str, *, page: bool = False) -> None:
        """Write a line of a log; `page`: it stays above a page, too."""
        stays = page if self._style == PAGE else self._style == LINES and not self._verbose
        if text and stays:
            self._write(plain(text))
            self._last_line = self._now()

    def _render(self) -> RenderableType:
        with self._lock:
            return pages.page(self.state, self._now())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the page between the updates in this context."""
        self._show()
        try:
            yield
        finally:
            self._hide()

    def _show(self) -> None:
        self._shown += 1
        if self._style != PAGE or self._live is not None or self._shown > 1:
            return
        try:
            live = Live(
                get_renderable=self._render,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            live.start()
            self._live = live
        except (OSError, ValueError):
            self._style = LINES

    def _hide(self, *, everything: bool = False) -> None:
        self._shown = 0 if everything else max(0, self._shown - 1)
        if self._shown:
            return
        with self._lock:
            live, self._live = self._live, None
        if live is None:
            return
        try:
            live.stop()
        except (OSError, ValueError):
            self._style = LINES

    def _tick(self) -> None:
        while not self._end.wait(REFRESH_SECONDS):
            self.tick()

    def tick(self) -> None:
        """Draw the page again, or show in a log what is waited for."""
        if (live := self._live) is not None:
            try:
                live.refresh()
            except (OSError, ValueError):
                self._style = LINES
                self._hide(everything=True)
            return
        with self._lock:
            update, now = self.state.update, self._now()
            silent = now - self._last_line >= SILENT_SECONDS
            text = pages.still_line(update, now) if update and not update.ended and silent else ""
        self._line(text)


def display(command: str, stack: str, *, json: bool = False, verbose: bool = False) -> Display:
    """The display of a command on this process's stderr. Raises ProjectError."""
    style = style_of(sys.stderr, json=json, verbose=verbose)
    return Display(command, stack, current().root, style=style, verbose=verbose)
