"""The rollout controller with a simulated engine, fleet and clock: no Pulumi, no Docker."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from ape_infra.automation.errors import EngineError, StackLockedError
from ape_infra.rollout.controller import RolloutController, RolloutResult, Stage
from ape_infra.rollout.estimate import Waves
from ape_infra.rollout.level_checks import Limits
from ape_infra.rollout.progress import (
    OBSERVE,
    SETTLE,
    WATCH,
    LevelEnded,
    RollbackBegun,
    RolloutEvent,
    RolloutProgress,
    Waiting,
    WaveBegun,
)
from ape_infra.rollout.readings import Counters, Readings
from monitoring.thresholds import Thresholds

pytestmark = pytest.mark.unit


@dataclass
class World:
    """A stack whose fleet is the one applied last.

    `spoil` worsens the readings of a fleet of n agents. `refuse` gives the error of an update.
    """

    config: int = 5
    runs: int = 5
    clock: float = 0.0
    log: list[str] = field(default_factory=list)
    spoil: Callable[[int, Readings], Readings] = lambda n, found: found
    refuse: Callable[[int, Sequence[str]], str | None] = lambda n, only: None
    to_replace: int = 0
    recoveries: int = 0
    sizes: list[int] = field(default_factory=list)

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    @contextmanager
    def trial(self, values: Mapping[str, str | None]) -> Iterator["SimulatedTrial"]:
        yield SimulatedTrial(self, int(values["agents"] or 0))

    def replaced_agents(self, trial: "SimulatedTrial") -> Sequence[str]:
        return [f"agent-{i:04d}" for i in range(1, self.to_replace + 1)]

    def apply(
        self,
        trial: "SimulatedTrial | None",
        message: str,
        only: Sequence[str] = (),
        *,
        seconds: float,
    ) -> None:
        size = trial.size if trial else self.config
        if why := self.refuse(size, only):
            raise EngineError(why)
        self.log.append(f"{message} [{len(only)}]" if only else message)
        self.clock += 5
        if not only:
            self.runs = size
            self.sizes.append(size)

    def recover(self) -> None:
        self.recoveries += 1

    def take(self) -> Readings:
        found = Readings(
            running=self.runs,
            healthy=self.runs,
            services={"gateway": True, "proxy": True},
            memory_percent=50.0,
            cpu_percent=50.0,
            counters=Counters(requests=self.clock * 10),
        )
        return self.spoil(self.runs, found)


@dataclass
class SimulatedTrial:
    world: World
    size: int

    def accept(self) -> None:
        self.world.config = self.size


def stage(agents: int, *steps: int, in_waves: bool = False) -> Stage:
    values = tuple({"agents": str(n)} for n in (*steps, agents))
    text = f"scale 5 -> {agents}"
    return Stage(agents, values, text, in_waves, settle_seconds=40, observation_seconds=30)


def run(
    world: World,
    stages: Sequence[Stage],
    deadline: float = float("inf"),
    on_progress: Callable[[str], None] = lambda line: None,
    on_event: Callable[[RolloutEvent], None] = lambda event: None,
) -> RolloutResult:
    controller = RolloutController(
        world,
        world,
        limits=Limits.of(Thresholds()),
        waves=Waves(10, 3, 15),
        on_progress=on_progress,
        on_event=on_event,
        deadline=deadline,
        now=world.now,
        sleep=world.sleep,
    )
    return controller.run(stages)


def test_rollout_ends_at_its_goal_when_all_levels_pass() -> None:
    world = World()
    result = run(world, [stage(15), stage(30), stage(60)])
    assert result.succeeded
    assert (result.levels_passed, world.config, world.runs) == (3, 60, 60)
    assert world.clock >= 3 * (5 + 30), "each level was observed for its window"
    assert world.log[0] == "scale 5 -> 15, level 1 of 3"


def restart_loop(n: int, found: Readings) -> Readings:
    return replace(found, healthy=15, deaths={"agent-0020": 3}) if n > 15 else found


def two_unhealthy(n: int, found: Readings) -> Readings:
    return replace(found, healthy=n - 2) if n > 15 else found


def memory_full(n: int, found: Readings) -> Readings:
    return replace(found, memory_percent=91.0) if n > 15 else found


def gateway_down(n: int, found: Readings) -> Readings:
    return replace(found, services={"gateway": False, "proxy": True}) if n > 15 else found


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (restart_loop, "restarts: agent-0020"),
        (two_unhealthy, "agents: 28 of 30 healthy"),
        (memory_full, "memory: 91 %"),
        (gateway_down, "services: gateway down"),
    ],
)
def test_rollout_rolls_back_to_the_first_level_when_the_second_fails(
    spoil: Callable[[int, Readings], Readings], reason: str
) -> None:
    world = World(spoil=spoil)
    result = run(world, [stage(15), stage(30), stage(60)])
    assert not result.succeeded
    assert result.rolled_back
    assert any(reason in r for r in result.reasons), result.reasons
    assert (result.levels_passed, world.config, world.runs) == (1, 15, 15)
    assert max(world.sizes) == 30, "the third level was not started"
    assert world.log[-1] == "scale 5 -> 30, level 2 of 3 failed: rollback"
    assert world.recoveries == 1


def test_rollout_rolls_back_when_a_check_fails_within_the_observation_window() -> None:
    world = World()
    world.spoil = lambda n, r: replace(r, healthy=0) if n == 15 and world.clock > 25 else r
    result = run(world, [stage(15)])
    assert (result.levels_passed, world.config, world.runs) == (0, 5, 5)


def test_rollback_waits_until_the_fleet_is_healthy_and_reports_its_health() -> None:
    for unhealthy_seconds, line in (
        (12.0, "15 of 15 agents healthy after"),
        (1e6, "14 of 15 agents healthy"),
    ):
        world = World()
        back: list[float] = []

        def spoil(
            n: int,
            found: Readings,
            world: World = world,
            back: list[float] = back,
            unhealthy_seconds: float = unhealthy_seconds,
        ) -> Readings:
            if n > 15:
                return replace(found, services={"gateway": False, "proxy": True})
            if world.recoveries:
                back.append(world.clock)
                if world.clock < back[0] + unhealthy_seconds:
                    return replace(found, healthy=14)
            return found

        world.spoil = spoil
        lines: list[str] = []
        result = run(world, [stage(15), stage(30)], on_progress=lines.append)
        assert result.rolled_back
        assert lines[-1].startswith(line)
        assert back[-1] - back[0] == min(unhealthy_seconds, 40), "at most the settle time"


def test_failed_rollback_is_attempted_three_times_before_the_error_is_raised() -> None:
    for failures, succeeds in ((2, True), (3, False)):
        world = World(spoil=memory_full)
        left = [failures]

        def refuse(
            n: int, only: Sequence[str], world: World = world, left: list[int] = left
        ) -> str | None:
            if 30 in world.sizes and n == 15 and left[0]:
                left[0] -= 1
                return "the daemon was busy"
            return None

        world.refuse = refuse
        if succeeds:
            assert run(world, [stage(15), stage(30)]).rolled_back
            assert (world.config, world.runs, world.recoveries) == (15, 15, 3)
        else:
            with pytest.raises(EngineError, match="busy"):
                run(world, [stage(15), stage(30)])
            assert world.config == 15


def test_rollout_rolls_back_when_an_update_fails() -> None:
    world = World(refuse=lambda n, only: "no room" if n == 30 else None)
    result = run(world, [stage(15), stage(30)])
    assert result.reasons == ("no room",)
    assert (world.config, world.runs) == (15, 15)


def test_any_error_rolls_back_except_that_another_update_runs() -> None:
    for error, rolls_back in (
        (OSError("no more files"), True),
        (StackLockedError("pulumi up runs"), False),
    ):
        world = World()

        def spoil(n: int, found: Readings, error: Exception = error) -> Readings:
            if n > 15:
                raise error
            return found

        world.spoil = spoil
        if rolls_back:
            result = run(world, [stage(15), stage(30)])
            assert result.reasons == ("OSError: no more files",)
            assert (world.config, world.runs) == (15, 15)
        else:
            with pytest.raises(StackLockedError):
                run(world, [stage(15), stage(30)])
            assert world.recoveries == 0


def test_rollout_rolls_back_when_a_signal_interrupts_it() -> None:
    world = World()

    def spoil(n: int, found: Readings) -> Readings:
        if n > 15:
            raise KeyboardInterrupt
        return found

    world.spoil = spoil
    result = run(world, [stage(15), stage(30)])
    assert result.interrupted
    assert (world.config, world.runs) == (15, 15)


def test_rollout_rolls_back_when_its_timeout_has_passed() -> None:
    world = World()
    result = run(world, [stage(15), stage(30), stage(60)], deadline=60)
    assert result.reasons == ("the time given with --timeout is over",)
    assert (result.levels_passed, world.config, world.runs) == (1, 15, 15)


def test_agents_are_replaced_in_waves_of_ten() -> None:
    world = World(config=25, runs=25, to_replace=25)
    result = run(world, [stage(25, in_waves=True)])
    assert result.succeeded
    assert [line.rpartition(", ")[2] for line in world.log] == [
        "wave 1 of 3 [10]",
        "wave 2 of 3 [10]",
        "wave 3 of 3 [5]",
        "level 1 of 1",
    ]
    # Three waves: 5 s each to apply, 15 s of observation, 3 s between; then the level.
    assert world.clock == 3 * (5 + 15) + 2 * 3 + 5 + 30


def test_failed_wave_is_rolled_back_and_later_waves_are_not_started() -> None:
    world = World(config=25, runs=25, to_replace=25)
    world.spoil = lambda n, r: (
        replace(r, deaths={"agent-0011": 3}) if any("wave 2" in x for x in world.log) else r
    )
    result = run(world, [stage(25, in_waves=True)])
    assert result.rolled_back
    assert [line.rpartition(", ")[2] for line in world.log] == [
        "wave 1 of 3 [10]",
        "wave 2 of 3 [10]",
        "level 1 of 1 failed: rollback",
    ]
    assert world.config == 25


def test_all_steps_of_a_level_are_applied_and_only_the_last_is_kept() -> None:
    world = World()
    assert run(world, [stage(35, 15, 25)]).succeeded
    assert world.sizes == [15, 25, 35]
    assert world.config == 35


def test_rollout_reports_its_levels_and_why_it_waits_as_events() -> None:
    world = World(to_replace=15)
    world.spoil = lambda n, r: memory_full(n, r) if world.clock > 90 else r
    events: list[RolloutEvent] = []
    progress = RolloutProgress()
    result = run(world, [stage(15, in_waves=True), stage(30)], on_event=events.append)
    assert result.levels_passed == 1
    waits = [event for event in events if isinstance(event, Waiting)]
    assert {wait.reason for wait in waits} >= {SETTLE, OBSERVE, WATCH}
    observed = [wait for wait in waits if wait.reason == OBSERVE]
    assert [(wait.seconds, wait.left) for wait in observed[:2]] == [(30, 30), (30, 28)]
    assert {check.name for check in observed[0].checks} >= {"agents", "services", "memory", "cpu"}
    assert sum(isinstance(event, WaveBegun) for event in events) == 2
    ends = [event for event in events if isinstance(event, LevelEnded)]
    assert [(end.number, end.passed) for end in ends] == [(1, True), (2, False)]
    assert isinstance(events[events.index(ends[-1]) + 1], RollbackBegun)

    for event in events:
        progress.add(event, 0.0)
    assert (progress.levels, progress.current, progress.passed) == ((15, 30), 2, 1)
    assert progress.rolling_back
    assert "memory: 91 %" in progress.reasons[0]


def test_time_left_of_a_wait_falls_until_it_is_over() -> None:
    progress = RolloutProgress()
    progress.add(Waiting(SETTLE, 40.0, 10.0), 100.0)
    assert [progress.left(now) for now in (100.0, 104.0, 120.0)] == [10.0, 6.0, 0.0]
