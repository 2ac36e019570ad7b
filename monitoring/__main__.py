"""`python -m monitoring`: see --help."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ape_service import logs
from monitoring.alerts import Engine
from monitoring.cgroups import Cgroups, raise_file_limit
from monitoring.exporter import Exporter, State
from monitoring.inventory import Inventory, Watcher
from monitoring.monitor import Monitor, Show
from monitoring.options import Options, parse_arguments
from monitoring.output import LineFile
from monitoring.sampler import Sampler
from monitoring.senders import receivers
from monitoring.system import System

EXIT_FAILED = 1
ONCE_CODES = {"healthy": 0, "degraded": 3, "critical": 4}
# Time limit of --once for Docker's listing, and the time between its two readings.
LISTING_SECONDS, ONCE_SECONDS = 20.0, 1.0
# Time limit of the first of many samples for the listing.
FIRST_LISTING_SECONDS = 5.0


class Failed(Exception):
    """The monitor cannot start. The message states the reason and the remedy."""


def build(options: Options, show: Sequence[Show] = ()) -> Monitor:
    """Return a monitor that is not started yet. Raises Failed."""
    inventory = Inventory(options.project)
    watcher = Watcher(inventory, options.docker_host)
    exporter: Exporter | None = None
    output: LineFile | None = None
    try:
        if options.output:
            output = LineFile(options.output, max_bytes=options.output_max_bytes)
    except OSError as error:
        raise Failed(f"--output: {options.output}: {error.strerror}. Name another file.") from None
    made = Monitor(
        project=options.project,
        interval=options.interval,
        inventory=inventory,
        watcher=watcher,
        sampler=Sampler(Cgroups(options.cgroup, options.proc, raise_file_limit())),
        system=System(options.proc, options.disks),
        engine=Engine(options.thresholds),
        declared=options.declared,
        gateway=options.gateway,
        receivers=receivers(options.alertmanager, options.webhook, options.project),
        output=output,
        show=show,
    )
    if options.port is not None:
        try:
            stale = options.thresholds["dataAgeSeconds"].raise_at
            exporter = Exporter(options.bind, options.port, made.age, stale)
        except OSError as error:
            raise Failed(
                f"--port, --bind: cannot listen on {options.bind}:{options.port}: "
                f"{error.strerror}. Choose another port."
            ) from None
    made.exporter = exporter
    return made


def _print_json(state: State) -> None:
    from monitoring import wire

    body = wire.sample(state.sample, state.health, state.alerts, state.project, state.now)
    sys.stdout.buffer.write(wire.line(body))
    sys.stdout.buffer.flush()


def _print_lines(state: State) -> None:
    from monitoring.text import plain

    for line in plain(state):
        print(line, flush=True)


def _once(options: Options) -> int:
    monitor = build(replace(options, thresholds=options.thresholds.at_once()))
    monitor.watcher.start()
    try:
        if not monitor.watcher.listed.wait(LISTING_SECONDS):
            raise Failed(
                f"{monitor.watcher.problem} Start Docker, or name its address with --docker-host."
            )
        monitor.heartbeats.ask()
        monitor.sampler.sample(monitor.inventory.snapshot(), time.monotonic())
        monitor.system.sample(())
        time.sleep(ONCE_SECONDS)
        state = monitor.sample()
    finally:
        monitor.close()
    if options.json:
        _print_json(state)
    elif options.console:
        from rich.console import Console

        from monitoring.console import page

        console = Console()
        if console.is_terminal:
            console.print(page(state, console.width, 200))
        else:
            _print_lines(state)
    return ONCE_CODES[state.health.level]


def _watch(options: Options) -> int:
    live = None
    show: list[Show] = []
    if options.json:
        show.append(_print_json)
    elif options.console and sys.stdout.isatty():
        from monitoring.console import Page

        live = Page()
        show.append(live)
    elif options.console:
        show.append(_print_lines)
    monitor = build(options, show)

    def end(*_: object) -> None:
        monitor.stop()

    handlers: dict[int, Any] = {signal.SIGINT: end, signal.SIGTERM: end}
    if live:
        handlers[signal.SIGWINCH] = live.draw
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    monitor.start()
    if live:
        live.start()
    try:
        # Before the listing is complete, a first page would be wrong.
        end_of_wait = time.monotonic() + FIRST_LISTING_SECONDS
        while not (monitor.watcher.listed.wait(0.1) or monitor.stopped):
            if time.monotonic() > end_of_wait:
                break
        monitor.run()
    finally:
        if live:
            live.stop()
        monitor.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; return the exit code (see --help)."""
    try:
        options = parse_arguments(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    page = options.console and not options.json and sys.stdout.isatty()
    # Log lines would break the page, which shows the alerts itself. On a pipe they go to stderr.
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.JsonLines("monitor"))
    if page:
        handler = logging.NullHandler()
    elif options.console:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level="INFO", handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel("ERROR")
    # The page and the plain lines show the alerts themselves.
    logging.getLogger("monitoring.alerts").disabled = options.console and not options.json
    try:
        return _once(options) if options.once else _watch(options)
    except Failed as error:
        print(f"monitoring: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader closed the pipe: a normal end.
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
