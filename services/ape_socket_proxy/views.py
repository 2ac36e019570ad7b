"""What of the daemon's answers is passed on: pure functions of JSON data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ape_contracts import labels
from ape_contracts.service_settings import VARIABLE

# What describes the machine, and nothing that runs on it.
_INFO = (
    *("ServerVersion", "OSType", "Architecture", "OperatingSystem", "KernelVersion"),
    *("NCPU", "MemTotal", "CgroupDriver", "CgroupVersion"),
)
# As in monitoring.model: the agents that a container holds, which only its environment states.
_SLOT_VARIABLE = "APE_AGENT_SLOT"
_SLOT = re.compile(r"[0-9]{1,9}(\+[0-9]{1,9})?")


class Scope:
    """The stack whose containers are visible."""

    def __init__(self, project: str, stack: str) -> None:
        self._labels = {labels.PROJECT: project, labels.STACK: stack}
        self.filters = labels.stack_filter(project, stack)["label"]

    def holds(self, own: Any) -> bool:
        """Whether something with the labels `own` belongs to the stack."""
        return isinstance(own, Mapping) and self._labels.items() <= own.items()

    def container(self, found: Any) -> dict[str, Any] | None:
        """An inspected container without its environment; None for another stack's."""
        if not isinstance(found, dict) or not isinstance(found.get("Config"), dict):
            return None
        config = found["Config"]
        if not self.holds(config.get("Labels")):
            return None
        return {**found, "Config": {**config, "Env": _slot(config.get("Env"))}}

    def event(self, found: Any) -> bool:
        """Whether the stream passes the event on."""
        actor = found.get("Actor") if isinstance(found, dict) else None
        return isinstance(actor, dict) and self.holds(actor.get("Attributes"))


def _slot(env: Any) -> list[str]:
    """The variable with the slot of an agent, also where its settings hold it; nothing else."""
    given = dict(str(item).partition("=")[::2] for item in env) if isinstance(env, list) else {}
    slot = given.get(_SLOT_VARIABLE)
    if slot is None:
        try:
            slot = str(json.loads(given.get(VARIABLE, "{}")).get("slot", ""))
        except (ValueError, AttributeError, RecursionError):
            slot = ""
    return [f"{_SLOT_VARIABLE}={slot}"] if _SLOT.fullmatch(slot) else []


def info(found: Any) -> dict[str, Any]:
    """The daemon's description of its machine."""
    return {name: found[name] for name in _INFO if name in found} if isinstance(found, dict) else {}
