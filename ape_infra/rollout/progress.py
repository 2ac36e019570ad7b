"""The progress of a rollout: a state that the controller's events change, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

SETTLE, OBSERVE, PAUSE, WATCH, RECOVER = "settle", "observe", "pause", "watch wave", "recover"


@dataclass(frozen=True)
class RolloutBegun:
    """`levels`: agents of each level."""

    kind: ClassVar[str] = "rollout_begun"
    levels: tuple[int, ...]


@dataclass(frozen=True)
class LevelBegun:
    kind: ClassVar[str] = "level_begun"
    number: int
    agents: int


@dataclass(frozen=True)
class WaveBegun:
    kind: ClassVar[str] = "wave_begun"
    number: int
    count: int
    agents: int


@dataclass(frozen=True)
class SeenCheck:
    name: str
    status: str
    text: str


@dataclass(frozen=True)
class Waiting:
    """The controller waits. `reason`: SETTLE, OBSERVE, PAUSE, WATCH or RECOVER.

    `seconds`: at most this long. `left`: of them.
    """

    kind: ClassVar[str] = "waiting"
    reason: str
    seconds: float
    left: float
    healthy: int = 0
    agents: int = 0
    checks: tuple[SeenCheck, ...] = ()


@dataclass(frozen=True)
class LevelEnded:
    kind: ClassVar[str] = "level_ended"
    number: int
    passed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class RollbackBegun:
    kind: ClassVar[str] = "rollback_begun"


RolloutEvent = RolloutBegun | LevelBegun | WaveBegun | Waiting | LevelEnded | RollbackBegun


@dataclass
class RolloutProgress:
    """`current`: number of the level in progress; 0: none. `passed`: levels that passed."""

    since: float = 0.0
    levels: tuple[int, ...] = ()
    current: int = 0
    passed: int = 0
    wave: WaveBegun | None = None
    waiting: Waiting | None = None
    waiting_since: float = 0.0
    rolling_back: bool = False
    reasons: tuple[str, ...] = field(default=())

    def add(self, event: RolloutEvent, now: float) -> None:
        if not isinstance(event, Waiting):
            self.waiting = None
        match event:
            case RolloutBegun():
                self.levels, self.since = event.levels, now
            case LevelBegun():
                self.current, self.wave = event.number, None
            case WaveBegun():
                self.wave = event
            case Waiting():
                self.waiting, self.waiting_since = event, now
            case LevelEnded():
                self.passed += event.passed
                self.reasons, self.wave = event.reasons, None
                self.current = 0 if event.passed else event.number
            case RollbackBegun():
                self.rolling_back = True

    def update_begun(self) -> None:
        """An update ends what the controller waited for."""
        self.waiting = None

    def left(self, now: float) -> float:
        """Seconds that are left of what the controller waits for."""
        if self.waiting is None:
            return 0.0
        return max(0.0, self.waiting.left - (now - self.waiting_since))
