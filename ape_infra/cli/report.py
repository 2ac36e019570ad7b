"""`ape-load report`: a test as one self-contained HTML page."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ape_contracts import metrics
from ape_infra.automation.engine import PulumiEngine
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    NotRunning,
    StackName,
    app,
    log,
    run_command,
    running_outputs,
    show,
)
from ape_infra.config.project import config_key
from ape_infra.reporting.panels import main_panels
from ape_infra.reporting.prometheus import Prometheus, PrometheusError, Series
from ape_infra.reporting.run_report import RunReport, outcomes
from ape_infra.runs.pages.stack import page


def start_of_test(history: list[dict[str, Any]], now: float) -> float:
    """Return the Unix time of the first update since the stack was last destroyed.

    `history` is ordered from newest to oldest. Without an update: an hour before `now`.
    """
    start = now - 3600
    for entry in history:
        if entry.get("kind") == "destroy":
            break
        if entry.get("kind") == "update" and entry.get("startTime"):
            start = _unix_time(entry)
    return start


def _unix_time(entry: dict[str, Any]) -> float:
    text = str(entry["startTime"])
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def events(history: list[dict[str, Any]], start: float) -> list[tuple[float, str, str]]:
    """Return the updates of the stack since `start`, oldest first: (Unix time, message, result)."""
    return [
        (at, entry.get("message") or str(entry.get("kind")), str(entry.get("result")))
        for entry in reversed(history)
        if entry.get("startTime") and (at := _unix_time(entry)) >= start - 1
    ]


def run_report(
    stack: str,
    outputs: dict[str, Any],
    ended: Counter[tuple[str, str]],
    done: list[tuple[float, str, str]],
    *,
    start: float,
    end: float,
) -> RunReport:
    """Return the report. `ended`: (result, reason) -> sessions. `done`: updates of the stack."""
    failures = [
        (reason, count)
        for (result, reason), count in ended.most_common()
        if result == metrics.FAILURE and count
    ]
    failure, total = sum(count for _, count in failures), ended.total()
    success = total - failure
    rate = f"{100 * success / total:.1f} %" if total else "-"
    summary = {
        "agents": f"{outputs['agents']} ({outputs['runtime']}, tier {outputs['tier']})",
        "limits of an agent": f"{outputs['agentMemoryMb']} MB, {outputs['agentCpus']} cores",
        "sessions": f"{total}: {success} succeeded, {failure} failed ({rate})",
    }
    return RunReport(stack, start, end, summary, failures, done)


@app.command()
def report(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write. Default: report-STACK.html."),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option("--minutes", min=0, help="Minutes to report; 0: since the stack came up."),
    ] = 0,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Write the run report: one HTML page with results and the dashboards' main panels."""

    def work() -> int:
        engine = PulumiEngine(stack, log, create=False)
        outputs = running_outputs(engine)
        base = (outputs.get("endpoints") or {}).get("prometheus")
        if not base:
            setting = config_key("observability")
            raise NotRunning(f"The stack has no Prometheus. Set {setting} to metrics.")
        client, end, history = Prometheus(base), time.time(), engine.history()
        start = end - 60 * minutes if minutes else start_of_test(history, end)

        def ask(query: str) -> list[Series]:
            return client.range(query, start, end)

        try:
            ended = outcomes(ask(metrics.SESSIONS.name), start)
            panels = main_panels(ask, round(end - start))
        except PrometheusError as error:
            raise NotRunning(f"Prometheus query failed: {error}") from None
        done = events(history, start)
        content = page(run_report(stack, outputs, ended, done, start=start, end=end), panels)
        file = (output or Path(f"report-{stack}.html")).resolve()
        file.write_text(content)
        failure = sum(n for (result, _), n in ended.items() if result == metrics.FAILURE)
        data = {
            "file": str(file),
            "start": start,
            "end": end,
            "sessions": {"success": ended.total() - failure, "failure": failure},
        }
        show(data, as_json=json, text=lambda to: to.print(f"Written: {file}"))
        return EXIT_OK

    run_command(work)
