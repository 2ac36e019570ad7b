"""The events of an update as plain data, from those of Pulumi's engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from pulumi import automation as auto

from ape_infra.automation.preview import FLEET, IMAGE, plain_operation

IMAGES, NETWORKS, SERVICES, AGENTS = PHASES = ("images", "networks", "services", "agents")
REFRESH, SAME = "refresh", "same"
# Steps of the engine itself, which change nothing on the Docker host.
_INTERNAL = ("pulumi:pulumi:Stack", "pulumi:providers:")


@dataclass(frozen=True)
class UpdateBegun:
    """`operation`: preview, update, destroy or refresh."""

    kind: ClassVar[str] = "update_begun"
    operation: str
    text: str = ""


@dataclass(frozen=True)
class Step:
    """A step on one resource. `operation`: that of Pulumi, such as create; `phase`: of PHASES."""

    urn: str
    phase: str
    name: str
    operation: str


@dataclass(frozen=True)
class StepBegun(Step):
    kind: ClassVar[str] = "step_begun"


@dataclass(frozen=True)
class StepEnded(Step):
    kind: ClassVar[str] = "step_ended"


@dataclass(frozen=True)
class StepFailed(Step):
    kind: ClassVar[str] = "step_failed"


@dataclass(frozen=True)
class Message:
    """`severity`: info, warning or error. `urn`: of its resource; empty: of the whole update."""

    kind: ClassVar[str] = "message"
    severity: str
    text: str
    urn: str = ""
    name: str = ""


@dataclass(frozen=True)
class UpdateEnded:
    """`changes`: operation -> count. `seconds`: since the update began."""

    kind: ClassVar[str] = "update_ended"
    succeeded: bool
    seconds: float
    changes: Mapping[str, int] = field(default_factory=dict)


UpdateEvent = UpdateBegun | StepBegun | StepEnded | StepFailed | Message | UpdateEnded


def data(event: Any) -> dict[str, Any]:
    """The event under the keys of the JSON lines."""
    return {"event": event.kind, **asdict(event)}


def phase_of(urn: str) -> str:
    """The phase of a resource's step, by its URN."""
    if IMAGE in urn or "/remoteImage:RemoteImage::" in urn:
        return IMAGES
    kind = urn.rpartition("::")[0].rpartition("$")[2]
    if ":Network" in kind or ":Volume" in kind:
        return NETWORKS
    return AGENTS if FLEET in urn else SERVICES


def name_of(urn: str) -> str:
    return urn.rpartition("::")[2]


def translated(event: auto.EngineEvent) -> UpdateEvent | None:
    """What an event of the engine means; None: nothing for people."""
    if found := event.resource_pre_event:
        return _step(StepBegun, found.metadata)
    if done := event.res_outputs_event:
        return _step(StepEnded, done.metadata)
    if failed := event.res_op_failed_event:
        return _step(StepFailed, failed.metadata)
    if words := event.diagnostic_event:
        return _message(words)
    if policy := event.policy_event:
        severity = "error" if policy.enforcement_level == "mandatory" else "warning"
        urn = policy.resource_urn or ""
        return Message(
            severity, f"policy {policy.policy_name}: {policy.message}", urn, name_of(urn)
        )
    return None


def _step(
    kind: type[StepBegun | StepEnded | StepFailed], metadata: auto.StepEventMetadata
) -> UpdateEvent | None:
    operation, urn = plain_operation(metadata.op), metadata.urn
    state = metadata.new or metadata.old
    # A refresh that finds no change ends with "same".
    if operation == SAME and kind is not StepEnded:
        return None
    # Components are nothing on the Docker host.
    if metadata.type.startswith(_INTERNAL) or not (state and state.custom):
        return None
    return kind(urn, phase_of(urn), name_of(urn), operation)


def _message(words: auto.DiagnosticEvent) -> Message | None:
    severity = "info" if words.severity == "info#err" else words.severity
    text = words.message.rstrip()
    if severity not in ("info", "warning", "error") or not text:
        return None
    urn = words.urn or ""
    return Message(severity, text, urn, name_of(urn))
