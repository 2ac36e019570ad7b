"""`ape-load report`: the run report, one self-contained HTML page."""

from __future__ import annotations

import time
from collections.abc import Mapping
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
from ape_infra.reporting.draw import main_panels
from ape_infra.reporting.prometheus import Prometheus, PrometheusError, Series
from ape_infra.reporting.run_report import RunReport, outcomes, page


def begun(history: list[dict[str, Any]], now: float) -> float:
    """Unix time of the first update since the last destroy; without one, an hour before `now`."""
    start = now - 3600
    for entry in history:
        if entry.get("kind") == "destroy":
            break
        if entry.get("kind") == "update" and entry.get("startTime"):
            start = _unix(str(entry["startTime"]))
    return start


def _unix(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def events(history: list[dict[str, Any]], start: float) -> list[tuple[float, str, str]]:
    """Updates of the stack since `start`, oldest first: Unix time, message, result."""
    return [
        (at, e.get("message") or str(e.get("kind")), str(e.get("result")))
        for e in reversed(history)
        if e.get("startTime") and (at := _unix(str(e["startTime"]))) >= start - 1
    ]


@app.command()
def report(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file instead of report-STACK.html."),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes", min=0, help="Report the last minutes; 0: since the first update."
        ),
    ] = 0,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Write Prometheus' data of the test as one HTML page, with the dashboards' main panels."""

    def work() -> int:
        engine = PulumiEngine(stack, log, create=False)
        outputs = running_outputs(engine)
        base = (outputs.get("endpoints") or {}).get("prometheus")
        if not base:
            raise NotRunning(
                f"The stack publishes no Prometheus. Set {config_key('observability')} to metrics."
            )
        end, history = time.time(), engine.history()
        start = end - 60 * minutes if minutes else begun(history, end)
        try:
            made, sessions = _page(Prometheus(base), engine.name, outputs, history, (start, end))
        except PrometheusError as error:
            raise NotRunning(f"Prometheus query failed: {error}") from None
        file = output or Path(f"report-{stack}.html")
        file.write_text(made)
        data = {"file": str(file.resolve()), "start": start, "end": end, "sessions": sessions}
        show(data, as_json=json, text=lambda to: to.print(f"Written: {file.resolve()}"))
        return EXIT_OK

    run_command(work)


def _page(
    client: Prometheus,
    stack: str,
    outputs: Mapping[str, Any],
    history: list[dict[str, Any]],
    times: tuple[float, float],
) -> tuple[str, dict[str, int]]:
    """The HTML text, and the number of sessions by result. Raises PrometheusError."""
    start, end = times

    def ask(query: str) -> list[Series]:
        return client.range(query, start, end)

    ended = outcomes(ask(metrics.SESSIONS.name), start)
    failures = [
        (reason, count)
        for (result, reason), count in ended.most_common()
        if result == metrics.FAILURE and count
    ]
    failure = sum(count for _, count in failures)
    total = ended.total()
    success = total - failure
    rate = f"{100 * success / total:.1f} %" if total else "-"
    summary = {
        "agents": f"{outputs['agents']} ({outputs['runtime']}, tier {outputs['tier']})",
        "limits of an agent": f"{outputs['agentMemoryMb']} MB, {outputs['agentCpus']} cores",
        "sessions": f"{total}: {success} succeeded, {failure} failed ({rate})",
    }
    test = RunReport(stack, start, end, summary, failures, events(history, start))
    made = page(test, main_panels(ask, round(end - start)))
    return made, {"success": success, "failure": failure}
