"""Access to a stack of the current project over the Automation API, and to its settings."""

from __future__ import annotations

import sys

from pulumi import automation as auto

from ape_infra import sdk_patches
from ape_infra.automation import stack_file
from ape_infra.automation.errors import EngineError, NoStackError, reason
from ape_infra.checks.model import CHECKED
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import current
from ape_infra.config.settings import Settings


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def open_stack(name: str, *, create: bool = True) -> auto.Stack:
    """Open the stack, and create a missing one unless `create` is false: then NoStackError.

    Raises ProjectError where the stack config is not valid YAML; EngineError.
    """
    # Pulumi does not name the file that it cannot read.
    stack_file.read(current().root, name)
    options = auto.LocalWorkspaceOptions(
        pulumi_command=sdk_patches.pulumi_command(_warn),
        # The commands check the model themselves, before they begin.
        env_vars={CHECKED: "1"},
    )
    root = str(current().root)
    try:
        if create:
            return auto.create_or_select_stack(name, work_dir=root, opts=options)
        return auto.select_stack(name, work_dir=root, opts=options)
    except auto.StackNotFoundError:
        raise NoStackError(
            f"Stack {name} is not up. Start it with: ape-load up --stack {name}"
        ) from None
    except auto.CommandError as error:
        raise EngineError(f"Pulumi: {reason(error)}") from None


def read_settings(stack: auto.Stack) -> Settings:
    """The stack's settings, validated as the program does it. Raises SettingsError."""
    found = stack.get_all_config()
    return parse_config({key.partition(":")[2]: value.value for key, value in found.items()})
