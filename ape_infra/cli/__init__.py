"""`ape-load`: one command a file, over the engine of this same program."""

from ape_infra.cli import (
    backup,
    down,
    logs,
    monitor,
    plan,
    report,
    rollout,
    scale,
    status,
    up,
    validate,
)
from ape_infra.cli.common import app
from ape_infra.engine import open_stack, read_settings

__all__ = [
    "app",
    "backup",
    "down",
    "logs",
    "monitor",
    "open_stack",
    "plan",
    "read_settings",
    "report",
    "rollout",
    "scale",
    "status",
    "up",
    "validate",
]
