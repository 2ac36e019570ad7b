"""The progress of a command as it is shown: a live page on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ape_contracts.text import plain
from ape_infra.automation.progress import UpdateProgress
from ape_infra.rollout.progress import (
    OBSERVE,
    PAUSE,
    RECOVER,
    SETTLE,
    WATCH,
    RolloutProgress,
    Waiting,
)
from ape_infra.runs.live import clock

BAR_WIDTH = 30
MAX_WAITS, MAX_LEVELS = 4, 7
DOING = {
    "preview": "previewing",
    "update": "applying",
    "destroy": "removing",
    "refresh": "reading what runs",
}
DONE = {
    "preview": "previewed",
    "update": "applied",
    "destroy": "removed",
    "refresh": "read what runs",
}
# Shorter times are left out of a line.
SHOWN_SECONDS = 2.0
REASONS = {
    SETTLE: "until the agents are healthy",
    OBSERVE: "while the level is observed",
    PAUSE: "before the next wave",
    WATCH: "while the wave is observed",
    RECOVER: "until the agents are healthy again",
}
STYLES = {"ok": "green", "fail": "bold red", "warn": "yellow", "unknown": "dim"}


@dataclass
class Health:
    """What a command waits for after its update. `sessions`: that have ended, once healthy."""

    healthy: int
    agents: int
    sessions: int = 0

    @property
    def text(self) -> str:
        if self.healthy < self.agents:
            return f"waiting: {self.healthy} of {self.agents} agents are healthy"
        return (
            f"waiting: {self.healthy} of {self.agents} agents are healthy, and {self.sessions} of "
            "their first sessions have ended"
        )


@dataclass
class State:
    """All that is shown of a command. `estimate`: its seconds, where they are known."""

    command: str
    since: float
    estimate: float | None = None
    update: UpdateProgress | None = None
    rollout: RolloutProgress = field(default_factory=RolloutProgress)
    health: Health | None = None
    health_since: float = 0.0


def seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 100 else clock(value)


def _cut(text: str, style: str = "") -> Text:
    """A line that is cut at the width of the terminal."""
    return Text(plain(text), style=style, no_wrap=True, overflow="ellipsis")


def page(state: State, now: float) -> RenderableType:
    """The live page; at most 20 lines of 80 columns."""
    time = clock(now - state.since)
    if state.estimate:
        time += f" of about {clock(max(state.estimate, now - state.since))}"
    parts: list[RenderableType] = [_cut(f"{state.command}   {time}", "bold")]
    if state.rollout.levels:
        parts += _rollout(state.rollout, now)
    if state.health:
        parts += _health(state.health, now - state.health_since)
    elif state.rollout.waiting:
        parts += _waiting(state.rollout, state.rollout.waiting, now)
    elif state.update and not state.update.ended:
        parts += _update(state.update, now)
    return Group(*parts)


def _row(name: str, done: float, total: float, *more: str) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=10, no_wrap=True)
    row.add_column(width=BAR_WIDTH)
    for _ in more:
        row.add_column(no_wrap=True, overflow="ellipsis", justify="right", min_width=9)
    bar = ProgressBar(
        total=max(total, 1),
        completed=done,
        width=BAR_WIDTH,
        complete_style="green",
        finished_style="green",
    )
    row.add_row(name, bar, *more)
    return row


def _update(update: UpdateProgress, now: float) -> Iterator[RenderableType]:
    doing = DOING.get(update.began.operation, update.began.operation)
    yield _cut(f"{doing}   {seconds(now - update.since)}")
    for name, phase in update.phases.items():
        if not phase.total:
            continue
        if update.began.operation == "preview":
            yield _cut(f"{name:<10} {len(phase.begun)} to change")
            continue
        count = f"{len(phase.done)} of {phase.total}"
        yield _row(
            name, len(phase.done), phase.total, count, seconds(phase.seconds(now, ended=False))
        )
    if update.refreshed and not any(phase.begun for phase in update.phases.values()):
        yield _cut(f"{len(update.refreshed)} resources compared with what runs", "dim")
    waits = update.waits_for
    for number, step in enumerate(waits[:MAX_WAITS]):
        head = "waits for " if not number else " " * 10
        text = f"{head} {step.name} ({step.operation}, {seconds(now - step.since)})"
        yield _cut(text + (f": {step.line}" if step.line else ""), "dim")
    if len(waits) > MAX_WAITS:
        yield _cut(f"{'':<10} and {len(waits) - MAX_WAITS} more", "dim")


def levels(rollout: RolloutProgress) -> str:
    """The levels of a rollout: those done, the current one, the next ones."""
    words = []
    for number, agents in enumerate(rollout.levels, 1):
        mark = "done" if number <= rollout.passed else "now" if number == rollout.current else ""
        if mark == "now" and rollout.reasons:
            mark = "failed"
        words.append(f"{agents} {mark}".rstrip())
    middle = max(rollout.current, rollout.passed) - 1
    first = max(0, min(middle - MAX_LEVELS // 2, len(words) - MAX_LEVELS))
    shown = words[first : first + MAX_LEVELS]
    before, after = first, len(words) - first - len(shown)
    return " → ".join(
        [*(["..."] if before else []), *shown, *([f"{after} more"] if after > 0 else [])]
    )


def _rollout(rollout: RolloutProgress, now: float) -> Iterator[RenderableType]:
    yield _cut(f"{'levels':<10} {levels(rollout)}")
    if rollout.wave:
        wave = rollout.wave
        yield _row("waves", wave.number - 1, wave.count, f"{wave.number} of {wave.count}")
    for reason in rollout.reasons:
        yield _cut(f"{'failed':<10} {reason}", "bold red")
    if rollout.rolling_back:
        yield _cut(f"{'rollback':<10} to the last good level", "yellow")


def _waiting(rollout: RolloutProgress, waiting: Waiting, now: float) -> Iterator[RenderableType]:
    if waiting.agents:
        yield _row(
            "agents", waiting.healthy, waiting.agents, f"{waiting.healthy} of {waiting.agents}"
        )
    left = rollout.left(now)
    text = f"{'at most ' if waiting.reason in (SETTLE, RECOVER) else ''}{seconds(left)} left"
    yield _row("waits", waiting.seconds - left, waiting.seconds, text)
    yield _cut(f"{'':<10} {REASONS[waiting.reason]}", "dim")
    for check in waiting.checks:
        yield _cut(f"{check.status:<10} {check.text}", STYLES.get(check.status, ""))


def _health(health: Health, waited: float) -> Iterator[RenderableType]:
    yield _row(
        "agents", health.healthy, health.agents, f"{health.healthy} of {health.agents} healthy"
    )
    if health.healthy >= health.agents:
        yield _row(
            "sessions",
            min(health.sessions, health.agents),
            health.agents,
            f"{health.sessions} ended",
        )
    yield _cut(f"waits for the agents and their first sessions   {seconds(waited)}", "dim")


def begin_line(update: UpdateProgress) -> str:
    doing = DOING.get(update.began.operation, update.began.operation)
    return f"{doing}: {update.began.text}" if update.began.text else f"{doing} ..."


def phase_line(update: UpdateProgress, name: str) -> str:
    phase = update.phases[name]
    time = seconds(phase.seconds(phase.last or 0.0, ended=True))
    return f"{name}: {len(phase.done)} of {phase.total} ({time})"


def end_line(update: UpdateProgress, now: float) -> str:
    """What an update did, or what a preview found, on one line."""
    doing = update.began.operation
    parts = []
    for name, phase in update.phases.items():
        count = len(phase.begun) if doing == "preview" else len(phase.done)
        took = 0.0 if doing == "preview" else phase.seconds(now, ended=True)
        if count:
            time = f" ({seconds(took)})" if took >= SHOWN_SECONDS else ""
            parts.append(f"{count} {name if count > 1 else name.removesuffix('s')}{time}")
    found = ", ".join(parts) or ("no change" if doing != "refresh" else "")
    word = DONE.get(doing, doing)
    return f"{word} in {seconds(now - update.since)}{': ' if found else ''}{found}"


def still_line(update: UpdateProgress, now: float) -> str:
    """What is waited for, for a log; empty: nothing."""
    waits = [f"{step.name} ({seconds(now - step.since)})" for step in update.waits_for[:3]]
    more = len(update.active) - len(waits)
    return f"waiting for {', '.join(waits)}{f' and {more} more' if more > 0 else ''}" * bool(waits)
