"""`ape-load up`: show the preview, apply it, measure what runs."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from functools import partial
from json import dumps

from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import openapi
from ape_infra.checks.check import Check
from ape_infra.checks.settings import signs_in
from ape_infra.cli.common import (
    EXIT_NOT_HEALTHY,
    EXIT_OK,
    AsEvents,
    StackName,
    Verbose,
    Yes,
    app,
    apply_in_steps,
    check_before_update,
    log,
    run_command,
    stack_lock,
)
from ape_infra.cli.display import Display, display
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.reporting.summary import Summary, measure, wait_settled

# The first session needs the start-up delay (at most 10 s) and the health checks of all services.
SETTLE_SECONDS = 90.0


def _lines(summary: Summary) -> list[str]:
    width = shutil.get_terminal_size((200, 24)).columns
    reasons = (f"failed      {line}" for line in summary.failures())
    return summary.lines() + [r if len(r) <= width else f"{r[: width - 1]}…" for r in reasons]


def _json(summary: Summary, left_out: list[Check]) -> str:
    """The measurements; with an OpenAPI document, `openapi` has its checks with all details."""
    more = {"openapi": [check.data() for check in left_out]} if left_out else {}
    return dumps(asdict(summary) | more)


def apply_config(engine: PulumiEngine, settings: Settings, shown: Display) -> None:
    """Show the preview, and apply the stack config where it changes something."""
    with stack_lock(engine, restore=False) as lock:
        started = time.monotonic()
        preview = engine.preview(refresh=True)
        if preview.changing:
            lock.begin()
            shown.expect_planned()
            apply_in_steps(engine, settings, f"up, {settings.fleet.agents} agents")
        lock.end()
        log(
            f"Applied in {time.monotonic() - started:.0f} s."
            if preview.changing
            else f"Nothing to change ({time.monotonic() - started:.0f} s)."
        )


@app.command()
def up(
    stack: StackName = "dev", yes: Yes = False, verbose: Verbose = False, json: AsEvents = False
) -> None:
    """Apply the stack config: preview, apply, measure what runs."""
    del yes  # `up` never asks: it shows the preview and applies the stack config.

    def work() -> int:
        with display("up", stack, json=json, verbose=verbose) as shown:
            summary, left_out = bring_up(PulumiEngine(stack, log, watcher=shown), shown)
        print(_json(summary, left_out) if json else "\n".join(_lines(summary)))
        return EXIT_OK if summary.is_healthy else EXIT_NOT_HEALTHY

    run_command(work, events=json)


def bring_up(engine: PulumiEngine, shown: Display) -> tuple[Summary, list[Check]]:
    """Apply the stack config; returns what runs, and the checks of the OpenAPI document."""
    settings = engine.settings()
    root, credentials = current().root, engine.credentials
    left_out = openapi.check(
        settings, root, on_line=log, signs_in=partial(signs_in, settings, root, credentials)
    )
    client = check_before_update(engine, settings, shown.warn)
    apply_config(engine, settings, shown)
    outputs = engine.outputs()
    with shown.shown():
        summary = wait_settled(
            lambda: measure(client, current().name, engine.name, outputs),
            seconds=SETTLE_SECONDS,
            on_progress=lambda s: shown.health(s.healthy, s.declared, ended_sessions(s)),
        )
    return summary, left_out


def ended_sessions(summary: Summary) -> int:
    return sum(int(summary.sessions.get(key, 0)) for key in ("success", "failure"))
