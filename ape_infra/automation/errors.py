"""What can go wrong between a command and Pulumi's engine."""

from __future__ import annotations


class EngineError(Exception):
    """A command of Pulumi failed; the text states the reason."""


class StackLockedError(Exception):
    """Another update of the stack is running; nothing was begun."""


class NoStackError(Exception):
    """The stack does not exist; the text states the remedy."""


def reason(error: BaseException) -> str:
    """The lines of a Pulumi failure that state its reason."""
    found = [x.strip() for x in str(error).splitlines() if "error" in x.lower()]
    kept = [x for x in dict.fromkeys(found) if x not in ("error: update failed",)]
    return "\n".join(kept)[-2000:] or str(error)[-500:]
