"""`ape-load`: one command per file; `commands` has the table of them."""

import os
import sys

from ape_infra.cli.commands import app
from ape_infra.config.project import SOURCE_ROOT

__all__ = ["app", "main"]


def main() -> None:
    """The command `ape-load`, in the environment that `make setup` has written, if it has."""
    setup = SOURCE_ROOT / ".ape"
    if (setup / "run").exists() and os.environ.get("APE_SETUP") != str(setup):
        run = str(setup / "run")
        os.execv(run, [run, sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    app(prog_name="ape-load")
