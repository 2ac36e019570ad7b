"""A run as it is shown: a live page on a terminal, a line at a time elsewhere, and its summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ape_contracts.text import plain
from ape_infra.runs.collector import Collector
from ape_infra.runs.conduct import Progress
from ape_infra.runs.summary import (
    Endpoint,
    ModelUse,
    Requests,
    Sessions,
    Stats,
    Summary,
    ThresholdResult,
)
from ape_infra.runs.verdict import ABORTED, BUDGET, STOPPED

LINE_SECONDS = 10.0
MAX_ENDPOINTS, MAX_THRESHOLDS, MAX_REASONS, MAX_NOTES = 8, 8, 3, 4
STYLES = {"passed": "bold green", "failed": "bold red", "aborted": "bold red"}
ENDINGS = {
    STOPPED: "ending, as asked: sessions may end; Ctrl-C again ends at once",
    ABORTED: "ending: a threshold asks for it",
    BUDGET: "ending: the model's spend limit is used up",
}


def clock(seconds: float) -> str:
    """Return a time as 4:05 or 1:04:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def number(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.1f}{unit}"
    return f"{value:g}"


def percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.1f} %"


def dollars(value: float | None) -> str:
    return "not known" if value is None else f"${value:.4g}"


def _cut(text: str, style: str = "") -> Text:
    """A line that is cut at the width of the terminal."""
    return Text(plain(text), style=style, no_wrap=True, overflow="ellipsis")


def _note(sentence: str) -> Text:
    return Text(f"note        {plain(sentence)}", style="yellow")


def state_of(collector: Collector) -> tuple[str, str]:
    """Return (the state, with the stage and the time left; the agents)."""
    status = collector.status
    if status is None:
        return "waiting until the sessions that are going on have ended", ""
    left = clock(collector.planned - status.elapsed)
    word = {"warm_up": "warm-up", "ramp_down": "ramp-down"}.get(status.phase, status.phase)
    text = f"{word}, stage {status.stage + 1}, {left} left"
    if status.state == "stopping":
        text = "graceful stop"
    return text, f"{status.active} active, {status.idle} idle, {status.agents} alive"


def line(progress: Progress) -> str:
    """The state of a run on one line, for logs."""
    found, collector = progress.measured, progress.collector
    sessions, requests, model = found.sessions(), found.requests(), found.model_use()
    text, agents = state_of(collector)
    parts = [
        f"{clock(collector.elapsed)} of {clock(collector.planned)}",
        text if collector.status is None else f"stage {collector.status.stage + 1}",
        ENDINGS.get(progress.ending, ""),
        agents,
        f"sessions {sessions.succeeded + sessions.failed} ({percent(sessions.success_rate)} "
        f"succeeded, {sessions.dropped} dropped)",
        f"requests {requests.count} (p95 {duration(requests.duration.p95)})",
        f"first token p95 {duration(model.ttft.p95)}",
    ]
    seen = [threshold for threshold in progress.thresholds if threshold.value is not None]
    if not_met := sum(not threshold.passed for threshold in seen):
        parts.append(f"{not_met} of {len(progress.thresholds)} thresholds not met so far")
    return ", ".join(part for part in parts if part)


def live(progress: Progress) -> RenderableType:
    """The page while a run is going on."""
    found, collector = progress.measured, progress.collector
    text, agents = state_of(collector)
    if progress.ending:
        text = ENDINGS.get(progress.ending, text)
    head = Table.grid(padding=(0, 1))
    head.add_row(
        clock(collector.elapsed),
        ProgressBar(total=max(collector.planned, 1), completed=collector.elapsed, width=30),
        _cut(text),
    )
    parts: list[RenderableType] = [_cut(collector.run, "bold"), head]
    if collector.status:
        status = collector.status
        parts.append(_cut(f"agents      {agents} (target {status.target:g})"))
    parts += _figures(found.sessions(), found.requests(), found.model_use())
    parts += _tables(found.by_endpoint(), progress.thresholds, so_far=True)
    parts += [_note(note) for note in progress.notes[-MAX_NOTES:]]
    return Group(*parts)


def summary(found: Summary) -> RenderableType:
    """The summary of a run, on a screen of 80 columns."""
    verdict = f"{found.state.upper()}  {found.run}"
    parts: list[RenderableType] = [_cut(verdict, STYLES.get(found.state, "bold yellow"))]
    measured = f"{clock(found.measured_seconds)} of {clock(found.planned_seconds)} measured"
    model = " ".join(x for x in (found.model.kind, found.model.provider, found.model.name) if x)
    parts.append(_cut(f"{found.executor} executor, {measured}, model: {model or '-'}"))
    parts += _figures(found.sessions, found.requests, found.model_use)
    parts += _tables(_over_scenarios(found.endpoints), found.thresholds, so_far=False)
    parts += [_note(note) for note in found.notes[:MAX_NOTES]]
    if len(found.notes) > MAX_NOTES:
        parts.append(_cut(f"and {len(found.notes) - MAX_NOTES} more notes in summary.json"))
    return Group(*parts)


def _over_scenarios(listed: list[Endpoint]) -> list[Endpoint]:
    """Name the scenario where there are several; percentiles of them cannot be added up."""
    if len({each.scenario for each in listed}) < 2:
        return listed
    return [
        each.model_copy(update={"endpoint": f"{each.endpoint} ({each.scenario})"})
        for each in listed
    ]


def _figures(sessions: Sessions, requests: Requests, model: ModelUse) -> list[RenderableType]:
    late = f", {sessions.late} late" if sessions.late else ""
    aborted = f", {sessions.aborted} aborted" if sessions.aborted else ""
    rows = [
        f"sessions    {sessions.started} started: {sessions.succeeded} succeeded, "
        f"{sessions.failed} failed{aborted}, {sessions.dropped} dropped{late}",
        f"            {percent(sessions.success_rate)} succeeded, {sessions.goodput:.3g}/s, "
        f"p50 {duration(sessions.duration.p50)}, p95 {duration(sessions.duration.p95)}",
        f"requests    {number(requests.count)}, {requests.rate:.3g}/s, "
        f"{percent(requests.failed_rate)} failed, {_percentiles(requests.duration)}",
        f"model       {number(model.completions)} completions ({model.failed} failed), first "
        f"token p95 {duration(model.ttft.p95)}",
        f"            {number(model.tokens_in)} tokens in, {number(model.tokens_out)} out, cost "
        f"{dollars(model.cost_dollars)}",
    ]
    for reason, count in list(sessions.reasons.items())[:MAX_REASONS]:
        detail = next((f.detail for f in sessions.failures if f.reason == reason), "")
        rows.append(f"failed      {count} x {reason}{': ' if detail else ''}{detail}")
    return [_cut(row, "yellow" if row.startswith("failed") else "") for row in rows]


def _percentiles(found: Stats) -> str:
    return ", ".join(f"{name} {duration(getattr(found, name))}" for name in ("p50", "p95", "p99"))


def _tables(
    endpoints: list[Endpoint], thresholds: list[ThresholdResult], *, so_far: bool
) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if endpoints:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("endpoint", no_wrap=True, overflow="ellipsis", max_width=36)
        for name in ("count", "failed", "p50", "p95", "p99"):
            table.add_column(name, justify="right", no_wrap=True)
        for each in endpoints[:MAX_ENDPOINTS]:
            times = (duration(each.duration.p50), duration(each.duration.p95))
            table.add_row(
                Text(plain(each.endpoint)),
                *(number(each.count), number(each.failed), *times, duration(each.duration.p99)),
            )
        parts.append(table)
        if len(endpoints) > MAX_ENDPOINTS:
            parts.append(_cut(f"and {len(endpoints) - MAX_ENDPOINTS} more endpoints"))
    # Those that are not met come first.
    ordered = sorted(thresholds, key=lambda threshold: threshold.passed)
    parts += [_threshold(threshold, so_far=so_far) for threshold in ordered[:MAX_THRESHOLDS]]
    if len(thresholds) > MAX_THRESHOLDS:
        parts.append(_cut(f"and {len(thresholds) - MAX_THRESHOLDS} more thresholds"))
    return parts


def _threshold(each: ThresholdResult, *, so_far: bool) -> Text:
    value = "no sample" if each.value is None else f"{each.value:.4g}"
    if each.value is None and so_far:
        return _cut(f"threshold   ...      {value:<9}  {each.expression}")
    word, style = ("met    ", "green") if each.passed else ("NOT MET", "red")
    return _cut(f"threshold   {word}  {value:<9}  {each.expression}", style)


class Shown:
    """Shows the progress of a run on stderr: a live page on a terminal, else a line at a time."""

    def __init__(
        self, console: Console, log: Callable[[str], None], *, line_seconds: float = LINE_SECONDS
    ) -> None:
        self._log, self._line_seconds = log, line_seconds
        self._next = time.monotonic()
        self._noted = 0
        self._live = (
            Live(Text("beginning ..."), console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        if self._live:
            self._live.update(live(progress), refresh=True)
            return
        for note in progress.notes[self._noted :]:
            self._log(plain(note))
        self._noted = len(progress.notes)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._line_seconds
            self._log(line(progress))
