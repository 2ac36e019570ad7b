"""What is changed in the Pulumi SDK to make a program of many resources quick.

Each patch is bound to the SDK version that it was measured with (docs/facts.md). With another
version it is left out, with a warning: the program is then slower, not wrong.
"""

from __future__ import annotations

import atexit
import gc
from importlib.metadata import version

import pulumi
from pulumi.runtime import resource as registration
from pulumi.runtime.proto.source_pb2 import StackTrace

CHECKED_VERSION = "3.259.0"


def apply() -> bool:
    """Apply the patches; False where the SDK is of another version."""
    # Not a patch of the SDK: the program ends after its work, and the collector would only look at
    # everything once more at the exit.
    gc.disable()
    atexit.register(gc.freeze)
    found = version("pulumi")
    if found != CHECKED_VERSION:
        pulumi.log.warn(
            f"The Pulumi SDK is {found}; its optimizations were checked with {CHECKED_VERSION} and "
            "are off. Previews of large fleets take longer."
        )
        return False
    # Four debug messages per resource, each of which waits for the engine.
    pulumi.log.debug = lambda *_, **__: None
    # The stack of the program at each registration, which the engine writes with the state at
    # every step.
    registration._get_stack_trace = StackTrace
    return True
