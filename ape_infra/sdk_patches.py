"""Every change to the Pulumi SDK, to make a program of many resources quick.

Each patch is bound to the SDK version that it was measured with (docs/facts.md). With another
version all of them are off, with a warning: the work is then slower, not wrong.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from importlib.metadata import version

from pulumi import automation as auto
from pulumi import log
from pulumi.runtime import resource as registration
from pulumi.runtime.proto.source_pb2 import StackTrace
from semver import VersionInfo

CHECKED_VERSION = "3.259.0"


def checked(on_warning: Callable[[str], object]) -> bool:
    """Whether the installed SDK is the one that the patches were checked with; warn if not."""
    found = version("pulumi")
    if found == CHECKED_VERSION:
        return True
    on_warning(
        f"The Pulumi SDK is {found}; its optimizations were checked with {CHECKED_VERSION} and "
        "are off. Previews of large fleets take longer."
    )
    return False


def apply(on_warning: Callable[[str], object]) -> bool:
    """Apply the patches of a program; False where the SDK has another version."""
    # Not a patch of the SDK: the program ends after its work, and a collection would only
    # scan every object at the exit.
    gc.disable()
    atexit.register(gc.freeze)
    if not checked(on_warning):
        return False
    # Four debug messages per resource, each of which waits for the engine.
    log.debug = lambda *_, **__: None
    # The stack of the program at each registration, which the engine writes with the state at
    # every step.
    registration._get_stack_trace = StackTrace
    return True


def pulumi_command(on_warning: Callable[[str], object]) -> auto.PulumiCommand:
    """The `pulumi` on PATH for the Automation API.

    The patch leaves out the SDK's call of `pulumi version`, 0.2 s at each start: `make setup` has
    built that version, or has reported the one that it found.
    """
    if not checked(on_warning):
        return auto.PulumiCommand()
    command = auto.PulumiCommand.__new__(auto.PulumiCommand)
    command.command = "pulumi"
    command.version = VersionInfo.parse(CHECKED_VERSION)
    return command
