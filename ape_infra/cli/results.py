"""`ape-load results`: the runs there are; one of them as a page, JSON, CSV or JUnit."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    app,
    log,
    run_command,
    show,
)
from ape_infra.cli.run import Results, results_folder
from ape_infra.runs import files, live, pages, store
from ape_infra.runs.junit import junit
from ape_infra.runs.store import StoredRun, StoreError

LATEST = "latest"


def state(found: StoredRun) -> str:
    """The state, which is `running` while the run's command measures it."""
    is_going_on = found.is_running and found.summary.exit_code is None
    return "running" if is_going_on else found.summary.state


def listed(found: StoredRun) -> dict[str, Any]:
    """A run as `ape-load results --json` lists it."""
    summary = found.summary
    return {
        "run": summary.run,
        "stack": summary.stack,
        "state": state(found),
        "started": summary.started,
        "measured_seconds": summary.measured_seconds,
        "sessions": summary.sessions.succeeded + summary.sessions.failed,
        "success_rate": summary.sessions.success_rate,
        "requests": summary.requests.count,
        "p95": summary.requests.duration.p95,
        "thresholds": len(summary.thresholds),
        "thresholds_not_met": sum(not each.passed for each in summary.thresholds),
        "folder": str(found.path),
    }


def print_list(to: Console, runs: list[dict[str, Any]]) -> None:
    if not runs:
        to.print("There are no runs yet. Start one with: ape-load run")
        return
    names = ("run", "state", "measured", "sessions", "success", "requests", "p95", "thresholds")
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name in ("run", "state"))
    for each in runs:
        met = each["thresholds"] - each["thresholds_not_met"]
        table.add_row(
            *(each["run"], each["state"], live.clock(each["measured_seconds"])),
            *(str(each["sessions"]), live.percent(each["success_rate"]), str(each["requests"])),
            live.duration(each["p95"]),
            f"{met} of {each['thresholds']} met" if each["thresholds"] else "-",
        )
    to.print(table)


def one(folder: Path, name: str) -> StoredRun:
    """Return a run by its name, the beginning of one, or `latest`."""
    if name != LATEST:
        return store.find(folder, name)
    runs, _ = store.load_all(folder)
    if not runs:
        raise StoreError(f"{folder}: has no runs. Start one with: ape-load run")
    return runs[-1]


def report_of(found: StoredRun) -> Path:
    """Return the report; of a run that did not come to its end, it is made now."""
    file = found.path / store.REPORT
    if not file.exists():
        page = pages.report(
            found.summary.model_dump(mode="json"), found.measurements(), found.transcripts()
        )
        store.write(file, page)
    return file


@app.command()
def results(
    run: Annotated[
        str | None,
        typer.Argument(help="Name of a run, or its beginning; latest: the newest one."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the report.")] = False,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the endpoints as CSV.")] = False,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")
    ] = None,
    folder: Results = None,
) -> None:
    """List the runs, or show the results of one."""

    def work() -> int:
        where = results_folder(folder)
        if run is None:
            if open_page or csv or junit_file:
                raise PreconditionFailed("Name a run, such as: ape-load results latest --open")
            return _list(where, as_json=json)
        found = one(where, run)
        if open_page:
            file = report_of(found)
            webbrowser.open(file.as_uri())
            log(f"Report: {file}")
        if junit_file:
            store.write(junit_file, junit(found.summary))
            log(f"Written: {junit_file}")
        if csv:
            print(files.endpoints(found.summary.endpoints), end="")
        if json:
            print(found.summary.model_dump_json())
        elif not (csv or junit_file or open_page):
            Console(highlight=False).print(live.summary(found.summary))
            started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.summary.started))
            print(f"{state(found)}, started {started}. Results: {found.path}")
        return EXIT_OK

    def checked() -> int:
        try:
            return work()
        except StoreError as error:
            raise PreconditionFailed(str(error)) from None
        except OSError as error:
            raise PreconditionFailed(
                f"{error.filename}: {error.strerror}. Name a file that you can write."
            ) from None

    run_command(checked)


def _list(where: Path, *, as_json: bool) -> int:
    runs, problems = store.load_all(where)
    for problem in problems:
        log(problem)
    found = [listed(each) for each in runs]
    show(found, as_json=as_json, text=lambda to: print_list(to, found))
    return EXIT_OK
