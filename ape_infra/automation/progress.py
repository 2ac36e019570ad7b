"""The progress of an update: a state that events change, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from ape_infra.automation.events import (
    IMAGES,
    PHASES,
    REFRESH,
    SAME,
    Message,
    StepBegun,
    StepEnded,
    StepFailed,
    UpdateBegun,
    UpdateEnded,
    UpdateEvent,
)

# Operations that end the work on a resource. Those of a replacement that precede or follow its
# creation do not count.
_PARTS = ("replace", "delete-replaced", "discard-replaced", "remove-pending-replace")
MAX_OUTPUT_LINES = 20_000


@dataclass(frozen=True)
class Active:
    """A step in progress. `line`: the last line of its output."""

    name: str
    phase: str
    operation: str
    since: float
    line: str = ""


@dataclass
class Phase:
    """The resources of a phase. `planned`: by the preview. `first`, `last`: times of its steps."""

    planned: int = 0
    begun: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    first: float | None = None
    last: float | None = None

    @property
    def total(self) -> int:
        return max(self.planned, len(self.begun))

    @property
    def complete(self) -> bool:
        """Whether all planned resources are done; never without a plan."""
        return bool(self.planned) and len(self.done) >= self.total

    def seconds(self, now: float, *, ended: bool) -> float:
        """From the first step to the last one, or to now while steps are missing."""
        if self.first is None or self.last is None:
            return 0.0
        return (self.last if ended or self.complete else now) - self.first


@dataclass
class UpdateProgress:
    """One update. `planned`: phase -> resources that change, by the preview before it."""

    began: UpdateBegun
    since: float
    planned: dict[str, int] = field(default_factory=dict)
    phases: dict[str, Phase] = field(init=False)
    active: dict[str, Active] = field(default_factory=dict)
    refreshed: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ended: UpdateEnded | None = None
    _output: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.phases = {name: Phase(self.planned.get(name, 0)) for name in PHASES}

    def add(self, event: UpdateEvent, now: float) -> None:
        """Take an event of the update into account. The events of a step may repeat."""
        match event:
            case StepBegun():
                self._begin(event, now)
            case StepEnded():
                self._end(event, now)
            case StepFailed():
                self.active.pop(event.urn, None)
                if event.urn not in self.failed:
                    self.failed.append(event.urn)
            case Message():
                self._hear(event)
            case UpdateEnded():
                self.ended = event
                self.active.clear()

    def _begin(self, event: StepBegun, now: float) -> None:
        known = self.active.get(event.urn)
        since = known.since if known and known.operation == event.operation else now
        self.active[event.urn] = Active(event.name, event.phase, event.operation, since)
        if event.operation == REFRESH:
            return
        phase = self.phases[event.phase]
        phase.begun.add(event.urn)
        phase.first = now if phase.first is None else phase.first

    def _end(self, event: StepEnded, now: float) -> None:
        begun = self.active.pop(event.urn, None)
        # A refresh ends with the operation that it found.
        if REFRESH in (event.operation, begun.operation if begun else ""):
            self.refreshed.add(event.urn)
            return
        if event.operation == SAME:
            return
        phase = self.phases[event.phase]
        phase.begun.add(event.urn)
        phase.first = now if phase.first is None else phase.first
        phase.last = now
        if event.operation not in _PARTS:
            phase.done.add(event.urn)

    def _hear(self, event: Message) -> None:
        said = f"{event.name}: {event.text}" if event.name else event.text
        if event.severity == "warning":
            self.warnings += [said] if said not in self.warnings else []
        elif event.severity == "error":
            self.errors += [said] if said not in self.errors else []
        if not event.urn:
            return
        lines = self._output.setdefault(event.urn, [])
        for line in event.text.splitlines():
            # Docker repeats a line while the step is in progress.
            if line.strip() and line not in lines[-1:] and len(lines) < MAX_OUTPUT_LINES:
                lines.append(line)
        if (step := self.active.get(event.urn)) and lines:
            self.active[event.urn] = Active(
                step.name, step.phase, step.operation, step.since, lines[-1].strip()
            )

    @property
    def found(self) -> dict[str, int]:
        """Phase -> resources with a step, as a preview plans them."""
        return {name: len(phase.begun) for name, phase in self.phases.items() if phase.begun}

    @property
    def waits_for(self) -> list[Active]:
        """The steps in progress, oldest first."""
        return sorted(self.active.values(), key=lambda step: step.since)

    @property
    def failed_builds(self) -> dict[str, list[str]]:
        """Image -> the whole output of its build, of those that failed."""
        return {
            urn.rpartition("::")[2]: self._output.get(urn, [])
            for urn in self.failed
            if urn in self.phases[IMAGES].begun
        }
