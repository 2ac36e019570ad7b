"""What a run has measured: the values of its metrics, and the parts of its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ape_contracts.sketch import Sketch
from ape_infra.runs.snapshots import ERROR, STATUS
from ape_infra.runs.summary import Endpoint, Failure, ModelUse, Requests, Sessions, Stats
from ape_infra.runs.tally import Key, Tally, above

FAILED_STATUSES = ("4xx", "5xx")
# Results of completions; an agent cancels one when its session ends.
NOT_FAILED = ("success", "cancelled")
# A session that starts later than planned by more than this counts as late.
LATE_SECONDS = 0.1
MAX_FAILURES = 20
_SKETCHES = {
    "http_req_duration": ("requests", "seconds"),
    "session_duration": ("sessions", "seconds"),
    "session_lateness": ("sessions", "late"),
    "ttft": ("model", "ttft"),
    "itl": ("model", "itl"),
    "completion_duration": ("model", "duration"),
    "tokens_per_second": ("model", "tokens_per_second"),
}
Number = tuple[float | None, int]


def stats(sketch: Sketch) -> Stats:
    if not sketch.count:
        return Stats()
    quantiles = {f"p{q}": sketch.quantile(q / 100) for q in (50, 90, 95, 99)}
    return Stats(
        count=sketch.count,
        min=sketch.min,
        max=sketch.max,
        mean=sketch.sum / sketch.count,
        **quantiles,
    )


def is_failed(key: Key) -> bool:
    """Whether it counts requests that failed."""
    return key.what == ERROR or (key.what == STATUS and key.label in FAILED_STATUSES)


def is_counted(key: Key) -> bool:
    """Whether it counts requests."""
    return key.what in (STATUS, ERROR)


@dataclass
class Measured:
    """The main phase of a run so far.

    `tally`: of the gateway and the inference proxy, without other phases. `started`, `dropped`:
    sessions of all scenarios. `seconds`: what rates are per.
    """

    tally: Tally
    seconds: float
    started: int = 0
    dropped: int = 0
    failures: Tally = field(default_factory=Tally)

    @cached_property
    def scenarios(self) -> list[str]:
        kinds = ("requests", "sessions")
        return sorted({key.scenario for key in self.tally.all() if key.kind in kinds})

    def durations(self, metric: str, labels: Mapping[str, str]) -> Sketch | None:
        """The samples of a metric of durations; None: the metric or a label has none."""
        if metric not in _SKETCHES:
            return None
        kind, what = _SKETCHES[metric]
        wanted = _selector(kind, labels)
        if wanted is None or "status" in labels:
            return None
        return self.tally.durations(lambda key: key.what == what and wanted(key))

    def number(self, metric: str, labels: Mapping[str, str]) -> Number:
        """The value of a count, a ratio or a rate, and its samples; None: without a sample."""
        if metric in _SKETCHES:
            sketch = self.durations(metric, labels)
            return (sketch.count, sketch.count) if sketch and sketch.count else (None, 0)
        if metric in ("http_reqs", "http_req_failed"):
            return self._requests(metric, labels)
        if metric in ("session_success", "sessions", "goodput", "dropped_sessions"):
            return self._sessions(metric, labels)
        return self._model(metric, labels)

    def _requests(self, metric: str, labels: Mapping[str, str]) -> Number:
        wanted = _selector("requests", labels)
        if wanted is None:
            return None, 0
        count = int(self.tally.total(lambda key: is_counted(key) and wanted(key)))
        if metric == "http_reqs":
            return (count, count) if count else (None, 0)
        failed = self.tally.total(lambda key: is_failed(key) and wanted(key))
        return (failed / count, count) if count else (None, 0)

    def _sessions(self, metric: str, labels: Mapping[str, str]) -> Number:
        wanted = _selector("sessions", labels)
        if wanted is None:
            return None, 0
        if metric == "dropped_sessions":
            # The gateway counts them for the run, not for a scenario.
            due = self.started + self.dropped
            return (None, 0) if labels or not due else (self.dropped, due)
        done = {
            what: self.tally.total(lambda key, what=what: key.what == what and wanted(key))  # type: ignore[misc]
            for what in ("succeeded", "failed")
        }
        ended = int(sum(done.values()))
        if not ended:
            return None, 0
        if metric == "sessions":
            return ended, ended
        if metric == "goodput":
            return (done["succeeded"] / self.seconds if self.seconds else None), ended
        return done["succeeded"] / ended, ended

    def _model(self, metric: str, labels: Mapping[str, str]) -> Number:
        completions, failed = self._completions()
        if labels or not completions:
            return None, 0
        if metric == "model_failed":
            return failed / completions, completions
        names = {"tokens": ("tokens_in", "tokens_out")}.get(metric, (metric,))
        keys = [Key("model", name) for name in names]
        if metric == "cost_dollars" and keys[0] not in self.tally.counts:
            return None, 0
        return sum(self.tally.counts.get(key, 0) for key in keys), completions

    def _completions(self) -> tuple[int, int]:
        """(completions, those of them that failed)."""
        found = {
            key.label: n
            for key, n in self.tally.counts.items()
            if key[:2] == ("model", "completions")
        }
        total = int(sum(found.values()))
        return total, total - int(sum(found.get(result, 0) for result in NOT_FAILED))

    def sessions(self, scenario: str | None = None, *, is_open: bool = False) -> Sessions:
        """The sessions of all scenarios, or of one."""
        part = self.tally.where(
            lambda key: key.kind == "sessions" and scenario in (None, key.scenario)
        )
        by_what: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for key, number in part.counts.items():
            by_what[key.what] += int(number)
            if key.what == "reason":
                reasons[key.label] += int(number)
        late = part.durations(lambda key: key.what == "late")
        done = by_what["succeeded"] + by_what["failed"]
        ended = done + by_what["aborted"]
        whole = scenario is None
        started = max(self.started, ended) if whole else ended
        return Sessions(
            planned=started + self.dropped if is_open and whole else None,
            started=started,
            succeeded=by_what["succeeded"],
            failed=by_what["failed"],
            aborted=by_what["aborted"],
            dropped=self.dropped if whole else None,
            late=above(late, LATE_SECONDS),
            success_rate=by_what["succeeded"] / done if done else None,
            goodput=by_what["succeeded"] / self.seconds if self.seconds else 0,
            duration=stats(part.durations(lambda key: key.what == "seconds")),
            steps_mean=by_what["steps"] / ended if ended else None,
            lateness=stats(late),
            reasons=dict(reasons.most_common()),
            failures=self._failures() if whole else [],
        )

    def _failures(self) -> list[Failure]:
        listed = sorted(self.failures.counts.items(), key=lambda item: -item[1])
        return [
            Failure(reason=key.what, detail=key.endpoint, sessions=int(number))
            for key, number in listed[:MAX_FAILURES]
        ]

    def requests(self) -> Requests:
        one = self._rows(lambda key: ("", ""))
        if not one:
            return Requests()
        row = next(iter(one.values()))
        return Requests(
            count=row.count,
            failed=row.failed,
            rate=row.rate,
            failed_rate=row.failed / row.count if row.count else None,
            bytes_sent=row.bytes_sent,
            bytes_received=row.bytes_received,
            duration=row.duration,
        )

    def endpoints(self) -> list[Endpoint]:
        """Of each scenario, the most used first."""
        rows = self._rows(lambda key: (key.endpoint, key.scenario)).values()
        return sorted(rows, key=lambda row: (-row.count, row.endpoint, row.scenario))

    def by_endpoint(self) -> list[Endpoint]:
        """Of all scenarios together, the most used first."""
        rows = self._rows(lambda key: (key.endpoint, "")).values()
        return sorted(rows, key=lambda row: (-row.count, row.endpoint))

    def _rows(self, group: Callable[[Key], tuple[str, str]]) -> dict[tuple[str, str], Endpoint]:
        parts: dict[tuple[str, str], Tally] = {}
        for key, number in self.tally.counts.items():
            if key.kind == "requests":
                parts.setdefault(group(key), Tally()).add(key, number)
        for key, sketch in self.tally.sketches.items():
            if key.kind == "requests":
                parts.setdefault(group(key), Tally()).sketches[key] = sketch
        return {names: self._row(names, part) for names, part in parts.items()}

    def _row(self, names: tuple[str, str], part: Tally) -> Endpoint:
        statuses: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for key, number in part.counts.items():
            if key.what == STATUS:
                statuses[key.label] += int(number)
            elif key.what == ERROR:
                errors[key.label] += int(number)
            else:
                sizes[key.what] += int(number)
        count = statuses.total() + errors.total()
        return Endpoint(
            endpoint=names[0],
            scenario=names[1],
            count=count,
            failed=sum(statuses[x] for x in FAILED_STATUSES) + errors.total(),
            rate=count / self.seconds if self.seconds else 0,
            statuses=dict(sorted(statuses.items())),
            errors=dict(errors.most_common()),
            bytes_sent=sizes["bytes_sent"],
            bytes_received=sizes["bytes_received"],
            duration=stats(part.durations(lambda key: True)),
        )

    def model_use(self) -> ModelUse:
        completions, failed = self._completions()
        counts = self.tally.counts
        cost = counts.get(Key("model", "cost_dollars"))
        whole = {
            name: int(counts.get(Key("model", name), 0))
            for name in ("retries", "tokens_in", "tokens_out")
        }
        spread = {
            what: stats(self.tally.sketches.get(Key("model", what)) or Sketch())
            for what in ("ttft", "itl", "duration", "queue", "tokens_per_second")
        }
        return ModelUse(
            completions=completions, failed=failed, cost_dollars=cost, **whole, **spread
        )


def _selector(kind: str, labels: Mapping[str, str]) -> Callable[[Key], bool] | None:
    """Whether a key of the kind has the labels; None: the kind does not have such labels."""
    known: Iterable[str] = {
        "requests": ("endpoint", "method", "status", "scenario"),
        "sessions": ("scenario",),
    }.get(kind, ())
    if not labels.keys() <= set(known):
        return None

    def wanted(key: Key) -> bool:
        return key.kind == kind and all(
            {
                "scenario": key.scenario,
                "endpoint": key.endpoint,
                "method": key.endpoint.partition(" ")[0],
                "status": key.label if key.what == STATUS else "",
            }[name]
            == value
            for name, value in labels.items()
        )

    return wanted
