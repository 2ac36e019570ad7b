"""`ape-load`: one command per file."""

from ape_infra.automation.stacks import open_stack, read_settings
from ape_infra.cli import (
    backup,
    down,
    logs,
    monitor,
    plan,
    report,
    restore,
    rollout,
    scale,
    status,
    up,
    validate,
)
from ape_infra.cli.common import app

__all__ = [
    "app",
    "backup",
    "down",
    "logs",
    "main",
    "monitor",
    "open_stack",
    "plan",
    "read_settings",
    "report",
    "restore",
    "rollout",
    "scale",
    "status",
    "up",
    "validate",
]


def main() -> None:
    """The command `ape-load`."""
    app(prog_name="ape-load")
