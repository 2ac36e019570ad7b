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
    AsJson,
    StackName,
    Yes,
    app,
    apply_in_steps,
    check_before_update,
    log,
    run_command,
    stack_lock,
)
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


def apply_config(engine: PulumiEngine, settings: Settings) -> None:
    """Show the preview, and apply the stack config where it changes something."""
    with stack_lock(engine, restore=False) as lock:
        started = time.monotonic()
        preview = engine.preview(refresh=True)
        if preview.changing:
            lock.begin()
            apply_in_steps(engine, settings, f"up, {settings.fleet.agents} agents")
        lock.end()
        log(
            f"Applied in {time.monotonic() - started:.0f} s."
            if preview.changing
            else f"Nothing to change ({time.monotonic() - started:.0f} s)."
        )


@app.command()
def up(stack: StackName = "dev", yes: Yes = False, json: AsJson = False) -> None:
    """Apply the stack config: preview, apply, measure what runs."""
    del yes  # `up` never asks: it shows the preview and applies the stack config.

    def work() -> int:
        engine = PulumiEngine(stack, log)
        settings = engine.settings()
        root, credentials = current().root, engine.credentials
        left_out = openapi.check(
            settings, root, on_line=log, signs_in=partial(signs_in, settings, root, credentials)
        )
        client = check_before_update(engine, settings)
        apply_config(engine, settings)
        outputs = engine.outputs()
        summary = wait_settled(
            lambda: measure(client, current().name, stack, outputs),
            seconds=SETTLE_SECONDS,
            on_progress=lambda s: log(f"waiting: {s.healthy} of {s.declared} agents are healthy"),
        )
        print(_json(summary, left_out) if json else "\n".join(_lines(summary)))
        return EXIT_OK if summary.is_healthy else EXIT_NOT_HEALTHY

    run_command(work)
