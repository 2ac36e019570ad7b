"""The walk with a made-up engine and a made-up fleet: no Pulumi, no Docker, no time passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from ape_infra.automation.errors import EngineError, StackLockedError
from ape_infra.rollout.controller import Outcome, RolloutController, Stage
from ape_infra.rollout.estimate import Waves
from ape_infra.rollout.level_checks import Limits
from ape_infra.rollout.readings import Counters, Readings
from monitoring.thresholds import Thresholds

pytestmark = pytest.mark.unit


@dataclass
class World:
    """The fleet is what was applied last. `spoil` makes the readings of a fleet of n worse."""

    config: int = 5
    runs: int = 5
    clock: float = 0.0
    log: list[str] = field(default_factory=list)
    spoil: Callable[[int, Readings], Readings] = lambda n, found: found
    refuse: Callable[[int, Sequence[str]], str | None] = lambda n, only: None
    old: int = 0
    settled: int = 0
    sizes: list[int] = field(default_factory=list)

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    @contextmanager
    def trial(self, values: Mapping[str, str | None]) -> Iterator["Tried"]:
        yield Tried(self, int(values["agents"] or 0))

    def replaced_agents(self, trial: "Tried") -> Sequence[str]:
        return [f"agent-{i:04d}" for i in range(1, self.old + 1)]

    def apply(
        self, trial: "Tried | None", message: str, only: Sequence[str] = (), *, seconds: float
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
        self.settled += 1

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
class Tried:
    world: World
    size: int

    def accept(self) -> None:
        self.world.config = self.size


def stage(agents: int, *steps: int, look: bool = False) -> Stage:
    values = tuple({"agents": str(n)} for n in (*steps, agents))
    return Stage(agents, values, f"scale 5 -> {agents}", look, settle=40, window=30)


def walk(
    world: World,
    stages: Sequence[Stage],
    deadline: float = float("inf"),
    on_progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    made = RolloutController(
        world,
        world,
        limits=Limits.of(Thresholds()),
        waves=Waves(10, 3, 15),
        on_progress=on_progress,
        deadline=deadline,
        now=world.now,
        sleep=world.sleep,
    )
    return made.run(stages)


def test_levels_that_hold_end_at_the_goal() -> None:
    world = World()
    found = walk(world, [stage(15), stage(30), stage(60)])
    assert found.well
    assert (found.held, world.config, world.runs) == (3, 60, 60)
    assert world.clock >= 3 * (5 + 30), "each level was watched for its window"
    assert world.log[0] == "scale 5 -> 15, level 1 of 3"


def crash(n: int, found: Readings) -> Readings:
    return replace(found, healthy=15, deaths={"agent-0020": 3}) if n > 15 else found


def ill(n: int, found: Readings) -> Readings:
    return replace(found, healthy=n - 2) if n > 15 else found


def memory(n: int, found: Readings) -> Readings:
    return replace(found, memory_percent=91.0) if n > 15 else found


def gateway(n: int, found: Readings) -> Readings:
    return replace(found, services={"gateway": False, "proxy": True}) if n > 15 else found


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (crash, "restarts: agent-0020"),
        (ill, "agents: 28 of 30 healthy"),
        (memory, "memory: 91 %"),
        (gateway, "services: gateway down"),
    ],
)
def test_a_fault_at_the_second_level_returns_to_the_first(
    spoil: Callable[[int, Readings], Readings], reason: str
) -> None:
    world = World(spoil=spoil)
    found = walk(world, [stage(15), stage(30), stage(60)])
    assert not found.well
    assert found.returned
    assert any(reason in r for r in found.reasons), found.reasons
    assert (found.held, world.config, world.runs) == (1, 15, 15)
    assert max(world.sizes) == 30, "the third level was not begun"
    assert world.log[-1] == "scale 5 -> 30, level 2 of 3 failed: return"
    assert world.settled == 1


def test_a_fault_in_the_middle_of_a_window_is_seen() -> None:
    world = World()
    world.spoil = lambda n, r: replace(r, healthy=0) if n == 15 and world.clock > 25 else r
    found = walk(world, [stage(15)])
    assert (found.held, world.config, world.runs) == (0, 5, 5)


def test_a_return_ends_when_the_fleet_is_well_again_or_says_how_well_it_is() -> None:
    for limping, says in ((12.0, "15 of 15 agents healthy again"), (1e6, "14 of 15")):
        world = World()
        back: list[float] = []

        def spoil(
            n: int,
            found: Readings,
            world: World = world,
            back: list[float] = back,
            limping: float = limping,
        ) -> Readings:
            if n > 15:
                return replace(found, services={"gateway": False, "proxy": True})
            if world.settled:
                back.append(world.clock)
                if world.clock < back[0] + limping:
                    return replace(found, healthy=14)
            return found

        world.spoil = spoil
        lines: list[str] = []
        found = walk(world, [stage(15), stage(30)], on_progress=lines.append)
        assert found.returned
        assert lines[-1].startswith(says)
        assert back[-1] - back[0] == min(limping, 40), "as long as needed, at most the settling"


def test_a_return_that_fails_is_tried_again_and_at_last_said() -> None:
    for times, returns in ((2, True), (3, False)):
        world = World(spoil=memory)
        left = [times]

        def refuse(
            n: int, only: Sequence[str], world: World = world, left: list[int] = left
        ) -> str | None:
            if 30 in world.sizes and n == 15 and left[0]:
                left[0] -= 1
                return "the daemon was busy"
            return None

        world.refuse = refuse
        if returns:
            assert walk(world, [stage(15), stage(30)]).returned
            assert (world.config, world.runs, world.settled) == (15, 15, 3)
        else:
            with pytest.raises(EngineError, match="busy"):
                walk(world, [stage(15), stage(30)])
            assert world.config == 15


def test_an_update_that_fails_returns() -> None:
    world = World(refuse=lambda n, only: "no room" if n == 30 else None)
    found = walk(world, [stage(15), stage(30)])
    assert found.reasons == ("no room",)
    assert (world.config, world.runs) == (15, 15)


def test_whatever_goes_wrong_the_fleet_returns_but_not_over_somebody_elses_update() -> None:
    for error, returns in (
        (OSError("no more files"), True),
        (StackLockedError("pulumi up runs"), False),
    ):
        world = World()

        def spoil(n: int, found: Readings, error: Exception = error) -> Readings:
            if n > 15:
                raise error
            return found

        world.spoil = spoil
        if returns:
            found = walk(world, [stage(15), stage(30)])
            assert found.reasons == ("OSError: no more files",)
            assert (world.config, world.runs) == (15, 15)
        else:
            with pytest.raises(StackLockedError):
                walk(world, [stage(15), stage(30)])
            assert world.settled == 0


def test_a_signal_returns() -> None:
    world = World()

    def spoil(n: int, found: Readings) -> Readings:
        if n > 15:
            raise KeyboardInterrupt
        return found

    world.spoil = spoil
    found = walk(world, [stage(15), stage(30)])
    assert found.interrupted
    assert (world.config, world.runs) == (15, 15)


def test_the_timeout_returns() -> None:
    world = World()
    found = walk(world, [stage(15), stage(30), stage(60)], deadline=60)
    assert found.reasons == ("the time given with --timeout is over",)
    assert (found.held, world.config, world.runs) == (1, 15, 15)


def test_what_replaces_agents_goes_in_waves_of_ten() -> None:
    world = World(config=25, runs=25, old=25)
    found = walk(world, [stage(25, look=True)])
    assert found.well
    assert [line.rpartition(", ")[2] for line in world.log] == [
        "wave 1 of 3 [10]",
        "wave 2 of 3 [10]",
        "wave 3 of 3 [5]",
        "level 1 of 1",
    ]
    # Three waves: 5 s each to apply, 15 s of watching, 3 s between; then the level.
    assert world.clock == 3 * (5 + 15) + 2 * 3 + 5 + 30


def test_a_wave_that_fails_is_taken_back_and_the_rest_is_left_alone() -> None:
    world = World(config=25, runs=25, old=25)
    world.spoil = lambda n, r: (
        replace(r, deaths={"agent-0011": 3}) if any("wave 2" in x for x in world.log) else r
    )
    found = walk(world, [stage(25, look=True)])
    assert found.returned
    assert [line.rpartition(", ")[2] for line in world.log] == [
        "wave 1 of 3 [10]",
        "wave 2 of 3 [10]",
        "level 1 of 1 failed: return",
    ]
    assert world.config == 25


def test_steps_within_a_level_are_applied_and_only_the_last_is_kept() -> None:
    world = World()
    assert walk(world, [stage(35, 15, 25)]).well
    assert world.sizes == [15, 25, 35]
    assert world.config == 35
