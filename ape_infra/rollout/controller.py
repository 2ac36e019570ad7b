"""The walk over the stages of a change: apply, watch, keep or go back.

What a stage tries is in a config of its own; the stack's config takes it only when it held. So the
stack's config names the last good state at every moment, whatever kills us, and the way back is to
apply it.
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
from ape_infra.rollout.readings import Counters, Readings

SAMPLE_SECONDS = 2.0
# The way back must not end at a daemon that was busy for a moment.
ROLLBACK_ATTEMPTS = 3
ROLLBACK_PAUSE_SECONDS = 5.0


class Failed(Exception):
    """A stage did not hold; one reason a line."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(reasons))


class Trial(Protocol):
    """A config that is tried."""

    def accept(self) -> None:
        """Make it the stack's config, in one step."""
        ...


T = TypeVar("T", bound=Trial)


class Engine(Protocol[T]):
    def trial(self, values: Mapping[str, str | None]) -> AbstractContextManager[T]: ...

    def replaced_agents(self, trial: T) -> Sequence[str]:
        """The agents' resources that applying `trial` would change, in order of their number."""
        ...

    def apply(
        self, trial: T | None, message: str, only: Sequence[str] = (), *, seconds: float
    ) -> None:
        """Bring the stack to `trial` (None: the stack's config), or `only` some of it.

        Raises EngineError, also when it takes longer than `seconds`; StackLockedError.
        """
        ...

    def recover(self) -> None:
        """Clear what an update that was cut off left."""
        ...


class Probe(Protocol):
    def take(self) -> Readings: ...


@dataclass(frozen=True)
class Stage:
    """One level, or one rollout.

    `steps`: the settings to apply one after the other (None: the default); only the last is
    watched and kept. `look`: ask the engine first which agents would be replaced, and do those in
    waves. `settle` and `window`: seconds that it may take to come up, and must hold then.
    """

    agents: int
    steps: tuple[Mapping[str, str | None], ...]
    text: str
    look: bool
    settle: float
    window: float


@dataclass
class Outcome:
    """`held`: how many stages held. `reasons`: why the next one did not."""

    held: int = 0
    reasons: tuple[str, ...] = ()
    returned: bool = False
    interrupted: bool = False
    verdicts: list[CheckResults] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return not self.reasons


class RolloutController(Generic[T]):
    """`deadline`: on the clock `now`. `tell` gets lines for people."""

    def __init__(
        self,
        engine: Engine[T],
        probe: Probe,
        *,
        limits: Limits,
        waves: Waves,
        on_progress: Callable[[str], None],
        deadline: float = float("inf"),
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine, self._probe, self._limits, self._waves = engine, probe, limits, waves
        self._on_progress, self._deadline, self._now, self._sleep = (
            on_progress,
            deadline,
            now,
            sleep,
        )
        self._before: Counters | None = None

    def run(self, stages: Sequence[Stage]) -> Outcome:
        """Go as far as the stages hold; after one that does not, return to the one before."""
        outcome = Outcome()
        now = self._probe.take()
        self._before, last = now.counters, now.running
        for number, stage in enumerate(stages, 1):
            text = f"{stage.text}, level {number} of {len(stages)}"
            self._on_progress(f"{text}: {stage.agents} agents")
            try:
                outcome.verdicts.append(self._attempt(stage, text))
            except Failed as failed:
                outcome.reasons = failed.reasons
            except EngineError as error:
                outcome.reasons = (str(error),)
            except StackLockedError:
                raise
            except Exception as error:
                # Whatever it was, the fleet is not left between two levels.
                outcome.reasons = (f"{type(error).__name__}: {error}",)
            except KeyboardInterrupt:
                outcome.reasons, outcome.interrupted = ("stopped by a signal",), True
            if outcome.reasons:
                for reason in outcome.reasons:
                    self._on_progress(f"does not hold: {reason}")
                self._return(f"{text} failed: return")
                outcome.returned = True
                if not outcome.interrupted:
                    self._recover(last, stage.settle)
                return outcome
            outcome.held, last = number, stage.agents
        return outcome

    def _return(self, message: str) -> None:
        self._on_progress("returning to the last level that held")
        for left in reversed(range(ROLLBACK_ATTEMPTS)):
            try:
                self._engine.recover()
                self._engine.apply(None, message, seconds=float("inf"))
                return
            except StackLockedError as error:
                # Not "nothing was begun": the way back is still to be gone.
                raise EngineError(f"the way back is not free: {error}") from None
            except EngineError as error:
                if not left:
                    raise
                self._on_progress(f"{error}\nThe way back failed; once more")
                self._sleep(ROLLBACK_PAUSE_SECONDS)

    def _recover(self, agents: int, seconds: float) -> None:
        """Wait until what we returned to is well again, and say how well it is."""
        self._deadline = float("inf")
        try:
            for now in self._samples(seconds):
                if level_checks.ready(agents, now, self._limits):
                    break
            self._on_progress(f"{now.healthy} of {agents} agents healthy again")
        except Exception as error:
            # The return is done; what cannot be seen now, `status` will show.
            self._on_progress(f"cannot see how well it is: {error}")

    def _attempt(self, stage: Stage, text: str) -> CheckResults:
        for values in stage.steps[:-1]:
            with self._engine.trial(values) as trial:
                self._apply(trial, text)
        with self._engine.trial(stage.steps[-1]) as trial:
            if stage.look:
                self._in_waves(trial, self._engine.replaced_agents(trial), text)
            self._apply(trial, text)
            seen = self._hold(stage)
            trial.accept()
        return seen

    def _apply(self, trial: T, text: str, only: Sequence[str] = ()) -> None:
        self._in_time()
        self._engine.apply(trial, text, only, seconds=self._deadline - self._now())

    def _in_time(self) -> None:
        if self._now() >= self._deadline:
            raise Failed(("the time given with --timeout is over",))

    def _in_waves(self, trial: T, agents: Sequence[str], text: str) -> None:
        size = self._waves.size
        waves = [agents[i : i + size] for i in range(0, len(agents), size)]
        for number, wave in enumerate(waves, 1):
            at = f"wave {number} of {len(waves)}"
            self._on_progress(f"{at}: {len(wave)} agents change")
            running = self._probe.take().running
            self._apply(trial, f"{text}, {at}", wave)
            self._watch(f"{at} holds", running)
            if number < len(waves):
                self._sleep(self._waves.pause)

    def _watch(self, text: str, running: int) -> None:
        """The watching of a wave: no restart loop, nothing full, as many agents run as before."""
        seen: list[Readings] = []
        for sample in self._samples(self._waves.watch):
            seen.append(sample)
            self._must(level_checks.safety_checks(seen[-1:], self._limits))
        if seen[-1].running < level_checks.needed(running, self._limits):
            raise Failed((f"{seen[-1].running} agents run, {running} did before the wave",))
        down = [name for name, up in seen[-1].services.items() if not up]
        if down:
            raise Failed((f"services: {' and '.join(down)} down",))
        self._on_progress(f"{text}: {seen[-1].running} agents run, {seen[-1].healthy} healthy")

    def _samples(self, seconds: float) -> Iterator[Readings]:
        """A reading now and every SAMPLE_SECONDS, for so many seconds."""
        end = self._now() + seconds
        while True:
            yield self._probe.take()
            self._in_time()
            left = end - self._now()
            if left <= 0:
                return
            self._sleep(min(SAMPLE_SECONDS, left))

    def _must(self, found: CheckResults) -> None:
        if not found.held:
            raise Failed(found.reasons)

    def _hold(self, stage: Stage) -> CheckResults:
        now = Readings()
        for now in self._samples(stage.settle):
            self._must(level_checks.safety_checks([now], self._limits))
            if level_checks.ready(stage.agents, now, self._limits):
                break
        else:
            self._must(level_checks.steady_state_checks(stage.agents, [now], self._limits))
        self._on_progress(
            f"{now.healthy} of {stage.agents} agents healthy; "
            f"they must stay so for {stage.window:.0f} s"
        )
        seen: list[Readings] = []
        for now in self._samples(stage.window):
            seen.append(now)
            self._must(level_checks.steady_state_checks(stage.agents, seen, self._limits))
        found = level_checks.verdict(stage.agents, seen, self._before, self._limits)
        for check in found.checks:
            mark = {True: "ok", False: "NOT OK", None: "not seen"}[check.ok]
            self._on_progress(f"  {mark:<8} {check.text}")
        self._must(found)
        self._before = seen[-1].counters.since(seen[0].counters)
        return found
