"""`ape-load`: one command per file."""

import os
import sys

from ape_infra.automation.stacks import open_stack, read_settings
from ape_infra.cli import (
    backup,
    compare,
    down,
    import_gateway,
    import_recording,
    init,
    logs,
    monitor,
    plan,
    report,
    restore,
    results,
    rollout,
    run,
    scale,
    status,
    up,
    validate,
)
from ape_infra.cli.common import app
from ape_infra.config.project import SOURCE_ROOT

__all__ = [
    "app",
    "backup",
    "compare",
    "down",
    "import_gateway",
    "import_recording",
    "init",
    "logs",
    "main",
    "monitor",
    "open_stack",
    "plan",
    "read_settings",
    "report",
    "restore",
    "results",
    "rollout",
    "run",
    "scale",
    "status",
    "up",
    "validate",
]


def main() -> None:
    """The command `ape-load`, in the environment that `make setup` has written, if it has."""
    setup = SOURCE_ROOT / ".ape"
    if (setup / "run").exists() and os.environ.get("APE_SETUP") != str(setup):
        run = str(setup / "run")
        os.execv(run, [run, sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    app(prog_name="ape-load")
