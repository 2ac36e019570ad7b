"""The live page (rich): a function of a State and the size of the terminal."""

from __future__ import annotations

import time

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitoring.aggregate import ServiceRow, by_service, worst
from monitoring.exporter import State
from monitoring.model import ContainerSample, SystemSample
from monitoring.text import clean, duration, fleet, percent, rate, size, system

# Widths below which less important columns are left out.
WIDE, MEDIUM = 110, 76
WORST = 10
NETWORK, DISK = "net/s in / out", "disk/s read / write"
_COLORS = {"healthy": "green", "degraded": "yellow", "critical": "red"}
_NEAR, _OVER = 80.0, 90.0


def _level(value: float | None) -> Text:
    """Return a percentage, colored as it nears 100."""
    style = "" if value is None or value < _NEAR else "yellow" if value < _OVER else "bold red"
    return Text(percent(value), style=style)


def _bar(label: str, value: float | None, width: int = 10) -> Text:
    filled = round(min(100.0, value or 0.0) / 100 * width)
    level = _level(value)
    made = Text(f"{label} ", style="dim")
    made.append("█" * filled, style=str(level.style) or "green")
    made.append("░" * (width - filled), style="dim")
    made.append(" ")
    made.append_text(level)
    return made


def _two(first: float | None, second: float | None) -> str:
    return f"{size(first)} / {size(second)}"


def _header(state: State) -> Text:
    sample = state.sample
    made = Text(no_wrap=True, overflow="ellipsis")
    made.append(f" {state.health.level.upper()} ", style=f"reverse {_COLORS[state.health.level]}")
    made.append(f"  {clean(state.project) or 'all containers'}", style="bold")
    made.append(time.strftime("  %H:%M:%S", time.localtime(sample.at)))
    made.append(f"  {fleet(sample.fleet)}")
    return made


def _system(found: SystemSample, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 3))
    bars = [_bar("CPU", found.cpu_percent), _bar("mem", found.memory_percent)]
    bars += [_bar("disk", max(found.disks.values(), default=None))]
    if found.swap_percent:
        bars.append(_bar("swap", found.swap_percent))
    details = [
        Text(f"load {found.load1:.2f} on {found.cores} cores"),
        Text(f"iowait {percent(found.iowait_percent)}"),
        Text(f"net in {rate(found.received_rate)} out {rate(found.sent_rate)}"),
        Text(f"disk read {rate(found.read_rate)} write {rate(found.written_rate)}"),
    ]
    pressed = [
        f"{resource} {percent(value)}"
        for (resource, share), value in found.pressure.items()
        if share == "some"
    ]
    if pressed:
        details.append(Text("pressure " + ", ".join(pressed)))
    near = max(found.limits, key=lambda limit: limit.percent, default=None)
    if near:
        details.append(Text(f"kernel {near.used} of {near.allowed} {clean(near.name)}"))
    columns = 3 if width >= WIDE else 2 if width >= MEDIUM else 1
    if columns == 1:
        details = [details[0], *details[4:]]
    cells: list[Text] = [*bars, *details]
    for cell in cells:
        cell.no_wrap, cell.overflow = True, "ellipsis"
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns])
    return grid


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for index, title in enumerate(titles):
        table.add_column(
            title,
            justify="left" if index == 0 else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=28 if index == 0 else None,
        )
    return table


def _services(rows: list[ServiceRow], width: int) -> Table:
    titles = ["service", "healthy", "CPU", "memory", "mem %"]
    titles += ["restarts"] if width >= MEDIUM else []
    titles += [NETWORK, DISK] if width >= WIDE else []
    table = _table(*titles)
    for row in rows:
        healthy = row.healthy == row.containers
        cells: list[Text | str] = [
            Text(clean(row.service)),
            Text(f"{row.healthy} of {row.containers}", style="" if healthy else "bold red"),
            percent(row.cpu_percent),
            size(row.memory),
            _level(100.0 * row.memory / row.memory_limit if row.memory_limit else None),
        ]
        if width >= MEDIUM:
            cells.append(Text(str(row.restarts), style="yellow" if row.restarts else ""))
        if width >= WIDE:
            cells += [_two(row.received_rate, row.sent_rate), _two(row.read_rate, row.written_rate)]
        table.add_row(*cells)
    return table


def _state(one: ContainerSample) -> Text:
    container = one.container
    if container.state != "running":
        code = "" if container.exit_code is None else f" ({container.exit_code})"
        return Text(f"{container.state}{code}", style="red" if container.failed else "yellow")
    style = {"unhealthy": "bold red", "starting": "yellow"}.get(container.health, "")
    return Text(container.health or "running", style=style)


def _worst(found: list[ContainerSample], width: int, count: int) -> Table:
    titles = ["worst", "state", "CPU", "memory", "mem %"]
    titles += ["throttled", "restarts"] if width >= MEDIUM else []
    titles += [NETWORK, DISK] if width >= WIDE else []
    table = _table(*titles)
    for one in worst(found, count):
        cells: list[Text | str] = [
            Text(clean(one.container.name)),
            _state(one),
            percent(one.cpu_percent),
            size(one.usage.memory if one.usage else None),
            _level(one.memory_percent),
        ]
        if width >= MEDIUM:
            cells += [
                _level(one.throttled_percent),
                Text(str(one.restarts), style="yellow" if one.restarts else ""),
            ]
        if width >= WIDE:
            cells += [_two(one.received_rate, one.sent_rate), _two(one.read_rate, one.written_rate)]
        table.add_row(*cells)
    return table


def _alerts(state: State, width: int, count: int) -> RenderableType:
    if not state.alerts:
        return Text("no open alerts", style="dim")
    rows: list[Text] = []
    for alert in state.alerts[:count]:
        made = Text(no_wrap=True, overflow="ellipsis")
        made.append(
            f"{alert.severity} ", style="bold red" if alert.severity == "critical" else "yellow"
        )
        made.append(clean(alert.subject))
        made.append(f" for {duration(state.now - alert.since)}: ", style="dim")
        # The summary is last: a narrow terminal cuts it off.
        made.append(clean(f"{alert.details}. {alert.summary}"))
        rows.append(made)
        if width >= MEDIUM:
            rows.append(Text(f"  {clean(alert.remedy)}", style="dim", no_wrap=True))
    if len(state.alerts) > count:
        rows.append(Text(f"and {len(state.alerts) - count} more", style="dim"))
    return Group(*rows)


def page(state: State, width: int, height: int) -> RenderableType:
    """The page for a terminal of that size. Nothing scrolls: what is left of the lines after the

    alerts goes to the services, the machine and the worst containers, in this order.
    """
    sample = state.sample
    # Where there is no room for all, those in trouble come first.
    rows = sorted(by_service(sample.containers), key=lambda row: row.healthy == row.containers)
    head: list[RenderableType] = [_header(state)]
    if state.health.level != "healthy":
        reason = clean(state.health.reason)
        colour = _COLORS[state.health.level]
        head.append(Text(reason, style=colour, no_wrap=True, overflow="ellipsis"))
    shown = max(1, min(len(state.alerts), 4 if height >= 40 else 2))
    alert_lines = 2 + shown * (2 if width >= MEDIUM else 1) + (len(state.alerts) > shown)
    # The machine's line at least, the monitor's own, and one that the cursor may stand on.
    left = height - len(head) - alert_lines - 3
    services: list[RenderableType] = []
    room = min(len(rows), left - 4)
    if room > 0:
        services = [Text(""), _services(rows[:room], width)]
        left -= room + 3
        if len(rows) > room:
            services.append(Text(f"and {len(rows) - room} more services", style="dim"))
            left -= 1
    machine: list[RenderableType] = []
    system_lines = 4 if width >= WIDE else 6
    if sample.system and left > system_lines:
        machine = [Text(""), _system(sample.system, width)]
        left -= system_lines
    elif sample.system:
        machine = [Text(system(sample.system), no_wrap=True, overflow="ellipsis")]
    containers: list[RenderableType] = []
    room = min(WORST, len(sample.containers), left - 3)
    if room > 0:
        containers = [Text(""), _worst(sample.containers, width, room)]
    opened = Panel(
        _alerts(state, width, shown), title="alerts", title_align="left", box=box.ROUNDED
    )
    monitor = sample.monitor
    problem = monitor.unseen_reason if monitor.docker_up else monitor.problem
    foot = Text(
        f"{len(sample.containers)} containers in {monitor.sample_seconds * 1000:.0f} ms"
        f"{'; ' + clean(problem) if problem else ''}   Ctrl-C ends",
        style="yellow" if problem else "dim",
        no_wrap=True,
        overflow="ellipsis",
    )
    return Group(*head, *machine, *services, *containers, opened, foot)


class Page:
    """Shows each State on the terminal until `stop`."""

    def __init__(self) -> None:
        self._live = Live(Text("Waiting for the first sample…"), screen=True, auto_refresh=False)
        self._state: State | None = None
        self._drawing = self._stale = False

    def start(self) -> None:
        self._live.start(refresh=True)

    def __call__(self, state: State) -> None:
        self._state = state
        self.draw()

    def draw(self, *_: object) -> None:
        """The last State in the size that the terminal has now; a signal's handler, too."""
        self._stale = True
        # A signal can interrupt this code at any point; the loop then draws the page again.
        while self._stale and not self._drawing and self._state is not None:
            self._drawing = True
            try:
                self._stale = False
                width, height = self._live.console.size
                self._live.update(page(self._state, width, height), refresh=True)
            finally:
                self._drawing = False

    def stop(self) -> None:
        self._live.stop()
