"""What a preview of the engine found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pulumi import automation as auto

FLEET = "ape:fleet:AgentFleet$"
IMAGE = "index/image:Image::"
CHANGES = ("replace", "create-replacement", "delete-replaced", "update")


@dataclass(frozen=True)
class Preview:
    """`changes`: operation -> count. `operations`: URN -> operation, of each that changes."""

    changes: dict[str, int] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)

    @property
    def changing(self) -> bool:
        return bool(set(self.changes) - {"same"})

    @property
    def replaced_agents(self) -> list[str]:
        """URNs of the agents' containers that change, in the order of their slots.

        Swarm's services are not among them: Swarm itself updates their tasks in waves.
        """
        found = (
            urn
            for urn, operation in self.operations.items()
            if FLEET in urn and "Container::" in urn and operation in CHANGES
        )
        return sorted(found, key=lambda urn: urn.rpartition("::")[2])

    @property
    def images(self) -> list[str]:
        """URNs of the images that are built."""
        return [u for u, op in self.operations.items() if IMAGE in u and op != "delete"]


class PreviewEvents:
    """Collects the operations from the events of the engine."""

    def __init__(self) -> None:
        self._operations: dict[str, str] = {}

    def __call__(self, event: auto.EngineEvent) -> None:
        if step := event.resource_pre_event:
            operation = plain_operation(step.metadata.op)
            if operation != "same":
                # The steps of a replacement have events too; the first event names it.
                self._operations.setdefault(step.metadata.urn, operation)

    def result(self, summary: Mapping[auto.OpType, int]) -> Preview:
        return Preview({plain_operation(op): n for op, n in summary.items()}, self._operations)


def plain_operation(operation: object) -> str:
    """The operation as in Pulumi's JSON, such as create-replacement."""
    return str(operation).rpartition(".")[2].lower().replace("_", "-")
