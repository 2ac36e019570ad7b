"""Settings of runs: the load over time, scenarios, users and thresholds. No container has them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from ape_infra.config.durations import Duration, OptionalDuration, PositiveDuration, seconds
from ape_infra.config.group import Group, Strict
from ape_infra.config.target import SuccessCondition

# Sessions per second, of the executor open.
MAX_RATE = 10_000
MAX_ARRIVALS = 5_000_000
MAX_STAGES = 200
MAX_SCENARIOS = 50
MAX_OPERATIONS = 500
DEFAULT_DURATION = "5m"
DEFAULT_SCENARIO = "default"


class PlannedStage(NamedTuple):
    """A part of a run: the target changes evenly from `start` to `end`."""

    seconds: float
    start: float
    end: float


class StageRow(Strict):
    """`start`: the key `from`; None: the target of the stage before, in the first one 0."""

    duration: PositiveDuration
    target: float = Field(ge=0, le=MAX_RATE, allow_inf_nan=False)
    start: float | None = Field(default=None, alias="from", ge=0, le=MAX_RATE, allow_inf_nan=False)


class ScenarioRow(Strict):
    """One kind of session. None: the setting of the stack counts."""

    name: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
    weight: float = Field(default=1, ge=0, le=1_000_000, allow_inf_nan=False)
    goal: str | None = Field(default=None, min_length=1, max_length=20_000)
    persona: str | None = Field(default=None, min_length=1, max_length=2000)
    operations: list[str] | None = Field(default=None, min_length=1, max_length=MAX_OPERATIONS)
    success: SuccessCondition | None = None
    think_time: Duration | None = None
    max_steps: int | None = Field(default=None, ge=1, le=1000)
    max_seconds: int | None = Field(default=None, ge=1, le=86400)


class RunSettings(Group):
    executor: Literal["closed", "open"] = Field(
        "closed",
        description="closed: the target is a number of active agents, each of which holds one "
        "session after the other. open: the target is a number of sessions that start per second, "
        "however long they take.",
    )
    arrivals: Literal["constant", "poisson"] = Field(
        "constant",
        description="Times at which sessions start (open): at even intervals, or at random ones.",
    )
    stages: list[StageRow] = Field(
        [],
        max_length=MAX_STAGES,
        description="Stages of a run, as a list of duration, target and from: the target changes "
        "evenly from `from` (empty: the target of the stage before, at first 0). Empty: constant "
        "load, of all agents or of rate.",
    )
    duration: OptionalDuration = Field(
        "",
        description=f"Duration of a run without stages, such as 10m; empty: {DEFAULT_DURATION}.",
    )
    rate: str = Field(
        "",
        pattern=r"^(\d{1,5}(\.\d{1,6})?)?$",
        description="Sessions that start per second, without stages (open); empty: not set.",
    )
    warm_up: Duration = Field(
        "0s", description="Time at the start of a run that its results leave out."
    )
    ramp_down: Duration = Field(
        "0s", description="Time at the end of a run that its results leave out."
    )
    graceful_stop: Duration = Field(
        "30s", description="Time that sessions have to end after the last stage."
    )
    max_late: Duration = Field(
        "1s",
        description="Longest time that a session waits for an agent (open); then it is dropped.",
    )
    scenarios: list[ScenarioRow] = Field(
        [],
        max_length=MAX_SCENARIOS,
        description="Kinds of sessions, as a list of name, weight, goal, persona, operations, "
        "success, thinkTime, maxSteps and maxSeconds; a key that is left out has the value of the "
        "stack. Empty: one scenario named default.",
    )
    users: str = Field(
        "",
        description="Path of a users file, CSV with a header or JSON lines, whose columns stand "
        "for `{column}` in goals and requests; empty: none.",
    )
    users_mode: Literal["unique", "shared", "random"] = Field(
        "unique",
        description="Rows of users that sessions take. unique: each agent has rows of its own; "
        "with the executor open, no session takes a row twice. shared: each agent takes all rows, "
        "from its own on. random: any row.",
    )
    users_secret: list[str] = Field(
        [], description="Columns of users whose values no model, log or result shows."
    )
    users_when_used_up: Literal["stop", "reuse"] = Field(
        "reuse",
        description="After the last row (unique, shared): stop the run, or reuse the rows.",
    )
    seed: str = Field(
        "",
        max_length=200,
        description="Random seed of a run: with the same one, and the model offline or recorded, "
        "agents send the same requests; empty: a new one for each run.",
    )
    thresholds: list[str] = Field(
        [],
        max_length=200,
        description="Conditions that a run must meet, such as `session_success >= 95%`; with "
        "`abort after 30s` at its end, one ends the run as soon as it is not met.",
    )
    transcripts: int = Field(
        3, ge=0, le=100, description="Number of failed sessions kept as transcripts per reason."
    )
    sessions: Literal["always", "runs"] = Field(
        "always",
        description="always: agents hold sessions also outside of runs. runs: only in runs.",
    )

    def planned(self, agents: int) -> tuple[PlannedStage, ...]:
        """The stages of a run, with `agents` in the fleet."""
        if not self.stages:
            target = float(agents) if self.executor == "closed" else float(self.rate or 0)
            return (PlannedStage(seconds(self.duration or DEFAULT_DURATION), target, target),)
        made: list[PlannedStage] = []
        for row in self.stages:
            before = made[-1].end if made else 0.0
            start = before if row.start is None else row.start
            made.append(PlannedStage(seconds(row.duration), start, row.target))
        return tuple(made)

    def planned_seconds(self, agents: int) -> float:
        return sum(stage.seconds for stage in self.planned(agents))

    @property
    def scenario_rows(self) -> tuple[ScenarioRow, ...]:
        """The scenarios that a run has: those with a weight, or the default one."""
        if not self.scenarios:
            return (ScenarioRow(name=DEFAULT_SCENARIO),)
        return tuple(row for row in self.scenarios if row.weight > 0)
