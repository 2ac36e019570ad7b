"""The controller of a rollout: apply each level, observe it, keep it or roll back.

A level is applied from a trial config, which becomes the stack config when its checks pass. So the
stack config describes the last good level at every moment, also after `kill -9`, and a rollback
applies the stack config.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ape_infra.automation.errors import EngineError, StackLockedError
from ape_infra.rollout import level_checks
from ape_infra.rollout.estimate import Waves
from ape_infra.rollout.level_checks import CheckResults, Limits
from ape_infra.rollout.progress import (
    OBSERVE,
    PAUSE,
    RECOVER,
    SETTLE,
    WATCH,
    LevelBegun,
    LevelEnded,
    RollbackBegun,
    RolloutBegun,
    RolloutEvent,
    SeenCheck,
    Waiting,
    WaveBegun,
)
from ape_infra.rollout.readings import Counters, Readings

SAMPLE_SECONDS = 2.0
# A daemon that is busy for a moment must not end a rollback.
ROLLBACK_ATTEMPTS = 3
ROLLBACK_PAUSE_SECONDS = 5.0


class LevelFailed(Exception):
    """A level failed its checks. `reasons`: one for each failed check."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(reasons))


class Trial(Protocol):
    """A trial config."""

    def accept(self) -> None:
        """Make it the stack config, atomically."""
        ...


T = TypeVar("T", bound=Trial)


class Engine(Protocol[T]):
    def trial(self, values: Mapping[str, str | None]) -> AbstractContextManager[T]: ...

    def replaced_agents(self, trial: T) -> Sequence[str]:
        """Return the agents' resources that applying `trial` would change, ordered by number."""
        ...

    def apply(
        self, trial: T | None, message: str, only: Sequence[str] = (), *, seconds: float
    ) -> None:
        """Apply `trial`, or the stack config if it is None, to the resources `only` (empty: all).

        Raises EngineError, also after `seconds`, and StackLockedError.
        """
        ...

    def recover(self) -> None:
        """Remove what an interrupted update left."""
        ...


class Probe(Protocol):
    def take(self) -> Readings: ...


@dataclass(frozen=True)
class Stage:
    """One level of a rollout.

    `steps`: settings to apply one after the other (None: the default); only the last is observed
    and kept. `in_waves`: replace the agents that the last step changes in waves. `settle_seconds`:
    how long the agents may take to become healthy. `observation_seconds`: how long they must then
    pass their checks.
    """

    agents: int
    steps: tuple[Mapping[str, str | None], ...]
    text: str
    in_waves: bool
    settle_seconds: float
    observation_seconds: float


@dataclass
class RolloutResult:
    """`reasons`: why the level after the first `levels_passed` failed; empty if none did."""

    levels_passed: int = 0
    reasons: tuple[str, ...] = ()
    rolled_back: bool = False
    interrupted: bool = False
    check_results: list[CheckResults] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return not self.reasons


class RolloutController(Generic[T]):
    """Runs the stages of a rollout.

    `on_progress` gets lines for people, `on_event` the same as data, and more often. `deadline` is
    a time of the clock `now`, in seconds.
    """

    def __init__(
        self,
        engine: Engine[T],
        probe: Probe,
        *,
        limits: Limits,
        waves: Waves,
        on_progress: Callable[[str], None],
        on_event: Callable[[RolloutEvent], None] = lambda event: None,
        deadline: float = float("inf"),
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine, self._probe, self._limits, self._waves = engine, probe, limits, waves
        self._on_progress, self._on_event = on_progress, on_event
        self._deadline, self._now, self._sleep = deadline, now, sleep
        self._previous_counters: Counters | None = None

    def run(self, stages: Sequence[Stage]) -> RolloutResult:
        """Run the stages up to the first that fails, and roll back to the one before it.

        Raises StackLockedError, and EngineError if the rollback fails.
        """
        result = RolloutResult()
        readings = self._probe.take()
        self._previous_counters, good_agents = readings.counters, readings.running
        self._on_event(RolloutBegun(tuple(stage.agents for stage in stages)))
        for number, stage in enumerate(stages, 1):
            text = f"{stage.text}, level {number} of {len(stages)}"
            self._on_progress(f"{text}: {stage.agents} agents")
            self._on_event(LevelBegun(number, stage.agents))
            try:
                result.check_results.append(self._apply_level(stage, text))
            except LevelFailed as failed:
                result.reasons = failed.reasons
            except EngineError as error:
                result.reasons = (str(error),)
            except StackLockedError:
                raise
            except Exception as error:
                # Any other error, too, must not leave the fleet between two levels.
                result.reasons = (f"{type(error).__name__}: {error}",)
            except KeyboardInterrupt:
                result.reasons, result.interrupted = ("stopped by a signal",), True
            self._on_event(LevelEnded(number, not result.reasons, result.reasons))
            if result.reasons:
                for reason in result.reasons:
                    self._on_progress(f"level failed: {reason}")
                self._roll_back(f"{text} failed: rollback")
                result.rolled_back = True
                if not result.interrupted:
                    self._wait_until_recovered(good_agents, stage.settle_seconds)
                return result
            result.levels_passed, good_agents = number, stage.agents
        return result

    def _roll_back(self, message: str) -> None:
        self._on_progress("rolling back to the last good level")
        self._on_event(RollbackBegun())
        for attempts_left in reversed(range(ROLLBACK_ATTEMPTS)):
            try:
                self._engine.recover()
                self._engine.apply(None, message, seconds=float("inf"))
                return
            except StackLockedError as error:
                # As an EngineError: the stack was changed, and the rollback is still to be done.
                raise EngineError(f"the rollback cannot start: {error}") from None
            except EngineError as error:
                if not attempts_left:
                    raise
                self._on_progress(
                    f"{error}\nThe rollback failed; next attempt in {ROLLBACK_PAUSE_SECONDS:.0f} s"
                )
                self._sleep(ROLLBACK_PAUSE_SECONDS)

    def _wait_until_recovered(self, agents: int, seconds: float) -> None:
        """Wait until the last good level is healthy again, for at most `seconds`; report it."""
        self._deadline = float("inf")
        try:
            end = self._now() + seconds
            for readings in self._samples(seconds):
                self._waits(RECOVER, end, seconds, agents, readings)
                if level_checks.has_settled(agents, readings, self._limits):
                    break
            self._on_progress(f"{readings.healthy} of {agents} agents healthy after the rollback")
        except Exception as error:
            # The rollback itself is done; `ape-load status` shows the health later.
            self._on_progress(f"cannot read the health of the fleet: {error}")

    def _apply_level(self, stage: Stage, text: str) -> CheckResults:
        for values in stage.steps[:-1]:
            with self._engine.trial(values) as trial:
                self._apply(trial, text)
        with self._engine.trial(stage.steps[-1]) as trial:
            if stage.in_waves:
                self._replace_in_waves(trial, self._engine.replaced_agents(trial), text)
            self._apply(trial, text)
            results = self._observe_level(stage)
            trial.accept()
        return results

    def _apply(self, trial: T, text: str, only: Sequence[str] = ()) -> None:
        self._require_time()
        self._engine.apply(trial, text, only, seconds=self._deadline - self._now())

    def _require_time(self) -> None:
        if self._now() >= self._deadline:
            raise LevelFailed(("the time given with --timeout is over",))

    def _require(self, results: CheckResults) -> None:
        if not results.passed:
            raise LevelFailed(results.reasons)

    def _waits(
        self,
        reason: str,
        end: float,
        seconds: float,
        agents: int = 0,
        readings: Readings | None = None,
        results: CheckResults | None = None,
    ) -> None:
        checks = results.checks if results else ()
        self._on_event(
            Waiting(
                reason,
                seconds,
                max(0.0, end - self._now()),
                readings.healthy if readings else 0,
                agents,
                tuple(SeenCheck(check.name, check.status, check.text) for check in checks),
            )
        )

    def _samples(self, seconds: float) -> Iterator[Readings]:
        """Yield readings now and every SAMPLE_SECONDS, for `seconds`."""
        end = self._now() + seconds
        while True:
            yield self._probe.take()
            self._require_time()
            left = end - self._now()
            if left <= 0:
                return
            self._sleep(min(SAMPLE_SECONDS, left))

    def _replace_in_waves(self, trial: T, agents: Sequence[str], text: str) -> None:
        size = self._waves.size
        waves = [agents[i : i + size] for i in range(0, len(agents), size)]
        for number, wave in enumerate(waves, 1):
            name = f"wave {number} of {len(waves)}"
            self._on_progress(f"{name}: updating {len(wave)} agents")
            self._on_event(WaveBegun(number, len(waves), len(wave)))
            running = self._probe.take().running
            self._apply(trial, f"{text}, {name}", wave)
            self._observe_wave(name, running)
            if number < len(waves):
                pause = self._waves.pause
                self._waits(PAUSE, self._now() + pause, pause)
                self._sleep(pause)

    def _observe_wave(self, name: str, previously_running: int) -> None:
        """Require safe readings, and at the end as many running agents as before, services up."""
        end = self._now() + self._waves.watch
        for readings in self._samples(self._waves.watch):
            results = level_checks.safety_checks([readings], self._limits)
            self._waits(WATCH, end, self._waves.watch, previously_running, readings, results)
            self._require(results)
        running = readings.running
        if running < level_checks.needed(previously_running, self._limits):
            raise LevelFailed(
                (f"{running} agents are running, {previously_running} were before the wave",)
            )
        down = [service for service, up in readings.services.items() if not up]
        if down:
            raise LevelFailed((f"services: {' and '.join(down)} down",))
        self._on_progress(f"{name} passed: {running} agents running, {readings.healthy} healthy")

    def _observe_level(self, stage: Stage) -> CheckResults:
        """Wait for the level to settle, then require its checks for the observation window."""
        agents = stage.agents
        end = self._now() + stage.settle_seconds
        for readings in self._samples(stage.settle_seconds):
            results = level_checks.safety_checks([readings], self._limits)
            self._waits(SETTLE, end, stage.settle_seconds, agents, readings, results)
            self._require(results)
            if level_checks.has_settled(agents, readings, self._limits):
                break
        else:
            self._require(level_checks.steady_state_checks(agents, [readings], self._limits))
        self._on_progress(
            f"{readings.healthy} of {agents} agents healthy; "
            f"observing them for {stage.observation_seconds:.0f} s"
        )
        seen: list[Readings] = []
        end = self._now() + stage.observation_seconds
        for readings in self._samples(stage.observation_seconds):
            seen.append(readings)
            results = level_checks.observation_checks(
                agents, seen, self._previous_counters, self._limits
            )
            self._waits(OBSERVE, end, stage.observation_seconds, agents, readings, results)
            self._require(level_checks.steady_state_checks(agents, seen, self._limits))
        results = level_checks.observation_checks(
            agents, seen, self._previous_counters, self._limits
        )
        for check in results.checks:
            self._on_progress(f"  {check.status:<8} {check.text}")
        self._require(results)
        self._previous_counters = seen[-1].counters.since(seen[0].counters)
        return results
