"""`ape-load monitor`: the resource monitor, with its own arguments."""

from __future__ import annotations

import importlib

import typer

from ape_infra.cli.common import EXIT_FAILED, app, log, run_command


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def monitor(context: typer.Context) -> None:
    """Watch containers and host; takes the arguments of `python -m monitoring`."""

    def work() -> int:
        try:
            module = importlib.import_module("monitoring.__main__")
        except ModuleNotFoundError as error:
            log(f"The monitor is not installed: {error.name} is missing. Run: make setup")
            return EXIT_FAILED
        return int(module.main(list(context.args)))

    run_command(work)
