"""The summary of a run, `summary.json`: a schema with a version, for people and for programs.

Times are in seconds. Only the main phase of a run counts, without its warm-up and ramp-down. A
request has failed with a status of 400 or more, or with an error of the gateway.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

VERSION = 1
# passed: also without thresholds. failed: a threshold was not met. aborted: a threshold ended the
# run. stopped: by hand. partial: not at its end, or the command was killed.
State = Literal["passed", "failed", "aborted", "stopped", "partial"]
Executor = Literal["closed", "open"]


class Part(BaseModel):
    """A part of the summary; it has all of its keys, and no other."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stats(Part):
    """A distribution; without samples all but `count` are null."""

    count: int = 0
    min: float | None = None
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Versions(Part):
    """`images`: service -> image with its digest, or its id."""

    ape: str
    images: dict[str, str] = Field(default_factory=dict)


class Model(Part):
    """`kind`: offline, recorded or provider. `provider` and `name`: those of a real model."""

    kind: str = ""
    provider: str = ""
    name: str = ""


class ThresholdResult(Part):
    """`value` is null without a sample, and then the threshold is not met.

    `abort`: whether the threshold ends the run when it is not met.
    """

    expression: str
    value: float | None
    passed: bool
    abort: bool = False
    samples: int = 0


class Failure(Part):
    """Sessions that failed for the same reason; `detail` quotes the model or the target."""

    reason: str
    detail: str = ""
    sessions: int


class Sessions(Part):
    """Sessions of the run, or of one scenario.

    `planned`: arrivals of the open executor until the end, else null. `dropped`: could not start
    in time; null for a scenario. `late`: started more than 0.1 s later than planned.
    `success_rate`: of succeeded and failed ones, null without any. `goodput`: succeeded sessions
    per second.
    """

    planned: int | None = None
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    aborted: int = 0
    dropped: int | None = 0
    late: int = 0
    success_rate: float | None = None
    goodput: float = 0
    duration: Stats = Stats()
    steps_mean: float | None = None
    lateness: Stats = Stats()
    reasons: dict[str, int] = Field(default_factory=dict)
    failures: list[Failure] = Field(default_factory=list)


class Requests(Part):
    """Requests of agents to the target. `rate` is per second; `failed_rate` is a part of 1."""

    count: int = 0
    failed: int = 0
    rate: float = 0
    failed_rate: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    duration: Stats = Stats()


class Endpoint(Part):
    """Requests of one scenario to one endpoint, such as `POST /orders/{id}`.

    `statuses`: class, such as 2xx -> requests. `errors`: the gateway's error code -> requests.
    """

    endpoint: str
    scenario: str
    count: int = 0
    failed: int = 0
    rate: float = 0
    statuses: dict[str, int] = Field(default_factory=dict)
    errors: dict[str, int] = Field(default_factory=dict)
    bytes_sent: int = 0
    bytes_received: int = 0
    duration: Stats = Stats()


class ModelUse(Part):
    """Completions of the model. `cost_dollars` is null where the prices are not known.

    `ttft`: time to first token. `itl`: time per output token after the first. `queue`: wait in the
    inference proxy.
    """

    completions: int = 0
    failed: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_dollars: float | None = None
    ttft: Stats = Stats()
    itl: Stats = Stats()
    duration: Stats = Stats()
    queue: Stats = Stats()
    tokens_per_second: Stats = Stats()


class Lost(Part):
    """`results`: reports and requests that could not be counted. `missed_sessions`: rows that
    `sessions.csv` does not have.
    """

    results: int = 0
    gateway_restarts: int = 0
    missed_sessions: int = 0


class Summary(Part):
    """All of a run. `started` and `ended` are Unix times."""

    version: Literal[1] = 1
    run: str
    project: str
    stack: str
    state: State = "partial"
    exit_code: int | None = None
    started: float
    ended: float
    planned_seconds: float
    measured_seconds: float = 0
    executor: Executor
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    versions: Versions
    model: Model = Model()
    thresholds: list[ThresholdResult] = Field(default_factory=list)
    sessions: Sessions = Sessions()
    scenarios: dict[str, Sessions] = Field(default_factory=dict)
    requests: Requests = Requests()
    endpoints: list[Endpoint] = Field(default_factory=list)
    model_use: ModelUse = ModelUse()
    lost: Lost = Lost()
    notes: list[str] = Field(default_factory=list)
