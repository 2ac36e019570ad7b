"""`ape-load`: one command a file, over the engine of this same program."""

from ape_infra.cli import down, logs, plan, rollout, scale, status, up, validate
from ape_infra.cli.common import app
from ape_infra.engine import open_stack, read_settings

__all__ = [
    "app",
    "down",
    "logs",
    "open_stack",
    "plan",
    "read_settings",
    "rollout",
    "scale",
    "status",
    "up",
    "validate",
]
