"""`ape-load compare`: the differences of two runs, and whether they are more than noise."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ape_contracts.text import plain
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    app,
    log,
    run_command,
    show,
)
from ape_infra.cli.results import one
from ape_infra.cli.run import Results, results_folder
from ape_infra.runs import fail_on, pages
from ape_infra.runs.compare import Difference, NotComparable, differences
from ape_infra.runs.fail_on import ConditionError, Outcome
from ape_infra.runs.pages import shown
from ape_infra.runs.store import StoredRun, StoreError, load
from ape_infra.runs.verdict import EXIT_THRESHOLD


def stored_run(results: Path, name: str) -> StoredRun:
    """Return a run by its name, or by a path of its folder. Raises StoreError."""
    return load(Path(name)) if "/" in name else one(results, name)


def print_differences(
    to: Console, found: Sequence[Difference], outcomes: Sequence[Outcome]
) -> None:
    rows = [("metric", "A", "B", "change", "95 % interval", "")]
    rows += [
        (
            plain(x.name),
            shown.of_kind(x.kind, x.a),
            shown.of_kind(x.kind, x.b),
            shown.change(x.kind, x.change),
            pages.interval(x) if x.low is not None else "too few samples",
            "beyond noise" if x.significant else "",
        )
        for x in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (
            text.rjust(width) if at else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        # A table of Rich would break the names.
        to.print(Text("  ".join((first, *rest)).rstrip(), style="bold" if row[-1] else ""))
    to.print(f"\n{pages.result_of(found)}.")
    for outcome in outcomes:
        holds = "yes" if outcome.holds else "no"
        to.print(Text(f"{plain(outcome.condition.text)}: {holds}"))


def _data(
    runs: Sequence[StoredRun], found: Sequence[Difference], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    return {
        "version": 1,
        "a": runs[0].summary.run,
        "b": runs[1].summary.run,
        "result": pages.result_of(found),
        "differences": [each.data() for each in found],
        "fail_on": [
            {"condition": x.condition.text, "metric": x.difference.name, "holds": x.holds}
            for x in outcomes
        ],
    }


def _write(file: Path, runs: Sequence[StoredRun], found: Sequence[Difference]) -> Path:
    """Write the page. Raises PreconditionFailed."""
    a, b = (pages.Run(x.summary.model_dump(mode="json"), x.measurements()) for x in runs)
    try:
        file.write_text(pages.comparison(a, b, found), "utf-8")
    except OSError as error:
        raise PreconditionFailed(
            f"{file}: cannot be written ({error.strerror}). Name another file with --output."
        ) from None
    return file.resolve()


@app.command()
def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The run before: its name, the beginning of it, latest, or a path."
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The run after.")],
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            help="Exit with 5 if the change is beyond this limit and more than noise, such as "
            "'http_req_duration.p95 > +10%'. Repeat it for more.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the comparison to this file, as an HTML page."),
    ] = None,
    browse: Annotated[
        bool, typer.Option("--open", help="Write the page, and open it in the browser.")
    ] = False,
    results: Results = None,
    json: AsJson = False,
) -> None:
    """Compare two runs: the changes, their 95 % intervals, and which are more than noise."""

    def work() -> int:
        folder = results_folder(results)
        try:
            wanted = [fail_on.parse(text) for text in conditions or ()]
            runs = [stored_run(folder, name) for name in (first, second)]
            found = differences(runs[0].measurements(), runs[1].measurements())
            outcomes = [fail_on.judge(condition, found) for condition in wanted]
        except (StoreError, NotComparable, ConditionError) as error:
            raise PreconditionFailed(str(error)) from None
        file = output
        if browse and not file:
            file = folder / f"compare-{runs[0].summary.run}-{runs[1].summary.run}.html"
        if file:
            written = _write(file, runs, found)
            log(f"Written: {written}")
            if browse:
                webbrowser.open(written.as_uri())
        show(
            _data(runs, found, outcomes),
            as_json=json,
            text=lambda to: print_differences(to, found, outcomes),
        )
        return EXIT_THRESHOLD if any(x.holds for x in outcomes) else EXIT_OK

    run_command(work)
